//! What a manager records about the others, and reports to raft about them.

use raft::{INVALID_ID, ProgressState};

use super::{Consensus, HEARTBEAT_TICKS};

/// Ticks during which a leader whose connection broke is still expected: it has sent a heartbeat by then if it is alive.
const SUSPECT_TICKS: usize = HEARTBEAT_TICKS + 1;
/// Ticks between the elections of two voters that lost the leader at the same time, so that the votes are not split.
const STAGGER_TICKS: usize = 2;

/// The progress of another manager, as recorded by a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerProgress {
    /// Its raft id.
    pub raft_id: u64,
    /// It has all entries up to this index.
    pub matched: u64,
    /// It was offered a state, and has not confirmed it.
    pub is_offered: bool,
}

impl Consensus {
    /// The progress of the others, if this manager leads.
    pub fn followers(&self) -> impl Iterator<Item = FollowerProgress> {
        let own = self.node.raft.id;
        let others = self.node.raft.prs().iter().filter(move |(id, _)| self.is_leader() && **id != own);
        others.map(|(&raft_id, progress)| FollowerProgress {
            raft_id,
            matched: progress.matched,
            is_offered: progress.state == ProgressState::Snapshot,
        })
    }

    /// Hands leadership to another voter. Meanwhile nothing can be proposed; if that voter does not take over within an election
    /// timeout, this manager continues to lead.
    pub fn hand_over(&mut self, raft_id: u64) {
        self.node.transfer_leader(raft_id);
    }

    /// Reports that messages for another manager cannot be delivered.
    pub fn unreachable(&mut self, raft_id: u64) {
        self.node.report_unreachable(raft_id);
        if self.leader() == Some(raft_id) && !self.is_leader() {
            self.suspect_leader(raft_id);
        }
    }

    /// The connection to the leader broke, most often because its process ended. The leader is forgotten until it is heard from
    /// again, so that this manager does not refuse others an election; and soon there is one. A leader that the others can still
    /// reach stays: they refuse.
    fn suspect_leader(&mut self, leader: u64) {
        let raft = &mut self.node.raft;
        let (own, term) = (raft.id, raft.term);
        let turn = raft.prs().conf().voters().ids().iter().filter(|&id| id != leader && id < own).count();
        raft.become_follower(term, INVALID_ID);
        self.set_election_timeout();
        let raft = &mut self.node.raft;
        raft.election_elapsed = raft.randomized_election_timeout().saturating_sub(SUSPECT_TICKS + turn * STAGGER_TICKS);
    }
}
