//! The same with agents at the managers: their faults, and the tasks that must run at the end.

use std::time::Duration;

use anyhow::ensure;
use events::TaskState;

use crate::net::NetworkConditions;
use crate::quorum::Quorum;
use crate::script::machine;

use super::{Chaos, Summary};

/// Maximum number of machines in a run, besides the managers.
const MACHINES_MAX: u64 = 4;
/// Time limit for convergence once everything works: longer than the timeout for a predecessor that does not stop, for each slot
/// of the largest service in turn.
const CONVERGE_MAX: Duration = Duration::from_secs(1_800);
/// The interval of checks for convergence.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Runs one seed with three or five managers, and agents that hold their sessions with any of them.
///
/// # Errors
/// When a final condition does not hold. A violated invariant panics.
pub fn run(seed: u64, verbose: bool) -> anyhow::Result<Summary> {
    let mut chaos = Chaos::begin(seed, if seed.is_multiple_of(2) { 3 } else { 5 }, verbose)?;
    for number in 0..=chaos.draw(MACHINES_MAX) {
        chaos.quorum.join_worker(machine(&format!("w{number}")))?;
    }
    chaos.quorum.until("all agents hold a session", Quorum::agents_are_well)?;
    for _ in 0..super::ACTIONS {
        if chaos.draw(100) < 25 {
            chaos.disturb_agents();
        }
        chaos.act()?;
    }
    chaos.quorum.fleet.repair(chaos.quorum.clock.now());
    chaos.quorum.fleet.start_agents(chaos.quorum.clock.now());
    chaos.repair()?;
    chaos.converge()?;
    let twice = chaos.quorum.fleet.started_twice();
    ensure!(twice.is_empty(), "tasks ran more than once: {twice:?}");
    let unknown = chaos.quorum.unassigned_starts();
    ensure!(unknown.is_empty(), "nodes started tasks that no history gives them: {unknown:?}");
    let attempts = chaos.quorum.fleet.attempts;
    Ok(Summary { sessions: attempts, ..chaos.conclude()? })
}

impl Chaos {
    fn disturb_agents(&mut self) {
        let (nodes, manager, now) = (self.quorum.fleet.nodes(), self.pick(), self.quorum.clock.now());
        let node = nodes[self.draw(nodes.len() as u64) as usize];
        let action = self.draw(7);
        let (lost, doubled, late) = (self.draw(200) as u32, self.draw(200) as u32, 1 + self.draw(2_000));
        let fleet = &mut self.quorum.fleet;
        let what = match action {
            0 => {
                fleet.crash(node, now);
                "loses its power"
            }
            1 => {
                fleet.stop_agent(node, now);
                "has no agent"
            }
            2 => {
                fleet.start_agents(now);
                "runs again, and all others"
            }
            3 => {
                fleet.cut(manager, node);
                "does not reach a manager"
            }
            4 => {
                fleet.repair(now);
                "reaches all managers, and all others do"
            }
            5 => {
                let latency = (Duration::from_millis(1), Duration::from_millis(late));
                let conditions = NetworkConditions { lost_per_mille: lost, doubled_per_mille: doubled, latency };
                fleet.set_conditions(manager, conditions);
                "and others have a bad network to a manager"
            }
            _ => {
                fleet.end_container(node, 1, now);
                "loses a container"
            }
        };
        self.quorum.log_step(|| format!("node {node} {what} (manager {})", manager + 1));
    }

    /// Waits until all desired tasks run on their nodes, and nothing else runs.
    fn converge(&mut self) -> anyhow::Result<()> {
        let give_up_at = self.quorum.clock.now() + CONVERGE_MAX;
        loop {
            let faults = self.faults();
            if faults.is_empty() {
                return Ok(());
            }
            ensure!(self.quorum.clock.now() < give_up_at, "after {CONVERGE_MAX:?}: {faults:#?}");
            self.quorum.advance(LOOK_EVERY)?;
        }
    }

    fn faults(&self) -> Vec<String> {
        let cluster = self.quorum.oracle.cluster();
        let mut faults = self.quorum.fleet.faults(cluster);
        let late =
            cluster.tasks.values().filter(|task| task.desired == TaskState::Running && task.state != task.desired);
        faults.extend(late.map(|task| format!("task {} is {:?}", task.id, task.state)));
        faults
    }
}
