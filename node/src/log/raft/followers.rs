//! What a leader knows of the others, and says to raft about them.

use raft::ProgressState;

use super::Consensus;

/// How far another manager is, as a leader knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerProgress {
    /// Its raft id.
    pub raft_id: u64,
    /// It has all entries up to this index.
    pub matched: u64,
    /// It was offered a state, and did not say that it has it.
    pub is_offered: bool,
}

impl Consensus {
    /// How far the others are, if this manager leads.
    pub fn followers(&self) -> impl Iterator<Item = FollowerProgress> {
        let own = self.node.raft.id;
        let others = self.node.raft.prs().iter().filter(move |(id, _)| self.is_leader() && **id != own);
        others.map(|(&raft_id, progress)| FollowerProgress {
            raft_id,
            matched: progress.matched,
            is_offered: progress.state == ProgressState::Snapshot,
        })
    }

    /// Lets another voter lead. While it is about to, nothing can be proposed; if it does not within an election timeout, this
    /// manager goes on.
    pub fn hand_over(&mut self, raft_id: u64) {
        self.node.transfer_leader(raft_id);
    }

    /// Hears that messages for another manager do not get there.
    pub fn unreachable(&mut self, raft_id: u64) {
        self.node.report_unreachable(raft_id);
    }
}
