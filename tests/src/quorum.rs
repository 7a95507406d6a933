//! Several managers in one simulated cluster: the real replicas with the real consensus, on simulated disks and a network that
//! loses, duplicates, delays and partitions. One seed determines the commands of clients and the faults; at the end all faults
//! are repaired, and all managers must have the same history, the same state and every acknowledged command.
//!
//! Suggested order: this file (the cluster and its time), [`chaos`] (commands and faults), [`oracle`] (invariants), [`peer`] and
//! [`wires`] (the environment), [`fleet`] (agents, which only some runs have; [`crate::chaos`] has one manager).

pub mod chaos;
pub mod fleet;
pub mod oracle;
pub mod peer;
pub mod registers;
pub mod wires;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use commands::{Actor, Command, InitialiseCluster, RejectionKind, SecretText};
use events::frame::FEATURE_LEVEL;
use events::{ClusterId, ClusterSpec, CommandId, Id, NodeDescription, NodeId, NodeSpec, Role, TaskId, Timestamp};
use node::log::Crash;
use node::log::raft::TICK;
use node::manager::replica::{FatalError, Intervals, Outcome, Request, Ticket};
use projections::Cluster;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::clock::Clock;
use crate::net::ToAgent;
use fleet::Fleet;
use oracle::Oracle;
use peer::Peer;
use wires::{Parcel, Wires};

/// How long a client waits for a leader, and for an answer, before it gives up.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long an answer may wait until the manager that gives it has applied the index in it.
const LATE_AFTER: Duration = Duration::from_secs(10);
/// Maximum number of steps at the same instant; more mean an endless loop.
const STEPS_MAX: usize = 10_000;
/// The secret of the managers' join token in a simulation.
const TOKEN: [u8; 32] = [2; 32];
/// The secret of the workers' join token.
const WORKERS_TOKEN: [u8; 32] = [1; 32];

/// The managers of one cluster.
pub struct Quorum {
    /// The simulated clock.
    pub clock: Clock,
    /// The network between managers.
    pub wires: Wires,
    /// The machines whose agents hold sessions with them.
    pub fleet: Fleet,
    /// The invariants.
    pub oracle: Oracle,
    /// The managers, in the order in which they joined.
    pub peers: Vec<Peer>,
    random: StdRng,
    intervals: Intervals,
    next_tick: Timestamp,
    tickets: Ticket,
    /// Commands without an answer: the manager, the request and the time.
    waiting: BTreeMap<Ticket, (usize, Request, Timestamp)>,
    answers: BTreeMap<Ticket, Outcome>,
    /// Pending reads: the manager, and the highest acknowledged index when the read was requested.
    reads: BTreeMap<Ticket, (usize, u64)>,
    /// Number of completed reads.
    pub reads_made: u64,
    /// The results of reads, if they are kept.
    shown: Option<BTreeMap<Ticket, Cluster>>,
    /// Highest acknowledged index.
    acknowledged: u64,
    /// Maximum duration of a write.
    disk_latency_max: Duration,
    /// How often a manager's process ended because of its disk.
    pub disk_failures: u64,
    /// The manager whose state was falsified: its state is not checked.
    falsified: Option<usize>,
    verbose: bool,
}

impl Quorum {
    /// A cluster of `count` voting managers, led by the first one.
    ///
    /// # Errors
    /// When they do not all get to vote.
    pub fn new(seed: u64, count: usize, intervals: Intervals, verbose: bool) -> anyhow::Result<Self> {
        Self::with(seed, count, intervals, FEATURE_LEVEL, verbose)
    }

    /// The same with managers of a build with this feature level.
    ///
    /// # Errors
    /// When they do not all get to vote.
    pub fn of_build(seed: u64, count: usize, intervals: Intervals, feature_level_max: u32) -> anyhow::Result<Self> {
        Self::with(seed, count, intervals, feature_level_max, false)
    }

    fn with(
        seed: u64,
        count: usize,
        intervals: Intervals,
        feature_level_max: u32,
        verbose: bool,
    ) -> anyhow::Result<Self> {
        let mut random = StdRng::seed_from_u64(seed ^ 0x71);
        let cluster = ClusterId::from_bits(u128::from(seed) << 64 | 0x51_4f52_554d);
        let first = Peer::new(
            NodeId::from_bits(u128::from(seed) << 64 | 1),
            random.random_range(1..u64::MAX >> 1),
            true,
            intervals,
        );
        let clock = Clock::default();
        let next_tick = clock.now() + TICK;
        let mut quorum = Self {
            clock,
            wires: Wires::new(seed),
            fleet: Fleet::new(seed, count),
            oracle: Oracle::default(),
            peers: vec![first.of_build(feature_level_max)],
            random,
            intervals,
            next_tick,
            tickets: 0,
            waiting: BTreeMap::new(),
            answers: BTreeMap::new(),
            reads: BTreeMap::new(),
            reads_made: 0,
            shown: None,
            acknowledged: 0,
            disk_latency_max: Duration::from_millis(2),
            disk_failures: 0,
            falsified: None,
            verbose,
        };
        quorum.start(0)?;
        quorum.advance(TICK)?;
        let request = initialise(cluster, &quorum.peers[0]);
        ensure!(matches!(quorum.execute(&request)?, Outcome::Committed { .. }), "no cluster was made");
        for number in 1..count {
            quorum.join(number, feature_level_max)?;
        }
        quorum.until("all managers vote", Quorum::all_vote)?;
        Ok(quorum)
    }

    /// A further manager joins with the managers' token, and announces itself.
    fn join(&mut self, number: usize, feature_level_max: u32) -> anyhow::Result<()> {
        let (hostname, addr) = (format!("m{}", number + 1), format!("10.0.0.{}:4242", number + 1));
        let join = Command::JoinNode(commands::JoinNode { secret_sha256: TOKEN, hostname, addr });
        let joined = self.execute(&Request::unnamed(Actor::Joiner("10.0.0.9".to_owned()), join))?;
        let Outcome::Committed { subject: Some(node), .. } = joined else { bail!("{joined:?}") };
        let node: NodeId = node.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        let certified = self.execute(&self.certificate_of(node))?;
        ensure!(matches!(certified, Outcome::Committed { .. }), "{certified:?}");
        let raft_id = self.random.random_range(1..u64::MAX >> 1);
        self.peers.push(Peer::new(node, raft_id, false, self.intervals).of_build(feature_level_max));
        self.start(number)?;
        self.announce(number)
    }

    /// A machine joins as a worker.
    ///
    /// # Errors
    /// When it is refused.
    pub fn join_worker(&mut self, description: NodeDescription) -> anyhow::Result<()> {
        let (hostname, addr) = (description.hostname.clone(), "10.0.1.1:4242".to_owned());
        let join = Command::JoinNode(commands::JoinNode { secret_sha256: WORKERS_TOKEN, hostname, addr });
        let joined = self.execute(&Request::unnamed(Actor::Joiner("10.0.1.1".to_owned()), join))?;
        let Outcome::Committed { subject: Some(node), .. } = joined else { bail!("{joined:?}") };
        let node: NodeId = node.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        let certified = self.execute(&self.certificate_as(node, Role::Worker))?;
        ensure!(matches!(certified, Outcome::Committed { .. }), "{certified:?}");
        self.fleet.add(node, description, self.clock.now());
        Ok(())
    }

    /// Whether every agent has a session and runs the tasks of the state.
    pub fn agents_are_well(&self) -> bool {
        self.fleet.faults(self.oracle.cluster()).is_empty()
    }

    /// Tasks that a node started although history never assigned them to it: the manager that sent them was not the leader.
    pub fn unassigned_starts(&self) -> Vec<(NodeId, TaskId)> {
        let starts = self.fleet.started().into_iter();
        starts.filter(|(node, task)| self.oracle.node_of(*task) != Some(*node)).collect()
    }

    /// A manager announces that its log can follow.
    fn announce(&mut self, number: usize) -> anyhow::Result<()> {
        let outcome = self.execute(&self.announcement_of(number))?;
        ensure!(matches!(outcome, Outcome::Committed { .. }), "{outcome:?}");
        Ok(())
    }

    fn announcement_of(&self, number: usize) -> Request {
        let Peer { node, raft_id, feature_level_max, .. } = self.peers[number];
        let addr = format!("10.0.0.{}:4242", number + 1);
        let announce = commands::AnnounceManager { node, raft_id, addr, feature_level_max, audit_key: None };
        let announce = Command::AnnounceManager(announce);
        Request::unnamed(Actor::Node { id: node, role: Role::Manager }, announce)
    }

    fn certificate_of(&self, node: NodeId) -> Request {
        self.certificate_as(node, Role::Manager)
    }

    fn certificate_as(&self, node: NodeId, role: Role) -> Request {
        let cert_pem = "a certificate".to_owned();
        let not_after = self.clock.now() + Duration::from_secs(90 * 86_400);
        let certify = Command::CertifyNode(commands::CertifyNode { node, role, cert_pem, not_after });
        Request::unnamed(Actor::Manager(self.peers[0].node), certify)
    }

    /// A command of an operator that sets the role of a node.
    fn role_of(node: NodeId, role: Role) -> Request {
        let spec = NodeSpec { role: role.into(), ..NodeSpec::default() };
        let update = Command::UpdateNode(commands::UpdateNode { node, spec, version: None });
        Request::unnamed(Actor::Operator("operator".to_owned()), update)
    }

    /// Whether every machine is a desired manager, and votes with its present disk.
    fn all_are_wanted(&self) -> bool {
        let cluster = self.oracle.cluster();
        self.peers.iter().all(|peer| {
            let wanted = cluster.nodes.get(peer.node).is_some_and(|node| node.spec.role() == Role::Manager);
            wanted && cluster.member_with(peer.raft_id).is_some_and(|member| member.votes)
        })
    }

    /// Starts a manager's process.
    ///
    /// # Errors
    /// When its log is refused.
    pub fn start(&mut self, number: usize) -> anyhow::Result<()> {
        self.peers[number].start()?;
        self.oracle.forget(self.peers[number].node);
        self.observe(number);
        Ok(())
    }

    /// Kills a manager's process. Its unanswered requests are lost.
    pub fn crash(&mut self, number: usize, crash: Crash) {
        let now = self.clock.now();
        for (node, session) in self.peers[number].sessions() {
            self.fleet.send(number, node, ToAgent::Closed { session }, now);
        }
        self.peers[number].crash(crash);
        self.log_step(|| format!("manager {} crashes: {crash:?}", number + 1));
        self.disconnect(number);
        let lost: Vec<Ticket> =
            self.waiting.iter().filter(|(_, (asked, ..))| *asked == number).map(|(ticket, _)| *ticket).collect();
        for ticket in lost {
            self.waiting.remove(&ticket);
            self.answers.insert(ticket, Outcome::Unknown);
        }
        self.reads.retain(|_, (asked, _)| *asked != number);
    }

    /// Breaks the connections of the others to a manager, which they notice at once.
    pub fn disconnect(&mut self, number: usize) {
        let raft_id = self.peers[number].raft_id;
        for other in (0..self.peers.len()).filter(|other| *other != number) {
            if !self.wires.is_cut(self.peers[other].raft_id, raft_id) {
                self.peers[other].unreachable(raft_id);
            }
        }
    }

    /// Requests a read at a manager. It must include everything that any manager has acknowledged by now.
    pub fn read(&mut self, number: usize) -> Option<Ticket> {
        self.tickets += 1;
        self.peers[number].read(self.tickets)?;
        self.reads.insert(self.tickets, (number, self.acknowledged));
        Some(self.tickets)
    }

    /// Keeps the results of reads from now on, for [`Quorum::take_shown`].
    pub fn keep_shown(&mut self) {
        self.shown = Some(BTreeMap::new());
    }

    /// The state that a read returned, once it is complete.
    pub fn take_shown(&mut self, ticket: Ticket) -> Option<Cluster> {
        self.shown.as_mut()?.remove(&ticket)
    }

    /// The manager that claims to lead; of several, the one in the newest term.
    pub fn leader(&self) -> Option<usize> {
        let leaders = (0..self.peers.len()).filter(|number| self.peers[*number].leads());
        leaders.max_by_key(|number| self.peers[*number].replica().map(|replica| replica.term()))
    }

    /// Sends a command to a manager.
    pub fn ask(&mut self, number: usize, request: Request) -> Option<Ticket> {
        self.tickets += 1;
        self.peers[number].submit(self.tickets, request.clone()).ok()?;
        self.waiting.insert(self.tickets, (number, request, self.clock.now()));
        Some(self.tickets)
    }

    /// The answer to a command, if it has arrived.
    pub fn take_answer(&mut self, ticket: Ticket) -> Option<Outcome> {
        self.answers.remove(&ticket)
    }

    /// Sends a command to the present leader until it is answered.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub fn execute(&mut self, request: &Request) -> anyhow::Result<Outcome> {
        let give_up_at = self.clock.now() + ANSWER_MAX;
        while self.clock.now() < give_up_at {
            let asked = self.leader().and_then(|leader| self.ask(leader, request.clone()));
            let Some(ticket) = asked else {
                self.step_once(give_up_at)?;
                continue;
            };
            while self.waiting.contains_key(&ticket) && self.clock.now() < give_up_at {
                self.step_once(give_up_at)?;
            }
            match self.answers.remove(&ticket) {
                Some(Outcome::Unknown) | None => {}
                Some(Outcome::Rejected(refused)) if refused.kind == RejectionKind::Unavailable => {}
                Some(outcome) => return Ok(outcome),
            }
        }
        bail!("no answer to {} in {ANSWER_MAX:?}: {}", request.command.name(), self.describe())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// When a manager fails.
    pub fn advance(&mut self, length: Duration) -> anyhow::Result<()> {
        let until = self.clock.now() + length;
        self.act()?;
        while self.clock.now() < until {
            self.step_once(until)?;
        }
        Ok(())
    }

    /// Lets time pass until a condition holds.
    ///
    /// # Errors
    /// When it does not hold in time.
    pub fn until(&mut self, what: &str, holds: fn(&Self) -> bool) -> anyhow::Result<()> {
        let give_up_at = self.clock.now() + 4 * ANSWER_MAX;
        self.act()?;
        while !holds(self) {
            ensure!(self.clock.now() < give_up_at, "not in {:?}: {what}: {}", 4 * ANSWER_MAX, self.describe());
            self.step_once(give_up_at)?;
        }
        Ok(())
    }

    /// Whether every node that should be a manager votes, according to the leader.
    pub fn all_vote(&self) -> bool {
        let Some(cluster) =
            self.leader().and_then(|leader| self.peers[leader].replica()).map(|replica| replica.cluster())
        else {
            return false;
        };
        let wanted = cluster.nodes.values().filter(|node| node.spec.role() == Role::Manager).map(|node| node.id);
        let votes: Vec<NodeId> =
            cluster.members.values().filter(|member| member.votes).map(|member| member.node).collect();
        wanted.eq(votes) && cluster.members.values().all(|member| member.votes) && cluster.announced.is_empty()
    }

    /// Whether all running managers have the same state, none has anything to do, and one leads.
    pub fn agree(&self) -> bool {
        let positions = self.peers.iter().filter_map(Peer::replica).map(|replica| replica.cluster().position.index);
        let all: std::collections::BTreeSet<u64> = positions.collect();
        let tips = self.leader().and_then(|leader| self.peers[leader].replica()?.tip().map(|tip| tip.position.index));
        all.len() == 1 && all.first().copied() == tips && self.peers.iter().filter(|peer| peer.leads()).count() == 1
    }

    fn step_once(&mut self, until: Timestamp) -> anyhow::Result<()> {
        let nexts = self.peers.iter().filter_map(Peer::next);
        let next = nexts
            .chain(self.wires.next())
            .chain(self.fleet.next())
            .chain([self.next_tick, until])
            .min()
            .context("there is a tick")?;
        self.clock.advance_to(next);
        self.act()
    }

    /// Does everything that is due at the present instant.
    fn act(&mut self) -> anyhow::Result<()> {
        let now = self.clock.now();
        if self.next_tick <= now {
            self.next_tick = self.next_tick + TICK;
            self.peers.iter_mut().for_each(Peer::tick);
        }
        while let Some(Parcel { from, to, message }) = self.wires.receive(now) {
            let Some(number) = self.peers.iter().position(|peer| peer.raft_id == to) else { continue };
            let received = self.peers[number].receive(from, message);
            self.survive(number, received)?;
        }
        for number in 0..self.peers.len() {
            for (node, message) in self.fleet.arrived(number, now) {
                if let Some(answer) = self.peers[number].receive_from_agent(node, message, now) {
                    self.fleet.send(number, node, answer, now);
                }
            }
        }
        self.fleet.work(now);
        for _ in 0..STEPS_MAX {
            let busy: Vec<usize> = (0..self.peers.len()).filter(|number| !self.peers[*number].is_idle(now)).collect();
            // Idle managers, too, may have messages to send after messages and ticks.
            for number in 0..self.peers.len() {
                self.step_peer(number, now)?;
            }
            if busy.is_empty() {
                return Ok(());
            }
        }
        bail!("managers take turn after turn at {now}: {}", self.describe())
    }

    fn step_peer(&mut self, number: usize, now: Timestamp) -> anyhow::Result<()> {
        let latency = Duration::from_micros(self.random.random_range(0..=self.disk_latency_max.as_micros() as u64));
        let step = match self.peers[number].step(now, latency) {
            Ok(step) => step,
            Err(error) => return self.survive(number, Err(error)),
        };
        let from = self.peers[number].raft_id;
        for (to, message) in step.messages {
            self.wires.send(Parcel { from, to, message }, now);
        }
        for (node, message) in step.to_agents {
            self.fleet.send(number, node, message, now);
        }
        if step.changed {
            self.observe(number);
        }
        let here = self.peers[number].replica().map_or(0, |replica| replica.cluster().position.index);
        for ticket in step.readable {
            let Some((_, floor)) = self.reads.remove(&ticket) else { continue };
            ensure!(here >= floor, "manager {} reads frame {here} after {floor} was acknowledged", number + 1);
            self.reads_made += 1;
            if let (Some(shown), Some(replica)) = (&mut self.shown, self.peers[number].replica()) {
                shown.insert(ticket, replica.cluster().clone());
            }
        }
        for (ticket, outcome) in step.answers {
            let Some((_, request, asked)) = self.waiting.remove(&ticket) else { continue };
            if let Outcome::Committed { index, .. } = &outcome {
                // A manager that is far behind may give a correct answer before it has applied that index.
                let is_late = now >= asked + LATE_AFTER;
                ensure!(here >= *index || is_late, "manager {} answers with frame {index}, and has {here}", number + 1);
                self.acknowledged = self.acknowledged.max(*index);
                // A copy of a scale command that had nothing to change leaves no trace: another copy may take effect later.
                let is_earlier = self.oracle.effect(request.id).is_some_and(|effect| *index < effect);
                if !(is_earlier && matches!(request.command, Command::ScaleService(_))) {
                    self.oracle.acknowledge(request.id, *index);
                }
            }
            self.answers.insert(ticket, outcome);
        }
        Ok(())
    }

    /// A manager whose disk failed ends; any other error is returned.
    fn survive(&mut self, number: usize, result: Result<(), FatalError>) -> anyhow::Result<()> {
        match result {
            Err(FatalError::Log(node::log::LogError::Storage { .. })) => {
                self.disk_failures += 1;
                self.crash(number, Crash::Killed);
                Ok(())
            }
            other => other.with_context(|| format!("manager {} ended at {}", number + 1, self.clock.now())),
        }
    }

    fn observe(&mut self, number: usize) {
        if self.falsified == Some(number) {
            return;
        }
        let peer = &self.peers[number];
        if let (Some(replica), Some(store)) = (peer.replica(), peer.store()) {
            self.oracle.observe(peer.node, replica.cluster(), store);
        }
    }

    /// The status of all managers, in words.
    pub fn describe(&self) -> String {
        let one = |(number, peer): (usize, &Peer)| match peer.replica() {
            Some(replica) => format!(
                "m{} {} frame {} term {} of leader {:?}",
                number + 1,
                if replica.is_leader() { "leads," } else { "follows," },
                replica.cluster().position.index,
                replica.term(),
                replica
                    .leader_id()
                    .and_then(|id| self.peers.iter().position(|peer| peer.raft_id == id))
                    .map(|at| at + 1),
            ),
            None => format!("m{} is down", number + 1),
        };
        let peers: Vec<String> = self.peers.iter().enumerate().map(one).collect();
        let members: Vec<String> = self
            .oracle
            .cluster()
            .members
            .values()
            .map(|member| {
                let number = self.peers.iter().position(|peer| peer.raft_id == member.raft_id).map(|at| at + 1);
                format!("{number:?}{}", if member.votes { "" } else { " learns" })
            })
            .collect();
        format!("{}; members {}", peers.join(", "), members.join(" "))
    }

    fn log_step(&self, what: impl FnOnce() -> String) {
        if self.verbose {
            let at = self.clock.now().since(crate::clock::START);
            println!("{:>9.3}s  frame {:>4}  {}", at.as_secs_f64(), self.oracle.cluster().position.index, what());
        }
    }
}

fn initialise(cluster: ClusterId, first: &Peer) -> Request {
    let secret = |text: &str| SecretText(text.to_owned());
    let request = InitialiseCluster {
        cluster,
        spec: ClusterSpec::default(),
        root_cert_pem: "a root".to_owned(),
        root_digest: "a digest".to_owned(),
        root_key_pem: secret("the root's key"),
        worker_token: (secret("a worker's token"), WORKERS_TOKEN),
        manager_token: (secret("a manager's token"), TOKEN),
        node: first.node,
        raft_id: first.raft_id,
        audit_key: None,
        feature_level_max: first.feature_level_max,
        hostname: "m1".to_owned(),
        addr: "10.0.0.1:4242".to_owned(),
        cert_pem: "a certificate".to_owned(),
        cert_not_after: crate::clock::START + Duration::from_secs(90 * 86_400),
    };
    let command = Command::InitialiseCluster(Box::new(request));
    let id = CommandId::from_bits(cluster.bits());
    Request::named(id, Actor::Manager(first.node), command)
}

#[cfg(test)]
mod tests;
