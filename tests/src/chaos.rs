//! The simulation: one seed determines the commands of users, the faults, and when they happen. At the end all faults are
//! repaired, and the cluster must reach the state that the specs describe.
//!
//! Invariants at all times are in [`crate::oracle`]; the conditions at the end are in [`Chaos::converge`].

mod faults;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use events::{NodeId, TaskId, TaskState, Timestamp};
use node::log::Crash;
use node::manager::replica::Request;
use node::manager::replica::{FatalError, Intervals, Outcome};
use projections::Cluster;
use projections::views::overview::replicas;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::manager::Checkpoints;
use crate::net::NetworkConditions;
use crate::script::machine;
use crate::world::World;

/// Number of actions in one run.
const ACTIONS: usize = 120;
/// Maximum number of nodes in a run.
const NODES_MAX: u64 = 5;
/// The interval of snapshot tests, in turns.
const SNAPSHOT_EVERY: u64 = 16;
/// Frames between two checkpoints: a run of some hundred frames has several, or only one.
const CHECKPOINT_FRAMES: Range<u64> = 10..200;
/// Frames between two state hashes.
const HASH_FRAMES: Range<u64> = 5..50;
/// Time limit for convergence: longer than the timeout for a predecessor that does not stop, for each slot of the largest service
/// in turn.
const CONVERGE_MAX: Duration = Duration::from_secs(1_800);
/// The interval of checks for convergence.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The results of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Index of the last frame.
    pub frames: u64,
    /// Number of user commands that took effect.
    pub commands: u64,
    /// Number of manager crashes.
    pub manager_crashes: u64,
    /// Number of other faults.
    pub faults: u64,
    /// Number of checkpoints written, and of starts with and without one.
    pub checkpoints: Checkpoints,
    /// Number of steps until convergence.
    pub steps: u64,
    /// Simulated time until convergence.
    pub length: Duration,
}

/// One run.
pub struct Chaos {
    world: World,
    random: StdRng,
    verbose: bool,
    summary: Summary,
    /// Number of commands so far; each command's number is its id.
    asked: u128,
    /// Commands with unknown results: they are sent again.
    open: Vec<Request>,
    cut: BTreeSet<NodeId>,
}

/// Runs one seed, and returns the world in its final state.
///
/// # Errors
/// When a final condition does not hold. A violated invariant panics.
pub fn run(seed: u64, verbose: bool) -> anyhow::Result<(Summary, World)> {
    let mut random = StdRng::seed_from_u64(seed);
    let nodes = random.random_range(1..=NODES_MAX);
    let intervals = Intervals {
        checkpoint_frames: random.random_range(CHECKPOINT_FRAMES),
        hash_frames: random.random_range(HASH_FRAMES),
        ..Intervals::default()
    };
    let mut world = World::new(seed, machine("n1"), SNAPSHOT_EVERY, intervals)?;
    world.manager.salted = true;
    for number in 2..=nodes {
        world.join(machine(&format!("n{number}")), None)?;
    }
    world.settle()?;
    let (open, cut) = (Vec::new(), BTreeSet::new());
    let mut chaos = Chaos { world, random, verbose, summary: Summary::default(), asked: 0, open, cut };
    for _ in 0..ACTIONS {
        chaos.act()?;
    }
    chaos.repair()?;
    chaos.converge()?;
    chaos.world.finish()?;
    chaos.summary.frames = chaos.world.state()?.cluster.position.index;
    chaos.summary.checkpoints = chaos.world.manager.checkpoints;
    chaos.summary.steps = chaos.world.steps();
    chaos.summary.length = chaos.world.clock.now().since(crate::clock::START);
    Ok((chaos.summary, chaos.world))
}

impl Chaos {
    fn act(&mut self) -> anyhow::Result<()> {
        match self.random.random_range(0..100) {
            0..40 => {
                let length = Duration::from_millis(self.random.random_range(1..6_000));
                self.pass(length)
            }
            40..70 => {
                let request = self.next_request()?;
                self.ask(request)
            }
            _ => self.fault(),
        }
    }

    /// Lets time pass; if the manager's disk fails meanwhile, the manager crashes.
    fn pass(&mut self, length: Duration) -> anyhow::Result<()> {
        let until = self.world.clock.now() + length;
        while self.world.clock.now() < until {
            let left = until.since(self.world.clock.now());
            let result = self.world.advance(left);
            self.survive(result)?;
        }
        Ok(())
    }

    /// Sends a command. If its answer is lost, it is sent again later with the same id.
    fn ask(&mut self, request: Request) -> anyhow::Result<()> {
        let (id, name) = (request.id, request.command.name());
        let result = self.world.execute(request.clone());
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(error) => {
                self.survive(Err(error))?;
                Outcome::Unknown
            }
        };
        self.log_step(|| format!("{name}: {outcome:?}"));
        match outcome {
            Outcome::Committed { index, .. } => {
                self.summary.commands += 1;
                // A client that lost the answer repeats the command, and gets the same answer.
                if self.world.oracle.took_effect(id) && self.random.random_bool(0.2) {
                    match self.world.execute(request) {
                        Ok(Outcome::Committed { index: second, .. }) if second == index => {}
                        Ok(again) => bail!("the answer to {name} was frame {index}, and then {again:?}"),
                        // The disk just failed, possibly while writing a checkpoint.
                        Err(error) => self.survive(Err(error))?,
                    }
                }
            }
            Outcome::Rejected(rejection) if rejection.kind == commands::RejectionKind::Unavailable => {
                self.open.push(request);
            }
            Outcome::Rejected(_) => {}
            Outcome::Unknown => self.open.push(request),
        }
        Ok(())
    }

    /// Restarts a manager whose disk failed; any other error is returned.
    fn survive(&mut self, result: anyhow::Result<()>) -> anyhow::Result<()> {
        match result {
            Err(error) if error.is::<FatalError>() => {
                self.log_step(|| format!("the manager ends: {error}"));
                self.restart_manager()
            }
            other => other,
        }
    }

    /// Repairs all faults, and makes every service placeable.
    fn repair(&mut self) -> anyhow::Result<()> {
        self.log_step(|| "everything is mended".to_owned());
        self.world.net.conditions = NetworkConditions::FINE;
        let now = self.world.clock.now();
        for node in std::mem::take(&mut self.cut) {
            self.world.net.repair(node, now);
        }
        // With a new disk controller: the old one may be about to fail.
        self.world.crash_manager(Crash::Killed);
        self.world.start_manager()?;
        for node in self.nodes() {
            self.world.start_agent(node)?;
        }
        for request in std::mem::take(&mut self.open) {
            self.ask(request)?;
        }
        for request in self.final_requests()? {
            self.ask(request)?;
        }
        ensure!(self.open.is_empty(), "a manager that nothing disturbs answers");
        Ok(())
    }

    /// Waits until the running tasks equal the desired ones everywhere.
    fn converge(&mut self) -> anyhow::Result<()> {
        let give_up_at = self.world.clock.now() + CONVERGE_MAX;
        loop {
            self.world.advance(LOOK_EVERY)?;
            let missing = self.missing()?;
            let Some(first) = missing.first() else { return Ok(()) };
            ensure!(self.world.clock.now() < give_up_at, "in the end: {first} ({} such faults)", missing.len());
        }
    }

    /// What has not converged yet.
    fn missing(&self) -> anyhow::Result<Vec<String>> {
        let cluster = self.world.state()?.cluster;
        let mut faults = Vec::new();
        for service in cluster.services.values() {
            let count = replicas(&cluster, service);
            if count.running != count.desired {
                faults.push(format!("{} runs {} of {} tasks", service.spec.name(), count.running, count.desired));
            }
            if service.update.as_ref().is_some_and(|update| !update.state.is_paused() && update.state.is_open()) {
                faults.push(format!("{} is still being updated", service.spec.name()));
            }
        }
        let should_run = running_tasks(&cluster);
        for (node, machine) in self.world.machines() {
            let runs: BTreeSet<TaskId> = machine.engine.running().collect();
            let should: BTreeSet<TaskId> = should_run.get(&node).cloned().unwrap_or_default();
            if runs != should {
                let hostname = &machine.description.hostname;
                faults.push(format!("{hostname} runs {runs:?}, and the state says {should:?}"));
            }
            if !machine.is_connected() {
                faults.push(format!("{} holds no session", machine.description.hostname));
            }
        }
        Ok(faults)
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.world.machines().map(|(node, _)| node).collect()
    }

    /// The state that users see, even while the manager is down.
    fn cluster(&self) -> Cluster {
        self.world.oracle.cluster().clone()
    }

    fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> anyhow::Result<T> {
        ensure!(!from.is_empty(), "there is nothing to choose from");
        from.get(self.random.random_range(0..from.len())).cloned().context("an index within bounds")
    }

    fn log_step(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            let at = self.now().since(crate::clock::START);
            let frame = self.world.oracle.cluster().position.index;
            println!("{:>9.3}s  frame {frame:>4}  {}", at.as_secs_f64(), what());
        }
    }
}

/// The tasks that run, by node.
pub(crate) fn running_tasks(cluster: &Cluster) -> BTreeMap<NodeId, BTreeSet<TaskId>> {
    let mut tasks: BTreeMap<NodeId, BTreeSet<TaskId>> = BTreeMap::new();
    for task in cluster.tasks.values().filter(|task| task.state == TaskState::Running) {
        if let Some(node) = task.node {
            tasks.entry(node).or_default().insert(task.id);
        }
    }
    tasks
}
