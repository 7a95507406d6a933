//! The quorum of managers: a majority of the voters.

use crate::{Cluster, Member};

/// How many of this many voters must be reachable to decide anything.
pub fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The managers that vote.
pub fn voters(cluster: &Cluster) -> impl Iterator<Item = &Member> {
    cluster.members.values().filter(|member| member.votes)
}

/// What prevents the removal of a voter, if too few would remain without it; as a clause for a message.
pub fn loss(cluster: &Cluster, goes: &Member, reaches: impl Fn(&Member) -> bool) -> Option<String> {
    if !goes.votes {
        return None;
    }
    let left: Vec<&Member> = voters(cluster).filter(|voter| voter.raft_id != goes.raft_id).collect();
    let (managers, reached) = (left.len(), left.iter().filter(|voter| reaches(voter)).count());
    match majority(managers) {
        _ if managers == 0 => Some("no other manager votes".to_owned()),
        needed if reached < needed => {
            Some(format!("that would leave {reached} of {managers} managers reachable, and {needed} are needed"))
        }
        _ => None,
    }
}

/// A warning about an unfavourable number of voters.
pub fn warning(voters: usize) -> Option<String> {
    (voters > 0 && voters.is_multiple_of(2)).then(|| {
        let (needed, lost) = (majority(voters), voters - majority(voters));
        let fewer = match voters {
            2 => "the loss of either stops all changes: one manager alone is safer".to_owned(),
            _ => format!("they tolerate the loss of {lost}, as {} managers do", voters - 1),
        };
        format!("{voters} managers, of which {needed} must be reachable: {fewer}; add a manager, or demote one")
    })
}

/// The unreachable voters, as text; `None` if the reachable ones form a majority.
pub fn missing(cluster: &Cluster, reaches: impl Fn(&Member) -> bool) -> Option<String> {
    let all: Vec<&Member> = voters(cluster).collect();
    let away: Vec<String> = all.iter().filter(|voter| !reaches(voter)).map(|voter| described(cluster, voter)).collect();
    let (reached, needed) = (all.len() - away.len(), majority(all.len()));
    (reached < needed).then(|| {
        let away = away.join(", ");
        format!("{reached} of {} managers can be reached, and {needed} are needed; missing: {away}", all.len())
    })
}

fn described(cluster: &Cluster, member: &Member) -> String {
    match cluster.nodes.get(member.node) {
        Some(node) => format!("{} ({})", node.hostname(), member.addr),
        None => format!("{} ({})", member.node, member.addr),
    }
}

#[cfg(test)]
mod tests {
    use events::{Event, Id, Kind, MemberAdded, NodeId, Reconciler};

    use super::*;
    use crate::Stamp;

    /// Managers by number: `V` votes, `l` follows without a vote.
    fn cluster(managers: &str) -> Cluster {
        let mut cluster = Cluster::default();
        for (number, kind) in (1..).zip(managers.chars()) {
            let (node, raft_id) = (NodeId::from_bits(number), number as u64);
            let added = MemberAdded {
                node,
                raft_id,
                addr: format!("10.0.0.{number}:1"),
                voter: kind == 'V',
                feature_level_max: 1,
                audit_key: None,
            };
            let event = Event::by_reconciler(Reconciler::Members, Kind::MemberAdded(added));
            cluster.apply(&event, &Stamp { index: raft_id + 1, ..Stamp::default() });
        }
        cluster
    }

    #[test]
    fn a_manager_may_go_if_those_that_are_left_can_decide() {
        // The managers, the one to be removed, which are reachable, and the message.
        let table = [
            ("V", 1, "+", Some("no other manager votes")),
            ("VV", 2, "++", None),
            ("VV", 2, "+-", None),
            ("VV", 1, "+-", Some("that would leave 0 of 1 managers reachable, and 1 are needed")),
            ("VVV", 3, "++-", None),
            ("VVV", 2, "++-", Some("that would leave 1 of 2 managers reachable, and 2 are needed")),
            ("VVVV", 4, "++--", None),
            ("VVVVV", 5, "+++-+", None),
            ("VVVVV", 5, "++--+", Some("that would leave 2 of 4 managers reachable, and 3 are needed")),
            ("VVVVV", 1, "++---", Some("that would leave 1 of 4 managers reachable, and 3 are needed")),
            ("VVl", 3, "+-+", None),
        ];
        for (managers, goes, reached, expected) in table {
            let cluster = cluster(managers);
            let reaches = |member: &Member| reached.as_bytes()[member.raft_id as usize - 1] == b'+';
            let goes = cluster.member_with(goes).expect("a member");
            let said = loss(&cluster, goes, reaches);
            assert_eq!(said.as_deref(), expected, "{managers} without {} of {reached}", goes.raft_id);
        }
    }

    #[test]
    fn an_even_number_of_managers_is_warned_of() {
        let said: Vec<bool> = (0..8).map(|voters| warning(voters).is_some()).collect();
        assert_eq!(said, [false, false, true, false, true, false, true, false]);
        let two = "2 managers, of which 2 must be reachable: the loss of either stops all changes: one manager alone is \
                   safer; add a manager, or demote one";
        assert_eq!(warning(2).as_deref(), Some(two));
        let four = "4 managers, of which 3 must be reachable: they tolerate the loss of 1, as 3 managers do; add \
                    a manager, or demote one";
        assert_eq!(warning(4).as_deref(), Some(four));
    }

    #[test]
    fn a_lost_quorum_names_who_is_missing() {
        let words =
            |reached: &str| missing(&cluster("VVV"), |member| reached.as_bytes()[member.raft_id as usize - 1] == b'+');
        assert_eq!(words("++-"), None);
        let (two, three) = (NodeId::from_bits(2), NodeId::from_bits(3));
        let expected = format!(
            "1 of 3 managers can be reached, and 2 are needed; missing: {two} (10.0.0.2:1), {three} (10.0.0.3:1)"
        );
        assert_eq!(words("+--"), Some(expected));
    }
}
