//! Tasks that ended or lost their node: what takes their place, and when it starts.

use std::time::Duration;

use events::{Availability, DesiredCause, TaskCause, TaskState, Timestamp};
use projections::{Cluster, Service, Task};

use crate::global;
use crate::slots::{self, NewTask, has_successor, is_vacated, may_restart};
use crate::{Correction, Ctx, Scope, Subject};

/// How long a replacement waits for a predecessor that does not stop; SwarmKit's `TaskTimeout`.
pub const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(60);
/// Delay before the second restart of a place within [`CRASH_LOOP_WINDOW`]; each further one in it doubles the delay.
const CRASH_LOOP_DELAY_FIRST: Duration = Duration::from_millis(100);
/// Longest delay that a crash loop leads to: that of a policy that names none. A policy's own longer delay is kept to.
const CRASH_LOOP_DELAY_MAX: Duration = Duration::from_secs(5);
/// Restarts of a place within this time are taken for a crash loop.
const CRASH_LOOP_WINDOW: Duration = Duration::from_secs(60);

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let concerned = scope.concerned();
    for service in concerned.into_iter().filter_map(|id| cluster.services.get(id)) {
        // A rollout that begins in this turn takes its places first: what failed of the one before is its business.
        if slots::awaits_count(cluster, service) {
            continue;
        }
        for task in scope.tasks_of(cluster, service.id).filter(|task| task.is_wanted()) {
            if out.is_full() {
                return;
            }
            let leaves = has_to_leave(cluster, task);
            if let Some(until) = still_delayed(task, ctx.now).filter(|_| !leaves) {
                out.wake(until, Subject::Place(service.id, task.instance()));
            } else if task.state.is_terminal() || leaves {
                replace(cluster, service, task, ctx, out);
            } else if task.desired == TaskState::Ready {
                start_when_due(cluster, task, ctx.now, out);
            }
        }
    }
}

/// Until when a task that ended before it was to start keeps its place: one whose image is missing fails as soon as it is
/// made ready, and must not be made anew faster than the delay between restarts.
fn still_delayed(task: &Task, now: Timestamp) -> Option<Timestamp> {
    task.start_after.filter(|start_after| task.state.is_terminal() && now < *start_after)
}

/// Whether the task's node is lost, drained or gone.
fn has_to_leave(cluster: &Cluster, task: &Task) -> bool {
    task.node.is_some_and(|node| cluster.nodes.get(node).is_none_or(projections::Node::must_be_left))
}

fn replace(cluster: &Cluster, service: &Service, task: &Task, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let leaves = has_to_leave(cluster, task);
    let cause = if leaves { DesiredCause::NodeUnfit } else { DesiredCause::Restart };
    out.want([task], TaskState::Shutdown, cause);
    // What a global service wants on a node that is unfit now is settled when the node is fit again.
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    let node_takes_more =
        node.is_some_and(|node| node.spec.availability() == Availability::Active && global::suits(service, node));
    let placeless = task.bound && !node_takes_more;
    if placeless || has_successor(cluster, service, task) || !may_restart(cluster, service, task) {
        return;
    }
    let drained = node.is_some_and(|node| node.spec.availability() == Availability::Drain);
    let delay = if drained { Duration::ZERO } else { delay(cluster, service, task, ctx.now) };
    let relocated = leaves && !task.state.is_terminal();
    let cause = if relocated { TaskCause::Relocate } else { TaskCause::Restart };
    out.push(NewTask::after(task, cause, ctx.now + delay).event(service, ctx));
}

/// The delay of the service's policy, and at least one that grows while the same place fails again and again: a policy without
/// a delay must not keep a node and the log busy with a container that crashes at once.
fn delay(cluster: &Cluster, service: &Service, task: &Task, now: Timestamp) -> Duration {
    let restarts = cluster.restarts.get((task.service, task.instance())).map_or(&[][..], Vec::as_slice);
    let recent = restarts.iter().filter(|restart| now.since(**restart) < CRASH_LOOP_WINDOW).count();
    let doubled = u32::try_from(recent).unwrap_or(u32::MAX).checked_sub(1).map(|times| 2_u32.saturating_pow(times));
    let slowed = doubled.map_or(Duration::ZERO, |times| CRASH_LOOP_DELAY_FIRST.saturating_mul(times));
    service.spec.template().restart_policy().delay.max(slowed.min(CRASH_LOOP_DELAY_MAX))
}

/// A task that was made ready starts once its delay is over and its place is free, or its predecessor had its time.
fn start_when_due(cluster: &Cluster, task: &Task, now: Timestamp, out: &mut Correction) {
    let place = Subject::Place(task.service, task.instance());
    let earliest = task.start_after.unwrap_or(task.created_at);
    let latest = earliest.max(task.created_at + PREDECESSOR_PATIENCE);
    if now < earliest {
        out.wake(earliest, place);
    } else if now >= latest || is_vacated(cluster, task) {
        out.want([task], TaskState::Running, DesiredCause::Start);
    } else {
        out.wake(latest, place);
    }
}
