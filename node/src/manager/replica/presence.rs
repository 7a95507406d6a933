//! Each node's last sign of life: the leader's memory of heartbeats, which never enter the log.

use commands::{Command, Rejection, RejectionKind};
use events::{NodeId, SessionId, Timestamp};
use projections::{Cluster, Liveness};
use reconcilers::liveness::first_seen;
use reconcilers::{LastSeen, Presence};

/// Signs of life, by node.
#[derive(Debug, Clone, Default)]
pub(super) struct PresenceTracker {
    presence: Presence,
}

impl PresenceTracker {
    /// Notes a heartbeat of a node's present session; returns the command that makes the node ready, if it was not.
    pub(super) fn note(&mut self, tip: &Cluster, node: NodeId, session: SessionId, at: Timestamp) -> Option<Command> {
        let known = tip.nodes.get(node).filter(|known| known.session == Some(session))?;
        self.heard(tip, node, at);
        (known.liveness != Liveness::Ready).then_some(Command::HearNode(commands::HearNode { node, session }))
    }

    /// A sign of life, after which the node has as long as the settings of this moment grant it.
    pub(super) fn heard(&mut self, tip: &Cluster, node: NodeId, at: Timestamp) {
        let sign = LastSeen { at, patience: tip.spec().heartbeat_timeout() };
        let last = self.presence.entry(node).or_insert(sign);
        if last.at <= at {
            *last = sign;
        }
    }

    /// Nobody could be heard in this time, because this manager itself stood still or its clock was set. A node gets as much
    /// more time as it could not use of its own: all of it, if it was heard before, and nothing if its time was over by then.
    pub(super) fn grant(&mut self, tip: &Cluster, from: Timestamp, to: Timestamp) {
        for node in tip.nodes.values() {
            let sign = self.presence.entry(node.id).or_insert_with(|| first_seen(tip, node));
            if sign.at + sign.patience > from {
                sign.patience += to.since(from.max(sign.at));
            }
        }
        self.presence.retain(|node, _| tip.nodes.contains(*node));
    }

    /// A node gets more time, because the manager that heard it is gone.
    pub(super) fn extend(&mut self, node: NodeId, time: std::time::Duration) {
        if let Some(sign) = self.presence.get_mut(&node) {
            sign.patience += time;
        }
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }
}

/// Whether a session that says that it holds is the node's present one.
///
/// # Errors
/// When the node is not a member, or has another session.
pub fn check_session(cluster: &Cluster, node: NodeId, session: SessionId) -> Result<(), Rejection> {
    let known = cluster.nodes.get(node).ok_or_else(|| Rejection::not_found("node", node))?;
    if known.session == Some(session) {
        return Ok(());
    }
    let sentence = format!("the session of node {node} is over");
    Err(Rejection::new(RejectionKind::Conflict, format!("node {node}"), sentence, "register again"))
}

#[cfg(test)]
mod tests {
    use events::{ClusterInitialised, Event, Id, IdGenerator, Kind, NodeJoined, NodeRegistered};
    use projections::Stamp;
    use reconcilers::{Budget, Candidates, Ctx};

    use super::*;

    fn ids() -> (NodeId, SessionId) {
        (NodeId::from_bits(7), SessionId::from_bits(9))
    }

    fn second(second: u64) -> Timestamp {
        Timestamp::from_unix_ns(0) + events::Duration::from_secs(second)
    }

    /// A cluster whose one node registered at second 0; it may be silent for fifteen seconds.
    fn cluster() -> Cluster {
        let ((node, session), mut cluster) = (ids(), Cluster::default());
        let kinds = [
            Kind::ClusterInitialised(ClusterInitialised::default()),
            Kind::NodeJoined(NodeJoined { node, hostname: "w1".to_owned(), ..NodeJoined::default() }),
            Kind::NodeRegistered(NodeRegistered { node, session, ..NodeRegistered::default() }),
        ];
        for kind in kinds {
            cluster.apply(&Event::by_command(0, kind), &Stamp { index: 2, time: second(0) });
        }
        assert_eq!(cluster.spec().heartbeat_timeout(), events::Duration::from_secs(15));
        cluster
    }

    /// The second in which the node counts as down, if nothing more is heard of it.
    fn declared_down(cluster: &Cluster, heard: &PresenceTracker) -> Option<u64> {
        let (node, _) = ids();
        (1..200).find(|now| {
            let (mut cluster, mut ids) = (cluster.clone(), IdGenerator::new(cluster.id(), 3));
            let (presence, mut candidates) = (heard.presence(), Candidates::default());
            let mut ctx = Ctx {
                now: second(*now),
                ids: &mut ids,
                presence,
                peers: &reconcilers::Peers::default(),
                candidates: &mut candidates,
            };
            let touched = projections::Touched { overdue: [node].into(), ..Default::default() };
            let at = Stamp { index: 3, time: second(*now) };
            reconcilers::settle(&mut cluster, touched, &mut ctx, &at, Budget::FRAME);
            cluster.nodes.get(node).is_some_and(|node| node.liveness == Liveness::Down)
        })
    }

    #[test]
    fn a_node_gets_back_only_the_time_that_it_could_not_use() {
        // When the node was last heard, in which times nobody could be, and when it counts as down.
        let table = [
            ("never deaf", 10, vec![], 25),
            ("deaf after it was heard", 10, vec![(12, 32)], 45),
            ("heard in the middle of it", 20, vec![(12, 32)], 47),
            ("heard after it", 40, vec![(12, 32)], 55),
            ("its time was over before", 10, vec![(25, 45)], 25),
            ("deaf a second at a time", 10, vec![(12, 13), (14, 15), (16, 17)], 28),
            ("deaf again and again after its time was over", 10, vec![(26, 28), (29, 31), (32, 34)], 25),
        ];
        let (node, session) = ids();
        for (case, last, deaf, expected) in table {
            let (cluster, mut heard) = (cluster(), PresenceTracker::default());
            heard.note(&cluster, node, session, second(last));
            deaf.iter().for_each(|(from, to)| heard.grant(&cluster, second(*from), second(*to)));
            assert_eq!(declared_down(&cluster, &heard), Some(expected), "{case}");
        }
    }

    #[test]
    fn a_heartbeat_that_is_read_late_does_not_hide_a_newer_one_and_one_of_an_old_session_says_nothing() {
        let (cluster, mut heard, (node, session)) = (cluster(), PresenceTracker::default(), ids());
        heard.note(&cluster, node, session, second(20));
        heard.note(&cluster, node, session, second(10));
        heard.note(&cluster, node, SessionId::from_bits(8), second(30));
        assert_eq!(declared_down(&cluster, &heard), Some(35));
        assert!(check_session(&cluster, node, session).is_ok());
        let over = check_session(&cluster, node, SessionId::from_bits(8)).expect_err("another session");
        assert_eq!(over.kind, RejectionKind::Conflict);
        let unknown = check_session(&cluster, NodeId::from_bits(8), session).expect_err("no member");
        assert_eq!(unknown.kind, RejectionKind::NotFound);
    }
}
