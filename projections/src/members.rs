//! The managers that replicate the log: raft's configuration, as recorded in the log itself.

use std::sync::Arc;

use events::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Cluster, Stamp, Touched};

/// A manager that replicates the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its node.
    pub node: NodeId,
    /// Its raft id, which is unique over the lifetime of the cluster.
    pub raft_id: u64,
    /// Where other managers reach it.
    pub addr: String,
    /// Whether it votes; one that does not is catching up.
    pub votes: bool,
    /// Index of the frame that last changed it.
    pub since: u64,
    /// The highest feature level that it supports, according to its last report.
    pub feature_level_max: u32,
    /// The key that verifies its signatures on checkpoints of history; `None` before it announced one.
    pub audit_key: Option<String>,
    /// Index of the frame that announced it.
    pub audit_key_since: u64,
    /// When it last recorded refused requests.
    pub refusals_noted_at: Option<Timestamp>,
}

/// Number of keys of former managers that are retained, newest first. Older ones are in history only.
pub const FORMER_AUDIT_KEYS_MAX: usize = 256;

/// A key that verifies earlier signatures of a manager that was removed, or that has another key now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerAuditKey {
    /// The key.
    pub key: String,
    /// Index of the frame from which on the manager used it.
    pub since: u64,
}

/// A manager whose log is ready to follow the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The raft id that it requests.
    pub raft_id: u64,
    /// Where other managers reach it.
    pub addr: String,
    /// The highest feature level that it supports.
    pub feature_level_max: u32,
    /// The key that verifies its signatures.
    pub audit_key: Option<String>,
}

impl Cluster {
    /// Index of the frame that last changed raft's configuration; 0 before there is one.
    pub fn members_changed_at(&self) -> u64 {
        let changed = self.members.values().map(|member| member.since);
        changed.chain(self.former_members.values().copied()).max().unwrap_or(0)
    }

    /// The member with this raft id.
    pub fn member_with(&self, raft_id: u64) -> Option<&Member> {
        self.members.values().find(|member| member.raft_id == raft_id)
    }

    /// Whether a manager has, requests or had this raft id.
    pub fn knows_raft_id(&self, raft_id: u64) -> bool {
        self.former_members.contains(raft_id)
            || self.member_with(raft_id).is_some()
            || self.announced.values().any(|announced| announced.raft_id == raft_id)
    }
}

pub(crate) fn announced(cluster: &mut Cluster, event: &events::ManagerAnnounced, at: &Stamp, touched: &mut Touched) {
    touched.members = true;
    let (raft_id, addr, feature_level_max) = (event.raft_id, event.addr.clone(), event.feature_level_max);
    if cluster.members.get(event.node).is_some_and(|member| member.raft_id == raft_id) {
        cluster.announced.remove(event.node);
        let other = |member: &&Member| event.audit_key.is_some() && member.audit_key != event.audit_key;
        let former = cluster.members.get(event.node).filter(other).cloned();
        cluster.members.update(event.node, |member| {
            (member.addr, member.feature_level_max) = (addr, feature_level_max);
            if former.is_some() {
                (member.audit_key, member.audit_key_since) = (event.audit_key.clone(), at.index);
            }
        });
        if let Some(former) = former {
            keep_key(cluster, &former, at);
        }
    } else {
        let audit_key = event.audit_key.clone();
        cluster.announced.insert(event.node, Announced { raft_id, addr, feature_level_max, audit_key });
    }
}

/// The leader records its version.
pub(crate) fn leads(cluster: &mut Cluster, event: &events::LeadershipAssumed) {
    if cluster.members.contains(event.node) {
        cluster.members.update(event.node, |member| member.feature_level_max = event.feature_level_max);
    }
}

pub(crate) fn added(cluster: &mut Cluster, event: &events::MemberAdded, at: &Stamp, touched: &mut Touched) {
    let (node, raft_id) = (event.node, event.raft_id);
    assert!(!cluster.members.contains(node), "node {node} became a member twice");
    assert!(cluster.member_with(raft_id).is_none(), "raft id {raft_id} is another member's");
    assert!(!cluster.former_members.contains(raft_id), "raft id {raft_id} was used before");
    let (addr, feature_level_max) = (event.addr.clone(), event.feature_level_max);
    let member = Member {
        node,
        raft_id,
        addr,
        votes: event.voter,
        since: at.index,
        feature_level_max,
        audit_key: event.audit_key.clone(),
        audit_key_since: at.index,
        refusals_noted_at: None,
    };
    cluster.members.insert(node, member);
    cluster.announced.remove(node);
    touched.members = true;
}

pub(crate) fn promoted(cluster: &mut Cluster, event: &events::MemberPromoted, at: &Stamp, touched: &mut Touched) {
    let node = event.node;
    let known = cluster.members.get(node).is_some_and(|member| member.raft_id == event.raft_id && !member.votes);
    assert!(known, "node {node} does not follow without a vote as {}", event.raft_id);
    cluster.members.update(node, |member| (member.votes, member.since) = (true, at.index));
    touched.members = true;
}

pub(crate) fn demoted(cluster: &mut Cluster, event: &events::MemberDemoted, at: &Stamp, touched: &mut Touched) {
    let node = event.node;
    let known = cluster.members.get(node).is_some_and(|member| member.raft_id == event.raft_id && member.votes);
    assert!(known, "node {node} does not vote as {}", event.raft_id);
    cluster.members.update(node, |member| (member.votes, member.since) = (false, at.index));
    touched.members = true;
}

pub(crate) fn removed(cluster: &mut Cluster, event: &events::MemberRemoved, at: &Stamp, touched: &mut Touched) {
    let (node, raft_id) = (event.node, event.raft_id);
    let member = cluster.members.remove(node).filter(|member| member.raft_id == raft_id && !member.votes);
    let member = member.unwrap_or_else(|| panic!("node {node} does not follow without a vote as {raft_id}"));
    keep_key(cluster, &member, at);
    cluster.former_members.insert(raft_id, at.index);
    touched.members = true;
}

/// Retains the key of a manager that was removed or has a new key, so that its earlier signatures can be verified.
fn keep_key(cluster: &mut Cluster, member: &Member, at: &Stamp) {
    let Some(key) = member.audit_key.clone() else { return };
    let former = FormerAuditKey { key, since: member.audit_key_since };
    cluster.former_audit_keys.insert((at.index, member.node), former);
    while cluster.former_audit_keys.len() > FORMER_AUDIT_KEYS_MAX {
        let Some(oldest) = cluster.former_audit_keys.iter().next().map(|(of, _)| of) else { return };
        cluster.former_audit_keys.remove(oldest);
    }
}

/// Nothing is recorded for a manager that was removed meanwhile.
pub(crate) fn access_refused(cluster: &mut Cluster, event: &events::AccessRefused, at: &Stamp) {
    if cluster.members.contains(event.manager) {
        cluster.members.update(event.manager, |member| member.refusals_noted_at = Some(at.time));
    }
}

/// A manager continues alone: the others, and its own earlier raft id, become former members.
pub(crate) fn forced(cluster: &mut Cluster, event: &events::QuorumForced, at: &Stamp, touched: &mut Touched) {
    let (node, raft_id) = (event.node, event.raft_id);
    assert!(cluster.nodes.contains(node), "node {node}, which goes on alone, is no member of the cluster");
    assert!(!cluster.knows_raft_id(raft_id), "raft id {raft_id} was used before");
    let before: Vec<Member> = cluster.members.values().cloned().collect();
    for member in before {
        cluster.members.remove(member.node);
        cluster.former_members.insert(member.raft_id, at.index);
        keep_key(cluster, &member, at);
    }
    // It reads this log, so it supports this level; it reports a higher one when it leads.
    let feature_level_max = cluster.feature_level();
    let (addr, since) = (event.addr.clone(), at.index);
    let member = Member {
        node,
        raft_id,
        addr,
        votes: true,
        since,
        feature_level_max,
        audit_key: None,
        audit_key_since: since,
        refusals_noted_at: None,
    };
    cluster.members.insert(node, member);
    cluster.announced.remove(node);
    if let Some(id) = event.cluster {
        Arc::make_mut(&mut cluster.settings).id = id;
    }
    (touched.members, touched.everything) = (true, true);
}

/// Drops the announcement of a node that is removed.
pub(crate) fn node_removed(cluster: &mut Cluster, node: NodeId) {
    cluster.announced.remove(node);
}

pub(crate) fn check(cluster: &Cluster, faults: &mut Vec<String>) {
    for member in cluster.members.values() {
        let (node, raft_id) = (member.node, member.raft_id);
        if cluster.members.values().any(|other| other.raft_id == raft_id && other.node != node) {
            faults.push(format!("the raft id {raft_id} of node {node} is another member's as well"));
        }
        if cluster.former_members.contains(raft_id) {
            faults.push(format!("the raft id {raft_id} of node {node} was used before"));
        }
    }
    for (node, announced) in cluster.announced.iter() {
        if !cluster.nodes.contains(node) {
            faults.push(format!("node {node}, which is gone, wants to be a member"));
        }
        if cluster.former_members.contains(announced.raft_id) {
            faults.push(format!("node {node} wants the raft id {}, which was used before", announced.raft_id));
        }
    }
    let votes = cluster.members.is_empty() || cluster.members.values().any(|member| member.votes);
    if !votes {
        faults.push("no member votes".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use events::{
        ClusterId, Event, Id, Kind, ManagerAnnounced, MemberAdded, MemberDemoted, MemberPromoted, MemberRemoved,
        NodeJoined, QuorumForced, Reconciler,
    };

    use super::*;

    const NODE: u128 = 1;

    fn apply(cluster: &mut Cluster, index: u64, kind: Kind) -> Touched {
        cluster.apply(&Event::by_reconciler(Reconciler::Members, kind), &Stamp { index, ..Stamp::default() })
    }

    fn added(node: u128, raft_id: u64, voter: bool) -> Kind {
        Kind::MemberAdded(MemberAdded {
            node: NodeId::from_bits(node),
            raft_id,
            addr: format!("n{node}:1"),
            voter,
            feature_level_max: 1,
            audit_key: None,
        })
    }

    fn announced(raft_id: u64, addr: &str) -> Kind {
        let (node, addr) = (NodeId::from_bits(NODE), addr.to_owned());
        let audit_key = Some(format!("key of {raft_id}"));
        Kind::ManagerAnnounced(ManagerAnnounced { node, raft_id, addr, feature_level_max: 2, audit_key })
    }

    fn demoted(raft_id: u64) -> Kind {
        Kind::MemberDemoted(MemberDemoted { node: NodeId::from_bits(NODE), raft_id })
    }

    fn removed(raft_id: u64) -> Kind {
        Kind::MemberRemoved(MemberRemoved { node: NodeId::from_bits(NODE), raft_id })
    }

    #[test]
    fn a_member_follows_votes_and_goes_and_its_number_goes_with_it() {
        let (mut cluster, node) = (Cluster::default(), NodeId::from_bits(NODE));
        assert_eq!(cluster.members_changed_at(), 0);
        assert!(apply(&mut cluster, 2, announced(7, "n1:0")).members && cluster.knows_raft_id(7));
        assert!(apply(&mut cluster, 3, added(NODE, 7, false)).members && cluster.announced.is_empty());
        apply(&mut cluster, 4, Kind::MemberPromoted(MemberPromoted { node, raft_id: 7 }));
        let addr = "n1:1".to_owned();
        let member = Member {
            node,
            raft_id: 7,
            addr,
            votes: true,
            since: 4,
            feature_level_max: 1,
            audit_key: None,
            audit_key_since: 3,
            refusals_noted_at: None,
        };
        assert_eq!((cluster.member_with(7), cluster.members_changed_at()), (Some(&member), 4));
        apply(&mut cluster, 5, announced(7, "n1:2"));
        let member = cluster.members.get(node).expect("a member");
        assert_eq!((member.addr.as_str(), member.since, member.feature_level_max), ("n1:2", 4, 2));
        let silent = ManagerAnnounced { node, raft_id: 7, addr: "n1:2".to_owned(), ..ManagerAnnounced::default() };
        apply(&mut cluster, 5, Kind::ManagerAnnounced(silent));
        let key = cluster.members.get(node).and_then(|member| member.audit_key.as_deref());
        assert_eq!(key, Some("key of 7"), "an older build says nothing of a key");
        apply(&mut cluster, 6, demoted(7));
        assert_eq!(cluster.members.get(node).map(|member| (member.votes, member.since)), Some((false, 6)));
        apply(&mut cluster, 7, removed(7));
        assert!(cluster.members.is_empty() && cluster.knows_raft_id(7));
        assert_eq!((cluster.members_changed_at(), cluster.former_members.get(7)), (7, Some(&7)));
    }

    #[test]
    fn keys_of_managers_that_are_gone_or_have_another_one_are_kept_and_not_without_end() {
        let (mut cluster, node) = (Cluster::default(), NodeId::from_bits(NODE));
        apply(&mut cluster, 2, announced(7, "n1:0"));
        apply(&mut cluster, 3, added(NODE, 7, false));
        let said = |key: &str| {
            let audit_key = Some(key.to_owned());
            Kind::ManagerAnnounced(ManagerAnnounced { node, raft_id: 7, audit_key, ..ManagerAnnounced::default() })
        };
        apply(&mut cluster, 4, said("one"));
        apply(&mut cluster, 5, said("one"));
        assert!(cluster.former_audit_keys.is_empty());
        apply(&mut cluster, 6, said("two"));
        apply(&mut cluster, 7, removed(7));
        let former = |key: &str, since: u64| FormerAuditKey { key: key.to_owned(), since };
        let kept: Vec<_> = cluster.former_audit_keys.iter().map(|(of, key)| (of, key.clone())).collect();
        assert_eq!(kept, [((6, node), former("one", 4)), ((7, node), former("two", 6))]);
        for number in 0..FORMER_AUDIT_KEYS_MAX as u64 {
            let added = MemberAdded {
                node,
                raft_id: 100 + number,
                audit_key: Some("key".to_owned()),
                ..MemberAdded::default()
            };
            apply(&mut cluster, 10 + 2 * number, Kind::MemberAdded(added));
            apply(&mut cluster, 11 + 2 * number, removed(100 + number));
        }
        assert_eq!(cluster.former_audit_keys.len(), FORMER_AUDIT_KEYS_MAX);
        assert_eq!(cluster.former_audit_keys.iter().next().map(|(of, _)| of), Some((11, node)));
    }

    #[test]
    fn a_manager_that_continues_alone_is_the_only_member_and_fences_earlier_ones() {
        let (mut cluster, node) = (Cluster::default(), NodeId::from_bits(NODE));
        apply(&mut cluster, 2, Kind::NodeJoined(NodeJoined { node, ..NodeJoined::default() }));
        apply(&mut cluster, 3, added(NODE, 7, true));
        apply(&mut cluster, 4, added(2, 8, true));
        let (addr, another) = ("n1:1".to_owned(), ClusterId::from_bits(9));
        let forced = QuorumForced { node, raft_id: 70, addr, fenced: vec![7, 8], cluster: Some(another) };
        apply(&mut cluster, 5, Kind::QuorumForced(forced));
        let voters: Vec<(u64, u64)> = cluster.members.values().map(|member| (member.raft_id, member.since)).collect();
        assert_eq!((voters, cluster.id()), (vec![(70, 5)], another));
        assert!([7, 8].iter().all(|raft_id| cluster.former_members.contains(*raft_id)));
    }

    #[test]
    fn what_cannot_have_happened_stops_the_process() {
        let befores: [&[Kind]; 3] =
            [&[added(NODE, 7, true)], &[added(NODE, 7, false), removed(7)], &[added(2, 7, true)]];
        let table = [
            (0, added(NODE, 8, false), "became a member twice"),
            (2, added(NODE, 7, false), "is another member's"),
            (1, added(NODE, 7, false), "was used before"),
            (0, Kind::MemberPromoted(MemberPromoted { node: NodeId::from_bits(NODE), raft_id: 7 }), "without a vote"),
            (0, removed(8), "without a vote"),
            // A voter is removed in two steps.
            (0, removed(7), "without a vote"),
            (0, demoted(8), "does not vote"),
            (1, demoted(7), "does not vote"),
        ];
        for (before, event, expected) in table {
            let panicked = std::panic::catch_unwind(|| {
                let mut cluster = Cluster::default();
                befores[before].iter().for_each(|kind| drop(apply(&mut cluster, 2, kind.clone())));
                apply(&mut cluster, 3, event);
            });
            let panicked = panicked.expect_err(expected);
            assert!(
                panicked.downcast_ref::<String>().is_some_and(|panicked| panicked.contains(expected)),
                "{expected}"
            );
        }
    }
}
