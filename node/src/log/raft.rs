//! Consensus: drives a raft node over the log, with plain data in and out.
//!
//! One round is [`Consensus::ready`]: it returns what to write, which another thread does at its own pace, and what is committed.
//! Raft counts an entry as durable only once [`Consensus::written`] reports it, so that nothing is committed before its fsync,
//! even with a single manager, and a follower confirms nothing before its own. A membership change is an entry that carries its
//! frame, so that both happen together or not at all. A manager that entries alone cannot bring up to date is offered a state by
//! its index and hash; how the history that leads to it is transferred is up to the caller.

mod adapter;
mod followers;
mod read_index;
mod shortened;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ::raft::eraftpb;
use ::raft::{Config, RawNode, ReadOnlyOption, ReadState, Ready, SnapshotStatus, StateRole};
use bytes::Bytes;
use events::frame::FrameHash;
use events::{VolatilePayload, redacted_debug};
use protobuf::Message as _;

use self::adapter::{Adapter, from_raft, to_conf_change, to_hard_state};
pub use self::followers::FollowerProgress;
pub use self::read_index::ReadName;
use super::entry::EntryKind;
use super::{
    AppliedFrame, Entry, Install, Loaded, LogError, LogStore, MemberChange, Membership, Permits, Staged, slog_bridge,
    tail,
};

/// The interval at which [`Consensus::tick`] must be called.
pub const TICK: Duration = Duration::from_millis(100);
/// Ticks between a leader's heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Minimum of ticks without a leader before an election: five heartbeats may be lost. The maximum is twice as many.
pub const ELECTION_TICKS: usize = 10;
/// Bytes of entries in one message to another manager; a larger entry is sent alone.
const MESSAGE_BYTES: u64 = 1024 * 1024;
/// Messages with entries in flight to one manager.
const INFLIGHT_MESSAGES: usize = 256;
/// Bytes of uncommitted entries; beyond this, proposals are refused.
const UNCOMMITTED_BYTES: u64 = 64 * 1024 * 1024;

/// This manager's raft node.
pub struct Consensus {
    node: RawNode<Adapter>,
    store: Arc<dyn LogStore>,
    /// The term in which this manager leads, as last reported.
    reported_term: Option<u64>,
    /// Messages that confirm that something is durable here, by the round whose write they wait for.
    held_back: VecDeque<(u64, Vec<eraftpb::Message>)>,
    /// Those that may be sent.
    released: Vec<eraftpb::Message>,
    /// Answers to read index requests.
    read_states: Vec<ReadState>,
    /// The state to restart from instead of the log, once raft confirms it.
    restoring: Option<Install>,
}

/// A state to start from, by its index and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Index of its last frame.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// The hash of that frame.
    pub frame_hash: FrameHash,
    /// The members after it.
    pub membership: Membership,
}

impl Offer {
    /// Whether this manager is a member in it.
    pub fn names(&self, raft_id: u64) -> bool {
        self.membership.voters.contains(&raft_id) || self.membership.learners.contains(&raft_id)
    }
}

/// The results of a round of consensus.
#[derive(Default)]
pub struct Progress {
    /// A change of leadership, to be handled before the rest.
    pub role: Option<RoleChange>,
    /// Committed and durable entries, in order, without empty ones.
    pub committed: Vec<Committed>,
    /// Everything up to this index has been returned as committed, including empty entries: how far the applied index may move.
    /// `None` if unchanged.
    pub committed_to: Option<u64>,
    /// Messages to other managers.
    pub messages: Vec<Message>,
    /// What to write.
    pub write: Option<Write>,
    /// The round whose write starts this manager from the offered state.
    pub restored: Option<u64>,
}

/// A write to disk. Writes must be made in the order in which they are returned.
pub struct Write {
    staged: Staged,
    /// The round of consensus that it belongs to; `None` if it only adds to history.
    round: Option<u64>,
    /// The index up to which history is written with it.
    applied: Option<u64>,
    /// Whether something waits for it: a commit, or a message to another manager.
    awaited: bool,
}

redacted_debug! { Write shows [round, applied, awaited] hides [staged] }

/// The progress of the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// The last round of consensus that is written, and durable if it had to be.
    pub round: Option<u64>,
    /// History is written up to this index.
    pub applied: Option<u64>,
    /// Whether something waits for it.
    pub awaited: bool,
}

impl Written {
    /// Adds the progress of later writes.
    pub fn merge(&mut self, later: Self) {
        self.round = later.round.or(self.round);
        self.applied = later.applied.or(self.applied);
        self.awaited |= later.awaited;
    }
}

/// Makes writes, with one sync for all of them.
///
/// # Errors
/// When the log cannot be written. The process must stop.
pub fn write_all(store: &dyn LogStore, writes: Vec<Write>) -> Result<Written, LogError> {
    let mut written = Written::default();
    let mut staged = Vec::with_capacity(writes.len());
    for write in writes {
        written.merge(Written { round: write.round, applied: write.applied, awaited: write.awaited });
        staged.push(write.staged);
    }
    store.write(staged)?;
    Ok(written)
}

/// A change of this manager's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleChange {
    /// It leads now.
    BecameLeader {
        /// The term that it leads.
        term: u64,
        /// The index of its first entry. Once this is committed, so is everything that earlier leaders left.
        first_index: u64,
    },
    /// It no longer leads: proposals that were not returned as committed may or may not be committed later.
    LostLeadership,
}

/// A committed entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its index.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// The membership change that takes effect with it.
    pub change: Option<MemberChange>,
    /// The proposed bytes.
    pub bytes: Bytes,
}

// Its second section holds secrets, and what it proposes their specs' environments.
redacted_debug! { Committed shows [index, term, change] hides [bytes] }

/// A message to another manager, opaque to everything in between.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The raft id of the receiver.
    pub to: u64,
    /// The input of its [`Consensus::step`].
    pub bytes: Vec<u8>,
}

redacted_debug! { Message shows [to] hides [bytes] }

/// Why a proposal was refused. None of it is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another manager leads, or none.
    #[error("this manager does not lead the cluster")]
    NotLeader,
    /// Too much is uncommitted, or leadership is being handed over.
    #[error("too many changes wait to be committed")]
    Full,
    /// A membership change is in progress; raft would silently drop another one.
    #[error("another change of the managers is in progress")]
    ChangePending,
}

/// Why a message was dropped. Raft tolerates lost messages.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// Not a message.
    #[error("the message is malformed: {0}")]
    Malformed(String),
    /// A message that this manager cannot use.
    #[error("the message was refused: {0}")]
    Refused(String),
    /// It shows that this manager's log lost confirmed entries. The process must stop.
    #[error(transparent)]
    Shortened(LogError),
}

impl Consensus {
    /// Initializes the log of a new cluster, of which `id` is the only voter.
    ///
    /// # Errors
    /// When the log already exists, or cannot be written.
    pub fn bootstrap(store: &dyn LogStore, id: u64) -> Result<(), LogError> {
        store.initialize(&Membership::single(id))
    }

    /// Resumes from the log. A single voter leads at once, from the first [`Consensus::ready`] on.
    ///
    /// # Errors
    /// When the log is not initialized, or raft refuses its state.
    pub fn open(store: Arc<dyn LogStore>, id: u64, loaded: &Loaded) -> Result<Self, LogError> {
        let membership = loaded.membership.as_ref().ok_or(LogError::NotInitialized)?;
        let adapter = Adapter::new(store.clone(), loaded.hard_state, membership);
        let refused = |error: ::raft::Error| LogError::Consensus(error.to_string());
        let mut node = RawNode::new(&config(id, loaded.applied), adapter, &slog_bridge::logger()).map_err(refused)?;
        if membership.voters == [id] {
            node.campaign().map_err(refused)?;
        }
        let (held_back, released, read_states, restoring) = (VecDeque::new(), Vec::new(), Vec::new(), None);
        let mut consensus = Self { node, store, reported_term: None, held_back, released, read_states, restoring };
        consensus.set_election_timeout();
        Ok(consensus)
    }

    /// Advances time by one [`TICK`].
    pub fn tick(&mut self) {
        self.node.tick();
        self.set_election_timeout();
    }

    /// Raft draws a random election timeout, again in each term and role. Here it is derived from the manager and the term
    /// instead, so that the same messages at the same times have the same result; managers still differ, and differ again in the
    /// next term.
    fn set_election_timeout(&mut self) {
        let seed = (self.node.raft.id ^ self.node.raft.term.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let extra = usize::try_from((seed ^ seed >> 29) % ELECTION_TICKS as u64).unwrap_or_default();
        if self.node.raft.randomized_election_timeout() != ELECTION_TICKS + extra {
            self.node.raft.set_randomized_election_timeout(ELECTION_TICKS + extra);
        }
    }

    /// This manager's raft id.
    pub fn id(&self) -> u64 {
        self.node.raft.id
    }

    /// Everything up to this index is applied.
    pub fn applied(&self) -> u64 {
        self.node.raft.raft_log.applied
    }

    /// Everything up to this index is committed, as far as this manager has seen.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Whether this manager leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The raft id of the leader, if one is known.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|&id| id != ::raft::INVALID_ID)
    }

    /// The newest term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// The term of the entry at an index, if it is known.
    ///
    /// # Errors
    /// When the entry is damaged or cannot be read.
    pub fn term_at(&self, index: u64) -> Result<Option<u64>, LogError> {
        self.store.term(index)
    }

    /// The index that the next proposal gets.
    pub fn next_index(&self) -> u64 {
        self.node.raft.raft_log.last_index() + 1
    }

    /// Whether raft takes proposals: not while leadership is being handed over, nor from a leader that no longer votes, because
    /// it committed the loss of its own vote.
    pub fn may_propose(&self) -> bool {
        let raft = &self.node.raft;
        self.is_leader() && raft.lead_transferee.is_none() && raft.prs().conf().voters().contains(raft.id)
    }

    /// Proposes an entry and returns its index. It is neither durable nor certain until [`Consensus::ready`] returns it as
    /// committed.
    ///
    /// # Errors
    /// When this manager does not lead, or too much is uncommitted.
    pub fn propose(&mut self, bytes: Vec<u8>) -> Result<u64, ProposeError> {
        // Raft would forward the proposal to the leader, where it may be lost or duplicated without notice.
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        let index = self.next_index();
        self.node.propose(Vec::new(), bytes).map_err(|_| ProposeError::Full)?;
        Ok(index)
    }

    /// Proposes an entry that changes the members when it is committed, and returns its index.
    ///
    /// # Errors
    /// When this manager does not lead, another such change is in progress, or too much is uncommitted.
    pub fn propose_change(&mut self, change: MemberChange, bytes: Vec<u8>) -> Result<u64, ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        if self.node.raft.has_pending_conf() {
            return Err(ProposeError::ChangePending);
        }
        let index = self.next_index();
        let change = to_conf_change(change, bytes.into());
        self.node.propose_conf_change(Vec::new(), change).map_err(|_| ProposeError::Full)?;
        Ok(index)
    }

    /// Handles a message from another manager; one that offers a state must be passed to [`Consensus::offered`] first.
    ///
    /// # Errors
    /// When it is not one, not for this manager, or of what this manager lost.
    pub fn step(&mut self, message: &[u8]) -> Result<(), StepError> {
        let message = parse(message)?;
        self.require_confirmed(&message)?;
        let stepped = self.node.step(message).map_err(|error| StepError::Refused(error.to_string()));
        self.set_election_timeout();
        stepped
    }

    /// The sender of a message, and the state that it offers to this manager, if this manager does not have that state.
    ///
    /// # Errors
    /// When it is not a valid message.
    pub fn offered(&self, message: &[u8]) -> Result<(u64, Option<Offer>), StepError> {
        let message = parse(message)?;
        let is_offer = message.get_msg_type() == eraftpb::MessageType::MsgSnapshot && message.term >= self.term();
        let metadata = message.get_snapshot().get_metadata();
        if !is_offer || metadata.index <= self.node.raft.raft_log.committed {
            return Ok((message.from, None));
        }
        let hash = FrameHash::try_from(message.get_snapshot().get_data());
        let frame_hash = hash.map_err(|_| StepError::Malformed("the offered state has no hash".to_owned()))?;
        let members = metadata.get_conf_state();
        let (voters, learners) = (members.voters.clone(), members.learners.clone());
        let membership = Membership { voters, learners, ..Membership::default() };
        Ok((message.from, Some(Offer { index: metadata.index, term: metadata.term, frame_hash, membership })))
    }

    /// Starts from an offered state: its history is already staged, and its secrets replace the stored ones. Returns whether raft
    /// accepts it; if so, [`Consensus::ready`] returns the round in which that happens.
    pub fn restore(&mut self, message: &[u8], offer: &Offer, secrets: Vec<VolatilePayload>, permits: Permits) -> bool {
        if let Err(error) = self.step(message) {
            tracing::debug!(%error, "a state that was offered is not taken");
            return false;
        }
        let taken = self.node.snap().is_some_and(|snapshot| snapshot.get_metadata().index == offer.index);
        self.restoring = taken.then_some(Install { index: offer.index, term: offer.term, secrets, permits });
        taken
    }

    /// Whether another manager needs a state to start from, and the current offer does not suit it.
    pub fn wants_offer(&self) -> bool {
        self.node.store().offer_wanted.get()
    }

    /// Sets the state that is offered to managers that entries alone cannot bring up to date, or withdraws it.
    pub fn set_offer(&mut self, offer: Option<Offer>) {
        let adapter = self.node.mut_store();
        adapter.offer_wanted.set(false);
        adapter.offer = offer;
    }

    /// A manager that was offered a state does not confirm it: it must be offered another one.
    pub fn offer_failed(&mut self, raft_id: u64) {
        self.node.report_snapshot(raft_id, SnapshotStatus::Failure);
    }

    /// One round: returns what to write, what is committed and what to send to other managers. `None` if there is nothing to do;
    /// otherwise it must be called again, since committed entries come in pieces of at most 8 MiB.
    ///
    /// # Errors
    /// When the log contains something that this build does not support. The process must stop.
    pub fn ready(&mut self) -> Result<Option<Progress>, LogError> {
        // Before raft makes a separate round of them, which would cost a write.
        self.read_states.append(&mut self.node.raft.read_states);
        if !self.node.has_ready() {
            let messages = to_messages(std::mem::take(&mut self.released))?;
            return Ok((!messages.is_empty()).then(|| Progress { messages, ..Progress::default() }));
        }
        let mut ready = self.node.ready();
        let mut messages = std::mem::take(&mut self.released);
        messages.append(&mut ready.take_messages());
        let restored = (!ready.snapshot().is_empty()).then_some(ready.number());
        let (role, write) = self.stage(&mut ready)?;
        let committed = ready.take_committed_entries();
        self.node.advance_append_async(ready);
        Ok(Some(Progress {
            role,
            committed_to: committed.last().map(|entry| entry.index),
            committed: committed
                .into_iter()
                .filter_map(|entry| to_committed(entry).transpose())
                .collect::<Result<_, _>>()?,
            messages: to_messages(messages)?,
            write: Some(write),
            restored,
        }))
    }

    /// Reports that the disk has everything up to a round. [`Consensus::ready`] returns what is committed by that.
    pub fn written(&mut self, round: u64) {
        self.node.on_persist_ready(round);
        while let Some((_, mut messages)) = self.held_back.pop_front_if(|(held, _)| *held <= round) {
            self.released.append(&mut messages);
        }
    }

    /// Adds the frames of committed entries to history; everything up to `applied` counts as done from now on. The resulting
    /// write is not awaited: the raft entries, which are durable, can repeat it.
    ///
    /// # Errors
    /// When a frame is not the next one. The process must stop.
    pub fn apply(&mut self, frames: Vec<AppliedFrame>, applied: u64) -> Result<Write, LogError> {
        let staged = self.store.stage_apply(frames, applied)?;
        self.node.advance_apply_to(applied);
        Ok(Write { staged, round: None, applied: Some(applied), awaited: false })
    }

    /// Index of the first entry that is kept.
    pub fn first_index(&self) -> u64 {
        self.store.first_index()
    }

    /// Makes a committed membership change, before its frame counts as applied.
    ///
    /// # Errors
    /// When it cannot be made: the managers would no longer agree on their membership.
    pub fn change_members(&mut self, change: MemberChange) -> Result<(), LogError> {
        let changed = self.node.apply_conf_change(&to_conf_change(change, Bytes::new()));
        changed.map(drop).map_err(|error| LogError::Consensus(error.to_string()))
    }

    /// Reports that the offered state is on disk; the applied index continues from it.
    pub fn begin_with(&mut self, index: u64) {
        self.node.advance_apply_to(index);
    }

    /// Whether history is staged that leads to a state from which this manager did not start.
    pub fn has_fetched(&self) -> bool {
        self.store.fetched().is_some()
    }

    /// Stages history that leads to an offered state.
    ///
    /// # Errors
    /// When a frame is not the next link of the chain.
    pub fn fetched(&mut self, frames: Vec<(u64, Bytes)>) -> Result<Write, LogError> {
        let staged = self.store.stage_fetched(frames)?;
        Ok(Write { staged, round: None, applied: None, awaited: false })
    }

    /// Stages raft's persistent state, to be synced if a vote or a commit may depend on it.
    fn stage(&mut self, ready: &mut Ready) -> Result<(Option<RoleChange>, Write), LogError> {
        let install = match ready.snapshot().is_empty() {
            true => None,
            false => {
                let index = ready.snapshot().get_metadata().index;
                let install = self.restoring.take().filter(|install| install.index == index);
                Some(
                    install
                        .ok_or(LogError::Unsupported { index, reason: "raft begins with a state without a history" })?,
                )
            }
        };
        let entries = ready.take_entries().into_iter().map(from_raft).collect::<Result<Vec<Entry>, _>>()?;
        let role = self.role_change(&entries);
        let (round, held_back) = (ready.number(), ready.take_persisted_messages());
        let awaited = !entries.is_empty() || !held_back.is_empty();
        if !held_back.is_empty() {
            self.held_back.push_back((round, held_back));
        }
        let (hard_state, applied) = (ready.hs().map(to_hard_state), install.as_ref().map(|install| install.index));
        let staged = match install {
            Some(install) => self.store.stage_install(install, entries, hard_state)?,
            None => self.store.stage_append(entries, hard_state, ready.must_sync())?,
        };
        Ok((role, Write { staged, round: Some(round), applied, awaited: awaited || applied.is_some() }))
    }

    /// The change of role since the last report, if any.
    fn role_change(&mut self, unwritten: &[Entry]) -> Option<RoleChange> {
        let leads = self.is_leader().then(|| self.term());
        if leads == self.reported_term {
            return None;
        }
        self.reported_term = leads;
        // A leader's first entry is written in the round in which it became the leader.
        Some(leads.map_or(RoleChange::LostLeadership, |term| {
            let first = unwritten.iter().find(|entry| entry.term == term);
            RoleChange::BecameLeader { term, first_index: first.map_or(self.next_index(), |entry| entry.index) }
        }))
    }
}

/// Sets every option explicitly, since not all of raft's defaults are suitable.
fn config(id: u64, applied: u64) -> Config {
    Config {
        id,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        // Entries that are in history must not be returned again.
        applied,
        max_size_per_msg: MESSAGE_BYTES,
        max_inflight_msgs: INFLIGHT_MESSAGES,
        // A leader that cannot reach a majority steps down instead of serving stale state.
        check_quorum: true,
        // A manager that returns after a partition does not depose a healthy leader.
        pre_vote: true,
        // Between one and two election timeouts, drawn by raft itself.
        min_election_tick: ELECTION_TICKS,
        max_election_tick: 2 * ELECTION_TICKS,
        // Leases need clocks that do not drift and processes that do not pause.
        read_only_option: ReadOnlyOption::Safe,
        // Followers are notified of a commit at once: agents read from them.
        skip_bcast_commit: false,
        // With it, raft 0.7 adds entries to a waiting message without entries, wherever that one starts; the follower then
        // confirms an entry that it does not have. Messages that wait for a manager are still sent together.
        batch_append: false,
        // All managers are equally suitable as leaders.
        priority: 0,
        max_uncommitted_size: UNCOMMITTED_BYTES,
        // A long log is replayed in pieces, each of which is held in memory.
        max_committed_size_per_ready: tail::BYTES_MAX as u64,
    }
}

fn to_committed(entry: eraftpb::Entry) -> Result<Option<Committed>, LogError> {
    let Entry { index, term, kind, payload } = from_raft(entry)?;
    match kind {
        EntryKind::Frame if payload.is_empty() => Ok(None),
        EntryKind::Frame => Ok(Some(Committed { index, term, change: None, bytes: payload })),
        EntryKind::Membership => {
            let (change, bytes) = MemberChange::parse(payload).map_err(LogError::Consensus)?;
            Ok(Some(Committed { index, term, change: Some(change), bytes }))
        }
        EntryKind::JointMembership => {
            Err(LogError::Unsupported { index, reason: "it changes several members of the cluster at once" })
        }
    }
}

fn parse(message: &[u8]) -> Result<eraftpb::Message, StepError> {
    eraftpb::Message::parse_from_bytes(message).map_err(|error| StepError::Malformed(error.to_string()))
}

fn to_messages(messages: Vec<eraftpb::Message>) -> Result<Vec<Message>, LogError> {
    messages.into_iter().map(to_message).collect()
}

fn to_message(message: eraftpb::Message) -> Result<Message, LogError> {
    let bytes = message.write_to_bytes().map_err(|error| LogError::Consensus(error.to_string()))?;
    Ok(Message { to: message.to, bytes })
}

#[cfg(test)]
mod tests;
