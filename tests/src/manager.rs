//! The manager: the real leader with the real consensus on a log in memory, and its sessions with agents. It can crash at any
//! point; synced data is there when it starts again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use anyhow::{Context, ensure};
use commands::{Actor, Command, InitialiseCluster, Rejection, SecretText};
use events::{ClusterId, ClusterSpec, CommandId, Duration, Id, NodeId, Role, SessionId, Timestamp};
use node::control::audit;
use node::control::sessions;
use node::control::{Control, ManagerInfo};
use node::log::disk::{Change, Disk, Durability, Key, Table};
use node::log::{Consensus, Crash, LogError, LogStore, MemoryDisk, MemoryStore, Write, write_all};
use node::manager::driver::Published;
use node::manager::redactor;
use node::manager::replica::{CheckpointJob, FatalError, Intervals, Outcome, Replica, Request, Ticket};
use node::security::{JoinToken, RootCertificate};
use wire::v1::TaskUse;

use crate::net::{ToAgent, ToManager};
use crate::sessions::{Sessions, Waiting, refused};

/// The raft id of this manager.
const RAFT_ID: u64 = 1;
/// The manager's version.
const VERSION: &str = "0.1.0";
/// The manager's address, as its views show it.
pub const ADDRESS: &str = "10.0.0.1:4242";
/// The root certificate. Nodes of a simulation have no certificates, but roots sign each other.
const ROOT_PEM: &str = include_str!("root.pem");
/// The key of the cluster's root. It must not appear in any transcript or history.
pub const ROOT_KEY: &str = include_str!("root.key");

/// The manager's machine: its disk, and the process while it runs.
pub struct Manager {
    /// Its node id.
    pub node: NodeId,
    info: Arc<ManagerInfo>,
    disk: MemoryDisk,
    intervals: Intervals,
    running: Option<Running>,
    /// Number of checkpoints written, and of starts that read one.
    pub checkpoints: Checkpoints,
    sessions: u64,
    tickets: Ticket,
    starts: u64,
    /// Whether ids are salted as in production, so that different futures of the log have different ids.
    pub salted: bool,
}

/// Counters of checkpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checkpoints {
    /// Checkpoints written.
    pub written: u64,
    /// Starts from a checkpoint.
    pub read: u64,
    /// Starts that folded the whole history of a cluster.
    pub missed: u64,
}

/// Damage to the checkpoints on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruin {
    /// They are deleted.
    Lost,
    /// None of them can be decrypted.
    Damaged,
    /// The newest one is of another build, with another fold version.
    Foreign,
}

struct Running {
    replica: Replica,
    /// A checkpoint that is being written while turns continue.
    checkpoint: Option<CheckpointJob>,
    store: Arc<dyn LogStore>,
    /// Staged writes that are not on the disk yet: the disk is a turn behind.
    writes: Vec<Write>,
    sessions: Sessions,
    /// Tickets of operators that wait for answers.
    asked: BTreeSet<Ticket>,
}

/// The effects of a turn.
#[derive(Default)]
pub struct Turn {
    /// Messages for agents.
    pub messages: Vec<(NodeId, ToAgent)>,
    /// Answers for operators.
    pub answers: Vec<(Ticket, Outcome)>,
    /// Whether the committed state changed.
    pub changed: bool,
}

impl Manager {
    /// A manager on an empty disk, not running yet.
    pub fn new(cluster: ClusterId, hostname: &str, intervals: Intervals) -> Self {
        let node = NodeId::from_bits(cluster.bits().rotate_left(64) | 1);
        let info = ManagerInfo {
            cluster,
            node,
            hostname: hostname.to_owned(),
            remote_addr: ADDRESS.to_owned(),
            has_sink_dir: true,
        };
        let info = Arc::new(info);
        let (disk, checkpoints) = (MemoryDisk::default(), Checkpoints::default());
        Self {
            node,
            info,
            disk,
            intervals,
            running: None,
            checkpoints,
            sessions: 0,
            tickets: 0,
            starts: 0,
            salted: false,
        }
    }

    /// Starts the process with its existing log.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&self.disk)?);
        let mut loaded = store.load()?;
        if loaded.membership.is_none() {
            Consensus::bootstrap(&*store, RAFT_ID)?;
            loaded = store.load()?;
        }
        let folded = node::manager::core::fold(&*store, &loaded).map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
        let consensus = Consensus::open(Arc::clone(&store), RAFT_ID, &loaded)?;
        let counted = match folded.checkpoint {
            0 => &mut self.checkpoints.missed,
            _ => &mut self.checkpoints.read,
        };
        *counted += u64::from(folded.cluster.position.index > 0);
        let mut replica = Replica::new(self.node, VERSION, consensus, folded, self.intervals);
        self.starts += 1;
        if self.salted {
            replica = replica.in_epoch(self.starts);
        }
        loop {
            let writes = replica.advance()?.writes;
            if writes.is_empty() {
                break;
            }
            replica.written(write_all(&*store, writes)?);
        }
        ensure!(replica.is_leader(), "a single voter leads at once");
        let (writes, sessions, asked) = (Vec::new(), Sessions::default(), BTreeSet::new());
        self.running = Some(Running { replica, checkpoint: None, store, writes, sessions, asked });
        Ok(())
    }

    /// Creates the cluster.
    pub fn initialise(&mut self, cluster: ClusterId, hostname: &str, now: Timestamp) -> anyhow::Result<Ticket> {
        let root = RootCertificate::from_pem(ROOT_PEM).context("the simulated root certificate")?;
        let token = |fill| {
            let token = JoinToken::new(&root, &[fill; 16]);
            (SecretText(token.to_string()), token.secret_sha256())
        };
        let store = &self.running.as_ref().context("the manager runs")?.store;
        store.keep_audit_seed(&[7; 32])?;
        let signer = audit::signer(&**store, cluster, self.node).map_err(|why| anyhow::anyhow!("{why:?}"))?;
        let request = InitialiseCluster {
            cluster,
            spec: ClusterSpec::default(),
            root_cert_pem: root.to_pem(),
            root_digest: root.digest(),
            root_key_pem: SecretText(ROOT_KEY.to_owned()),
            worker_token: token(1),
            manager_token: token(2),
            node: self.node,
            raft_id: RAFT_ID,
            feature_level_max: events::frame::FEATURE_LEVEL,
            audit_key: Some(signer.key().to_string()),
            hostname: hostname.to_owned(),
            addr: ADDRESS.to_owned(),
            cert_pem: "a certificate".to_owned(),
            cert_not_after: now + Duration::from_secs(90 * 86_400),
        };
        let command = Command::InitialiseCluster(Box::new(request));
        let actor = Actor::Manager(self.node);
        let id = CommandId::from_bits(cluster.bits());
        Ok(self.submit(Request::named(id, actor, command))?)
    }

    /// Whether the process is running.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The committed state as readers see it; `None` while the process is down.
    pub fn published(&self) -> Option<Published> {
        self.running.as_ref().map(Running::published)
    }

    /// The read API at this moment; `None` while the process is down.
    pub fn control(&self, now: Timestamp) -> Option<Control> {
        let running = self.running.as_ref()?;
        let (manager, store) = (Arc::clone(&self.info), Arc::clone(&running.store));
        let (state, raft) = (Arc::new(running.published()), Arc::new(running.replica.raft_status()));
        Some(Control { manager, state, raft, store, now, past: None })
    }

    /// The log; `None` while the process is down.
    pub fn store(&self) -> Option<&Arc<dyn LogStore>> {
        self.running.as_ref().map(|running| &running.store)
    }

    /// Submits a command for an operator.
    ///
    /// # Errors
    /// When the process is down or does not accept it.
    pub fn submit(&mut self, request: Request) -> Result<Ticket, Rejection> {
        let ticket = self.queue(request)?;
        self.running.as_mut().ok_or_else(down)?.asked.insert(ticket);
        Ok(ticket)
    }

    /// Handles a message of an agent.
    pub fn receive(&mut self, node: NodeId, message: ToManager, now: Timestamp) -> Option<ToAgent> {
        let role = match &self.running {
            Some(running) => running.replica.cluster().nodes.get(node).map_or(Role::Worker, |node| node.role),
            None => return refused(message),
        };
        let caller = sessions::Caller { node, role };
        match message {
            ToManager::Register { attempt, description } => {
                self.sessions += 1;
                let session = SessionId::from_bits(u128::from(self.sessions));
                let addr = format!("10.0.0.{}:4242", node.bits() % 250 + 2);
                let registration = caller.registration(session, *description, addr);
                let taken = self.queue_for(registration, Waiting::Registration { node, attempt, session });
                (!taken).then_some(ToAgent::NotWelcome { attempt })
            }
            ToManager::Heartbeat { session, call } => Some(self.heartbeat(node, session, call, now)),
            ToManager::Report(report) => {
                let waiting = Waiting::Report { node, session: report.session, sequence: report.sequence };
                // A report that is not accepted is repeated.
                self.queue_for(caller.report(report), waiting);
                None
            }
            ToManager::Closed { session } => {
                self.close(node, session, now);
                None
            }
        }
    }

    /// One turn, followed by the writes of the turn before it: turns continue while the previous one is synced. `None` if there
    /// is nothing to do.
    ///
    /// # Errors
    /// When the process has to end because its disk failed.
    pub fn turn(&mut self, now: Timestamp) -> Result<Option<Turn>, FatalError> {
        let Some(running) = &mut self.running else { return Ok(None) };
        if running.is_idle(now) {
            return Ok(None);
        }
        let waiting = std::mem::take(&mut running.writes);
        let judged = running.replica.turn(now);
        let proposed = running.replica.advance()?;
        if !waiting.is_empty() {
            running.replica.written(write_all(&*running.store, waiting)?);
        }
        let advanced = running.replica.advance()?;
        running.writes.extend(proposed.writes.into_iter().chain(advanced.writes));
        if let Some(job) = running.checkpoint.take() {
            job.run(&running.store)?;
            self.checkpoints.written += 1;
        }
        running.checkpoint = running.replica.take_checkpoint();
        // Done by a separate thread in production.
        redactor::erase(&*running.store, running.replica.cluster())?;
        let mut turn = Turn { changed: proposed.changed || advanced.changed, ..Turn::default() };
        for (ticket, outcome) in judged.answers.into_iter().chain(proposed.answers).chain(advanced.answers) {
            match running.sessions.answer(ticket, &outcome) {
                Some(messages) => turn.messages.extend(messages),
                None if running.asked.remove(&ticket) => turn.answers.push((ticket, outcome)),
                None => {}
            }
        }
        if let Some(control) = self.control(now)
            && let Some(running) = &mut self.running
        {
            turn.messages.extend(running.sessions.feed(&control));
        }
        Ok(Some(turn))
    }

    /// When the next turn is due without a request.
    pub fn next(&self) -> Option<Timestamp> {
        self.running.as_ref().and_then(|running| running.replica.next_wake())
    }

    /// Whether all requests so far are done.
    pub fn is_at_rest(&self, now: Timestamp) -> bool {
        self.running.as_ref().is_none_or(|running| running.is_idle(now))
    }

    /// Runs a turn only up to its proposal, before a crash.
    pub fn propose_only(&mut self, now: Timestamp) {
        if let Some(running) = &mut self.running {
            running.replica.turn(now);
        }
    }

    /// Lets the disk fail after this many writes.
    pub fn fail_disk_after(&self, writes: usize) {
        self.disk.fail_after(writes);
    }

    /// Number of writes that a power failure would lose.
    pub fn unsynced_writes(&self) -> usize {
        self.disk.unsynced_writes()
    }

    /// Kills the process; returns the sessions whose connections break.
    pub fn crash(&mut self, crash: Crash) -> Vec<(NodeId, SessionId)> {
        let running = self.running.take();
        self.disk.crash(crash);
        running.map(|running| running.sessions.open()).unwrap_or_default()
    }

    /// Flips a bit of a frame of history, unnoticed by the process.
    ///
    /// # Errors
    /// When there is no such frame on the disk.
    pub fn damage_frame(&self, index: u64) -> anyhow::Result<()> {
        let (table, key) = (Table::History, Key::at(index));
        let mut value = self.disk.get(table, key)?.context("there is no such frame")?;
        let middle = value.len() / 2;
        value[middle] ^= 0x10;
        self.disk.write(vec![Change::Put { table, key, value }], Durability::Synced)?;
        Ok(())
    }

    /// Damages the checkpoints on the disk of a manager that is down.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn ruin_checkpoints(&self, how: Ruin) -> anyhow::Result<()> {
        ensure!(!self.is_running(), "the manager holds its disk");
        let table = Table::Checkpoint;
        match how {
            Ruin::Lost => {
                let all = Change::DeleteRange { table, from: Key::MIN, to: Key::MAX };
                self.disk.write(vec![all], Durability::Synced)?;
            }
            Ruin::Damaged => {
                let mut damaged = Vec::new();
                self.disk.scan(table, Key::MIN, Key::MAX, &mut |key, mut value| {
                    value.iter_mut().for_each(|byte| *byte ^= 0x10);
                    damaged.push(Change::Put { table, key, value });
                    Ok(ControlFlow::Continue(()))
                })?;
                self.disk.write(damaged, Durability::Synced)?;
            }
            Ruin::Foreign => {
                let store = MemoryStore::open(&self.disk)?;
                store.load()?;
                let mut newest = match store.whole_checkpoint(u64::MAX) {
                    Ok(Some(newest)) => newest,
                    // There is none, or all are damaged already.
                    Ok(None) | Err(LogError::Damaged { .. }) => return Ok(()),
                    Err(error) => return Err(error.into()),
                };
                // After its length, a snapshot starts with its fold version.
                let header = newest.chunks.first_mut().context("a checkpoint has a header")?;
                let version = header.get_mut(4).context("a header has a fold version")?;
                *version += 1;
                store.save_checkpoint(newest.head, &mut newest.chunks.into_iter())?;
            }
        }
        Ok(())
    }

    fn heartbeat(&mut self, node: NodeId, session: SessionId, call: u64, now: Timestamp) -> ToAgent {
        let control = self.control(now);
        // Simulated nodes have no certificates: each reports with its next heartbeat that it renewed for a new root.
        let moved = control.as_ref().and_then(|control| control.moved_to_root(node, control.trust()));
        if let Some(moved) = moved {
            // If it is not accepted, it comes again with the next heartbeat.
            let _ = self.queue(moved);
        }
        let judged = control.map(|control| control.heartbeat(node, session));
        match (judged, &mut self.running) {
            (Some(Ok(period)), Some(running)) => {
                running.replica.heartbeat(node, session, now);
                ToAgent::Heartbeat { session, call, period }
            }
            (Some(Err(_)) | None, _) | (_, None) => ToAgent::Closed { session },
        }
    }

    /// Records the resource usage of a node's tasks.
    pub fn note_uses(&mut self, node: NodeId, session: SessionId, uses: Vec<TaskUse>, now: Timestamp) {
        if let Some(running) = &mut self.running {
            running.replica.note_uses(node, session, uses, now);
        }
    }

    fn close(&mut self, node: NodeId, session: SessionId, now: Timestamp) {
        let Some(control) = self.control(now) else { return };
        if let Some(running) = &mut self.running {
            running.sessions.close(session);
        }
        // If this is not accepted, the missing heartbeats have the same effect.
        let _ = self.queue(control.disconnection(node, session));
    }

    fn queue(&mut self, request: Request) -> Result<Ticket, Rejection> {
        let running = self.running.as_mut().ok_or_else(down)?;
        self.tickets += 1;
        running.replica.submit(self.tickets, request)?;
        Ok(self.tickets)
    }

    /// Submits a command that an agent waits for; returns whether it was accepted.
    fn queue_for(&mut self, request: Request, waiting: Waiting) -> bool {
        let (ticket, running) = (self.queue(request), &mut self.running);
        let (Ok(ticket), Some(running)) = (ticket, running) else { return false };
        running.sessions.wait(ticket, waiting);
        true
    }
}

impl Running {
    fn published(&self) -> Published {
        let (cluster, keyring) = (self.replica.cluster().clone(), Arc::clone(self.replica.keyring()));
        let (leads, leader) = (self.replica.is_leader(), self.replica.leader_id());
        let (quarantined, uses) = (self.replica.quarantined(), self.replica.uses());
        Published { cluster, keyring, leads, leader, alone: leads, quarantined, uses }
    }

    fn is_idle(&self, now: Timestamp) -> bool {
        self.writes.is_empty() && !self.replica.has_work(now)
    }
}

fn down() -> Rejection {
    let kind = commands::RejectionKind::Unavailable;
    Rejection::new(kind, "manager", "the manager is down", "start it again")
}
