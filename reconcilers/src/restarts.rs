//! Tasks that ended or lost their node: what takes their place, and when it starts.

use std::time::Duration;

use events::{Availability, DesiredCause, TaskCause, TaskState, Timestamp};
use projections::{Cluster, Service, Task};

use crate::slots::{NewTask, is_vacated, may_restart, want};
use crate::{Correction, Ctx, Scope, Subject};

/// How long a replacement waits for a predecessor that does not stop; SwarmKit's `TaskTimeout`.
pub const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for service in scope.services.iter().filter_map(|id| cluster.services.get(*id)) {
        for task in cluster.tasks_of_service(service.id).filter(|task| task.is_wanted()) {
            if out.is_full() {
                return;
            }
            if task.state.is_terminal() || has_to_leave(cluster, task) {
                replace(cluster, service, task, ctx, out);
            } else if task.desired == TaskState::Ready {
                start_when_due(cluster, service, task, ctx.now, out);
            }
        }
    }
}

/// Whether the task's node is lost, drained or gone.
fn has_to_leave(cluster: &Cluster, task: &Task) -> bool {
    task.node.is_some_and(|node| cluster.nodes.get(node).is_none_or(projections::Node::must_be_left))
}

fn replace(cluster: &Cluster, service: &Service, task: &Task, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let leaves = has_to_leave(cluster, task);
    if let Some(due) = own_delay(task).filter(|due| !leaves && ctx.now < *due) {
        out.wake(due, Subject::Service(service.id));
        return;
    }
    let cause = if leaves { DesiredCause::NodeUnfit } else { DesiredCause::Restart };
    out.events.extend(want([task], TaskState::Shutdown, cause));
    // What a global service wants on a node that is unfit now is settled when the node is fit again.
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    let node_takes_more = node.is_some_and(|node| node.spec.availability() == Availability::Active && !leaves);
    if !may_restart(cluster, service, task) || (task.bound && !node_takes_more) {
        return;
    }
    let drained = node.is_some_and(|node| node.spec.availability() == Availability::Drain);
    let delay = if drained { Duration::ZERO } else { service.spec.template().restart_policy().delay };
    let cause = if leaves && !task.state.is_terminal() { TaskCause::Relocate } else { TaskCause::Restart };
    out.events.push(NewTask::after(task, cause, ctx.now + delay).event(service, ctx));
}

/// The end of the delay that a task was to wait for. One that fails while it is made ready, before that time, is replaced
/// no sooner: otherwise an image that cannot be pulled would make a loop without any delay.
fn own_delay(task: &Task) -> Option<Timestamp> {
    task.start_after.filter(|_| task.desired == TaskState::Ready)
}

/// A task that was made ready starts once its delay is over and its place is free, or its predecessor had its time.
fn start_when_due(cluster: &Cluster, service: &Service, task: &Task, now: Timestamp, out: &mut Correction) {
    let earliest = task.start_after.unwrap_or(task.created_at);
    let latest = earliest.max(task.created_at + PREDECESSOR_PATIENCE);
    if now < earliest {
        out.wake(earliest, Subject::Service(service.id));
    } else if now >= latest || is_vacated(cluster, task) {
        out.events.extend(want([task], TaskState::Running, DesiredCause::Start));
    } else {
        out.wake(latest, Subject::Service(service.id));
    }
}
