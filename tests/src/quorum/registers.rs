//! Clients that set, swap and read a few registers at any manager, while managers crash, transfer leadership and are partitioned,
//! and the results that each client saw. A register is the number of replicas of a service. The last one is a label of a service;
//! its values are unique, so that a version that was read identifies a value: an update with that version swaps the value for
//! another.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use commands::{Actor, Command, RejectionKind, ServiceSecrets};
use events::service_spec::Mode;
use events::{Annotations, CommandId, ContainerSpec, Id, ReplicatedMode, ServiceId, ServiceSpec, TaskSpec, Timestamp};
use node::log::Crash;
use node::manager::replica::{Intervals, Outcome, Request, Ticket};
use projections::Cluster;
use rand::Rng;

use crate::linearizability::{Action, Operation, check};
use crate::net::NetworkConditions;

use super::Quorum;

const MANAGERS: usize = 3;
const REGISTERS: u64 = 3;
/// The register that is swapped, and its label.
const SWAPPED: u64 = REGISTERS - 1;
const LABEL: &str = "value";
const CLIENTS: usize = 4;
/// Number of actions in one history: few, since many short histories find errors better.
const ACTIONS: usize = 60;
/// Maximum time between two actions.
const PAUSE_MAX: Duration = Duration::from_millis(400);
/// How long a client waits before it sends something else.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Time limit for managers to answer again once everything works.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(20);
/// Number of steps of 10 ms in which a leader may answer pending requests before leadership is transferred.
const HAND_OVER_STEPS: usize = 5;
/// Number of values: few, so that many commands set the present value again.
const VALUES: u64 = 6;

/// The results of a history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Reads that were answered.
    pub reads: usize,
    /// Writes that were acknowledged.
    pub writes: usize,
    /// Swaps that were acknowledged.
    pub swaps: usize,
    /// Swaps that were refused because the value had changed.
    pub refused: usize,
    /// Number of leader changes.
    pub elections: u64,
    /// Writes with unknown results.
    pub unknown: usize,
}

/// A pending operation of a client.
struct PendingOperation {
    ticket: Ticket,
    operation: Operation,
}

struct Registers {
    quorum: Quorum,
    services: Vec<ServiceId>,
    clients: Vec<Option<PendingOperation>>,
    history: Vec<Operation>,
    commands: u128,
    /// The version and the value of the last register, as last seen by each client.
    seen: [(u64, u64); CLIENTS],
}

/// Runs one history and checks it.
///
/// # Errors
/// When it is not linearizable, or managers do not answer again at the end.
pub fn run(seed: u64, verbose: bool) -> anyhow::Result<Summary> {
    let quorum = Quorum::new(seed, MANAGERS, Intervals::default(), verbose)?;
    let clients = (0..CLIENTS).map(|_| None).collect();
    let mut registers =
        Registers { quorum, services: Vec::new(), clients, history: Vec::new(), commands: 0, seen: [(0, 0); CLIENTS] };
    registers.quorum.keep_shown();
    registers.create()?;
    for _ in 0..ACTIONS {
        registers.act()?;
    }
    registers.repair()?;
    check(&registers.history)?;
    Ok(registers.summary())
}

/// The value of a register in a state.
fn value(cluster: &Cluster, key: u64, service: ServiceId) -> Option<u64> {
    let spec = &cluster.services.get(service)?.spec;
    if key == SWAPPED {
        return spec.annotations.as_ref()?.labels.get(LABEL)?.parse().ok();
    }
    match spec.mode.as_ref()? {
        Mode::Replicated(replicated) => Some(replicated.replicas),
        Mode::Global(_) | Mode::ReplicatedJob(_) | Mode::GlobalJob(_) => None,
    }
}

/// A service without tasks, with a label.
fn spec(key: u64, value: u64) -> Box<ServiceSpec> {
    let container = ContainerSpec { image: "sim/ok:1".to_owned(), ..ContainerSpec::default() };
    let labels = [(LABEL.to_owned(), value.to_string())].into();
    Box::new(ServiceSpec {
        annotations: Some(Annotations { name: format!("r{key}"), labels }),
        task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: 0 })),
        ..ServiceSpec::default()
    })
}

impl Registers {
    fn create(&mut self) -> anyhow::Result<()> {
        for key in 0..REGISTERS {
            let create = commands::CreateService { spec: spec(key, 0), secrets: ServiceSecrets::default() };
            let request = self.request(Command::CreateService(create));
            let Outcome::Committed { subject: Some(service), index } = self.quorum.execute(&request)? else {
                bail!("register {key} was not created");
            };
            self.seen = [(index, 0); CLIENTS];
            self.services.push(service.parse().map_err(|error| anyhow::anyhow!("{error}"))?);
            let now = self.quorum.clock.now();
            self.history.push(Operation { key, action: Action::Write(0), called: now, answered: Some(now) });
        }
        Ok(())
    }

    fn act(&mut self) -> anyhow::Result<()> {
        for client in 0..CLIENTS {
            if self.clients[client].is_none() && self.draw(2) == 0 {
                self.begin(client);
            }
        }
        match self.draw(20) {
            0 => {
                let number = self.pick();
                match self.quorum.peers[number].replica() {
                    Some(_) => self.quorum.crash(number, Crash::Killed),
                    None => self.quorum.start(number)?,
                }
            }
            1 | 2 => {
                let (from, to) = (self.pick(), self.pick());
                let [from, to] = [from, to].map(|number| self.quorum.peers[number].raft_id);
                self.quorum.wires.cut(from, to);
                if self.draw(2) == 0 {
                    self.quorum.wires.cut(to, from);
                }
            }
            3 => self.isolate(),
            4 => self.quorum.wires.repair(),
            6 => self.hand_over()?,
            5 => {
                let latency = (Duration::from_millis(1), Duration::from_millis(1 + self.draw(300)));
                let lost_per_mille = self.draw(200) as u32;
                self.quorum.wires.conditions = NetworkConditions { lost_per_mille, doubled_per_mille: 50, latency };
            }
            _ => {}
        }
        let pause = Duration::from_millis(self.draw(PAUSE_MAX.as_millis() as u64));
        self.quorum.advance(pause)?;
        self.collect();
        Ok(())
    }

    /// Isolates one manager, usually the leader.
    fn isolate(&mut self) {
        let anybody = self.pick();
        let alone = self.quorum.leader().filter(|_| self.draw(4) > 0).unwrap_or(anybody);
        let ids: Vec<u64> = self.quorum.peers.iter().map(|peer| peer.raft_id).collect();
        for other in ids.iter().filter(|id| **id != ids[alone]) {
            self.quorum.wires.cut(ids[alone], *other);
            self.quorum.wires.cut(*other, ids[alone]);
        }
    }

    /// The leader transfers leadership while requests are pending.
    fn hand_over(&mut self) -> anyhow::Result<()> {
        let Some(leader) = self.quorum.leader() else { return Ok(()) };
        for _ in 0..HAND_OVER_STEPS {
            if !self.quorum.peers[leader].hand_over() {
                break;
            }
            self.quorum.advance(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// A client sends a request to a random manager.
    fn begin(&mut self, client: usize) {
        let (key, number, called) = (self.draw(4).min(SWAPPED), self.pick(), self.quorum.clock.now());
        let (ticket, action) = match self.draw(6) {
            0..3 => (self.quorum.read(number), Action::Read(None)),
            drawn if key == SWAPPED => {
                let (service, to) = (self.services[key as usize], self.commands as u64 + 1);
                let (version, from) = self.seen[client];
                let (version, action) = match drawn {
                    3 | 4 => (Some(version), Action::Swap { from, to, done: None }),
                    _ => (None, Action::Write(to)),
                };
                let secrets = ServiceSecrets::default();
                let update = commands::UpdateService { service, spec: spec(key, to), version, secrets };
                let request = self.request(Command::UpdateService(update));
                (self.quorum.ask(number, request), action)
            }
            _ => {
                let (service, replicas) = (self.services[key as usize], self.draw(VALUES));
                let scale = commands::ScaleService { service, replicas };
                let request = self.request(Command::ScaleService(scale));
                (self.quorum.ask(number, request), Action::Write(replicas))
            }
        };
        let operation = Operation { key, action, called, answered: None };
        self.clients[client] = ticket.map(|ticket| PendingOperation { ticket, operation });
    }

    /// Records the answers so far, and gives up requests that timed out.
    fn collect(&mut self) {
        let now = self.quorum.clock.now();
        for client in 0..CLIENTS {
            let Some(asked) = self.clients[client].take() else { continue };
            let is_over = asked.operation.called + TIMEOUT <= now;
            match self.outcome(client, &asked, now) {
                Some(operation) => self.history.extend(operation),
                None if is_over => self.history.extend(unanswered(asked.operation)),
                None => self.clients[client] = Some(asked),
            }
        }
    }

    /// The result of an answered operation; the answer may be that the result is unknown.
    fn outcome(&mut self, client: usize, asked: &PendingOperation, now: Timestamp) -> Option<Option<Operation>> {
        let PendingOperation { ticket, operation } = asked;
        let answered = |action| Some(Some(Operation { action, answered: Some(now), ..*operation }));
        if let Action::Read(_) = operation.action {
            let (shown, service) = (self.quorum.take_shown(*ticket)?, self.services[operation.key as usize]);
            let seen = value(&shown, operation.key, service);
            if operation.key == SWAPPED {
                self.seen[client] = shown.services.get(service).map(|service| service.version).zip(seen)?;
            }
            return answered(Action::Read(seen));
        }
        match (self.quorum.take_answer(*ticket)?, operation.action) {
            (Outcome::Committed { .. }, Action::Swap { from, to, .. }) => {
                answered(Action::Swap { from, to, done: Some(true) })
            }
            (Outcome::Committed { .. }, action) => answered(action),
            (Outcome::Rejected(refused), Action::Swap { from, to, .. }) if refused.kind == RejectionKind::Conflict => {
                answered(Action::Swap { from, to, done: Some(false) })
            }
            (Outcome::Rejected(_) | Outcome::Unknown, _) => Some(unanswered(*operation)),
        }
    }

    /// Repairs all faults; every manager must return every register.
    fn repair(&mut self) -> anyhow::Result<()> {
        self.quorum.wires.repair();
        self.quorum.wires.conditions = NetworkConditions::FINE;
        for number in 0..MANAGERS {
            if self.quorum.peers[number].replica().is_none() {
                self.quorum.start(number)?;
            }
        }
        self.quorum.advance(REPAIR_TIMEOUT)?;
        self.collect();
        for number in 0..MANAGERS {
            for key in 0..REGISTERS {
                let called = self.quorum.clock.now();
                let ticket = self.quorum.read(number).context("a read in the end")?;
                let operation = Operation { key, action: Action::Read(None), called, answered: None };
                let asked = PendingOperation { ticket, operation };
                self.quorum.advance(Duration::from_secs(1))?;
                let read = self.outcome(0, &asked, self.quorum.clock.now()).flatten();
                ensure!(read.is_some(), "manager {} answers no read in the end", number + 1);
                self.history.extend(read);
            }
        }
        Ok(())
    }

    fn summary(&self) -> Summary {
        let mut summary = Summary { elections: self.quorum.oracle.elections(), ..Summary::default() };
        for Operation { action, answered, .. } in &self.history {
            *match (action, answered) {
                (Action::Read(_), _) => &mut summary.reads,
                (_, None) => &mut summary.unknown,
                (Action::Write(_), Some(_)) => &mut summary.writes,
                (Action::Swap { done: Some(false), .. }, Some(_)) => &mut summary.refused,
                (Action::Swap { .. }, Some(_)) => &mut summary.swaps,
            } += 1;
        }
        summary
    }

    fn request(&mut self, command: Command) -> Request {
        self.commands += 1;
        let (id, actor) = (CommandId::from_bits(self.commands), Actor::Operator("client".to_owned()));
        Request::named(id, actor, command)
    }

    fn pick(&mut self) -> usize {
        self.draw(MANAGERS as u64) as usize
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.quorum.random.random_range(0..below)
    }
}

/// A write without an answer may take effect at any time; a read without an answer is dropped.
fn unanswered(operation: Operation) -> Option<Operation> {
    match operation.action {
        Action::Read(_) => None,
        Action::Write(_) | Action::Swap { .. } => Some(operation),
    }
}
