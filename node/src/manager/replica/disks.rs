//! Disk space of the managers. What a command adds needs room on the leader's disk, and on those of a majority: each manager
//! reports to the leader how full its own is, and a leader without room hands over to a manager that has some. The result does
//! not depend on which manager was asked.

use std::collections::BTreeMap;

use commands::space::{Level, Space};
use commands::{Command, Rejection};
use projections::{Cluster, Member};
use reconcilers::Peers;
use reconcilers::members::best_successor;

use super::Replica;
use super::peers::PeerMessage;

/// Ticks between two reports to the leader: 1 s; the disk is read every 2 s.
const SPACE_TICKS: u64 = 10;
/// Ticks after which a report expires: 10 s. An absent manager blocks no commands.
const STALE_TICKS: u64 = 100;

/// Disk space of all managers.
#[derive(Default)]
pub(super) struct Disks {
    own: Option<Space>,
    /// Of other managers, by raft id, with the tick of the report.
    others: BTreeMap<u64, (Space, u64)>,
}

/// A full disk of a manager that is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FullDisk {
    manager: String,
    space: Space,
}

impl FullDisk {
    /// Refuses a command for which there is no room.
    pub(super) fn admit(&self, state: &Cluster, command: &Command) -> Result<(), Rejection> {
        self.space.admit(&self.manager, state, command)
    }
}

impl Disks {
    pub(super) fn note(&mut self, from: u64, space: Space, tick: u64) {
        self.others.insert(from, (space, tick));
    }

    /// Drops managers that are no longer members.
    pub(super) fn keep_members(&mut self, cluster: &Cluster) {
        self.others.retain(|raft_id, _| cluster.member_with(*raft_id).is_some());
    }

    /// The full disk that blocks additions: the leader's own, or, if those with room are not a majority, one of the others.
    pub(super) fn full(&self, own: u64, cluster: &Cluster, tick: u64) -> Option<FullDisk> {
        let full = |member: &Member| self.full_disk(own, cluster, member, tick);
        let voters: Vec<&Member> = cluster.members.values().filter(|member| member.votes).collect();
        let mut all: Vec<(u64, FullDisk)> =
            voters.iter().filter_map(|member| Some((member.raft_id, full(member)?))).collect();
        if let Some(leaders) = all.iter().position(|(raft_id, _)| *raft_id == own) {
            return Some(all.swap_remove(leaders).1);
        }
        let with_room = voters.len() - all.len();
        (with_room <= voters.len() / 2).then(|| all.into_iter().next().map(|(_, full)| full)).flatten()
    }

    /// The manager to hand over to when the leader's disk is full: one that is known to have room, so that one full disk stops no
    /// commands.
    pub(super) fn successor(&self, cluster: &Cluster, peers: &Peers, tick: u64) -> Option<u64> {
        self.own.filter(|space| space.level() == Level::Full)?;
        best_successor(cluster, peers, |raft_id| {
            self.reported(raft_id, tick).is_some_and(|space| space.level() != Level::Full)
        })
    }

    /// The last report of another manager, unless it expired.
    fn reported(&self, raft_id: u64, tick: u64) -> Option<Space> {
        self.others.get(&raft_id).filter(|(_, at)| at + STALE_TICKS > tick).map(|(space, _)| *space)
    }

    fn full_disk(&self, own: u64, cluster: &Cluster, member: &Member, tick: u64) -> Option<FullDisk> {
        let space = if member.raft_id == own { self.own } else { self.reported(member.raft_id, tick) };
        let space = space.filter(|space| space.level() == Level::Full)?;
        let name = cluster.nodes.get(member.node).map_or("", |node| node.hostname());
        Some(FullDisk { manager: if name.is_empty() { member.node.to_string() } else { name.to_owned() }, space })
    }
}

impl Replica {
    /// Records how full this manager's disk is, according to the last reading; `None` if it cannot be read.
    pub fn note_space(&mut self, space: Option<Space>) {
        self.disks.own = space;
    }

    /// Once a tick: reports to the leader how full the disk is, when that is due.
    pub(super) fn send_space(&mut self) {
        let leader = self.other_leader().filter(|_| self.ticks.is_multiple_of(SPACE_TICKS));
        if let (Some(leader), Some(space)) = (leader, self.disks.own) {
            self.outbox.messages.push((leader, PeerMessage::Disk(space)));
        }
    }
}

#[cfg(test)]
mod tests {
    use events::{Event, Id, Kind, MemberAdded, NodeId, Reconciler};
    use projections::Stamp;

    use super::*;

    /// Managers 1 to `voters`, which vote, and one more that is a learner.
    fn cluster(voters: u64) -> Cluster {
        let mut cluster = Cluster::default();
        for raft_id in 1..=voters + 1 {
            let (node, addr) = (NodeId::from_bits(u128::from(raft_id)), String::new());
            let voter = raft_id <= voters;
            let added =
                Kind::MemberAdded(MemberAdded { node, raft_id, addr, voter, feature_level_max: 1, audit_key: None });
            let stamp = Stamp { index: raft_id + 1, ..Stamp::default() };
            cluster.apply(&Event::by_reconciler(Reconciler::Members, added), &stamp);
        }
        cluster
    }

    #[test]
    fn the_leaders_disk_and_those_of_a_majority_need_room() {
        let room = Space { free_bytes: u64::MAX, total_bytes: u64::MAX };
        let none = Space { free_bytes: 0, total_bytes: u64::MAX };
        // The number of voters, those with a full disk (the learner is the next number), and whose disk blocks the first.
        let table: [(u64, &[u64], Option<u64>); 9] = [
            (1, &[], None),
            (1, &[1], Some(1)),
            (1, &[2], None),
            (3, &[1], Some(1)),
            (3, &[2], None),
            (3, &[2, 4], None),
            (3, &[2, 3], Some(2)),
            (5, &[4, 5], None),
            (5, &[3, 4, 5], Some(3)),
        ];
        for (voters, full, expected) in table {
            let (cluster, mut disks) = (cluster(voters), Disks::default());
            let space = |raft_id| if full.contains(&raft_id) { none } else { room };
            disks.own = Some(space(1));
            (2..=voters + 1).for_each(|raft_id| disks.note(raft_id, space(raft_id), 10));
            let reported = disks.full(1, &cluster, 10).map(|full| full.manager);
            let expected = expected.map(|raft_id| NodeId::from_bits(u128::from(raft_id)).to_string());
            assert_eq!(reported, expected, "{full:?} of {voters}");
            let later = disks.full(1, &cluster, 10 + STALE_TICKS).map(|full| full.manager);
            assert_eq!(later.is_some(), full.contains(&1), "{full:?} of {voters}, long after");
        }
    }
}
