//! One run with several managers: commands, faults, and the conditions at the end.

pub mod agents;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use anyhow::ensure;
use commands::{Actor, Command, RejectionKind, SecretText, ServiceSecrets};
use events::service_spec::Mode;
use events::{
    Annotations, CommandId, ConfigSpec, ContainerSpec, Id, ReplicatedMode, Role, ServiceId, ServiceSpec, TaskSpec,
};
use node::log::{Crash, Table};
use node::manager::replica::{Intervals, Outcome, Replica, Request, Ticket};
use rand::Rng;

use crate::net::NetworkConditions;

use super::Quorum;
use super::peer::Peer;

/// Number of actions in one run.
const ACTIONS: usize = 100;
/// Numbers of managers; a run uses one of them.
const MANAGERS: [usize; 3] = [1, 3, 5];
/// Frames between two checkpoints: few, so that managers that were away need more than the remaining entries.
const CHECKPOINT_FRAMES: Range<u64> = 5..60;
/// Frames between two state hashes.
const HASH_FRAMES: Range<u64> = 5..50;
/// Maximum duration of a write.
const DISK_LATENCY_MAX: Duration = Duration::from_millis(200);
/// Maximum downtime of a manager.
const DOWN_MAX: Duration = Duration::from_secs(20);
/// Time limit for managers to vote again once everything works: a few changes of the members, one after the other.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(120);
/// Maximum number of writes before a failing disk stops working.
const DISK_WRITES_MAX: usize = 20;

/// The results of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Index of the last frame.
    pub frames: u64,
    /// Number of commands that took effect.
    pub commands: u64,
    /// How often a manager's process ended.
    pub crashes: u64,
    /// How often the network was partitioned or degraded.
    pub partitions: u64,
    /// Number of leader changes.
    pub elections: u64,
    /// How often a manager continued with a state that another one offered.
    pub restored: u64,
    /// Number of changes of the members.
    pub member_changes: u64,
    /// Number of linearizable reads that were answered.
    pub reads: u64,
    /// Number of attempts of agents to open a session.
    pub sessions: u64,
    /// How often a manager's log was damaged.
    pub damaged: u64,
    /// How often a manager did not start because its log was damaged.
    pub refused: u64,
    /// Simulated time until convergence.
    pub length: Duration,
}

/// One run.
struct Chaos {
    quorum: Quorum,
    summary: Summary,
    asked: u128,
    /// Commands whose answers are pending.
    waiting: Vec<(Ticket, Request)>,
    /// Commands with unknown results: they are sent again.
    open: Vec<Request>,
    /// The first answer to each command that took effect.
    answered: BTreeMap<CommandId, Outcome>,
    /// When a stopped manager restarts, by number.
    down: Vec<(usize, events::Timestamp)>,
}

/// Runs one seed.
///
/// # Errors
/// When a final condition does not hold. A violated invariant panics.
pub fn run(seed: u64, verbose: bool) -> anyhow::Result<Summary> {
    let count = MANAGERS[usize::try_from(seed).unwrap_or_default() % MANAGERS.len()];
    let mut chaos = Chaos::begin(seed, count, verbose)?;
    for _ in 0..ACTIONS {
        chaos.act()?;
    }
    chaos.repair()?;
    chaos.quorum.until("all managers agree", Quorum::agree)?;
    chaos.damage()?;
    chaos.repair()?;
    chaos.conclude()
}

impl Chaos {
    fn begin(seed: u64, count: usize, verbose: bool) -> anyhow::Result<Self> {
        let mut random = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
        let intervals = Intervals {
            checkpoint_frames: random.random_range(CHECKPOINT_FRAMES),
            hash_frames: random.random_range(HASH_FRAMES),
            ..Intervals::default()
        };
        let quorum = Quorum::new(seed, count, intervals, verbose)?;
        let (waiting, open, down) = (Vec::new(), Vec::new(), Vec::new());
        let answered = BTreeMap::new();
        Ok(Self { quorum, summary: Summary::default(), asked: 0, waiting, open, answered, down })
    }

    fn act(&mut self) -> anyhow::Result<()> {
        match self.draw(100) {
            0..35 => {
                let length = Duration::from_millis(1 + self.draw(2_000));
                self.quorum.advance(length)?;
            }
            35..75 => {
                let request = self.next_request();
                self.ask(request);
            }
            75..85 => self.crash()?,
            85..94 => self.disturb_network(),
            94 => self.lose_disk()?,
            95 => self.demote(),
            96 => {
                let (number, writes) = (self.pick(), self.draw(DISK_WRITES_MAX as u64) as usize);
                self.quorum.log_step(|| format!("the disk of manager {} fails after {writes} writes", number + 1));
                self.quorum.peers[number].fail_disk_after(writes);
            }
            _ => {
                let longest = self.draw(DISK_LATENCY_MAX.as_millis() as u64);
                self.quorum.disk_latency_max = Duration::from_millis(longest);
            }
        }
        self.collect();
        self.revive()?;
        self.enlist()
    }

    /// Sends a command to a random manager; one that is not accepted is sent again later.
    fn ask(&mut self, request: Request) {
        let reader = self.pick();
        self.quorum.read(reader);
        let number = self.pick();
        // Every fifth is sent twice, as by a client that gave up too soon.
        let twin = (self.draw(5) == 0).then(|| self.pick());
        if let Some(ticket) = twin.and_then(|twin| self.quorum.ask(twin, request.clone())) {
            self.waiting.push((ticket, request.clone()));
        }
        match self.quorum.ask(number, request.clone()) {
            Some(ticket) => self.waiting.push((ticket, request)),
            None => self.open.push(request),
        }
        // A client without an answer repeats the command, possibly at another manager; it takes effect only once.
        if let Some(again) = self.open.pop() {
            let another = self.pick();
            match self.quorum.ask(another, again.clone()) {
                Some(ticket) => self.waiting.push((ticket, again)),
                None => self.open.push(again),
            }
        }
    }

    fn collect(&mut self) {
        for (ticket, request) in std::mem::take(&mut self.waiting) {
            match self.quorum.take_answer(ticket) {
                Some(Outcome::Unknown) => self.open.push(request),
                Some(Outcome::Rejected(refused)) if refused.kind == RejectionKind::Unavailable => {
                    self.open.push(request);
                }
                // A command without changes leaves no trace, and may be decided again.
                Some(Outcome::Committed { .. }) if matches!(request.command, Command::ScaleService(_)) => {}
                Some(outcome @ Outcome::Committed { .. }) => {
                    let first = self.answered.entry(request.id).or_insert_with(|| outcome.clone());
                    assert_eq!(*first, outcome, "a repeated command has one answer: {request:?}");
                }
                Some(Outcome::Rejected(_)) => {}
                None => self.waiting.push((ticket, request)),
            }
        }
    }

    fn crash(&mut self) -> anyhow::Result<()> {
        let number = self.pick();
        if self.quorum.peers[number].replica().is_none() {
            return Ok(());
        }
        let kept_writes = self.draw(1 + self.quorum.peers[number].unsynced_writes() as u64) as usize;
        let crash = [Crash::Killed, Crash::PowerCut { kept_writes }, Crash::TornHistory][self.draw(3) as usize];
        self.summary.crashes += 1;
        self.quorum.crash(number, crash);
        Ok(())
    }

    /// Whether every manager votes and all have applied that: until the others have applied the vote of a third one, two managers
    /// decide, and neither may be lost.
    fn one_can_be_spared(&self) -> bool {
        let all_run = self.quorum.peers.iter().all(|peer| peer.replica().is_some());
        self.quorum.peers.len() > 1 && all_run && self.quorum.all_vote() && self.quorum.agree()
    }

    /// Flips a bit of a manager's log. The manager then refuses to start and joins again with an empty log, or it does not need
    /// the damaged data: this is so for a checkpoint, and for the end of its history while raft still has those entries. The end
    /// of a run compares all histories.
    fn damage(&mut self) -> anyhow::Result<()> {
        if !self.one_can_be_spared() {
            return Ok(());
        }
        let (number, which) = (self.pick(), self.draw(1_000) as usize);
        let table = Table::ALL[self.draw(Table::ALL.len() as u64) as usize];
        self.quorum.crash(number, Crash::Killed);
        if !self.quorum.peers[number].flip_bit(table, which)? {
            return self.quorum.start(number);
        }
        self.summary.damaged += 1;
        let refused = self.quorum.start(number).err();
        self.quorum.log_step(|| format!("the {table} table of manager {} is damaged: {refused:?}", number + 1));
        match refused {
            Some(_) => {
                self.summary.refused += 1;
                self.restart_with_empty_log(number)
            }
            None => {
                ensure!(
                    table.is_cache() || table == Table::History,
                    "manager {} starts with a damaged {table} table",
                    number + 1
                );
                Ok(())
            }
        }
    }

    /// A manager loses its disk.
    fn lose_disk(&mut self) -> anyhow::Result<()> {
        if !self.one_can_be_spared() {
            return Ok(());
        }
        let number = self.pick();
        self.quorum.log_step(|| format!("manager {} loses its disk", number + 1));
        self.restart_with_empty_log(number)
    }

    fn restart_with_empty_log(&mut self, number: usize) -> anyhow::Result<()> {
        let raft_id = 1 + self.draw(u64::MAX >> 1);
        self.quorum.crash(number, Crash::Killed);
        self.quorum.peers[number].lose_disk(raft_id);
        self.quorum.start(number)
    }

    /// An operator demotes a manager, possibly the leader.
    fn demote(&mut self) {
        if self.quorum.peers.len() == 1 || !self.quorum.all_vote() {
            return;
        }
        let number = self.pick();
        self.quorum.log_step(|| format!("manager {} is demoted", number + 1));
        let request = Quorum::role_of(self.quorum.peers[number].node, Role::Worker);
        // An operator without an answer looks before trying again.
        if let Some(leader) = self.quorum.leader() {
            self.quorum.ask(leader, request);
        }
    }

    /// A manager that is no longer a member starts with an empty log, and does the next step to become one again: any step may be
    /// lost, and is repeated until the state shows its effect.
    fn enlist(&mut self) -> anyhow::Result<()> {
        for number in 0..self.quorum.peers.len() {
            let (node, raft_id) = (self.quorum.peers[number].node, self.quorum.peers[number].raft_id);
            let cluster = self.quorum.oracle.cluster();
            if cluster.former_members.contains(raft_id) {
                // Its vote is no longer needed: it may forget everything at once.
                self.restart_with_empty_log(number)?;
                continue;
            }
            let waits = cluster.announced.get(node).is_some_and(|announced| announced.raft_id == raft_id);
            let Some(known) = cluster.nodes.get(node).filter(|_| cluster.member_with(raft_id).is_none()) else {
                continue;
            };
            let request = match (known.spec.role(), known.role) {
                // It may have been demoted while waiting.
                (Role::Worker, _) => Quorum::role_of(node, Role::Manager),
                (Role::Manager, Role::Worker) => self.quorum.certificate_of(node),
                (Role::Manager, Role::Manager) if waits => continue,
                (Role::Manager, Role::Manager) => self.quorum.announcement_of(number),
            };
            if let Some(leader) = self.quorum.leader() {
                self.quorum.ask(leader, request);
            }
        }
        Ok(())
    }

    /// Restarts stopped managers after some time, also those whose disk failed.
    fn revive(&mut self) -> anyhow::Result<()> {
        let now = self.quorum.clock.now();
        for number in 0..self.quorum.peers.len() {
            let is_down = self.quorum.peers[number].replica().is_none();
            match self.down.iter().find(|(down, _)| *down == number).map(|(_, until)| *until) {
                None if is_down => {
                    let away = Duration::from_millis(self.draw(DOWN_MAX.as_millis() as u64));
                    self.down.push((number, now + away));
                }
                Some(until) if is_down && until <= now => {
                    // With a working disk: the old controller may be why it ended.
                    self.quorum.peers[number].crash(Crash::Killed);
                    self.quorum.log_step(|| format!("manager {} is back", number + 1));
                    self.quorum.start(number)?;
                    self.down.retain(|(down, _)| *down != number);
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    fn disturb_network(&mut self) {
        self.summary.partitions += 1;
        let ids: Vec<u64> = self.quorum.peers.iter().map(|peer| peer.raft_id).collect();
        match self.draw(5) {
            0 => {
                self.quorum.wires.repair();
                self.quorum.wires.conditions = NetworkConditions::FINE;
                self.quorum.log_step(|| "the network works".to_owned());
            }
            1 => {
                let lost_per_mille = self.draw(300) as u32;
                let doubled_per_mille = self.draw(200) as u32;
                let latency = (Duration::from_millis(1), Duration::from_millis(1 + self.draw(400)));
                self.quorum.wires.conditions = NetworkConditions { lost_per_mille, doubled_per_mille, latency };
                self.quorum.log_step(|| "the network is bad".to_owned());
            }
            2 => {
                let (from, to) = (self.pick(), self.pick());
                self.quorum.wires.cut(ids[from], ids[to]);
                self.quorum.log_step(|| format!("nothing comes from manager {} to {}", from + 1, to + 1));
            }
            3 => {
                let number = self.pick();
                self.quorum.disconnect(number);
                self.quorum.log_step(|| format!("the connections to manager {} break", number + 1));
            }
            _ => {
                let side = self.draw(1 << ids.len());
                let is_here = |number: usize| side >> number & 1 == 1;
                for from in 0..ids.len() {
                    for to in (0..ids.len()).filter(|to| is_here(*to) != is_here(from)) {
                        self.quorum.wires.cut(ids[from], ids[to]);
                    }
                }
                self.quorum.log_step(|| format!("the network is parted: {side:b}"));
            }
        }
    }

    /// Repairs all faults, and every command gets its answer.
    fn repair(&mut self) -> anyhow::Result<()> {
        self.quorum.log_step(|| "everything is mended".to_owned());
        self.quorum.wires.repair();
        self.quorum.wires.conditions = NetworkConditions::FINE;
        for number in 0..self.quorum.peers.len() {
            self.quorum.crash(number, Crash::Killed);
            self.quorum.start(number)?;
        }
        let give_up_at = self.quorum.clock.now() + REPAIR_TIMEOUT;
        while !(self.quorum.all_vote() && self.quorum.all_are_wanted()) {
            ensure!(self.quorum.clock.now() < give_up_at, "not all managers vote: {}", self.quorum.describe());
            self.enlist()?;
            self.quorum.advance(Duration::from_millis(500))?;
        }
        self.collect();
        let open: Vec<Request> =
            self.open.drain(..).chain(self.waiting.drain(..).map(|(_, request)| request)).collect();
        for request in open {
            self.quorum.execute(&request)?;
        }
        Ok(())
    }

    /// Checks for one leader, one history, one state.
    fn conclude(mut self) -> anyhow::Result<Summary> {
        self.quorum.until("all managers agree", Quorum::agree)?;
        let replicas: Vec<&Replica> = self.quorum.peers.iter().filter_map(Peer::replica).collect();
        ensure!(replicas.len() == self.quorum.peers.len(), "all managers run");
        for (replica, peer) in replicas.iter().zip(&self.quorum.peers) {
            ensure!(replica.cluster().state_hash() == replicas[0].cluster().state_hash(), "one state");
            ensure!(replica.keyring() == replicas[0].keyring(), "the same secrets");
            if let Some(store) = peer.store() {
                let frames = self.quorum.oracle.compare(peer.node, store);
                ensure!(frames == self.quorum.oracle.frames(), "node {} lacks frames", peer.node);
            }
        }
        let cluster = self.quorum.oracle.cluster();
        self.summary.frames = cluster.position.index;
        self.summary.commands = self.quorum.oracle.effects() as u64;
        self.summary.crashes += self.quorum.disk_failures;
        self.summary.elections = self.quorum.oracle.elections();
        self.summary.restored = self.quorum.peers.iter().map(|peer| peer.restored).sum();
        self.summary.member_changes = self.quorum.oracle.member_changes();
        self.summary.reads = self.quorum.reads_made;
        self.summary.length = self.quorum.clock.now().since(crate::clock::START);
        Ok(self.summary)
    }

    /// A client's command: something that leaves a trace, sometimes with a secret.
    fn next_request(&mut self) -> Request {
        self.asked += 1;
        let number = self.asked;
        let services: Vec<ServiceId> =
            self.quorum.oracle.cluster().services.values().map(|service| service.id).collect();
        let service = services.get(self.draw(services.len().max(1) as u64) as usize).copied();
        let command = match (self.draw(10), service) {
            (0..4, Some(service)) => Command::ScaleService(commands::ScaleService { service, replicas: self.draw(20) }),
            (4, Some(service)) => Command::RemoveService(commands::RemoveService { service }),
            (5..8, _) => {
                let annotations = Some(Annotations { name: format!("c{number}"), ..Annotations::default() });
                let spec = ConfigSpec { annotations, ..Default::default() };
                Command::CreateConfig(commands::CreateConfig { spec, data: vec![7; 1 + self.draw(4_000) as usize] })
            }
            (8, _) => Command::RotateJoinToken(commands::RotateJoinToken {
                role: Role::Worker,
                token: SecretText(format!("token {number}")),
                secret_sha256: [9; 32],
            }),
            (_, _) => self.create(number),
        };
        let (id, actor) = (CommandId::from_bits(number), Actor::Operator("client".to_owned()));
        Request::named(id, actor, command)
    }

    fn create(&mut self, number: u128) -> Command {
        let container = ContainerSpec { image: "sim/ok:1".to_owned(), ..ContainerSpec::default() };
        let spec = ServiceSpec {
            annotations: Some(Annotations { name: format!("s{number}"), ..Annotations::default() }),
            task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }),
            mode: Some(Mode::Replicated(ReplicatedMode { replicas: self.draw(20) })),
            ..ServiceSpec::default()
        };
        let auth = (self.draw(2) == 0).then(|| SecretText(format!("password {number}")));
        let secrets = ServiceSecrets { registry_auth: auth, ..ServiceSecrets::default() };
        Command::CreateService(commands::CreateService { spec: Box::new(spec), secrets })
    }

    fn pick(&mut self) -> usize {
        let count = self.quorum.peers.len() as u64;
        self.draw(count) as usize
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.quorum.random.random_range(0..below)
    }
}
