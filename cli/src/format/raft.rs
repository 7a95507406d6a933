//! The managers and their progress in raft.

use wire::v1::{MemberState, RaftMember, RaftView, Reachability};

use super::block::Block;
use super::table::Table;
use super::view::View;

/// The output of `swarmctl raft`.
pub fn show(raft: &RaftView, view: View) -> String {
    let mut block = Block::default();
    fields(&mut block, raft);
    format!("{}\n{}", block.render(view.width), table(raft, view))
}

/// The state of consensus, as fields of a block.
pub fn fields(block: &mut Block, raft: &RaftView) {
    block.field("Leader", leader(raft)).field("Term", raft.term);
    block.field("Committed", raft.committed).field("Applied", raft.applied);
    let managers = match raft.voters {
        1 => "1".to_owned(),
        voters => format!("{voters}, of which {} must be reachable", raft.needed),
    };
    block.field("Voting managers", managers);
    block.each("Warning", raft.warnings.iter().cloned());
}

fn leader(raft: &RaftView) -> &str {
    let leads = |member: &&RaftMember| Some(member.node) == raft.leader;
    raft.members.iter().find(leads).map_or("none", |member| member.name.as_str())
}

fn table(raft: &RaftView, view: View) -> String {
    let mut table = Table::new(&["MANAGER", "STATE", "STATUS", "MATCHED", "LAG", "ADDRESS", "RAFT ID"]);
    for member in &raft.members {
        let (matched, lag) = match member.matched {
            Some(matched) => (matched.to_string(), raft.committed.saturating_sub(matched).to_string()),
            None => ("-".to_owned(), "-".to_owned()),
        };
        table.row([
            format!("{}{}", member.name, if member.node == raft.node { " *" } else { "" }),
            state(member.state()).to_owned(),
            status(Some(member.node) == raft.leader, member.reachability()).to_owned(),
            matched,
            lag,
            member.addr.clone(),
            member.raft_id.map_or_else(String::new, |raft_id| format!("{raft_id:x}")),
        ]);
    }
    table.render(view.width)
}

/// A manager's role in raft.
pub fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Joining => "JOINING",
        MemberState::Learner => "CATCHING UP",
        MemberState::Voter => "VOTES",
    }
}

/// Whether a manager is the leader, or reachable.
pub fn status(leads: bool, reachability: Reachability) -> &'static str {
    match reachability {
        _ if leads => "LEADER",
        Reachability::Reachable => "REACHABLE",
        Reachability::Unreachable => "UNREACHABLE",
        Reachability::Unknown => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    #[test]
    fn members_are_shown_with_how_far_they_are() {
        let expected = "\
Leader          : m1
Term            : 3
Committed       : 42
Applied         : 42
Voting managers : 2, of which 2 must be reachable
Warning         : 2 managers are too few

MANAGER   STATE         STATUS        MATCHED   LAG       ADDRESS         RAFT ID
m1 *      VOTES         LEADER        42        0         10.0.0.1:4242   a
m2        VOTES         UNREACHABLE   40        2         10.0.0.2:4242   b
m3        CATCHING UP   REACHABLE     -         -         10.0.0.3:4242   c
";
        assert_eq!(show(&samples::raft(), samples::VIEW), expected);
    }
}
