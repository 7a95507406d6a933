//! One of several managers: the real replica with the real consensus on a log in memory, and its sessions with agents. Its disk
//! takes time, so that messages are sent while a write is in progress, and it can crash at any point.

use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::ensure;
use commands::Rejection;
use commands::space::Space;
use events::{Id, NodeId, Role, SessionId, Timestamp};
use node::control::{Control, ManagerInfo, sessions};
use node::log::disk::{Change, Disk, Durability, Key};
use node::log::{Consensus, Crash, LogStore, Membership, MemoryDisk, MemoryStore, PageSize, Table, Write, write_all};
use node::manager::alone;
use node::manager::driver::Published;
use node::manager::fold::Folded;
use node::manager::replica::{
    CheckpointJob, Effects, FatalError, HistoryAsked, Intervals, Outcome, PeerMessage, Replica, Request, Ticket,
    membership,
};

use crate::net::{ToAgent, ToManager};
use crate::sessions::{Sessions, Waiting, refused};

/// The managers' version.
const VERSION: &str = "0.1.0";

/// Page size of history: small, so that a manager that catches up needs many pages.
const PAGE: PageSize = PageSize { frames: 5, bytes: 64 * 1024 };

/// Tickets from here on belong to agents, not to clients.
const AGENTS_TICKETS: Ticket = 1 << 62;

/// A manager's machine: its disk, and the process while it runs.
pub struct Peer {
    /// Its node id.
    pub node: NodeId,
    /// Its raft id, which belongs to its disk.
    pub raft_id: u64,
    /// Whether it created the cluster.
    founder: bool,
    disk: MemoryDisk,
    intervals: Intervals,
    running: Option<Running>,
    starts: u64,
    /// Counts the sessions that it opened and the requests of agents.
    calls: u64,
    /// Number of offered states that it continued with.
    pub restored: u64,
    /// The feature level of its build.
    pub feature_level_max: u32,
}

struct Running {
    replica: Replica,
    store: Arc<dyn LogStore>,
    /// Staged writes that are not on the disk yet.
    writes: Vec<Write>,
    checkpoint: Option<CheckpointJob>,
    /// When the disk has completed the pending writes.
    disk_at: Option<Timestamp>,
    sessions: Sessions,
}

/// The effects of a step.
#[derive(Default)]
pub struct Step {
    /// Messages, by the raft id of the receiver.
    pub messages: Vec<(u64, PeerMessage)>,
    /// Reads that may proceed.
    pub readable: Vec<Ticket>,
    /// Messages for agents.
    pub to_agents: Vec<(NodeId, ToAgent)>,
    /// Answers for clients.
    pub answers: Vec<(Ticket, Outcome)>,
    /// Whether the committed state changed.
    pub changed: bool,
    /// Whether an agent got an answer, and may have a session now.
    registered: bool,
}

impl Peer {
    /// A manager on an empty disk, not running yet.
    pub fn new(node: NodeId, raft_id: u64, founder: bool, intervals: Intervals) -> Self {
        let disk = MemoryDisk::default();
        let feature_level_max = events::frame::FEATURE_LEVEL;
        Self {
            node,
            raft_id,
            founder,
            disk,
            intervals,
            running: None,
            starts: 0,
            calls: 0,
            restored: 0,
            feature_level_max,
        }
    }

    /// The same with a build of this feature level.
    #[must_use]
    pub fn of_build(self, feature_level_max: u32) -> Self {
        Self { feature_level_max, ..self }
    }

    /// Replaces the disk by an empty one. For raft, the result is another manager.
    pub fn lose_disk(&mut self, raft_id: u64) {
        (self.disk, self.raft_id, self.founder, self.running) = (MemoryDisk::default(), raft_id, false, None);
    }

    /// Starts the process with its existing log.
    ///
    /// # Errors
    /// When its log is refused.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.start_with(|_| {})
    }

    /// The same, with a falsified state.
    ///
    /// # Errors
    /// When its log is refused.
    pub fn start_with(&mut self, falsify: impl FnOnce(&mut Folded)) -> anyhow::Result<()> {
        let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&self.disk)?);
        let mut loaded = store.load()?;
        if loaded.membership.is_none() {
            let alone = if self.founder { Membership::single(self.raft_id) } else { Membership::joining(self.raft_id) };
            store.initialize(&alone)?;
            loaded = store.load()?;
        }
        ensure!(loaded.membership.as_ref().and_then(Membership::own) == Some(self.raft_id), "a log is one manager's");
        let folded = node::manager::core::fold(&*store, &loaded);
        let mut folded = folded.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
        falsify(&mut folded);
        let goes_alone = alone::replaced(&folded.cluster, &loaded).is_some();
        let loaded = if goes_alone { loaded } else { loaded.with_members(membership(&folded.cluster)) };
        let consensus = Consensus::open(Arc::clone(&store), self.raft_id, &loaded)?;
        self.starts += 1;
        let mut replica = Replica::new(self.node, VERSION, consensus, folded, self.intervals).in_epoch(self.starts);
        replica = replica.knowing(self.feature_level_max);
        if goes_alone {
            replica = replica.going_alone(None);
        }
        self.running = Some(Running {
            replica,
            store,
            writes: Vec::new(),
            checkpoint: None,
            disk_at: None,
            sessions: Sessions::default(),
        });
        Ok(())
    }

    /// Starts the process on a log that continues without the others, with a new raft id.
    ///
    /// # Errors
    /// When its log is refused, or its disk fails.
    pub fn start_alone(&mut self, raft_id: u64) -> anyhow::Result<()> {
        let store = MemoryStore::open(&self.disk)?;
        let describe = |failure| anyhow::anyhow!("{failure:?}");
        let loaded = store.load()?;
        let folded = node::manager::core::fold(&store, &loaded).map_err(describe)?;
        alone::begin(&store, &loaded, &folded.cluster, &mut || raft_id << 1).map_err(describe)?;
        self.raft_id = store.load()?.membership.as_ref().and_then(Membership::own).unwrap_or(self.raft_id);
        self.start()
    }

    /// The replica, while the process is running.
    pub fn replica(&self) -> Option<&Replica> {
        self.running.as_ref().map(|running| &running.replica)
    }

    /// The log, while the process is running.
    pub fn store(&self) -> Option<&Arc<dyn LogStore>> {
        self.running.as_ref().map(|running| &running.store)
    }

    /// Whether the process is running and leads.
    pub fn leads(&self) -> bool {
        self.replica().is_some_and(Replica::is_leader)
    }

    /// Submits a command.
    ///
    /// # Errors
    /// When the process is down or refuses it.
    pub fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Option<Rejection>> {
        self.running.as_mut().ok_or(None)?.replica.submit(ticket, request).map_err(Some)
    }

    /// Requests a linearizable read; `None` if the process is down or refuses.
    pub fn read(&mut self, ticket: Ticket) -> Option<()> {
        self.running.as_mut()?.replica.read(ticket).ok()
    }

    /// Transfers leadership to another manager; returns whether there was leadership to transfer.
    pub fn hand_over(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.replica.hand_over())
    }

    /// Lets a tick pass.
    pub fn tick(&mut self) {
        if let Some(running) = &mut self.running {
            running.replica.tick();
        }
    }

    /// Is notified that its connection to another manager broke.
    pub fn unreachable(&mut self, raft_id: u64) {
        if let Some(running) = &mut self.running {
            running.replica.unreachable(raft_id);
        }
    }

    /// Handles a message of another manager.
    ///
    /// # Errors
    /// When the process has to end.
    pub fn receive(&mut self, from: u64, message: PeerMessage) -> Result<(), FatalError> {
        self.running.as_mut().map_or(Ok(()), |running| running.replica.receive(from, message))
    }

    /// The read API at this moment; `None` while the process is down.
    fn control(&self, now: Timestamp) -> Option<Control> {
        let running = self.running.as_ref()?;
        let (replica, store) = (&running.replica, Arc::clone(&running.store));
        let (cluster, keyring) = (replica.cluster().clone(), Arc::clone(replica.keyring()));
        let state = Published { cluster, keyring, leads: replica.is_leader(), ..Published::default() };
        let (cluster, node) = (state.cluster.id(), self.node);
        let manager =
            ManagerInfo { cluster, node, hostname: String::new(), remote_addr: String::new(), has_sink_dir: false };
        let (manager, raft) = (Arc::new(manager), Arc::new(running.replica.raft_status()));
        Some(Control { manager, state: Arc::new(state), raft, store, now, past: None })
    }

    /// Handles a message of an agent.
    pub fn receive_from_agent(&mut self, node: NodeId, message: ToManager, now: Timestamp) -> Option<ToAgent> {
        let Some(control) = self.control(now) else { return refused(message) };
        let serves = self.replica().is_some_and(Replica::serves_sessions);
        let role = control.state.cluster.nodes.get(node).map_or(Role::Worker, |node| node.role);
        let caller = sessions::Caller { node, role };
        match message {
            ToManager::Register { attempt, .. } if !serves => Some(ToAgent::NotWelcome { attempt }),
            ToManager::Register { attempt, description } => {
                // No other manager opens a session with this id.
                self.calls += 1;
                let session = SessionId::from_bits(u128::from(self.raft_id) << 64 | u128::from(self.calls));
                let registration = caller.registration(session, *description, format!("10.0.1.{}", node.bits() % 250));
                let taken = self.ask_for(registration, Some(Waiting::Registration { node, attempt, session }));
                (!taken).then_some(ToAgent::NotWelcome { attempt })
            }
            ToManager::Heartbeat { session, call } => Some(self.heartbeat(&control, node, session, call)),
            ToManager::Report(report) => {
                let waiting = Waiting::Report { node, session: report.session, sequence: report.sequence };
                // A report that is not accepted is repeated.
                self.ask_for(caller.report(report), Some(waiting));
                None
            }
            ToManager::Closed { session } => {
                self.running.iter_mut().for_each(|running| running.sessions.close(session));
                // If this is not accepted, the missing heartbeats have the same effect.
                self.ask_for(control.disconnection(node, session), None);
                None
            }
        }
    }

    fn heartbeat(&mut self, control: &Control, node: NodeId, session: SessionId, call: u64) -> ToAgent {
        let serving = self.running.as_mut().filter(|running| running.replica.serves_sessions());
        match (control.heartbeat(node, session), serving) {
            (Ok(period), Some(running)) => {
                running.replica.heartbeat(node, session, control.now);
                ToAgent::Heartbeat { session, call, period }
            }
            (Ok(_), None) | (Err(_), _) => ToAgent::Closed { session },
        }
    }

    /// Submits a command that an agent may wait for; returns whether it was accepted.
    fn ask_for(&mut self, request: Request, waiting: Option<Waiting>) -> bool {
        let Some(running) = &mut self.running else { return false };
        self.calls += 1;
        let ticket = AGENTS_TICKETS | self.calls;
        let taken = running.replica.submit(ticket, request).is_ok();
        if let Some(waiting) = waiting.filter(|_| taken) {
            running.sessions.wait(ticket, waiting);
        }
        taken
    }

    /// The sessions whose connections break with the process.
    pub fn sessions(&self) -> Vec<(NodeId, SessionId)> {
        self.running.as_ref().map(|running| running.sessions.open()).unwrap_or_default()
    }

    /// The time of the next action if nothing happens before.
    pub fn next(&self) -> Option<Timestamp> {
        let running = self.running.as_ref()?;
        [running.replica.next_wake(), running.disk_at].into_iter().flatten().min()
    }

    /// Takes a turn, and completes the writes that the disk has had time for. `None` if there is nothing to do.
    ///
    /// # Errors
    /// When the process has to end because its disk failed.
    pub fn step(&mut self, now: Timestamp, disk_latency: std::time::Duration) -> Result<Step, FatalError> {
        let mut step = Step::default();
        let Some(running) = &mut self.running else { return Ok(step) };
        let judged = running.replica.turn(now);
        let proposed = running.replica.advance()?;
        self.restored += u64::from(proposed.restored);
        for effects in [judged, proposed] {
            running.take(effects, &mut step);
        }
        if running.disk_at.is_some_and(|at| at <= now) {
            running.disk_at = None;
            let waiting = std::mem::take(&mut running.writes);
            running.replica.written(write_all(&*running.store, waiting)?);
            let advanced = running.replica.advance()?;
            self.restored += u64::from(advanced.restored);
            running.take(advanced, &mut step);
            if let Some(job) = running.checkpoint.take() {
                job.run(&running.store)?;
            }
            running.checkpoint = running.replica.take_checkpoint();
        }
        if running.disk_at.is_none() && !running.writes.is_empty() {
            running.disk_at = Some(now + disk_latency);
        }
        if (step.changed || step.registered)
            && let Some(control) = self.control(now)
        {
            let messages = self.running.iter_mut().flat_map(|running| running.sessions.feed(&control));
            step.to_agents.extend(messages);
        }
        Ok(step)
    }

    /// Whether it has nothing to do at this instant.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.running
            .as_ref()
            .is_none_or(|running| !running.replica.has_work(now) && running.disk_at.is_none_or(|at| at > now))
    }

    /// Reports the disk usage, if the process is running.
    pub fn note_space(&mut self, space: Space) {
        if let Some(running) = &mut self.running {
            running.replica.note_space(Some(space));
        }
    }

    /// Lets the disk fail after this many writes.
    pub fn fail_disk_after(&self, writes: usize) {
        self.disk.fail_after(writes);
    }

    /// Flips a bit of one of the values of a table, if there are any.
    pub fn flip_bit(&self, table: Table, which: usize) -> anyhow::Result<bool> {
        let mut values = Vec::new();
        self.disk.scan(table, Key::MIN, Key::MAX, &mut |key, value| {
            values.push((key, value));
            Ok(ControlFlow::Continue(()))
        })?;
        let count = values.len();
        let Some((key, mut value)) = values.into_iter().nth(which.checked_rem(count).unwrap_or(0)) else {
            return Ok(false);
        };
        let middle = value.len() / 2;
        let Some(byte) = value.get_mut(middle) else { return Ok(false) };
        *byte ^= 0x10;
        self.disk.write(vec![Change::Put { table, key, value }], Durability::Synced)?;
        Ok(true)
    }

    /// Number of writes that a power failure would lose.
    pub fn unsynced_writes(&self) -> usize {
        self.disk.unsynced_writes()
    }

    /// Kills the process.
    pub fn crash(&mut self, crash: Crash) {
        self.running = None;
        self.disk.crash(crash);
    }
}

impl Running {
    fn take(&mut self, effects: Effects, step: &mut Step) {
        let Effects { answers, reads, changed, messages, asked, writes, .. } = effects;
        step.readable.extend(reads.into_iter().filter(|(_, readable)| readable.is_ok()).map(|(ticket, _)| ticket));
        for (ticket, outcome) in answers {
            match self.sessions.answer(ticket, &outcome) {
                Some(messages) => {
                    step.registered = true;
                    step.to_agents.extend(messages);
                }
                None if ticket & AGENTS_TICKETS == 0 => step.answers.push((ticket, outcome)),
                None => {}
            }
        }
        step.changed |= changed;
        step.messages.extend(messages);
        self.writes.extend(writes);
        // A manager that asks for what this history does not have gets no answer, and asks the next leader.
        let read = |asked: HistoryAsked| Some((asked.peer, asked.answer(&*self.store, PAGE).ok()?));
        step.messages.extend(asked.into_iter().filter_map(read));
    }
}
