//! The turn: the only place where the log grows.
//!
//! Every manager runs a [`Replica`], which owns consensus and the committed state. The one that leads also has a `Leader`: the
//! tip (the state after everything that it has proposed), what is queued and what is proposed. It is driven from outside with
//! plain data: [`Replica::submit`] queues a request, [`Replica::turn`] judges what is queued, settles and proposes one frame,
//! [`Replica::advance`] returns what to write and what was committed, and [`Replica::written`] is called with the progress of the
//! disk. It has no clock, no thread and no channel of its own, so that the simulation drives the same code.

mod catch_up;
mod contact;
mod digest;
mod disks;
mod forward;
mod members;
mod members_status;
mod peers;
mod presence;
mod proposal;
mod quarantine;
mod reads;
mod role;
mod status;
mod uses;

use std::collections::BTreeMap;
use std::sync::Arc;

use commands::{Actor, Command, ExpectedVersion, Rejection};
use events::{ClusterId, CommandId, NodeId, ServiceId, SessionId, Timestamp};
use projections::{Cluster, Keyring, Touched};
use reconcilers::Uses;
use wire::v1::TaskUse;

use crate::log::{CheckpointHead, Committed, Consensus, LogError, LogStore, RoleChange, Write, Written};
pub use crate::manager::fold::FatalError;
use crate::manager::fold::Folded;
pub use digest::{Beat, UsesOfNode};
pub use forward::Call;
pub use members::membership;
pub use members_status::{MemberStatus, MembersStatus};
pub use peers::{HistoryAsked, PEER_PAGE, PeerMessage};
pub use presence::check_session;
pub use role::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_FRAMES_MAX, QUEUE_MAX};
pub use status::RaftStatus;

use catch_up::CatchUp;
use contact::LeaderContact;
use digest::Digest;
use disks::Disks;
use forward::{Forwarding, PendingAnswers};
use members_status::LastMembersStatus;
use peers::Contacts;
use reads::Reads;
use role::{Asked, Leader, Term, Unfinished};

/// How often the leader records what speeds up a later start, and what verifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Frames between two checkpoints.
    pub checkpoint_frames: u64,
    /// Bytes of entries after which a checkpoint is written, however few frames they are: raft's entries since the last two
    /// checkpoints are kept, and a query for a state of the past waits until the frames after a checkpoint are folded. These
    /// bytes take about a fifth of a second. If writing the state takes longer, it is written less often.
    pub checkpoint_bytes: u64,
    /// Frames between two records of the state's hash in the log; more than 1, since each record is a frame too.
    pub hash_frames: u64,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { checkpoint_frames: 10_000, checkpoint_bytes: 8 * 1024 * 1024, hash_frames: 4_096 }
    }
}

/// Bytes of entries per task of the state. Folding half as many takes as long as writing the task, 2 microseconds.
const ENTRY_BYTES_PER_TASK: u64 = 128;

/// Identifies a caller that waits for an answer.
pub type Ticket = u64;

/// A command with its metadata from the client: the only form that it has from the wire to the turn.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct Request {
    /// The client's id of the command; zero: it has none, and repeating it is harmless.
    pub id: CommandId,
    /// The actor.
    pub actor: Actor,
    /// The command.
    pub command: Command,
    /// Why, in the user's words.
    pub reason: Option<String>,
    /// Groups the commands of one operation.
    pub correlation: Option<CommandId>,
    /// Index of the frame that caused it: of the one that it undoes.
    pub causation: Option<u64>,
    /// Objects that must be unchanged since the command was planned.
    #[serde(default)]
    pub unchanged: Vec<ExpectedVersion>,
    /// Commands that take effect together with it, or not at all; these have none joined to them.
    #[serde(default)]
    pub joined: Vec<Request>,
}

impl Request {
    /// A command without an id, which is harmless to repeat.
    pub fn unnamed(actor: Actor, command: Command) -> Self {
        Self::named(CommandId::default(), actor, command)
    }

    /// A command that takes effect once, however often it is submitted with this id.
    pub fn named(id: CommandId, actor: Actor, command: Command) -> Self {
        Self {
            id,
            actor,
            command,
            reason: None,
            correlation: None,
            causation: None,
            unchanged: Vec::new(),
            joined: Vec::new(),
        }
    }

    /// The request and those that are joined to it.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.joined)
    }
}

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Outcome {
    /// It took effect, or had taken effect before.
    Committed {
        /// Index of the frame that holds its events.
        index: u64,
        /// The object that was created or changed.
        subject: Option<String>,
    },
    /// It has no effect.
    Rejected(Rejection),
    /// Leadership was lost while it was in flight. It may have taken effect; repeating it with the same id is safe.
    Unknown,
}

/// The results of driving the replica.
#[derive(Debug, Default)]
pub struct Effects {
    /// Answers for callers.
    pub answers: Vec<(Ticket, Outcome)>,
    /// Reads that may proceed, or that are given up.
    pub reads: Vec<(Ticket, Result<(), Rejection>)>,
    /// Answers that are true here, but that no newer committed state confirms: they must not be sent before it is certain that
    /// this manager still leads. Only turns have them, for the replica itself.
    pub(super) unconfirmed: Vec<(Ticket, Outcome)>,
    /// Whether the committed state changed.
    pub changed: bool,
    /// What changed in it.
    pub touched: Touched,
    /// Whether this manager continued with a state that another one offered.
    pub restored: bool,
    /// Whether this manager started or stopped leading.
    pub role_changed: bool,
    /// Messages to other managers, by raft id.
    pub messages: Vec<(u64, PeerMessage)>,
    /// History that other managers request, to be read for them.
    pub asked: Vec<HistoryAsked>,
    /// What to write, in this order.
    pub writes: Vec<Write>,
}

/// A manager's state machine: it folds what is committed, and as the leader it also proposes.
pub struct Replica {
    node: NodeId,
    version: String,
    /// The highest feature level that it supports.
    feature_level_max: u32,
    epoch: Option<u64>,
    /// Whether it continues alone, and as which other cluster: its first frame must say so, unless an earlier one did.
    alone: Option<Option<ClusterId>>,
    consensus: Consensus,
    committed: Folded,
    intervals: Intervals,
    /// Index of the last usable checkpoint.
    checkpoint_at: u64,
    /// Bytes of entries committed since then.
    bytes_since_checkpoint: u64,
    /// A checkpoint of history that is not on disk yet.
    checkpoint: Option<CheckpointJob>,
    /// Index up to which history is on disk.
    written_to: u64,
    role: Role,
    /// Ticks of this run.
    ticks: u64,
    contacts: Contacts,
    /// Progress in catching up with an offered state.
    catch_up: Option<CatchUp>,
    /// The state to continue with once the round that starts from it is on disk; the round is unknown at first.
    restoring: Option<(Option<u64>, Folded)>,
    /// The last round that is on disk.
    written_round: u64,
    contact: LeaderContact,
    forwarding: Forwarding,
    pending_answers: PendingAnswers,
    reads: Reads,
    digest: Digest,
    disks: Disks,
    /// The leader's last report about all managers.
    members_status: LastMembersStatus,
    /// Results of received messages, for the next [`Replica::advance`].
    outbox: Effects,
}

/// The role of a manager in its cluster, with the data that only this role has: a follower has nothing to propose with.
enum Role {
    /// It folds what others propose.
    Follower,
    /// It was elected. Once the first entry of its term is committed, so is everything that earlier leaders left.
    Elected {
        /// Its term.
        term: u64,
        /// The index of its first entry.
        first_index: u64,
    },
    /// It judges commands and proposes frames.
    Leader(Box<Leader>),
}

impl Replica {
    /// A manager whose committed state is `folded`, at the end of its history.
    ///
    /// # Panics
    /// When the state's hash would be recorded after every frame, and so without end.
    pub fn new(node: NodeId, version: &str, consensus: Consensus, folded: Folded, intervals: Intervals) -> Self {
        assert!(intervals.hash_frames > 1, "a frame with a hash must not call for the next one");
        Self {
            node,
            version: version.to_owned(),
            feature_level_max: crate::level::feature_level(),
            epoch: None,
            alone: None,
            intervals,
            // Not the current index: a manager that restarts often would never write one, and fold more each time.
            checkpoint_at: if has_erased_values(&consensus, &folded.cluster) { 0 } else { folded.checkpoint },
            consensus,
            bytes_since_checkpoint: 0,
            checkpoint: None,
            written_to: folded.cluster.position.index,
            committed: folded,
            role: Role::Follower,
            ticks: 0,
            contacts: Contacts::default(),
            catch_up: None,
            restoring: None,
            written_round: 0,
            contact: LeaderContact::default(),
            forwarding: Forwarding::default(),
            pending_answers: PendingAnswers::default(),
            reads: Reads::default(),
            digest: Digest::default(),
            disks: Disks::default(),
            members_status: LastMembersStatus::default(),
            outbox: Effects::default(),
        }
    }

    /// The same with an epoch of its own, drawn for this run: no other run generates the same ids, not even one that starts from
    /// the same log.
    #[must_use]
    pub fn in_epoch(self, epoch: u64) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    /// The same, continuing alone as the only voter of its raft, as another cluster if an id is given: its first frame says so.
    #[must_use]
    pub fn going_alone(self, another: Option<ClusterId>) -> Self {
        Self { alone: Some(another), ..self }
    }

    /// Whether it is the only voter and its state does not record that yet. Membership changes that earlier leaders left in the
    /// log do not apply to it.
    fn must_continue_alone(&self) -> bool {
        self.alone.is_some() && self.committed.cluster.member_with(self.consensus.id()).is_none()
    }

    /// The same, as a build with another feature level.
    #[must_use]
    pub fn knowing(self, feature_level_max: u32) -> Self {
        Self { feature_level_max, ..self }
    }

    /// The committed state.
    pub fn cluster(&self) -> &Cluster {
        &self.committed.cluster
    }

    /// The committed secrets.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.committed.keyring
    }

    /// The state that the next command is judged against, on the leader.
    pub fn tip(&self) -> Option<&Cluster> {
        self.leader().map(Leader::tip)
    }

    /// Whether this manager leads.
    pub fn is_leader(&self) -> bool {
        self.leader().is_some()
    }

    /// The quarantined services, and the time at which each is retried.
    pub fn quarantined(&self) -> Arc<BTreeMap<ServiceId, Timestamp>> {
        self.leader().map(Leader::quarantined).unwrap_or_default()
    }

    /// Advances raft's time by one tick.
    pub fn tick(&mut self) {
        self.ticks += 1;
        self.consensus.tick();
        self.watch_members();
        self.watch_contact();
        self.watch_forwarded();
        self.watch_reads();
        self.send_digest();
        self.send_space();
        self.send_members_status();
    }

    /// Queues a command for the next turn, or for the leader.
    ///
    /// # Errors
    /// When too many commands are waiting, or there has been no leader for some time.
    pub fn submit(&mut self, ticket: Ticket, request: Request) -> Result<(), Rejection> {
        match &mut self.role {
            Role::Leader(leader) => leader.submit(ticket, self.node, request),
            Role::Follower | Role::Elected { .. } => self.forward(ticket, &request, false),
        }
    }

    /// Records a heartbeat that arrived at `at`. It is no event, unless the node did not count as ready. A heartbeat of an ended
    /// session is ignored.
    pub fn heartbeat(&mut self, node: NodeId, session: SessionId, at: Timestamp) {
        match &mut self.role {
            Role::Leader(leader) => {
                leader.digests.heard_here(node);
                leader.heartbeat(node, session, at);
            }
            Role::Follower | Role::Elected { .. } => self.digest.note(node, session, self.ticks),
        }
    }

    /// Resource use of the tasks of autoscaled services, which only the leader has.
    pub fn uses(&self) -> Arc<Uses> {
        self.leader().map(|leader| Arc::clone(leader.uses.uses())).unwrap_or_default()
    }

    /// Records the resource use of a node's tasks, as reported by a heartbeat of this session.
    pub fn note_uses(&mut self, node: NodeId, session: SessionId, uses: Vec<TaskUse>, at: Timestamp) {
        match &mut self.role {
            Role::Leader(leader) => leader.uses.note(&leader.tip, node, session, uses, at),
            Role::Follower | Role::Elected { .. } => self.digest.note_uses(node, session, uses),
        }
    }

    /// No heartbeat could be received in this period: each node's deadline is extended by the part of it that it lost.
    pub fn grant(&mut self, from: Timestamp, to: Timestamp) {
        if let Some(leader) = self.leader_mut() {
            leader.grant(from, to);
        }
    }

    /// When a turn is needed although there is no request. While no turn may propose, that does not depend on time: what is in
    /// flight must be committed first.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.leader().filter(|_| self.consensus.may_propose()).and_then(Leader::next_wake)
    }

    /// Whether a turn has work at this time, and may propose. While leadership is handed over, requests wait.
    pub fn has_work(&self, now: Timestamp) -> bool {
        self.consensus.may_propose() && self.leader().is_some_and(|leader| leader.has_work(now))
    }

    /// One turn: judges what is queued, settles, and proposes one frame. Rejected commands are answered at once, the others once
    /// they are committed.
    pub fn turn(&mut self, now: Timestamp) -> Effects {
        if let Role::Leader(leader) = &mut self.role {
            leader.peers = self.contacts.peers(&self.consensus, self.ticks);
            leader.full = self.disks.full(self.consensus.id(), &leader.tip, self.ticks);
        }
        self.take_digests(now);
        let mut effects = match &mut self.role {
            Role::Leader(leader) if self.consensus.may_propose() => leader.turn(&mut self.consensus, now),
            Role::Leader(_) | Role::Follower | Role::Elected { .. } => Effects::default(),
        };
        self.confirm(&mut effects);
        self.route_answers(&mut effects);
        effects
    }

    /// Returns what to write of what was proposed, and folds what is committed.
    ///
    /// # Errors
    /// When the process must stop.
    pub fn advance(&mut self) -> Result<Effects, FatalError> {
        let mut effects = std::mem::take(&mut self.outbox);
        self.resume_from_restored(&mut effects);
        self.ask_for_reads();
        while let Some(progress) = self.consensus.ready()? {
            effects.messages.extend(progress.messages.into_iter().map(|sent| (sent.to, PeerMessage::Raft(sent.bytes))));
            effects.writes.extend(progress.write);
            if let (Some(_), Some((round, _))) = (progress.restored, &mut self.restoring) {
                *round = progress.restored;
            }
            match progress.role {
                Some(RoleChange::LostLeadership) => self.step_down(&mut effects),
                Some(RoleChange::BecameLeader { term, first_index }) => {
                    // It may have led before, and have lost leadership without a round in between.
                    self.step_down(&mut effects);
                    self.role = Role::Elected { term, first_index };
                }
                None => {}
            }
            self.commit(progress.committed, progress.committed_to, &mut effects)?;
        }
        self.offer_state()?;
        self.release_reads(&mut effects);
        self.release_answers(&mut effects);
        self.route_answers(&mut effects);
        Ok(effects)
    }

    /// Receives the progress of the disk.
    pub fn written(&mut self, written: Written) {
        if let Some(round) = written.round {
            self.consensus.written(round);
            self.written_round = self.written_round.max(round);
        }
        self.written_to = self.written_to.max(written.applied.unwrap_or(0));
    }

    /// Index of the newest checkpoint; 0 if there is none.
    pub fn checkpoint(&self) -> u64 {
        self.checkpoint_at
    }

    /// Bytes of entries that take longer to fold than it takes to write the state, which consists mostly of tasks.
    fn bytes_worth_a_checkpoint(&self) -> u64 {
        self.intervals.checkpoint_bytes.max(self.committed.cluster.tasks.len() as u64 * ENTRY_BYTES_PER_TASK)
    }

    /// The state to write as a checkpoint, once enough frames were committed since the last one, and all of them are on disk.
    pub fn take_checkpoint(&mut self) -> Option<CheckpointJob> {
        let index = self.committed.cluster.position.index;
        let kept = self.contacts.oldest_offer();
        let is_due = index >= self.checkpoint_at + self.intervals.checkpoint_frames
            || self.bytes_since_checkpoint >= self.bytes_worth_a_checkpoint()
            || (kept.is_none() && self.checkpoint_at < self.committed.cluster.redacted_at())
            || (kept.is_none() && has_erased_values(&self.consensus, &self.committed.cluster));
        if self.checkpoint.is_none() && is_due && index > self.checkpoint_at {
            (self.checkpoint_at, self.bytes_since_checkpoint) = (index, 0);
            let frame_hash = self.committed.last_hash.unwrap_or_default();
            let head = CheckpointHead { index, term: self.consensus.term(), frame_hash };
            let cluster = self.committed.cluster.clone();
            self.checkpoint = Some(CheckpointJob { head, cluster, keep_after: kept });
        }
        self.checkpoint.take_if(|job| job.head.index <= self.written_to)
    }

    fn commit(
        &mut self,
        committed: Vec<Committed>,
        committed_to: Option<u64>,
        effects: &mut Effects,
    ) -> Result<(), FatalError> {
        let Some(applied) = committed_to else { return Ok(()) };
        // Entries continue from here after all: the history fetched meanwhile is not needed.
        self.catch_up = None;
        let mut frames = Vec::with_capacity(committed.len());
        for entry in committed {
            if let Some(change) = entry.change.filter(|_| !self.must_continue_alone()) {
                self.consensus.change_members(change)?;
            }
            self.bytes_since_checkpoint += entry.bytes.len() as u64;
            let own = self.leader_mut().and_then(|leader| leader.take_committed(entry.index));
            frames.push(match own {
                Some(mut proposal) => {
                    effects.answers.append(&mut proposal.answers);
                    effects.touched.merge(std::mem::take(&mut proposal.scope));
                    proposal.fold_into(&mut self.committed)
                }
                None => {
                    let (frame, touched) = self.committed.fold_entry(entry.index, &entry.bytes)?;
                    effects.touched.merge(touched);
                    frame
                }
            });
        }
        effects.changed |= !frames.is_empty();
        effects.writes.push(self.consensus.apply(frames, applied)?);
        if let Role::Elected { term, first_index } = self.role
            && first_index <= applied
        {
            self.role = Role::Leader(Box::new(self.begin_to_lead(term)));
            self.pending_answers.begin();
            effects.role_changed = true;
            self.take_back_forwarded(effects);
        }
        Ok(())
    }

    /// A new leader starts from the committed state, and its first frame says so.
    fn begin_to_lead(&self, term: u64) -> Leader {
        let (node, epoch, hash_frames) = (self.node, self.epoch, self.intervals.hash_frames);
        let mut leader = Leader::new(Term { node, term, epoch, hash_frames }, &self.committed);
        if self.committed.cluster.id() != events::ClusterId::default() {
            leader.assume_leadership(self.version.clone(), self.feature_level_max);
            if self.must_continue_alone() {
                leader.continue_alone(self.consensus.id(), self.alone.flatten());
            }
        }
        leader
    }

    fn step_down(&mut self, effects: &mut Effects) {
        effects.role_changed |= self.is_leader();
        self.deny_confirmation(effects);
        match std::mem::replace(&mut self.role, Role::Follower) {
            Role::Leader(leader) => self.hand_on(leader.end(), effects),
            Role::Follower | Role::Elected { .. } => {}
        }
    }

    /// Commands that a leader did not answer are passed to the next one. Other managers forward theirs again by themselves.
    fn hand_on(&mut self, unfinished: Unfinished, effects: &mut Effects) {
        let proposed = unfinished.proposed.into_iter().map(|asked| (asked, true));
        let queued = unfinished.queued.into_iter().map(|asked| (asked, false));
        for (Asked { ticket, request, .. }, was_proposed) in proposed.chain(queued) {
            let kept = Self::is_own_caller(ticket) && self.forward(ticket, &request, was_proposed).is_ok();
            effects.answers.extend((!kept).then_some((ticket, Outcome::Unknown)));
        }
    }

    fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower | Role::Elected { .. } => None,
        }
    }

    fn leader_mut(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            Role::Follower | Role::Elected { .. } => None,
        }
    }
}

/// A state to write as a checkpoint, outside of the turn.
pub struct CheckpointJob {
    head: CheckpointHead,
    cluster: Cluster,
    /// Another manager starts from the state at this index, and needs the entries after it.
    keep_after: Option<u64>,
}

impl CheckpointJob {
    /// Index of the last frame that it includes.
    pub fn index(&self) -> u64 {
        self.head.index
    }

    /// Writes the checkpoint and removes the raft entries that it supersedes.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn run(self, store: &Arc<dyn LogStore>) -> Result<(), LogError> {
        store.save_checkpoint(self.head, &mut projections::snapshot::chunks(&self.cluster))?;
        let to = self.keep_after.map_or(self.head.index, |kept| kept.min(self.head.index));
        store.compact_redacted(to, self.cluster.redacted_at()).map(|_| ())
    }
}

/// Whether raft entries reach back to before the last redaction, and so contain erased values.
fn has_erased_values(consensus: &Consensus, cluster: &Cluster) -> bool {
    consensus.first_index() <= cluster.redacted_at()
}
