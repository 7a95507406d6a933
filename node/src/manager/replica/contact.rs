//! Whether this manager is in contact with the leader, and the error when there is none.

use commands::{Rejection, RejectionKind};
use projections::Member;

use crate::log::raft::ELECTION_TICKS;

use super::Replica;

/// Ticks without contact to the leader after which agents' sessions move to other managers: 1.5 s, about an election. Before
/// that, a new leader would make moving pointless.
const SESSION_TICKS: u64 = 15;
/// Ticks without a leader after which requests that need one are refused at once: 5 s, more than two elections take.
pub(super) const NO_LEADER_TICKS: u64 = 50;
/// Ticks within which every running manager sends something while there is no leader: it asks for votes at least as often.
pub(super) const SILENT_TICKS: u64 = 3 * ELECTION_TICKS as u64;

/// The time since this manager lost contact with the leader.
#[derive(Debug, Default)]
pub(super) struct LeaderContact {
    lost: Option<u64>,
}

impl LeaderContact {
    /// Whether contact has been lost for at least this many ticks.
    pub(super) fn is_lost_for(&self, ticks: u64, tick: u64) -> bool {
        self.lost.is_some_and(|since| since + ticks <= tick)
    }
}

impl Replica {
    /// Whether this manager leads or is in contact with the leader, or was until a moment ago: the assignments it sends to agents
    /// are current.
    pub fn serves_sessions(&self) -> bool {
        !self.contact.is_lost_for(SESSION_TICKS, self.ticks)
    }

    /// Once a tick: checks the contact with the leader.
    pub(super) fn watch_contact(&mut self) {
        let heard = |leader| self.contacts.heard_within(leader, ELECTION_TICKS as u64, self.ticks);
        let leader = self.consensus.leader();
        if self.consensus.is_leader() || leader.is_some_and(heard) {
            self.contact.lost = None;
        } else {
            self.contact.lost.get_or_insert(self.ticks);
        }
    }

    /// Why nothing can be decided now: which managers are missing, and what to do.
    pub(super) fn no_leader(&self) -> Rejection {
        let cluster = &self.committed.cluster;
        let voters: Vec<&Member> = cluster.members.values().filter(|member| member.votes).collect();
        let heard = |member: &&&Member| {
            member.raft_id == self.consensus.id()
                || self.contacts.heard_within(member.raft_id, SILENT_TICKS, self.ticks)
        };
        let (reached, needed) = (voters.iter().filter(heard).count(), voters.len() / 2 + 1);
        let refuse = |sentence, hint| Rejection::new(RejectionKind::Unavailable, "cluster", sentence, hint);
        if reached >= needed {
            let sentence = "the cluster has no leader at the moment: its managers are electing one".to_owned();
            return refuse(sentence, "try again in a moment");
        }
        let named = |member: &Member| {
            let name = cluster.nodes.get(member.node).map_or_else(String::new, |node| node.hostname().to_owned());
            format!("{name} ({})", member.addr)
        };
        let missing: Vec<String> = voters.iter().filter(|member| !heard(member)).map(|member| named(member)).collect();
        let sentence = format!(
            "the cluster has no leader: {reached} of {} managers can be reached from here, and {needed} are needed; missing: {}",
            voters.len(),
            missing.join(", ")
        );
        let hint = "start swarmd on the missing managers, or restore the network to them; if they are lost permanently, \
            restart one of the others with --force-new-cluster";
        refuse(sentence, hint)
    }
}
