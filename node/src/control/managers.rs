//! The managers in API responses: the members of raft, the leader, and the replication progress of each.

use events::{NodeId, Role};
use projections::views::quorum;
use projections::{Cluster, Liveness, Member, Node};
use wire::v1::{ManagerStatus, MemberState, RaftMember, RaftView, Reachability};

use super::{Control, ManagerInfo, views};
use crate::manager::replica::RaftStatus;

impl Control {
    /// The raft status of the managers, as this one sees it.
    pub fn raft(&self) -> RaftView {
        view(&self.state.cluster, &self.raft, &self.manager)
    }
}

/// The raft status of the managers, as this one sees it.
pub(super) fn view(cluster: &Cluster, raft: &RaftStatus, own: &ManagerInfo) -> RaftView {
    let voters = quorum::voters(cluster).count();
    // Managers that are being promoted or demoted are counted by their future role.
    let wanted = cluster.nodes.values().filter(|node| node.spec.role() == Role::Manager).count();
    let mut members: Vec<RaftMember> = cluster.nodes.values().filter_map(|node| member(cluster, raft, node)).collect();
    members.sort_by(|a, b| (&a.name, a.node).cmp(&(&b.name, b.node)));
    let missing = quorum::missing(cluster, |member| reachability(cluster, raft, member) == Reachability::Reachable);
    RaftView {
        node: own.node,
        raft_id: raft.raft_id,
        leader: leader(cluster, raft),
        term: raft.term,
        committed: committed(cluster, raft),
        applied: cluster.position.index,
        voters: u32::try_from(voters).unwrap_or(u32::MAX),
        needed: u32::try_from(quorum::majority(voters)).unwrap_or(u32::MAX),
        members,
        warnings: quorum::warning(wanted).into_iter().chain(missing).collect(),
    }
}

/// Up to where the log is committed. Raft's own figures are published less often than the state, all of which is committed.
fn committed(cluster: &Cluster, raft: &RaftStatus) -> u64 {
    raft.committed.max(cluster.position.index)
}

/// The node of the leading manager, if there is one.
pub(super) fn leader(cluster: &Cluster, raft: &RaftStatus) -> Option<NodeId> {
    raft.leader.and_then(|raft_id| cluster.member_with(raft_id)).map(|member| member.node)
}

/// The manager status of a node; `None` for a worker.
pub(super) fn status(cluster: &Cluster, raft: &RaftStatus, own: NodeId, node: &Node) -> Option<ManagerStatus> {
    let RaftMember { state, reachability, addr, obstacle, .. } = member(cluster, raft, node)?;
    Some(ManagerStatus { state, reachability, addr, answers: node.id == own, obstacle })
}

fn member(cluster: &Cluster, raft: &RaftStatus, node: &Node) -> Option<RaftMember> {
    let (member, announced) = (cluster.members.get(node.id), cluster.announced.get(node.id));
    let state = match member {
        Some(member) if member.votes => MemberState::Voter,
        Some(_) => MemberState::Learner,
        None if node.spec.role() == Role::Manager => MemberState::Joining,
        None => return None,
    };
    let addr = member.map(|member| &member.addr).or_else(|| announced.map(|announced| &announced.addr));
    let reachability = member.map_or_else(|| of_agent(node), |member| reachability(cluster, raft, member));
    Some(RaftMember {
        node: node.id,
        name: views::node_name(node).to_owned(),
        raft_id: member.map(|member| member.raft_id).or_else(|| announced.map(|announced| announced.raft_id)),
        addr: addr.cloned().unwrap_or_default(),
        state: state.into(),
        reachability: reachability.into(),
        matched: member.and_then(|member| matched(cluster, raft, member)),
        obstacle: member.and_then(|member| raft.obstacles.get(&member.raft_id).cloned()),
    })
}

/// The replication progress of a member, if this manager knows it.
fn matched(cluster: &Cluster, raft: &RaftStatus, member: &Member) -> Option<u64> {
    if member.raft_id == raft.raft_id && raft.leads() {
        return Some(committed(cluster, raft));
    }
    raft.followers.get(&member.raft_id).map(|follower| follower.matched)
}

/// Whether a member is reachable. A follower only hears from the leader: for the others it uses the leader's report, or else
/// the state of their agents.
fn reachability(cluster: &Cluster, raft: &RaftStatus, member: &Member) -> Reachability {
    match raft.reaches(member) {
        Some(true) => Reachability::Reachable,
        Some(false) => Reachability::Unreachable,
        None => cluster.nodes.get(member.node).map_or(Reachability::Unknown, of_agent),
    }
}

fn of_agent(node: &Node) -> Reachability {
    match node.liveness {
        Liveness::Ready => Reachability::Reachable,
        Liveness::Disconnected | Liveness::Down => Reachability::Unreachable,
        Liveness::Unknown => Reachability::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use events::{Event, Id, Kind, ManagerAnnounced, MemberAdded, NodeJoined, NodeSpec, Reconciler};
    use projections::Stamp;
    use reconcilers::Follower;

    use super::*;

    /// Three voting managers, `m1` to `m3`, and a fourth that has announced itself.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        let mut index = 1;
        let mut tell = |kind| {
            index += 1;
            cluster.apply(&Event::by_reconciler(Reconciler::Members, kind), &Stamp { index, ..Stamp::default() });
        };
        for number in 1..=4 {
            let (node, hostname) = (NodeId::from_bits(number), format!("m{number}"));
            let (raft_id, addr) = (10 * number as u64, format!("10.0.0.{number}:4242"));
            let spec = NodeSpec { role: Role::Manager.into(), ..NodeSpec::default() };
            tell(Kind::NodeJoined(NodeJoined { node, spec, hostname, addr: addr.clone() }));
            match number {
                4 => tell(Kind::ManagerAnnounced(ManagerAnnounced {
                    node,
                    raft_id,
                    addr,
                    feature_level_max: 1,
                    audit_key: None,
                })),
                _ => tell(Kind::MemberAdded(MemberAdded {
                    node,
                    raft_id,
                    addr,
                    voter: true,
                    feature_level_max: 1,
                    audit_key: None,
                })),
            }
        }
        cluster
    }

    fn own(number: u128) -> ManagerInfo {
        let (hostname, remote_addr) = (String::new(), String::new());
        let node = NodeId::from_bits(number);
        ManagerInfo { cluster: Default::default(), node, hostname, remote_addr, has_sink_dir: false }
    }

    fn seen(view: &RaftView) -> Vec<(Reachability, Option<u64>)> {
        view.members.iter().map(|member| (member.reachability(), member.matched)).collect()
    }

    #[test]
    fn the_leader_knows_how_far_the_others_are() {
        let follower = |matched, reachable| Follower { matched, reachable };
        let followers = BTreeMap::from([(20, follower(90, true)), (30, follower(7, false))]);
        let obstacles = [(30, "m3 stays".to_owned())].into();
        let raft = RaftStatus {
            raft_id: 10,
            leader: Some(10),
            term: 3,
            committed: 99,
            followers,
            obstacles,
            ..Default::default()
        };
        let view = view(&cluster(), &raft, &own(1));
        let expected = [
            (Reachability::Reachable, Some(99)),
            (Reachability::Reachable, Some(90)),
            (Reachability::Unreachable, Some(7)),
            (Reachability::Unknown, None),
        ];
        assert_eq!((seen(&view), view.voters, view.needed), (expected.to_vec(), 3, 2));
        assert_eq!((view.leader, view.warnings.len()), (Some(NodeId::from_bits(1)), 1));
        assert!(view.warnings[0].starts_with("4 managers, of which 3 must be reachable"), "{:?}", view.warnings);
        assert_eq!(view.members[2].obstacle.as_deref(), Some("m3 stays"));
        assert_eq!((view.members[3].state(), view.members[3].raft_id), (MemberState::Joining, Some(40)));
    }

    #[test]
    fn a_follower_knows_its_leader_and_of_the_others_what_their_agents_say() {
        let raft = RaftStatus { raft_id: 20, leader: Some(10), term: 3, committed: 99, ..Default::default() };
        let view = view(&cluster(), &raft, &own(2));
        let expected = [Reachability::Reachable, Reachability::Reachable, Reachability::Unknown, Reachability::Unknown];
        assert_eq!(seen(&view), expected.map(|reachability| (reachability, None)));
    }

    #[test]
    fn a_follower_shows_what_its_leader_says_of_all() {
        let follower = |matched, reachable| Follower { matched, reachable };
        let followers = BTreeMap::from([(10, follower(99, true)), (20, follower(90, true)), (30, follower(7, false))]);
        let raft =
            RaftStatus { raft_id: 20, leader: Some(10), term: 3, committed: 99, followers, ..Default::default() };
        let view = view(&cluster(), &raft, &own(2));
        let expected = [
            (Reachability::Reachable, Some(99)),
            (Reachability::Reachable, Some(90)),
            (Reachability::Unreachable, Some(7)),
            (Reachability::Unknown, None),
        ];
        assert_eq!(seen(&view), expected);
    }

    #[test]
    fn without_a_quorum_those_that_are_missing_are_named() {
        let raft = RaftStatus { raft_id: 20, term: 3, committed: 99, ..Default::default() };
        let view = view(&cluster(), &raft, &own(2));
        assert_eq!(view.leader, None);
        let missing =
            "1 of 3 managers can be reached, and 2 are needed; missing: m1 (10.0.0.1:4242), m3 (10.0.0.3:4242)";
        assert_eq!(view.warnings[1], missing);
        let status =
            status(&cluster(), &raft, NodeId::from_bits(2), cluster().nodes.get(NodeId::from_bits(2)).expect("it"));
        assert!(status.is_some_and(|status| status.answers && status.reachability() == Reachability::Reachable));
    }
}
