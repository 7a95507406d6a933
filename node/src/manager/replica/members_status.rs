//! The status of all managers, which only the leader has: it sends it to the others twice a second, so that each of them can show
//! it.

use std::collections::BTreeMap;

use reconcilers::{Follower, members::obstacles};

use super::peers::PeerMessage;
use super::{Replica, Role};

/// Ticks between two messages: half a second.
const STATUS_TICKS: u64 = 5;
/// Ticks after which a leader's report expires: 2 s.
const STALE_TICKS: u64 = 20;

/// The status of all managers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MembersStatus {
    /// Everything up to this index is committed.
    pub committed: u64,
    /// The managers.
    pub members: Vec<MemberStatus>,
}

/// The status of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its raft id.
    pub raft_id: u64,
    /// It has all entries up to this index.
    pub matched: u64,
    /// Whether it was heard from recently.
    pub reachable: bool,
    /// Why it remains a manager although it should be removed.
    pub obstacle: Option<String>,
}

impl MembersStatus {
    /// Its approximate size in bytes.
    pub(super) fn size(&self) -> usize {
        let obstacles = self.members.iter().filter_map(|member| member.obstacle.as_ref()).map(String::len);
        obstacles.sum::<usize>() + std::mem::size_of_val(self.members.as_slice())
    }

    /// The same, as the leader's own status has it.
    pub(super) fn followers(&self) -> BTreeMap<u64, Follower> {
        let follower = |member: &MemberStatus| Follower { matched: member.matched, reachable: member.reachable };
        self.members.iter().map(|member| (member.raft_id, follower(member))).collect()
    }

    pub(super) fn obstacles(&self) -> BTreeMap<u64, String> {
        self.members.iter().filter_map(|member| Some((member.raft_id, member.obstacle.clone()?))).collect()
    }
}

/// The last report of a leader.
#[derive(Default)]
pub(super) struct LastMembersStatus(Option<(u64, u64, MembersStatus)>);

impl LastMembersStatus {
    /// The recent report of this leader, unless it expired.
    pub(super) fn of(&self, leader: Option<u64>, tick: u64) -> Option<&MembersStatus> {
        let (from, at, members_status) = self.0.as_ref()?;
        (leader == Some(*from) && at + STALE_TICKS > tick).then_some(members_status)
    }
}

impl Replica {
    /// Once a tick: sends the status of all managers to the others, when that is due.
    pub(super) fn send_members_status(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        if !self.ticks.is_multiple_of(STATUS_TICKS) {
            return;
        }
        let peers = self.contacts.peers(&self.consensus, self.ticks);
        let mut obstacles = obstacles(&leader.tip, &peers);
        let own = Follower { matched: self.consensus.committed(), reachable: true };
        let all = peers.followers.iter().map(|(raft_id, follower)| (*raft_id, *follower));
        let members = all.chain([(self.consensus.id(), own)]).map(|(raft_id, Follower { matched, reachable })| {
            MemberStatus { raft_id, matched, reachable, obstacle: obstacles.remove(&raft_id) }
        });
        let members_status = MembersStatus { committed: self.consensus.committed(), members: members.collect() };
        let to = peers.followers.into_iter().filter(|(_, follower)| follower.reachable);
        self.outbox
            .messages
            .extend(to.map(|(raft_id, _)| (raft_id, PeerMessage::MembersStatus(members_status.clone()))));
    }

    /// Receives the status of all managers. Only the leader's is accepted.
    pub(super) fn receive_members_status(&mut self, from: u64, members_status: MembersStatus) {
        if self.other_leader() == Some(from) {
            self.members_status.0 = Some((from, self.ticks, members_status));
        }
    }
}
