//! The log as raft wants to see it, and the translation between raft's types and ours.

use std::sync::Arc;

use raft::eraftpb::{self, ConfState, EntryType};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

use crate::log::{Entry, EntryKind, HardState, LogError, LogStore, Membership};

/// Raft reads through this and never writes. It takes an error of the disk for the end: the process aborts.
pub struct Adapter {
    store: Arc<dyn LogStore>,
    hard_state: HardState,
    members: ConfState,
}

impl Adapter {
    /// The log as it was loaded.
    pub fn new(store: Arc<dyn LogStore>, hard_state: HardState, membership: &Membership) -> Self {
        Self { store, hard_state, members: to_conf_state(membership) }
    }

    /// The answer to a question about an index that is not there.
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
        Ok(entries.into_iter().map(to_raft).collect())
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

    /// Checkpoints travel between managers on a way of their own, not in raft's messages.
    fn snapshot(&self, _request_index: u64, _to: u64) -> Result<eraftpb::Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
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

/// Ours from raft's.
pub fn to_hard_state(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

/// Ours from raft's; the payload is shared.
pub fn from_raft(entry: eraftpb::Entry) -> Entry {
    let kind = match entry.get_entry_type() {
        EntryType::EntryNormal => EntryKind::Frame,
        EntryType::EntryConfChange => EntryKind::Membership,
        EntryType::EntryConfChangeV2 => EntryKind::JointMembership,
    };
    Entry { index: entry.index, term: entry.term, kind, payload: entry.data }
}

fn to_raft(entry: Entry) -> eraftpb::Entry {
    let kind = match entry.kind {
        EntryKind::Frame => EntryType::EntryNormal,
        EntryKind::Membership => EntryType::EntryConfChange,
        EntryKind::JointMembership => EntryType::EntryConfChangeV2,
    };
    let mut raft = eraftpb::Entry { index: entry.index, term: entry.term, data: entry.payload, ..Default::default() };
    raft.set_entry_type(kind);
    raft
}
