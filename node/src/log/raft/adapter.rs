//! The log as raft's storage, and the conversion between raft's types and ours.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use protobuf::Message as _;
use raft::eraftpb::{self, ConfChange, ConfChangeType, ConfState, EntryType, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::log::{Entry, EntryKind, HardState, LogError, LogStore, MemberChange, Membership};

use super::Offer;

/// Raft reads through this and never writes. It treats a disk error as fatal: the process aborts.
pub struct Adapter {
    store: Arc<dyn LogStore>,
    hard_state: HardState,
    members: ConfState,
    /// The state offered to managers that entries alone cannot bring up to date.
    pub offer: Option<Offer>,
    /// Whether raft asked for a state, and there was none to offer.
    pub offer_wanted: Cell<bool>,
}

impl Adapter {
    /// The log as it was loaded.
    pub fn new(store: Arc<dyn LogStore>, hard_state: HardState, membership: &Membership) -> Self {
        let (offer, offer_wanted) = (None, Cell::new(false));
        // Raft has no configuration without voters: a manager that joins starts with an empty one.
        let is_joining = membership.voters.is_empty();
        let members = if is_joining { ConfState::default() } else { to_conf_state(membership) };
        Self { store, hard_state, members, offer, offer_wanted }
    }

    /// The answer for an index that does not exist.
    fn absent(&self, index: u64) -> Error {
        Error::Store(if index < self.store.first_index() { StorageError::Compacted } else { StorageError::Unavailable })
    }
}

impl Storage for Adapter {
    fn initial_state(&self) -> Result<RaftState> {
        let HardState { term, vote, commit } = self.hard_state;
        let hard_state = eraftpb::HardState { term, vote, commit, ..Default::default() };
        Ok(RaftState::new(hard_state, self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        if low < self.store.first_index() || high > self.store.last_index() + 1 {
            return Err(self.absent(low));
        }
        let entries = self.store.entries(low, high, max_size.into().unwrap_or(u64::MAX)).map_err(unreadable)?;
        entries.into_iter().map(to_raft).collect::<std::result::Result<_, _>>().map_err(unreadable)
    }

    fn term(&self, index: u64) -> Result<u64> {
        self.store.term(index).map_err(unreadable)?.ok_or_else(|| self.absent(index))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.store.first_index())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.store.last_index())
    }

    /// Only the description of a state: the history that leads to it is transferred between managers separately. The receiver
    /// must be a member in it, or its raft refuses it.
    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        let fits = |offer: &&Offer| offer.index >= request_index && offer.names(to);
        let Some(offer) = self.offer.as_ref().filter(fits) else {
            self.offer_wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        };
        let mut snapshot = Snapshot::default();
        snapshot.set_data(Bytes::copy_from_slice(&offer.frame_hash));
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (offer.index, offer.term);
        metadata.set_conf_state(to_conf_state(&offer.membership));
        Ok(snapshot)
    }
}

fn unreadable(error: LogError) -> Error {
    tracing::error!(%error, "raft cannot read the log, the process ends");
    Error::Store(StorageError::Other(Box::new(error)))
}

fn to_conf_state(membership: &Membership) -> ConfState {
    let mut state = ConfState::default();
    state.set_voters(membership.voters.clone());
    state.set_learners(membership.learners.clone());
    state.set_voters_outgoing(membership.voters_outgoing.clone());
    state.set_learners_next(membership.learners_next.clone());
    state.set_auto_leave(membership.auto_leave);
    state
}

/// Converts from raft's type.
pub fn to_hard_state(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

/// Converts from raft's type; the payload is shared.
///
/// # Errors
/// When a membership change is malformed.
pub fn from_raft(entry: eraftpb::Entry) -> std::result::Result<Entry, LogError> {
    let (index, term) = (entry.index, entry.term);
    let (kind, payload) = match entry.get_entry_type() {
        EntryType::EntryNormal => (EntryKind::Frame, entry.data),
        EntryType::EntryConfChange => {
            let change = ConfChange::parse_from_bytes(&entry.data);
            let change = change.map_err(|error| LogError::Consensus(error.to_string()))?;
            (EntryKind::Membership, from_conf_change(&change).payload(change.get_context()))
        }
        EntryType::EntryConfChangeV2 => (EntryKind::JointMembership, entry.data),
    };
    Ok(Entry { index, term, kind, payload })
}

fn to_raft(entry: Entry) -> std::result::Result<eraftpb::Entry, LogError> {
    let Entry { index, term, kind, payload } = entry;
    let damaged = |reason| LogError::Damaged { table: crate::log::Table::Raft, index, reason };
    let (kind, data) = match kind {
        EntryKind::Frame => (EntryType::EntryNormal, payload),
        EntryKind::Membership => {
            let (change, carried) = MemberChange::parse(payload).map_err(damaged)?;
            let bytes = to_conf_change(change, carried).write_to_bytes();
            (EntryType::EntryConfChange, bytes.map_err(|error| LogError::Consensus(error.to_string()))?.into())
        }
        EntryKind::JointMembership => (EntryType::EntryConfChangeV2, payload),
    };
    let mut raft = eraftpb::Entry { index, term, data, ..Default::default() };
    raft.set_entry_type(kind);
    Ok(raft)
}

/// Raft's form of a membership change, with this frame.
pub fn to_conf_change(change: MemberChange, carried: Bytes) -> ConfChange {
    let (kind, raft_id) = match change {
        MemberChange::AddLearner(raft_id) => (ConfChangeType::AddLearnerNode, raft_id),
        MemberChange::AddVoter(raft_id) => (ConfChangeType::AddNode, raft_id),
        MemberChange::Remove(raft_id) => (ConfChangeType::RemoveNode, raft_id),
    };
    let mut raft = ConfChange { node_id: raft_id, ..Default::default() };
    raft.set_change_type(kind);
    raft.set_context(carried);
    raft
}

fn from_conf_change(change: &ConfChange) -> MemberChange {
    match change.get_change_type() {
        ConfChangeType::AddLearnerNode => MemberChange::AddLearner(change.node_id),
        ConfChangeType::AddNode => MemberChange::AddVoter(change.node_id),
        ConfChangeType::RemoveNode => MemberChange::Remove(change.node_id),
    }
}
