//! The faults of the simulation.

use std::time::Duration;

use events::TaskId;
use node::log::Crash;
use rand::Rng;

use crate::manager::Ruin;
use crate::net::NetworkConditions;

use super::Chaos;

/// Exit codes of containers that end unexpectedly.
const EXIT_CODES: [i32; 3] = [0, 1, 137];
/// Maximum number of writes before a failing disk stops working.
const WRITES_MAX: usize = 6;
/// Probability that a start finds no usable checkpoint.
const RUINED: f64 = 0.3;
/// Maximum downtime of the manager.
const DOWN_MAX: Duration = Duration::from_secs(40);
/// Maximum jump of the clock: long enough for every node to be declared down.
const JUMP_MAX: Duration = Duration::from_secs(120);

impl Chaos {
    /// Causes a fault, or ends one.
    pub(super) fn fault(&mut self) -> anyhow::Result<()> {
        self.summary.faults += 1;
        match self.random.random_range(0..100) {
            0..25 => self.end_container(),
            25..55 => self.disturb_node(),
            55..70 => self.change_weather(),
            70..75 => self.jump(),
            75..85 => self.crash_manager(),
            85..92 => self.crash_between_propose_and_sync(),
            _ => {
                let writes = self.random.random_range(0..WRITES_MAX);
                self.log_step(|| format!("the manager's disk fails after {writes} writes"));
                self.world.manager.fail_disk_after(writes);
                Ok(())
            }
        }
    }

    /// Crashes the manager with any state of its disk, and restarts it some time later.
    pub(super) fn restart_manager(&mut self) -> anyhow::Result<()> {
        self.summary.manager_crashes += 1;
        let kept_writes = self.random.random_range(0..=self.world.manager.unsynced_writes());
        let crash = self.pick(&[Crash::Killed, Crash::PowerCut { kept_writes }, Crash::TornHistory])?;
        self.log_step(|| format!("the manager crashes: {crash:?}"));
        self.world.crash_manager(crash);
        let away = Duration::from_millis(self.random.random_range(0..DOWN_MAX.as_millis() as u64));
        self.world.advance(away)?;
        if self.random.random_bool(RUINED) {
            let how = self.pick(&[Ruin::Lost, Ruin::Damaged, Ruin::Foreign])?;
            self.log_step(|| format!("the manager's checkpoints are ruined: {how:?}"));
            self.world.manager.ruin_checkpoints(how)?;
        }
        self.world.start_manager()?;
        self.log_step(|| "the manager is back".to_owned());
        Ok(())
    }

    fn crash_manager(&mut self) -> anyhow::Result<()> {
        self.restart_manager()
    }

    /// A command is proposed but never synced: its client does not know the result, and repeats it.
    fn crash_between_propose_and_sync(&mut self) -> anyhow::Result<()> {
        let request = self.next_request()?;
        let now = self.now();
        if self.world.manager.submit(request.clone()).is_ok() {
            self.world.manager.propose_only(now);
        }
        self.open.push(request);
        self.restart_manager()
    }

    fn end_container(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        let node = self.pick(&self.nodes())?;
        let code = self.pick(&EXIT_CODES)?;
        let engine = &mut self.world.machine(node)?.engine;
        let running: Vec<TaskId> = engine.running().collect();
        if running.is_empty() {
            return Ok(());
        }
        let task = self.pick(&running)?;
        self.world.machine(node)?.engine.kill(task, code, now);
        self.log_step(|| format!("the container of {task} ends with {code}"));
        Ok(())
    }

    fn disturb_node(&mut self) -> anyhow::Result<()> {
        let node = self.pick(&self.nodes())?;
        let now = self.now();
        let is_up = self.world.machine(node)?.is_up();
        let what = match self.random.random_range(0..4) {
            _ if !is_up => {
                self.world.start_agent(node)?;
                "is back"
            }
            0 => {
                self.world.crash_node(node)?;
                "loses its power"
            }
            1 => {
                self.world.stop_agent(node)?;
                "has no agent"
            }
            2 => {
                self.world.stop_agent(node)?;
                self.world.lose_records(node)?;
                "has no agent, and its agent's disk is lost"
            }
            _ if self.cut.remove(&node) => {
                self.world.net.repair(node, now);
                "can be reached again"
            }
            _ => {
                self.cut.insert(node);
                self.world.net.cut(node);
                "cannot be reached"
            }
        };
        self.log_step(|| format!("{node} {what}"));
        Ok(())
    }

    fn change_weather(&mut self) -> anyhow::Result<()> {
        let stormy = NetworkConditions {
            lost_per_mille: self.random.random_range(0..200),
            doubled_per_mille: self.random.random_range(0..200),
            latency: (Duration::from_millis(1), Duration::from_millis(self.random.random_range(1..3_000))),
        };
        let conditions = if self.random.random_bool(0.5) { NetworkConditions::FINE } else { stormy };
        self.log_step(|| format!("{conditions:?}"));
        self.world.net.conditions = conditions;
        Ok(())
    }

    /// The clock jumps forward: everything that was due meanwhile is late.
    fn jump(&mut self) -> anyhow::Result<()> {
        let length = Duration::from_millis(self.random.random_range(1_000..JUMP_MAX.as_millis() as u64));
        self.log_step(|| format!("the clock jumps by {length:?}"));
        self.world.clock.advance_to(self.now() + length);
        self.pass(Duration::from_millis(1))
    }
}
