//! The raft status of a manager, for display. None of it is in the log.

use std::collections::{BTreeMap, BTreeSet};

use projections::Member;
use reconcilers::{Follower, members::obstacles};

use super::Replica;
use super::contact::SILENT_TICKS;

/// The raft status of a manager, and what it has recorded about the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// Its own raft id.
    pub raft_id: u64,
    /// The raft id of the manager that leads, if one is known.
    pub leader: Option<u64>,
    /// Everything up to this index is committed: according to the leader's last report, or as far as this manager has seen.
    pub term: u64,
    /// Everything up to this index is committed: according to the leader's last report, or as far as this manager has seen.
    pub committed: u64,
    /// The progress of the others, by raft id, according to the leader; `None` without a recent report.
    pub followers: BTreeMap<u64, Follower>,
    /// The raft ids of managers that were heard from recently. Followers hear from the leader alone, and from all others while
    /// there is none.
    pub heard: BTreeSet<u64>,
    /// Why managers that should be removed remain, by raft id, according to the leader.
    pub obstacles: BTreeMap<u64, String>,
}

impl RaftStatus {
    /// The status in a state of the past, for which reachability is unknown.
    pub fn unknown() -> Self {
        // Some manager led, and no member has that number.
        Self { leader: Some(u64::MAX), ..Self::default() }
    }

    /// Whether this manager leads.
    pub fn leads(&self) -> bool {
        self.leader == Some(self.raft_id)
    }

    /// Whether a manager can be reached; `None` if this manager cannot know: followers do not talk to each other while there is a
    /// leader, and it may not have reported yet which ones it reaches.
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
    /// This manager's raft status, with what it has recorded about the others, by itself or from the leader.
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
        match self.members_status.of(status.leader, self.ticks) {
            Some(reported) => RaftStatus {
                committed: reported.committed,
                obstacles: reported.obstacles(),
                followers: reported.followers(),
                ..status
            },
            None => status,
        }
    }
}
