//! Which nodes are lost, when the tasks of a lost node are given up, and when a node that never came is forgotten.

use std::time::Duration;

use events::{Kind, NodeDeclaredDown, NodeRemoved, TaskOrphaned, Timestamp};
use projections::{Cluster, Liveness, Node};

use crate::{Correction, Ctx, Scope, Sign, Subject};

/// How long a task of a lost node may still come back; SwarmKit's orphan period.
pub const ORPHAN_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// How long a node that joined may take to register. Its agent does so as soon as it has its certificate.
pub const NEWCOMER_PERIOD: Duration = Duration::from_secs(3600);
/// Grace periods that a node gets after a change of leader: it has to notice first.
const UNKNOWN_GRACE: u32 = 2;

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for node in scope.overdue.iter().filter_map(|id| cluster.nodes.get(*id)) {
        if out.is_full() {
            return;
        }
        if node.liveness == Liveness::Down {
            if node.is_newcomer() {
                forget(cluster, node, ctx.now, out);
            } else {
                give_up_tasks(cluster, node, ctx.now, out);
            }
            continue;
        }
        let sign = last_sign(cluster, node, ctx);
        let deadline = sign.at + sign.patience;
        if deadline <= ctx.now {
            out.push(Kind::NodeDeclaredDown(NodeDeclaredDown { node: node.id, last_heard: sign.at }));
        } else {
            out.wake(deadline, Subject::Node(node.id));
        }
    }
}

/// The last sign of life: a heartbeat, or else the change that made the node's liveness what it is. Losing the session is
/// no sign of life, unless nothing else is known.
fn last_sign(cluster: &Cluster, node: &Node, ctx: &Ctx<'_>) -> Sign {
    let change = first_sign(cluster, node);
    let heard = ctx.presence.get(&node.id).copied();
    match node.liveness {
        Liveness::Ready | Liveness::Unknown => heard.filter(|sign| sign.at >= change.at).unwrap_or(change),
        Liveness::Disconnected | Liveness::Down => heard.unwrap_or(change),
    }
}

/// The change that made a node's liveness what it is, taken for a sign of life until there is another.
pub fn first_sign(cluster: &Cluster, node: &Node) -> Sign {
    let timeout = cluster.spec().heartbeat_timeout();
    let patience = if node.liveness == Liveness::Unknown { timeout * UNKNOWN_GRACE } else { timeout };
    Sign { at: node.liveness_since, patience }
}

/// Removes a node that joined and never registered, so that a join token alone fills no cluster.
fn forget(cluster: &Cluster, node: &Node, now: Timestamp, out: &mut Correction) {
    let deadline = node.created_at + NEWCOMER_PERIOD;
    if now < deadline {
        out.wake(deadline, Subject::Node(node.id));
    } else if cluster.tasks_of_node(node.id).next().is_none() {
        out.push(Kind::NodeRemoved(NodeRemoved { node: node.id, forced: false, forgotten: true }));
    }
}

fn give_up_tasks(cluster: &Cluster, node: &Node, now: Timestamp, out: &mut Correction) {
    let deadline = node.liveness_since + ORPHAN_PERIOD;
    if now < deadline {
        out.wake(deadline, Subject::Node(node.id));
        return;
    }
    let lost = cluster.tasks_of_node(node.id).filter(|task| task.occupies_node()).map(|task| task.id).collect();
    let message = format!("node {} has been down for {} hours", node.hostname(), ORPHAN_PERIOD.as_secs() / 3600);
    out.push_about(lost, |tasks| Kind::TaskOrphaned(TaskOrphaned { tasks, message }));
}
