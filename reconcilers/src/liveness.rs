//! Which nodes are lost, and when the tasks of a lost node are given up.

use std::time::Duration;

use events::{Kind, NodeDeclaredDown, TaskOrphaned, Timestamp};
use projections::{Cluster, Liveness, Node};

use crate::{Correction, Ctx, Scope, Subject};

/// How long a task of a lost node may still come back; SwarmKit's orphan period.
pub const ORPHAN_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// Grace periods that a node gets after a change of leader: it has to notice first.
const UNKNOWN_GRACE: u32 = 2;

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for node in scope.nodes.iter().filter_map(|id| cluster.nodes.get(*id)) {
        if node.liveness == Liveness::Down {
            give_up_tasks(cluster, node, ctx.now, out);
            continue;
        }
        let last_heard = last_heard(node, ctx);
        let deadline = last_heard + patience(cluster, node, ctx);
        if deadline <= ctx.now {
            out.events.push(Kind::NodeDeclaredDown(NodeDeclaredDown { node: node.id, last_heard }));
        } else {
            out.wake(deadline, Subject::Node(node.id));
        }
    }
}

fn last_heard(node: &Node, ctx: &Ctx<'_>) -> Timestamp {
    let heard = ctx.presence.get(&node.id).map_or(node.liveness_since, |sign| sign.at);
    match node.liveness {
        Liveness::Ready | Liveness::Unknown => heard.max(node.liveness_since),
        // Losing the session does not count as a sign of life.
        Liveness::Disconnected | Liveness::Down => heard,
    }
}

fn patience(cluster: &Cluster, node: &Node, ctx: &Ctx<'_>) -> Duration {
    let promised = ctx.presence.get(&node.id).map_or(Duration::ZERO, |sign| sign.timeout);
    let timeout = cluster.spec().heartbeat_timeout().max(promised);
    if node.liveness == Liveness::Unknown { timeout * UNKNOWN_GRACE } else { timeout }
}

fn give_up_tasks(cluster: &Cluster, node: &Node, now: Timestamp, out: &mut Correction) {
    let deadline = node.liveness_since + ORPHAN_PERIOD;
    if now < deadline {
        out.wake(deadline, Subject::Node(node.id));
        return;
    }
    let lost: Vec<_> = cluster.tasks_of_node(node.id).filter(|task| task.occupies_node()).map(|task| task.id).collect();
    if !lost.is_empty() {
        let message = format!("node {} has been down for {} hours", node.hostname(), ORPHAN_PERIOD.as_secs() / 3600);
        out.events.push(Kind::TaskOrphaned(TaskOrphaned { tasks: lost, message }));
    }
}
