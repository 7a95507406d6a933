//! The last sign of life of each node: the leader's record of heartbeats, which never enter the log.

use commands::{Command, Rejection, RejectionKind};
use events::{Duration, NodeId, SessionId, Timestamp};
use projections::{Cluster, Liveness};
use reconcilers::liveness::{RECONNECT_PERIOD, first_seen};
use reconcilers::{LastSeen, Presence};

/// After a change of leader nodes return one after the other: as long as some do, the deadline of the others is extended by this.
const RETURNS_PAUSE: Duration = Duration::from_secs(5);
/// Maximum extension, measured from the change of leader.
const RETURNS_MAX: Duration = Duration::from_secs(300);
/// How often the deadlines are extended: each extension looks at every node.
const RETURNS_PERIOD: Duration = Duration::from_secs(1);

/// Signs of life, by node.
#[derive(Debug, Clone, Default)]
pub(super) struct PresenceTracker {
    presence: Presence,
    /// When a node last returned for the first time since the change of leader, if the others' deadlines do not reflect it yet.
    returned: Option<Timestamp>,
    /// When the others' deadlines were last extended for that.
    granted: Option<Timestamp>,
}

impl PresenceTracker {
    /// Records a heartbeat of a node's current session; returns the command that marks the node as ready, if it was not.
    pub(super) fn note(&mut self, tip: &Cluster, node: NodeId, session: SessionId, at: Timestamp) -> Option<Command> {
        let known = tip.nodes.get(node).filter(|known| known.session == Some(session))?;
        self.returned(tip, node, at);
        self.heard(tip, node, at);
        let is_held = known.held_until.is_some_and(|until| at < until);
        (known.liveness != Liveness::Ready && !is_held)
            .then_some(Command::HearNode(commands::HearNode { node, session }))
    }

    /// Records a sign of life, after which the node may be silent for as long as the current settings allow.
    pub(super) fn heard(&mut self, tip: &Cluster, node: NodeId, at: Timestamp) {
        let sign = LastSeen { at, timeout: tip.heartbeat_timeout() };
        let last = self.presence.entry(node).or_insert(sign);
        if last.at <= at {
            *last = sign;
        }
    }

    /// A node's connection broke: it has a fixed time to reconnect, however long it might have been silent otherwise.
    pub(super) fn disconnected(&mut self, node: NodeId, at: Timestamp) {
        if let Some(last) = self.presence.get_mut(&node) {
            last.timeout = at.since(last.at) + RECONNECT_PERIOD;
        }
    }

    /// Records a sign of life of a node in the state before it; it may be the first since the change of leader.
    pub(super) fn returned(&mut self, before: &Cluster, node: NodeId, at: Timestamp) {
        if before.nodes.get(node).is_some_and(|node| node.liveness == Liveness::Unknown) {
            self.returned = self.returned.max(Some(at));
        }
    }

    /// While nodes return after a change of leader, those still missing get more time: thousands of them reconnect in turn.
    pub(super) fn await_others(&mut self, tip: &Cluster, now: Timestamp) {
        let may_grant = self.granted.is_none_or(|granted| granted + RETURNS_PERIOD <= now);
        let Some(returned) = self.returned.take_if(|_| may_grant) else { return };
        self.granted = Some(now);
        for node in tip.nodes.values().filter(|node| node.liveness == Liveness::Unknown) {
            let first = first_seen(tip, node);
            let sign = self.presence.entry(node.id).or_insert(first);
            if sign.at < first.at {
                *sign = first;
            }
            let until = (returned + RETURNS_PAUSE).min(node.liveness_since + RETURNS_MAX);
            sign.timeout = sign.timeout.max(until.since(sign.at));
        }
    }

    /// No heartbeat could be received in this period, because this manager itself was stalled or its clock was changed. The
    /// deadline of a node is extended by the part of its own time that it lost: all of the period, if it was heard from before,
    /// and nothing if its deadline had passed.
    pub(super) fn grant(&mut self, tip: &Cluster, from: Timestamp, to: Timestamp) {
        for node in tip.nodes.values() {
            let sign = self.presence.entry(node.id).or_insert_with(|| first_seen(tip, node));
            if sign.at + sign.timeout > from {
                sign.timeout += to.since(from.max(sign.at));
            }
        }
        self.presence.retain(|node, _| tip.nodes.contains(*node));
    }

    /// Extends the deadline of a node, because the manager that it was connected to is gone.
    pub(super) fn extend(&mut self, node: NodeId, time: std::time::Duration) {
        if let Some(sign) = self.presence.get_mut(&node) {
            sign.timeout += time;
        }
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }
}

/// Whether a session is the node's current one.
///
/// # Errors
/// When the node is not a member, or has another session.
pub fn check_session(cluster: &Cluster, node: NodeId, session: SessionId) -> Result<(), Rejection> {
    let known = cluster.nodes.get(node).ok_or_else(|| Rejection::not_found("node", node))?;
    if known.session == Some(session) {
        return Ok(());
    }
    let sentence = format!("the session of node {node} has ended");
    Err(Rejection::new(RejectionKind::Conflict, format!("node {node}"), sentence, "register again"))
}

#[cfg(test)]
mod tests {
    use events::{
        ClusterInitialised, ClusterSpec, Event, Id, IdGenerator, Kind, NodeDisconnected, NodeJoined, NodeRegistered,
    };
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
        let spec = ClusterSpec { heartbeat_grace: Some(15), ..ClusterSpec::default() };
        let kinds = [
            Kind::ClusterInitialised(ClusterInitialised { spec, ..ClusterInitialised::default() }),
            Kind::NodeJoined(NodeJoined { node, hostname: "w1".to_owned(), ..NodeJoined::default() }),
            Kind::NodeRegistered(NodeRegistered { node, session, ..NodeRegistered::default() }),
        ];
        for kind in kinds {
            cluster.apply(&Event::by_command(0, kind), &Stamp { index: 2, time: second(0) });
        }
        assert_eq!(cluster.heartbeat_timeout(), events::Duration::from_secs(15));
        cluster
    }

    /// The second in which the node counts as down, if no more heartbeats arrive.
    fn declared_down(cluster: &Cluster, heard: &PresenceTracker) -> Option<u64> {
        let (node, _) = ids();
        (1..500).find(|now| {
            let (mut cluster, mut ids) = (cluster.clone(), IdGenerator::new(cluster.id(), 3));
            let (presence, mut candidates) = (heard.presence(), Candidates::default());
            let mut ctx = Ctx {
                now: second(*now),
                ids: &mut ids,
                presence,
                peers: &reconcilers::Peers::default(),
                uses: &reconcilers::Uses::new(),
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
        // When the node was last heard from, the periods without reception, and when it counts as down.
        let table = [
            ("never unresponsive", 10, vec![], 25),
            ("unresponsive after it was heard", 10, vec![(12, 32)], 45),
            ("heard in the middle of it", 20, vec![(12, 32)], 47),
            ("heard after it", 40, vec![(12, 32)], 55),
            ("its time was over before", 10, vec![(25, 45)], 25),
            ("unresponsive a second at a time", 10, vec![(12, 13), (14, 15), (16, 17)], 28),
            ("unresponsive again and again after its time was over", 10, vec![(26, 28), (29, 31), (32, 34)], 25),
        ];
        let (node, session) = ids();
        for (case, last, unresponsive, expected) in table {
            let (cluster, mut heard) = (cluster(), PresenceTracker::default());
            heard.note(&cluster, node, session, second(last));
            unresponsive.iter().for_each(|(from, to)| heard.grant(&cluster, second(*from), second(*to)));
            assert_eq!(declared_down(&cluster, &heard), Some(expected), "{case}");
        }
    }

    #[test]
    fn a_broken_connection_leaves_four_seconds_whenever_the_last_heartbeat_was() {
        let ((node, session), cluster) = (ids(), cluster());
        for (last, broken) in [(10, 11), (10, 24), (0, 1)] {
            let mut heard = PresenceTracker::default();
            heard.note(&cluster, node, session, second(last));
            heard.disconnected(node, second(broken));
            let disconnected = Kind::NodeDisconnected(NodeDisconnected { node, session });
            let mut after = cluster.clone();
            after.apply(&Event::by_command(0, disconnected), &Stamp { index: 3, time: second(broken) });
            assert_eq!(declared_down(&after, &heard), Some(broken + 4), "heard at {last}, broken at {broken}");
            // Time in which this manager itself was unresponsive is not held against the node here either.
            heard.grant(&after, second(broken + 1), second(broken + 21));
            assert_eq!(declared_down(&after, &heard), Some(broken + 24));
        }
    }

    #[test]
    fn while_nodes_come_back_after_a_change_of_leader_the_others_get_more_time() {
        let ((node, _), mut cluster) = (ids(), cluster());
        let other = NodeId::from_bits(8);
        let joined = Kind::NodeJoined(NodeJoined { node: other, ..NodeJoined::default() });
        let led = Kind::LeadershipAssumed(events::LeadershipAssumed::default());
        for kind in [joined, led] {
            cluster.apply(&Event::by_command(0, kind), &Stamp { index: 3, time: second(100) });
        }
        // When other nodes returned, and when the missing one counts as down.
        let table = [(vec![], 130), (vec![105], 130), (vec![128], 133), (vec![110, 128, 132, 136], 141), (vec![], 130)];
        for (returns, expected) in table {
            let mut heard = PresenceTracker::default();
            for at in &returns {
                heard.returned(&cluster, other, second(*at));
                heard.await_others(&cluster, second(*at));
                heard.await_others(&cluster, second(*at));
            }
            assert_eq!(declared_down(&cluster, &heard), Some(expected), "{returns:?}");
        }
        // Not without end.
        let mut heard = PresenceTracker::default();
        for at in 100..500 {
            heard.returned(&cluster, other, second(at));
            heard.await_others(&cluster, second(at));
        }
        assert_eq!(heard.presence()[&node].at + heard.presence()[&node].timeout, second(400));
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
