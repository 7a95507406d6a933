//! Which managers replicate the log: the next change of raft's configuration, one at a time.
//!
//! A manager that is ready becomes a learner, and votes once it has caught up. One that should no longer be a manager is removed,
//! unless too few of the others would then be reachable to form a majority; the leader hands over first.
//!
//! A voter is removed in two steps: it loses its vote, and once that is committed it is removed. So most of the remaining voters
//! have the new configuration on disk before the removal can be committed, and the removed manager may forget everything at once:
//! its vote is never needed again, whatever crashes.

use std::collections::{BTreeMap, BTreeSet};

use events::{FeatureLevelRaised, Kind, MemberAdded, MemberDemoted, MemberPromoted, MemberRemoved, Role};
use projections::views::quorum::{self, majority, voters};
use projections::{Cluster, Member};

use crate::{Correction, Ctx, Scope};

/// Number of entries that a manager may lack and still count as caught up: the newest ones are always in flight.
const LAG_MAX: u64 = 1_000;

/// The leader's view of the other managers. It never enters the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// The leader's own raft id; 0 without a leader.
    pub leader: u64,
    /// Everything up to this index is committed.
    pub committed: u64,
    /// The others, by raft id.
    pub followers: BTreeMap<u64, Follower>,
}

/// The leader's view of a follower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Follower {
    /// It has all entries up to this index on disk.
    pub matched: u64,
    /// It was heard from within the last election timeout.
    pub reachable: bool,
}

impl Peers {
    /// The raft ids of the reachable managers, including the leader.
    pub fn reached(&self) -> BTreeSet<u64> {
        let followers = self.followers.iter().filter(|(_, follower)| follower.reachable);
        followers.map(|(raft_id, _)| *raft_id).chain([self.leader]).collect()
    }

    fn reaches(&self, member: &Member) -> bool {
        member.raft_id == self.leader || self.followers.get(&member.raft_id).is_some_and(|peer| peer.reachable)
    }

    /// Whether a manager has nearly all entries, including its own addition.
    fn caught_up(&self, member: &Member) -> bool {
        let matched = self.followers.get(&member.raft_id).map_or(0, |peer| peer.matched);
        matched >= member.since && matched + LAG_MAX >= self.committed
    }
}

pub(crate) fn reconcile(cluster: &Cluster, _scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if let Some(level) = common_level(cluster).filter(|_| !out.is_full()) {
        out.push(Kind::FeatureLevelRaised(FeatureLevelRaised { level }));
    }
    if let Some(change) = next_change(cluster, ctx.peers).filter(|_| !out.is_full()) {
        out.push(change);
    }
}

/// The feature level that every member supports, if it is higher than the cluster's.
fn common_level(cluster: &Cluster) -> Option<u32> {
    let least = cluster.members.values().map(|member| member.feature_level_max).min()?;
    (least > cluster.feature_level()).then_some(least)
}

/// The next membership change, if it can be made now. None while another is in progress: raft would silently replace a second one
/// by an empty entry.
pub fn next_change(cluster: &Cluster, peers: &Peers) -> Option<Kind> {
    if cluster.members_changed_at() > peers.committed {
        return None;
    }
    removal(cluster, peers).or_else(|| addition(cluster)).or_else(|| promotion(cluster, peers))
}

/// The voter that the leader hands over to, if it should be removed itself, or no longer has a vote: it may have been elected
/// with the loss of its vote in its log.
pub fn successor(cluster: &Cluster, peers: &Peers) -> Option<u64> {
    if cluster.member_with(peers.leader).is_some_and(|leader| leader.votes && !leaves(cluster, leader)) {
        return None;
    }
    best_successor(cluster, peers, |_| true)
}

/// The voter to succeed the leader: one that stays, is reachable and is allowed by its raft id, and of those the one with the
/// most entries.
pub fn best_successor(cluster: &Cluster, peers: &Peers, may: impl Fn(u64) -> bool) -> Option<u64> {
    let fit = |member: &&Member| {
        let other = member.raft_id != peers.leader && may(member.raft_id);
        member.votes && other && !leaves(cluster, member) && peers.reaches(member)
    };
    let matched = |member: &&Member| peers.followers.get(&member.raft_id).map_or(0, |peer| peer.matched);
    cluster.members.values().filter(fit).max_by_key(matched).map(|member| member.raft_id)
}

/// Why managers that should be removed cannot be removed yet, as text, by raft id.
pub fn obstacles(cluster: &Cluster, peers: &Peers) -> BTreeMap<u64, String> {
    let leaving = cluster.members.values().filter(|member| leaves(cluster, member));
    let stays = leaving.filter_map(|member| {
        let loss = quorum::loss(cluster, member, |member| peers.reaches(member))?;
        let name =
            cluster.nodes.get(member.node).map_or_else(|| member.node.to_string(), |node| node.hostname().to_owned());
        Some((member.raft_id, format!("{name} stays a manager: {loss}")))
    });
    stays.collect()
}

fn removal(cluster: &Cluster, peers: &Peers) -> Option<Kind> {
    let goes =
        |member: &&Member| leaves(cluster, member) && member.raft_id != peers.leader && may_go(cluster, peers, member);
    let member = cluster.members.values().find(goes)?;
    let (node, raft_id) = (member.node, member.raft_id);
    Some(match member.votes {
        true => Kind::MemberDemoted(MemberDemoted { node, raft_id }),
        false => Kind::MemberRemoved(MemberRemoved { node, raft_id }),
    })
}

fn addition(cluster: &Cluster) -> Option<Kind> {
    let (node, announced) = cluster.announced.iter().find(|(node, _)| {
        let is_manager = cluster
            .nodes
            .get(*node)
            .is_some_and(|node| node.spec.role() == Role::Manager && node.role == Role::Manager);
        is_manager && !cluster.members.contains(*node)
    })?;
    let (raft_id, addr, feature_level_max) = (announced.raft_id, announced.addr.clone(), announced.feature_level_max);
    let audit_key = announced.audit_key.clone();
    Some(Kind::MemberAdded(MemberAdded { node, raft_id, addr, voter: false, feature_level_max, audit_key }))
}

fn promotion(cluster: &Cluster, peers: &Peers) -> Option<Kind> {
    let fit = |member: &&Member| {
        !member.votes && !leaves(cluster, member) && peers.reaches(member) && peers.caught_up(member)
    };
    let member = cluster.members.values().find(fit)?;
    let managers = voters(cluster).count() + 1;
    let reached = voters(cluster).filter(|voter| peers.reaches(voter)).count() + 1;
    let decides = reached >= majority(managers);
    decides.then_some(Kind::MemberPromoted(MemberPromoted { node: member.node, raft_id: member.raft_id }))
}

/// Whether a member should be removed: it is no longer wanted, or it has another log by now.
fn leaves(cluster: &Cluster, member: &Member) -> bool {
    let wanted = cluster.nodes.get(member.node).is_some_and(|node| node.spec.role() == Role::Manager);
    let lost_its_log = cluster.announced.get(member.node).is_some_and(|waits| waits.raft_id != member.raft_id);
    !wanted || lost_its_log
}

/// Whether the other reachable voters are a majority of those that remain.
fn may_go(cluster: &Cluster, peers: &Peers, member: &Member) -> bool {
    quorum::loss(cluster, member, |member| peers.reaches(member)).is_none()
}

#[cfg(test)]
mod tests {
    use events::frame::FEATURE_LEVEL_MIN;
    use events::{CertificateIssued, Id, ManagerAnnounced, NodeId, NodeSpec, NodeSpecUpdated};

    use super::*;
    use crate::samples::Sample;

    /// Index of the last frame of every sample, or more.
    const NOW: u64 = 2_000;

    fn spec(role: Role) -> NodeSpec {
        NodeSpec { role: role.into(), ..NodeSpec::default() }
    }

    /// Managers by number, which are their raft ids as well: `V` votes, `l` is a learner, `a` announced itself, `w` was demoted
    /// and votes, `n` votes and announced another log, `d` is a worker that announced itself, `o` was demoted and is a learner,
    /// `-` was removed.
    fn sample(managers: &str) -> Sample {
        let mut sample = Sample::default();
        for (number, kind) in (1..).zip(managers.chars()) {
            let (node, raft_id, addr) = (NodeId::from_bits(number), number as u64, String::new());
            sample = sample.with_node(number, spec(Role::Manager));
            let voter = matches!(kind, 'V' | 'w' | 'n');
            if voter || matches!(kind, 'l' | 'o') {
                let (addr, feature_level_max) = (addr.clone(), FEATURE_LEVEL_MIN);
                sample.apply(
                    0,
                    Kind::MemberAdded(MemberAdded { node, raft_id, addr, voter, feature_level_max, audit_key: None }),
                );
            }
            if matches!(kind, 'w' | 'd' | 'o') {
                sample.apply(0, Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec: spec(Role::Worker) }));
            }
            if matches!(kind, 'a' | 'n' | 'd') {
                let raft_id = if kind == 'n' { raft_id + 100 } else { raft_id };
                let feature_level_max = FEATURE_LEVEL_MIN;
                sample.apply(
                    0,
                    Kind::ManagerAnnounced(ManagerAnnounced {
                        node,
                        raft_id,
                        addr,
                        feature_level_max,
                        audit_key: None,
                    }),
                );
            }
        }
        sample
    }

    /// The leader's number, and the others': `+` is reachable and up to date, `-` is unreachable, `<` is reachable and behind.
    fn peers(leader: u64, others: &str) -> Peers {
        let follower = |state| match state {
            '+' => Follower { matched: NOW, reachable: true },
            '<' => Follower { matched: NOW - LAG_MAX - 1, reachable: true },
            _ => Follower { matched: NOW, reachable: false },
        };
        let followers = (1..).zip(others.chars()).filter(|(number, _)| *number != leader);
        let followers = followers.map(|(number, state)| (number, follower(state))).collect();
        Peers { leader, committed: NOW, followers }
    }

    fn described(change: Option<Kind>) -> String {
        match change {
            Some(Kind::MemberAdded(event)) => format!("add {}", event.raft_id),
            Some(Kind::MemberPromoted(event)) => format!("promote {}", event.raft_id),
            Some(Kind::MemberDemoted(event)) => format!("demote {}", event.raft_id),
            Some(Kind::MemberRemoved(event)) => format!("remove {}", event.raft_id),
            Some(other) => format!("{other:?}"),
            None => String::new(),
        }
    }

    #[test]
    fn the_next_change_is_one_that_leaves_a_majority_that_can_be_reached() {
        // The managers, the leader, the reachability, and the next change; then the manager to hand over to.
        let table = [
            ("V", 1, "+", "", None),
            ("Va", 1, "+-", "add 2", None),
            ("Vaa", 1, "+++", "add 2", None),
            ("Vd", 1, "++", "", None),
            ("Vl", 1, "+<", "", None),
            ("Vl", 1, "+-", "", None),
            ("Vl", 1, "++", "promote 2", None),
            ("VVl", 1, "+-+", "promote 3", None),
            ("VVVVl", 1, "+--++", "promote 5", None),
            ("VVVl", 1, "+--+", "", None),
            ("VVw", 1, "+++", "demote 3", None),
            ("VVw", 1, "++-", "demote 3", None),
            ("VVw", 1, "+-+", "", None),
            ("Vw", 1, "++", "demote 2", None),
            // A manager that lost its vote is removed regardless of reachability.
            ("VVo", 1, "+--", "remove 3", None),
            ("VoV", 1, "+++", "remove 2", None),
            // A manager that has lost its log is removed, and returns with its new raft id.
            ("VVn", 1, "++-", "demote 3", None),
            // The leader is removed once it no longer leads.
            ("wVV", 1, "+++", "", Some(3)),
            ("wVV", 1, "+-+", "", Some(3)),
            ("wVV", 1, "+--", "", None),
            ("wVV", 2, "+++", "demote 1", None),
            ("wwV", 1, "+++", "demote 2", Some(3)),
            ("-VV", 1, "+++", "", Some(3)),
            ("oVV", 1, "+++", "", Some(3)),
            ("lVV", 1, "+++", "", Some(3)),
        ];
        for (managers, leader, reached, expected, successor_expected) in table {
            let (sample, peers) = (sample(managers), peers(leader, reached));
            let case = format!("{managers} led by {leader}, {reached}");
            assert_eq!(described(next_change(&sample.cluster, &peers)), expected, "{case}");
            assert_eq!(successor(&sample.cluster, &peers), successor_expected, "{case}");
            // While one is in progress, there is no other.
            let pending = Peers { committed: sample.cluster.members_changed_at() - 1, ..peers };
            assert_eq!(described(next_change(&sample.cluster, &pending)), "", "{case}");
        }
    }

    #[test]
    fn who_is_promoted_has_its_own_addition() {
        let sample = sample("Vl");
        let since = sample.cluster.members.get(NodeId::from_bits(2)).expect("a member").since;
        for (matched, expected) in [(0, ""), (since - 1, ""), (since, "promote 2")] {
            let followers = [(2, Follower { matched, reachable: true })].into();
            let peers = Peers { leader: 1, committed: since, followers };
            assert_eq!(described(next_change(&sample.cluster, &peers)), expected, "{matched}");
        }
    }

    #[test]
    fn a_manager_that_cannot_be_removed_yet_is_reported_with_the_reason() {
        let words = |managers, reached| obstacles(&sample(managers).cluster, &peers(1, reached));
        assert_eq!(words("VVw", "+++"), BTreeMap::new());
        let waits = "node-3 stays a manager: that would leave 1 of 2 managers reachable, and 2 are needed";
        assert_eq!(words("VVw", "+-+"), [(3, waits.to_owned())].into());
        assert_eq!(words("w", "+"), [(1, "node-1 stays a manager: no other manager votes".to_owned())].into());
    }

    #[test]
    fn a_manager_is_added_once_its_certificate_says_so() {
        let mut sample = sample("V").with_node(2, spec(Role::Worker));
        let (node, role) = (NodeId::from_bits(2), Role::Manager.into());
        sample.apply(0, Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec: spec(Role::Manager) }));
        let announced = ManagerAnnounced { node, raft_id: 2, feature_level_max: 1, ..Default::default() };
        sample.apply(0, Kind::ManagerAnnounced(announced));
        assert_eq!(described(next_change(&sample.cluster, &peers(1, "++"))), "");
        sample.apply(0, Kind::CertificateIssued(CertificateIssued { node, role, ..CertificateIssued::default() }));
        assert_eq!(described(next_change(&sample.cluster, &peers(1, "++"))), "add 2");
    }

    #[test]
    fn the_feature_level_is_what_every_member_knows() {
        let mut sample = sample("VVl");
        let mut raised = Vec::new();
        for (number, level) in [(1, 3), (2, 2), (3, 1), (3, 4), (2, 3), (1, 2)] {
            let (node, raft_id, addr) = (NodeId::from_bits(number), number as u64, String::new());
            let announced = ManagerAnnounced { node, raft_id, addr, feature_level_max: level, audit_key: None };
            sample.apply(0, Kind::ManagerAnnounced(announced));
            let level = common_level(&sample.cluster);
            level.into_iter().for_each(|level| sample.apply(0, Kind::FeatureLevelRaised(FeatureLevelRaised { level })));
            raised.push(level);
        }
        // It is never lowered: a build that does not support it cannot read the log.
        assert_eq!(raised, [None, None, None, Some(2), Some(3), None]);
    }
}
