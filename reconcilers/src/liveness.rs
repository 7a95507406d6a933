//! Which nodes are lost, when the tasks of a lost node are orphaned, and when a node that never registered is removed.

use std::time::Duration;

use events::{Kind, NodeDeclaredDown, NodeRemoved, TaskOrphaned, Timestamp};
use projections::{Cluster, Liveness, Node};

use crate::{Correction, Ctx, LastSeen, Scope, TimerKey};

/// How long a task of a lost node may still return; SwarmKit's orphan period.
pub const ORPHAN_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How long a joined node may take to register. Its agent does so as soon as it has its certificate.
pub const NEWCOMER_PERIOD: Duration = Duration::from_secs(3600);
/// How long a node may take to reconnect after its connection broke. Its agent tries at once, and again within a few seconds.
pub const RECONNECT_PERIOD: Duration = Duration::from_secs(4);
/// Number of grace periods that a node gets after a change of leader, and the minimum of that time: it has to detect the change
/// first, and to find another manager. All nodes do so at once.
const UNKNOWN_GRACE: u32 = 2;
const UNKNOWN_PERIOD_MIN: Duration = Duration::from_secs(15);

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for node in scope.overdue.iter().filter_map(|id| cluster.nodes.get(*id)) {
        if out.is_full() {
            return;
        }
        if node.liveness == Liveness::Down && node.held_until.is_none() {
            if node.is_newcomer() {
                forget(cluster, node, ctx.now, out);
            } else {
                give_up_tasks(cluster, node, ctx.now, out);
            }
            continue;
        }
        let sign = last_sign(cluster, node, ctx);
        let deadline = sign.at + sign.timeout;
        if deadline <= ctx.now {
            let (last_heard, unheard) = (sign.at, unheard(node, &sign));
            out.push(Kind::NodeDeclaredDown(NodeDeclaredDown { node: node.id, last_heard, unheard }));
        } else {
            out.wake(deadline, TimerKey::Node(node.id));
        }
    }
}

/// The last sign of life: a heartbeat, or else the change that led to the node's current liveness. Losing the session is no sign
/// of life, unless there is no other. A flapping node counts as back, and as lost once more if it does not stay connected.
fn last_sign(cluster: &Cluster, node: &Node, ctx: &Ctx<'_>) -> LastSeen {
    let change = first_seen(cluster, node);
    let heard = ctx.presence.get(&node.id).copied();
    match node.liveness {
        Liveness::Ready | Liveness::Unknown => heard.filter(|sign| sign.at >= change.at).unwrap_or(change),
        Liveness::Disconnected | Liveness::Down => heard.unwrap_or(change),
    }
}

/// What the event records about a node without a heartbeat since the leader took over: that the last sign of life is only
/// assumed. A node that joined since then was heard from.
fn unheard(node: &Node, sign: &LastSeen) -> Option<bool> {
    let heard = node.liveness != Liveness::Unknown || node.is_newcomer() || sign.at > node.liveness_since;
    (!heard).then_some(true)
}

/// The change that led to a node's current liveness, used as a sign of life until there is another. A flapping node must stay
/// connected until the end of its hold.
pub fn first_seen(cluster: &Cluster, node: &Node) -> LastSeen {
    let timeout = cluster.heartbeat_timeout();
    let timeout = match node.liveness {
        Liveness::Unknown => (timeout * UNKNOWN_GRACE).max(UNKNOWN_PERIOD_MIN),
        Liveness::Disconnected => RECONNECT_PERIOD,
        Liveness::Ready | Liveness::Down => timeout,
    };
    LastSeen { at: node.held_until.unwrap_or(node.liveness_since), timeout }
}

/// Removes a node that joined and never registered, so that a join token alone cannot fill the cluster.
fn forget(cluster: &Cluster, node: &Node, now: Timestamp, out: &mut Correction) {
    let deadline = node.created_at + NEWCOMER_PERIOD;
    if now < deadline {
        out.wake(deadline, TimerKey::Node(node.id));
    } else if cluster.tasks_of_node(node.id).next().is_none() {
        out.push(Kind::NodeRemoved(NodeRemoved { node: node.id, forced: false, forgotten: true }));
    }
}

fn give_up_tasks(cluster: &Cluster, node: &Node, now: Timestamp, out: &mut Correction) {
    let deadline = node.liveness_since + ORPHAN_PERIOD;
    if now < deadline {
        out.wake(deadline, TimerKey::Node(node.id));
        return;
    }
    let lost = cluster.tasks_of_node(node.id).filter(|task| task.occupies_node()).map(|task| task.id).collect();
    let message = format!("node {} has been down for {} hours", node.hostname(), ORPHAN_PERIOD.as_secs() / 3600);
    out.push_about(lost, |tasks| Kind::TaskOrphaned(TaskOrphaned { tasks, message }));
}

#[cfg(test)]
mod tests {
    use events::{
        ClusterSpec, ClusterSpecUpdated, Id, NodeDisconnected, NodeId, NodeJoined, NodeRegistered, NodeSpec, SessionId,
        TaskState,
    };

    use super::*;
    use crate::samples::{Sample, at, replicated};

    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;
    const NODE: u128 = 1;

    /// The last change of a node.
    enum Last {
        Joined,
        Ready,
        Unknown,
        Disconnected,
        Down,
        /// Back at second 40 after three losses.
        Flapping,
    }

    /// A node that is in this state since this second, and was last heard from in the other one.
    fn node(last: &Last, since: u64, heard: Option<u64>) -> Sample {
        let (node, session) = (NodeId::from_bits(NODE), SessionId::from_bits(NODE));
        let mut sample = match last {
            Last::Joined => Sample::default(),
            Last::Ready | Last::Unknown | Last::Disconnected | Last::Down | Last::Flapping => {
                let sample = Sample::default().with_node(NODE, NodeSpec::default());
                let sample = sample.with_service(replicated(2), &[]);
                sample.with_task(7, 1, None, TaskState::Pending).assigned(7, NODE)
            }
        };
        let spec = ClusterSpec { heartbeat_grace: Some(15), ..ClusterSpec::default() };
        sample.apply(0, Kind::ClusterSpecUpdated(ClusterSpecUpdated { spec }));
        let heartbeat_timeout = sample.cluster.heartbeat_timeout();
        assert_eq!(heartbeat_timeout, Duration::from_secs(15), "what the table is made for");
        let last_heard = at(heard.unwrap_or(since));
        match last {
            Last::Joined => sample.apply(since, Kind::NodeJoined(NodeJoined { node, ..NodeJoined::default() })),
            Last::Ready => {}
            Last::Unknown => sample.apply(since, Kind::LeadershipAssumed(events::LeadershipAssumed::default())),
            Last::Disconnected => sample.apply(since, Kind::NodeDisconnected(NodeDisconnected { node, session })),
            Last::Down => {
                sample.apply(since, Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard, unheard: None }))
            }
            Last::Flapping => {
                let lost = Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard, unheard: None });
                (0..3).for_each(|_| sample.apply(since, lost.clone()));
                sample.apply(40, Kind::NodeRegistered(NodeRegistered { node, session, addr: String::new() }));
            }
        }
        let timeout = heartbeat_timeout;
        sample.presence.extend(heard.map(|second| (node, LastSeen { at: at(second), timeout })));
        sample
    }

    #[test]
    fn each_liveness_has_its_deadline() {
        use Last::{Disconnected, Down, Flapping, Joined, Ready, Unknown};
        // The node's state, since when, when it was last heard from, the current time, and the result.
        let table = [
            (Ready, 0, None, 14, "look at 15"),
            (Ready, 0, None, 15, "down, heard at 0"),
            (Ready, 0, Some(10), 15, "look at 25"),
            (Ready, 0, Some(10), 25, "down, heard at 10"),
            // After a change of leader it has two grace periods, and earlier signs of life do not count.
            (Unknown, 100, None, 129, "look at 130"),
            (Unknown, 100, None, 130, "down, not heard since 100"),
            (Unknown, 100, Some(90), 129, "look at 130"),
            (Unknown, 100, Some(110), 124, "look at 125"),
            (Unknown, 100, Some(110), 125, "down, heard at 110"),
            // Losing the session is no sign of life, unless there is no other.
            (Disconnected, 20, Some(10), 24, "look at 25"),
            (Disconnected, 20, Some(10), 25, "down, heard at 10"),
            (Disconnected, 20, None, 23, "look at 24"),
            (Disconnected, 20, None, 24, "down, heard at 20"),
            // Its tasks may return for a day.
            (Down, 20, Some(5), DAY, "look at 86420"),
            (Down, 20, Some(5), DAY + 20, "orphan 7"),
            // A flapping node is back, and is held until 70: it is lost again like any other, however long it is held.
            (Flapping, 20, Some(40), 54, "look at 55"),
            (Flapping, 20, Some(40), 55, "down, heard at 40"),
            // A new leader, which has not heard from it, gives it the time until it would have been ready.
            (Flapping, 20, None, 84, "look at 85"),
            (Flapping, 20, None, 85, "down, heard at 70"),
            // A node that never registered has two grace periods, and is removed after an hour.
            (Joined, 50, None, 79, "look at 80"),
            (Joined, 50, None, 80, "down, heard at 50"),
        ];
        for (number, (last, since, heard, now, expected)) in table.into_iter().enumerate() {
            let output = node(&last, since, heard).ask(reconcile, now);
            assert_eq!(output, [expected], "row {number}");
        }
        let mut newcomer = node(&Joined, 50, None);
        let node = NodeId::from_bits(NODE);
        newcomer.apply(80, Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard: at(50), unheard: None }));
        for (now, expected) in [(HOUR + 49, "look at 3650"), (HOUR + 50, "remove node 1")] {
            assert_eq!(newcomer.ask(reconcile, now), [expected]);
        }
    }
}
