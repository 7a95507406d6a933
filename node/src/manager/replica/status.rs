//! Where a manager stands in raft, for those who want to see it. None of it is in the log.

use std::collections::{BTreeMap, BTreeSet};

use projections::Member;
use reconcilers::{Follower, members::obstacles};

use super::Replica;
use super::contact::SILENT_TICKS;

/// Where a manager stands in raft, and what it knows of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// Its own number in raft.
    pub raft_id: u64,
    /// The raft id of the manager that leads, if one is known.
    pub leader: Option<u64>,
    /// The newest term.
    pub term: u64,
    /// Everything up to this index is committed: as the leader said when it said how far the others are, or as far as this manager
    /// knows.
    pub committed: u64,
    /// How far the others are, by raft id, as the leader has it; nothing if that was not heard of it lately.
    pub followers: BTreeMap<u64, Follower>,
    /// The raft ids of managers that were heard a moment ago. Followers hear the leader alone, and all others while there is none.
    pub heard: BTreeSet<u64>,
    /// Why managers that are to go stay, by raft id, as the leader has it.
    pub obstacles: BTreeMap<u64, String>,
}

impl RaftStatus {
    /// That of a state of the past, of which nobody knows who reached whom.
    pub fn unknown() -> Self {
        // Somebody led, and neither a member nor this manager has that number.
        Self { leader: Some(u64::MAX), ..Self::default() }
    }

    /// Whether this manager leads.
    pub fn leads(&self) -> bool {
        self.leader == Some(self.raft_id)
    }

    /// Whether a manager can be reached; nothing if this manager cannot know: followers do not speak with each other while there
    /// is a leader, which may not have said yet whom it hears.
    pub fn reaches(&self, member: &Member) -> Option<bool> {
        let raft_id = member.raft_id;
        if raft_id == self.raft_id || self.leader == Some(raft_id) {
            return Some(true);
        }
        match self.leader {
            Some(_) if self.leads() => Some(self.followers.get(&raft_id).is_some_and(|follower| follower.reachable)),
            Some(_) => self.followers.get(&raft_id).map(|follower| follower.reachable),
            None => Some(self.heard.contains(&raft_id)),
        }
    }
}

impl Replica {
    /// Where this manager stands in raft, and what it knows of the others, by itself or from the leader.
    pub fn raft_status(&self) -> RaftStatus {
        let status = RaftStatus {
            raft_id: self.consensus.id(),
            leader: self.consensus.leader(),
            term: self.consensus.term(),
            committed: self.consensus.committed(),
            heard: self.contacts.recently_heard(SILENT_TICKS, self.ticks),
            ..RaftStatus::default()
        };
        if let Some(tip) = self.tip() {
            let peers = self.contacts.peers(&self.consensus, self.ticks);
            return RaftStatus { obstacles: obstacles(tip, &peers), followers: peers.followers, ..status };
        }
        match self.standing.of(status.leader, self.ticks) {
            Some(told) => RaftStatus {
                committed: told.committed,
                obstacles: told.obstacles(),
                followers: told.followers(),
                ..status
            },
            None => status,
        }
    }
}
