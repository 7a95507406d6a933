//! The whole cluster: machines with engines and agents, the network, the manager, and time, which advances from one event to the
//! next.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use commands::{Actor, Command};
use events::{ClusterId, Id, NodeDescription, NodeId, Role, TaskId, Timestamp};
use node::log::Crash;
use node::manager::driver::Published;
use node::manager::replica::{Intervals, Outcome, Request, Ticket};
use node::security::JoinToken;
use projections::settings::token_key;

use crate::agent::{Agent, Records};
use crate::clock::Clock;
use crate::engine::Engine;
use crate::load::Loads;
use crate::manager::Manager;
use crate::net::{Net, Parcel, ToAgent, ToManager};
use crate::oracle::Oracle;

/// The cluster has settled once nothing was committed for this long, and nothing is in progress: longer than an agent delays the
/// report of a short phase.
const QUIET: Duration = Duration::from_secs(2);
/// Time limit for a cluster to settle.
const SETTLE_MAX: Duration = Duration::from_secs(600);
/// Maximum number of steps of a world; more mean an endless loop. A day of heartbeats takes fewer.
const STEPS_MAX: u64 = 500_000;
/// Maximum number of turns at one instant; more mean an endless loop of the manager.
const TURNS_MAX: usize = 1_000;

/// The simulated cluster.
pub struct World {
    /// The simulated clock.
    pub clock: Clock,
    /// The network.
    pub net: Net,
    /// The manager.
    pub manager: Manager,
    /// The invariants.
    pub oracle: Oracle,
    /// Digests of tags; `None` if the registry does not answer. Other images have no registry.
    pub registry: BTreeMap<String, Option<String>>,
    /// The platforms of these images; unknown for others.
    pub platforms: BTreeMap<String, Vec<events::Platform>>,
    /// The loads of services.
    pub loads: Loads,
    machines: BTreeMap<NodeId, Machine>,
    outcomes: BTreeMap<Ticket, Outcome>,
    last_change: Timestamp,
    /// The interval of snapshot tests, in turns.
    snapshot_every: u64,
    turns: u64,
    steps: u64,
}

/// A node's machine.
pub struct Machine {
    /// Its description, as the agent sends it.
    pub description: NodeDescription,
    /// Its container engine.
    pub engine: Engine,
    agent: Option<Agent>,
    records: Records,
}

/// Why the logs of a task are not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogsUnavailable {
    /// Its node does not answer.
    Node,
    /// Its container is gone.
    Task,
}

impl World {
    /// A cluster of one manager, on a machine with the host name `hostname`. The seed determines all ids and random events.
    ///
    /// # Errors
    /// When the manager cannot create the cluster.
    pub fn new(
        seed: u64,
        description: NodeDescription,
        snapshot_every: u64,
        intervals: Intervals,
    ) -> anyhow::Result<Self> {
        let cluster = ClusterId::from_bits(u128::from(seed) << 64 | 0x5157_4152_4d4c_4f47);
        let mut world = Self {
            clock: Clock::default(),
            net: Net::new(seed),
            manager: Manager::new(cluster, &description.hostname, intervals),
            oracle: Oracle::default(),
            registry: BTreeMap::new(),
            platforms: BTreeMap::new(),
            loads: Loads::default(),
            machines: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            last_change: crate::clock::START,
            snapshot_every,
            turns: 0,
            steps: 0,
        };
        world.manager.start()?;
        let hostname = description.hostname.clone();
        let ticket = world.manager.initialise(cluster, &hostname, world.clock.now())?;
        world.run_manager()?;
        ensure!(matches!(world.outcomes.remove(&ticket), Some(Outcome::Committed { .. })), "no cluster was made");
        world.add_machine(world.manager.node, description);
        Ok(world)
    }

    /// Lets a machine join with the current worker token, or with another one.
    ///
    /// # Errors
    /// When it is refused; the error is the manager's.
    pub fn join(&mut self, description: NodeDescription, token: Option<&str>) -> anyhow::Result<NodeId> {
        let state = self.state()?;
        let present = state.keyring.text(token_key(Role::Worker)).unwrap_or_default();
        let token: JoinToken = token.unwrap_or(present).parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        let (secret_sha256, hostname) = (token.secret_sha256(), description.hostname.clone());
        let join = Command::JoinNode(commands::JoinNode { secret_sha256, hostname, addr: "10.0.0.9".to_owned() });
        let node = self.own_command(Actor::Joiner("10.0.0.9".to_owned()), join)?;
        let node: NodeId = node.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        let not_after = self.clock.now() + Duration::from_secs(90 * 86_400);
        let certify = Command::CertifyNode(commands::CertifyNode {
            node,
            role: Role::Worker,
            cert_pem: "a certificate".to_owned(),
            not_after,
        });
        self.own_command(Actor::Manager(self.manager.node), certify)?;
        self.add_machine(node, description);
        Ok(node)
    }

    /// The committed state.
    ///
    /// # Errors
    /// When the manager is down.
    pub fn state(&self) -> anyhow::Result<Published> {
        self.manager.published().context("the manager is down")
    }

    /// The node with this host name.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn node_called(&self, hostname: &str) -> anyhow::Result<NodeId> {
        let found = self.machines.iter().find(|(_, machine)| machine.description.hostname == hostname);
        found.map(|(node, _)| *node).with_context(|| format!("no machine is called {hostname}"))
    }

    /// All machines.
    pub fn machines(&self) -> impl Iterator<Item = (NodeId, &Machine)> {
        self.machines.iter().map(|(node, machine)| (*node, machine))
    }

    /// One machine.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn machine(&mut self, node: NodeId) -> anyhow::Result<&mut Machine> {
        self.machines.get_mut(&node).context("no such machine")
    }

    /// Executes a command and returns its outcome; no time passes.
    ///
    /// # Errors
    /// When the manager fails.
    pub fn execute(&mut self, request: Request) -> anyhow::Result<Outcome> {
        let id = request.id;
        let ticket = match self.manager.submit(request) {
            Ok(ticket) => ticket,
            Err(rejection) => return Ok(Outcome::Rejected(rejection)),
        };
        self.run_manager()?;
        let outcome = self.outcomes.remove(&ticket).unwrap_or(Outcome::Unknown);
        if let Outcome::Committed { index, .. } = &outcome
            && self.oracle.took_effect(id)
        {
            self.oracle.acknowledge(id, *index);
        }
        Ok(outcome)
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// When the manager fails.
    pub fn advance(&mut self, length: Duration) -> anyhow::Result<()> {
        let until = self.clock.now() + length;
        self.act()?;
        while self.step(until)? {}
        Ok(())
    }

    /// Lets time pass until the cluster has settled.
    ///
    /// # Errors
    /// When it does not settle, or the manager fails.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        let give_up_at = self.clock.now() + SETTLE_MAX;
        self.act()?;
        while self.is_busy() || self.clock.now() < self.last_change + QUIET {
            ensure!(
                self.clock.now() < give_up_at,
                "no rest after {SETTLE_MAX:?}: at {} it waits for {}",
                self.clock.now(),
                self.awaited()
            );
            let until = if self.is_busy() { give_up_at } else { self.last_change + QUIET };
            self.step(until)?;
        }
        Ok(())
    }

    /// Advances to the next event, or to `until` if there is none before; returns whether there was one.
    ///
    /// # Errors
    /// When the manager fails, or there were too many steps.
    pub fn step(&mut self, until: Timestamp) -> anyhow::Result<bool> {
        self.steps += 1;
        ensure!(
            self.steps <= STEPS_MAX,
            "no rest after {STEPS_MAX} steps: at {} it waits for {}",
            self.clock.now(),
            self.awaited()
        );
        let next = self.next().filter(|next| *next <= until);
        self.clock.advance_to(next.unwrap_or(until));
        self.act()?;
        Ok(next.is_some())
    }

    /// A machine loses power.
    ///
    /// # Errors
    /// When the machine does not exist.
    pub fn crash_node(&mut self, node: NodeId) -> anyhow::Result<()> {
        let now = self.clock.now();
        let machine = self.machine(node)?;
        machine.engine.lose_power(now);
        machine.agent = None;
        Ok(())
    }

    /// Stops an agent's process; its containers keep running, and the manager notices the broken connection.
    ///
    /// # Errors
    /// When the machine does not exist.
    pub fn stop_agent(&mut self, node: NodeId) -> anyhow::Result<()> {
        let now = self.clock.now();
        let machine = self.machine(node)?;
        machine.engine.forget_calls();
        if let Some(session) = machine.agent.take().and_then(|agent| agent.session()) {
            self.net.send(Parcel::Up(node, ToManager::Closed { session }), now);
        }
        Ok(())
    }

    /// The records of an agent are lost; its containers are not.
    ///
    /// # Errors
    /// When the machine does not exist.
    pub fn lose_records(&mut self, node: NodeId) -> anyhow::Result<()> {
        self.machine(node)?.records.clear();
        Ok(())
    }

    /// Restarts a machine or its agent.
    ///
    /// # Errors
    /// When the machine does not exist.
    pub fn start_agent(&mut self, node: NodeId) -> anyhow::Result<()> {
        let now = self.clock.now();
        let machine = self.machine(node)?;
        if machine.agent.is_none() {
            machine.agent = Some(Agent::start(&machine.records, now));
        }
        Ok(())
    }

    /// Kills the manager's process.
    pub fn crash_manager(&mut self, crash: Crash) {
        let now = self.clock.now();
        for (node, session) in self.manager.crash(crash) {
            self.net.send(Parcel::Down(node, ToAgent::Closed { session }), now);
        }
        self.outcomes.clear();
    }

    /// Restarts the manager, which must have lost nothing.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start_manager(&mut self) -> anyhow::Result<()> {
        self.manager.start()?;
        let state = self.state()?;
        let store = self.manager.store().context("a manager that runs has a log")?;
        self.oracle.observe(&state.cluster, store);
        self.oracle.nothing_is_lost(&state.cluster, &state.keyring);
        self.run_manager()
    }

    /// The final check: no task ran twice.
    ///
    /// # Errors
    /// When one did.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let mut starts: BTreeMap<TaskId, u32> = BTreeMap::new();
        for machine in self.machines.values() {
            for (task, count) in machine.engine.starts() {
                *starts.entry(*task).or_default() += count;
            }
        }
        let twice: Vec<_> = starts.into_iter().filter(|(_, count)| *count > 1).collect();
        ensure!(twice.is_empty(), "tasks ran more than once: {twice:?}");
        Ok(())
    }

    /// The log of a task's container on this node, or why it is not available.
    ///
    /// # Errors
    /// When its agent is unreachable, or has no such container; the error is that of a real one.
    pub fn printed(&self, node: NodeId, task: TaskId) -> Result<Vec<wire::v1::LogLine>, LogsUnavailable> {
        let machine = self.machines.get(&node).filter(|machine| machine.is_connected() && !self.net.is_cut(node));
        let machine = machine.ok_or(LogsUnavailable::Node)?;
        machine.engine.printed(task, self.clock.now()).ok_or(LogsUnavailable::Task)
    }

    /// Whether an engine call, or a message other than a heartbeat, is in progress.
    pub fn is_busy(&self) -> bool {
        self.net.is_busy() || self.machines.values().any(|machine| machine.engine.is_busy())
    }

    fn add_machine(&mut self, node: NodeId, description: NodeDescription) {
        let records = Records::default();
        let agent = Some(Agent::start(&records, self.clock.now()));
        self.machines.insert(node, Machine { description, engine: Engine::default(), agent, records });
    }

    fn own_command(&mut self, actor: Actor, command: Command) -> anyhow::Result<String> {
        let request = Request::unnamed(actor, command);
        match self.execute(request)? {
            Outcome::Committed { subject, .. } => subject.context("a node's command names the node"),
            Outcome::Rejected(rejection) => bail!("{}", rejection.sentence),
            Outcome::Unknown => bail!("the manager was lost"),
        }
    }

    fn next(&self) -> Option<Timestamp> {
        let machines = self.machines.values().flat_map(|machine| {
            let agent = machine.agent.as_ref().and_then(Agent::next);
            [agent, machine.engine.next()].into_iter().flatten()
        });
        machines.chain(self.net.next()).chain(self.manager.next()).min()
    }

    /// The next event and its time, and what is in progress, in words.
    fn awaited(&self) -> String {
        let at = |next: Option<Timestamp>| next.map(|next| format!(" at {next}"));
        let mut parts = vec![
            at(self.manager.next()).map(|at| format!("the manager{at}")),
            at(self.net.next()).map(|at| format!("a message{at}")),
        ];
        for machine in self.machines.values() {
            let hostname = &machine.description.hostname;
            parts.push(
                at(machine.agent.as_ref().and_then(Agent::next)).map(|at| format!("the agent of {hostname}{at}")),
            );
            parts.push(at(machine.engine.next()).map(|at| format!("the engine of {hostname}{at}")));
        }
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }

    /// Number of steps of this world so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Does everything that is due at the present instant.
    fn act(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now();
        // Every message has some latency, so that none is answered at this instant.
        while let Some(parcel) = self.net.receive(now) {
            self.deliver(parcel, now);
        }
        for (node, machine) in &mut self.machines {
            for message in machine.work(now) {
                self.net.send(Parcel::Up(*node, message), now);
            }
        }
        self.run_manager()
    }

    fn deliver(&mut self, parcel: Parcel, now: Timestamp) {
        match parcel {
            Parcel::Up(node, message) => {
                if let ToManager::Heartbeat { session, .. } = message {
                    self.report_use(node, session);
                }
                if let Some(answer) = self.manager.receive(node, message, now) {
                    self.net.send(Parcel::Down(node, answer), now);
                }
            }
            Parcel::Down(node, message) => {
                let Some(Machine { agent: Some(agent), engine, .. }) = self.machines.get_mut(&node) else { return };
                for message in agent.receive(message, engine, now) {
                    self.net.send(Parcel::Up(node, message), now);
                }
            }
        }
    }

    /// Lets the manager take turns until it has nothing left to do now.
    fn run_manager(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now();
        for _ in 0..TURNS_MAX {
            let Some(turn) = self.manager.turn(now)? else { return Ok(()) };
            self.outcomes.extend(turn.answers);
            if turn.changed {
                self.last_change = now;
                self.check(now)?;
            }
            for (node, message) in turn.messages {
                self.net.send(Parcel::Down(node, message), now);
            }
        }
        bail!("the manager takes turn after turn at {now}")
    }

    fn check(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let state = self.state()?;
        let store = self.manager.store().context("a manager that runs has a log")?;
        self.oracle.observe(&state.cluster, store);
        self.oracle.note_keyring(state.cluster.position.index, &state.keyring);
        if self.manager.is_at_rest(now) {
            self.oracle.settled(&state.cluster, now);
        }
        self.turns += 1;
        if self.turns.is_multiple_of(self.snapshot_every) {
            self.oracle.snapshot_round_trip(&state.cluster);
        }
        Ok(())
    }
}

impl Machine {
    /// Whether its agent is running.
    pub fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    /// Whether its agent has a session.
    pub fn is_connected(&self) -> bool {
        self.agent.as_ref().is_some_and(Agent::is_connected)
    }

    fn work(&mut self, now: Timestamp) -> Vec<ToManager> {
        let ended = self.engine.finish_due(now);
        let Some(agent) = &mut self.agent else { return Vec::new() };
        for (task, outcome) in ended {
            agent.finished(task, outcome, now);
        }
        agent.work(&self.description, &mut self.engine, &mut self.records, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::machine;

    #[test]
    fn a_world_that_finds_no_rest_says_what_it_waits_for() {
        let mut world = World::new(1, machine("n1"), 1, Intervals::default()).expect("a cluster");
        world.settle().expect("a cluster of one comes to rest");
        world.steps = STEPS_MAX;
        let error = world.advance(QUIET).expect_err("one step too many").to_string();
        assert!(error.starts_with("no rest after") && error.contains("the agent of n1 at"), "{error}");
    }
}
