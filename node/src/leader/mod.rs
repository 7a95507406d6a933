//! The turn: the only place where the log grows.
//!
//! [`Leader`] owns consensus, the committed state and the tip (the state after everything that it has proposed). It is
//! driven from outside with plain data: [`Leader::submit`] queues a wish, [`Leader::turn`] judges what is queued, settles and
//! proposes one frame, [`Leader::advance`] says what is to be written and what committed, and [`Leader::written`] hears how far
//! the disk is. It has no clock, no thread and no channel of its own, so that the simulation drives the very same code.

mod aside;
mod presence;
mod proposal;
mod timers;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use commands::{Actor, Command, Rejection, RejectionKind};
use events::{CommandId, NodeId, ServiceId, SessionId, Timestamp};
use projections::{Cluster, Keyring, Touched};
use reconcilers::Candidates;

pub use crate::fold::FatalError;
use crate::fold::Folded;
use crate::log::{CheckpointHead, Committed, Consensus, LogError, LogStore, Message, RoleChange, Write, Written};
pub use presence::check_session;

use aside::Aside;
use presence::Heard;
use proposal::Proposal;
use timers::Timers;

/// Commands that wait for a turn; more are refused, so that memory stays bounded.
pub const QUEUE_MAX: usize = 10_000;
/// Frames that may be proposed and not committed; then turns wait.
pub const IN_FLIGHT_FRAMES_MAX: usize = 64;
/// The same while frames are not full: one is written, the next one waits for that, and what is asked meanwhile shares the one
/// after. More of them would each hold less, and cost more in all.
const PIPELINED_FRAMES: usize = 2;
/// Bytes of frames that may be proposed and not committed.
pub const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How often the leader writes down what a later start saves its work with, and what it is checked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Frames after which a checkpoint is taken.
    pub checkpoint_frames: u64,
    /// Frames after which the state's hash is written into the log; more than 1, since that is a frame too.
    pub hash_frames: u64,
}

impl Default for Intervals {
    fn default() -> Self {
        Self { checkpoint_frames: 10_000, hash_frames: 4_096 }
    }
}

/// Names a caller who waits for an answer.
pub type Ticket = u64;

/// A command on its way to a turn.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Who waits for the answer.
    pub ticket: Ticket,
    /// The client's name for the command; zero: it has none, and a repetition does no harm.
    pub id: CommandId,
    /// Who asks.
    pub actor: Actor,
    /// What is asked.
    pub command: Command,
    /// Why, in the user's words.
    pub reason: Option<String>,
    /// Groups the commands of one operation.
    pub correlation: Option<CommandId>,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It took effect, or had taken effect before.
    Committed {
        /// Index of the frame that holds its events.
        index: u64,
        /// The object that was made or changed.
        subject: Option<String>,
    },
    /// It has no effect.
    Rejected(Rejection),
    /// Leadership was lost while it was under way. It may have taken effect; to repeat it with the same id is safe.
    Unknown,
}

/// What driving the leader brought.
#[derive(Debug, Default)]
pub struct Effects {
    /// Answers for callers.
    pub answers: Vec<(Ticket, Outcome)>,
    /// Whether the committed state is a new one.
    pub changed: bool,
    /// What is new in it.
    pub touched: Touched,
    /// Whether this manager began or ceased to lead.
    pub role_changed: bool,
    /// What to tell other managers.
    pub messages: Vec<Message>,
    /// What is to be written, in this order.
    pub writes: Vec<Write>,
}

/// A manager's state machine.
pub struct Leader {
    node: NodeId,
    version: String,
    epoch: Option<u64>,
    consensus: Consensus,
    committed: Folded,
    intervals: Intervals,
    /// Index of the last checkpoint that is of use.
    checkpoint_at: u64,
    /// A checkpoint of what the disk does not have in history yet.
    checkpoint: Option<CheckpointJob>,
    /// Index up to which the disk has history.
    written_to: u64,
    hash_at: u64,
    term: u64,
    /// While this manager leads: the index of its first entry. Once that is committed, so is all that earlier leaders left.
    leads_from: Option<u64>,
    queue: VecDeque<Wish>,
    /// The state after everything proposed, and what is proposed and not committed; only while this manager leads.
    lead: Option<Lead>,
}

/// What only a leader has.
struct Lead {
    tip: Cluster,
    last_hash: Option<events::frame::FrameHash>,
    pending: VecDeque<Proposal>,
    pending_bytes: usize,
    heard: Heard,
    timers: Timers,
    aside: Aside,
    /// What the scheduler keeps between turns.
    candidates: Candidates,
    /// What the last turn had no room to look at.
    left: Touched,
    /// Whether the last frame was full, so that the next one need not wait for more to come.
    full: bool,
}

impl Leader {
    /// A manager whose committed state is `folded`, at the end of its history.
    ///
    /// # Panics
    /// When the state's hash is to be written after every frame, and so for ever.
    pub fn new(node: NodeId, version: &str, consensus: Consensus, folded: Folded, intervals: Intervals) -> Self {
        assert!(intervals.hash_frames > 1, "a frame with a hash must not call for the next one");
        Self {
            node,
            version: version.to_owned(),
            epoch: None,
            consensus,
            intervals,
            // Not the present index: a manager that often starts would never take one, and fold more each time.
            checkpoint_at: folded.checkpoint,
            checkpoint: None,
            written_to: folded.cluster.position.index,
            hash_at: folded.cluster.position.index,
            committed: folded,
            term: 0,
            leads_from: None,
            queue: VecDeque::new(),
            lead: None,
        }
    }

    /// The same with an epoch of its own, drawn for this run: what it makes has ids that no other run gives, not even one
    /// that begins with the same log.
    #[must_use]
    pub fn in_epoch(self, epoch: u64) -> Self {
        Self { epoch: Some(epoch), ..self }
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
        self.lead.as_ref().map(|lead| &lead.tip)
    }

    /// Whether this manager leads.
    pub fn is_leader(&self) -> bool {
        self.lead.is_some()
    }

    /// The services that are set aside, and until when.
    pub fn set_aside(&self) -> Arc<BTreeMap<ServiceId, Timestamp>> {
        self.lead.as_ref().map(|lead| lead.aside.shown()).unwrap_or_default()
    }

    /// Lets one tick of raft's time pass.
    pub fn tick(&mut self) {
        self.consensus.tick();
    }

    /// Queues a command for the next turn.
    ///
    /// # Errors
    /// When this manager does not lead, or too many commands wait already.
    pub fn submit(&mut self, wish: Wish) -> Result<(), Rejection> {
        if self.lead.is_none() {
            let sentence = "this manager does not lead the cluster";
            return Err(Rejection::new(RejectionKind::Unavailable, "cluster", sentence, "try again in a moment"));
        }
        if self.queue.len() >= QUEUE_MAX {
            let sentence = format!("{QUEUE_MAX} commands wait already");
            return Err(Rejection::new(RejectionKind::Exhausted, "cluster", sentence, "try again in a moment"));
        }
        self.queue.push_back(wish);
        Ok(())
    }

    /// Notes a heartbeat that came at `at`. It is no event, unless the node was not thought to be ready. One of a session that
    /// is over says nothing.
    pub fn hear(&mut self, node: NodeId, session: SessionId, at: Timestamp) {
        let Some(lead) = &mut self.lead else { return };
        let command = lead.heard.note(&lead.tip, node, session, at);
        // A node that finds no room is heard again at its next heartbeat.
        if let Some(command) = command.filter(|_| self.queue.len() < QUEUE_MAX) {
            let role = lead.tip.nodes.get(node).map_or(events::Role::Worker, |node| node.role);
            let actor = Actor::Node { id: node, role };
            let id = CommandId::default();
            self.queue.push_back(Wish { ticket: 0, id, actor, command, reason: None, correlation: None });
        }
    }

    /// Nobody could be heard in this time: each node gets what it lost of its own.
    pub fn grant(&mut self, from: Timestamp, to: Timestamp) {
        if let Some(lead) = &mut self.lead {
            lead.heard.grant(&lead.tip, from, to);
        }
    }

    /// When a turn is needed although nobody asks for anything. While no turn may propose, that is not a matter of time: what is
    /// under way has to be committed first.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.lead.as_ref().filter(|lead| lead.may_propose()).and_then(|lead| lead.timers.next())
    }

    /// Whether a turn has work at this time, and may propose.
    pub fn has_work(&self, now: Timestamp) -> bool {
        let Some(lead) = &self.lead else { return false };
        let due = lead.timers.next().is_some_and(|wake| wake <= now);
        lead.may_propose() && (!self.queue.is_empty() || due || !lead.left.is_empty() || self.hash_is_due())
    }

    /// One turn: judges what is queued, settles, and proposes one frame. What is rejected is answered at once, the rest
    /// once it is committed.
    pub fn turn(&mut self, now: Timestamp) -> Effects {
        let mut effects = Effects::default();
        if !self.has_work(now) {
            return effects;
        }
        if self.hash_is_due() {
            self.queue_hash();
        }
        let Some(lead) = &mut self.lead else { return effects };
        let (index, term, leader, epoch) = (self.consensus.next_index(), self.term, self.node, self.epoch);
        let base = proposal::Base { index, term, leader, now, epoch };
        let mut draft = proposal::Draft::new(lead, base);
        draft.judge(&mut self.queue, &mut effects.answers);
        draft.settle(lead);
        let Some((proposal, bytes)) = draft.finish(lead, &mut effects.answers) else { return effects };
        match self.consensus.propose(bytes) {
            Ok(_) => {
                lead.full = !proposal.left.is_empty() || !self.queue.is_empty();
                lead.push(proposal);
            }
            Err(error) => {
                // Nothing of it is in the log. The tip is as before; what was touched is looked at again.
                tracing::debug!(%error, "a frame was not taken");
                lead.left.merge(proposal.scope);
                effects.answers.extend(proposal.answers.into_iter().map(|(ticket, _)| (ticket, Outcome::Unknown)));
            }
        }
        effects
    }

    /// Says what is to be written of what was proposed, and folds what is committed.
    ///
    /// # Errors
    /// When the process must end.
    pub fn advance(&mut self) -> Result<Effects, FatalError> {
        let mut effects = Effects::default();
        while let Some(progress) = self.consensus.ready()? {
            effects.messages.extend(progress.messages);
            effects.writes.extend(progress.write);
            match progress.role {
                Some(RoleChange::LostLeadership) => self.step_down(&mut effects),
                Some(RoleChange::BecameLeader { term, first_index }) => {
                    self.term = term;
                    self.leads_from = Some(first_index);
                }
                None => {}
            }
            self.commit(progress.committed, progress.committed_to, &mut effects)?;
        }
        Ok(effects)
    }

    /// Hears how far the disk is.
    pub fn written(&mut self, written: Written) {
        if let Some(round) = written.round {
            self.consensus.written(round);
        }
        self.written_to = self.written_to.max(written.applied.unwrap_or(0));
    }

    /// Takes a message from another manager.
    pub fn step(&mut self, message: &[u8]) {
        if let Err(error) = self.consensus.step(message) {
            tracing::debug!(%error, "a message was dropped");
        }
    }

    /// What to write as a checkpoint, once enough frames were committed since the last one, and the disk has all of them.
    pub fn take_checkpoint(&mut self) -> Option<CheckpointJob> {
        let index = self.committed.cluster.position.index;
        if self.checkpoint.is_none() && index >= self.checkpoint_at + self.intervals.checkpoint_frames {
            self.checkpoint_at = index;
            let frame_hash = self.committed.last_hash.unwrap_or_default();
            let head = CheckpointHead { index, term: self.consensus.term(), frame_hash };
            self.checkpoint = Some(CheckpointJob { head, cluster: self.committed.cluster.clone() });
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
        let mut frames = Vec::with_capacity(committed.len());
        for entry in committed {
            let own = self.lead.as_mut().and_then(|lead| lead.take_committed(entry.index));
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
        if self.lead.is_none() && self.leads_from.is_some_and(|first| first <= applied) {
            self.begin_to_lead();
            effects.role_changed = true;
        }
        Ok(())
    }

    /// A new leader starts from the committed state, and its first frame says so.
    fn begin_to_lead(&mut self) {
        self.lead = Some(Lead::new(&self.committed));
        if self.committed.cluster.id() != events::ClusterId::default() {
            let (node, term, version) = (self.node, self.term, self.version.clone());
            self.queue_own(Command::AssumeLeadership(commands::AssumeLeadership { node, term, version }));
            self.queue_hash();
        }
    }

    fn step_down(&mut self, effects: &mut Effects) {
        effects.role_changed = true;
        self.leads_from = None;
        let pending = self.lead.take().map(|lead| lead.pending).unwrap_or_default();
        let callers = pending.into_iter().flat_map(|proposal| proposal.answers).map(|(ticket, _)| ticket);
        let queued = std::mem::take(&mut self.queue).into_iter().map(|wish| wish.ticket);
        effects.answers.extend(callers.chain(queued).map(|ticket| (ticket, Outcome::Unknown)));
    }

    fn hash_is_due(&self) -> bool {
        let tip = self.lead.as_ref().map_or(0, |lead| lead.tip.position.index);
        tip >= self.hash_at + self.intervals.hash_frames
    }

    /// The hash is that of the tip, so the command has to come first in its frame.
    fn queue_hash(&mut self) {
        let Some(lead) = &self.lead else { return };
        let (index, hash) = (lead.tip.position.index, lead.tip.state_hash());
        self.hash_at = index;
        let (id, actor) = (CommandId::default(), Actor::Manager(self.node));
        let command = Command::RecordStateHash(commands::RecordStateHash { index, hash });
        self.queue.push_front(Wish { ticket: 0, id, actor, command, reason: None, correlation: None });
    }

    fn queue_own(&mut self, command: Command) {
        let (id, actor) = (CommandId::default(), Actor::Manager(self.node));
        self.queue.push_front(Wish { ticket: 0, id, actor, command, reason: None, correlation: None });
    }
}

impl Lead {
    fn new(committed: &Folded) -> Self {
        Self {
            tip: committed.cluster.clone(),
            last_hash: committed.last_hash,
            pending: VecDeque::new(),
            pending_bytes: 0,
            heard: Heard::default(),
            timers: Timers::default(),
            aside: Aside::default(),
            candidates: Candidates::default(),
            left: Touched { everything: true, ..Touched::default() },
            full: false,
        }
    }

    fn may_propose(&self) -> bool {
        let frames = if self.full { IN_FLIGHT_FRAMES_MAX } else { PIPELINED_FRAMES };
        self.pending.len() < frames && self.pending_bytes < IN_FLIGHT_BYTES_MAX
    }

    fn push(&mut self, proposal: Proposal) {
        self.tip = proposal.after.clone();
        self.last_hash = Some(proposal.hash);
        self.pending_bytes += proposal.entry_bytes;
        self.left = proposal.left.clone();
        self.timers.set(&proposal.wakes);
        self.pending.push_back(proposal);
    }

    /// The proposal that was committed at this index, if it is this leader's own.
    fn take_committed(&mut self, index: u64) -> Option<Proposal> {
        let proposal = self.pending.pop_front_if(|proposal| proposal.index == index)?;
        self.pending_bytes -= proposal.entry_bytes;
        Some(proposal)
    }
}

/// A state to be written as a checkpoint, away from the turn.
pub struct CheckpointJob {
    head: CheckpointHead,
    cluster: Cluster,
}

impl CheckpointJob {
    /// Writes the checkpoint and cuts the raft entries that it makes superfluous.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn run(self, store: &Arc<dyn LogStore>) -> Result<(), LogError> {
        store.save_checkpoint(self.head, &mut projections::snapshot::chunks(&self.cluster))?;
        store.compact(self.head.index).map(|_| ())
    }
}
