//! Tasks that ended or lost their node: their replacements, and when these start.

mod handover;

use std::time::Duration;

use events::{Availability, DesiredCause, TaskCause, TaskState, Timestamp};
use projections::{Cluster, Node, Service, Task};

use crate::slots::{self, NewTask, has_successor, is_vacated, may_restart};
use crate::{Correction, Ctx, Scope, TimerKey};
use crate::{global, reaper};

/// How long a replacement waits for a predecessor that does not stop; SwarmKit's `TaskTimeout`.
pub const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let concerned = scope.concerned();
    for service in concerned.into_iter().filter_map(|id| cluster.services.get(id)) {
        // A rollout that starts in this turn takes its places first: it handles what failed of the previous one.
        if slots::awaits_count(cluster, service) {
            continue;
        }
        // A place in which two tasks ended at once gets one successor.
        let mut filled = None;
        for task in scope.tasks_of(cluster, service.id).filter(|task| task.is_wanted()) {
            if out.is_full() {
                return;
            }
            let leaves = slots::has_to_leave(cluster, task);
            let kept = cluster.keeps_place_until(task).filter(|until| ctx.now < *until && !leaves);
            if let Some(until) = kept.filter(|_| may_restart(cluster, service, task)) {
                out.wake(until, TimerKey::Place(service.id, task.instance()));
            } else if leaves && handover::is_due(cluster, service, task, ctx.now) {
                if filled != Some(task.instance()) && handover::prepare(cluster, service, task, ctx, out) {
                    filled = Some(task.instance());
                }
            } else if task.state.is_terminal() || leaves {
                if filled == Some(task.instance()) {
                    give_up(cluster, task, ctx.now, out);
                } else if replace(cluster, service, task, ctx, out) {
                    filled = Some(task.instance());
                }
            } else if task.desired == TaskState::Ready && cluster.has_completed((service.id, task.instance())) {
                give_up(cluster, task, ctx.now, out);
            } else if task.desired == TaskState::Ready {
                start_when_due(cluster, service, task, ctx.now, out);
            }
        }
    }
}

/// Releases a task without a replacement.
fn give_up(cluster: &Cluster, task: &Task, now: Timestamp, out: &mut Correction) {
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    let is_late = node.is_some_and(|node| node.drain_deadline.is_some_and(|deadline| deadline <= now));
    let cause = match () {
        () if !slots::has_to_leave(cluster, task) => DesiredCause::Restart,
        () if is_late && is_drained(cluster, task) => DesiredCause::DrainDeadlinePassed,
        () => slots::why_left(cluster, task),
    };
    out.want([task], TaskState::Shutdown, cause);
}

/// Releases a task and creates its successor, if there should be one; returns whether there is.
fn replace(cluster: &Cluster, service: &Service, task: &Task, ctx: &mut Ctx<'_>, out: &mut Correction) -> bool {
    // What a global service needs on a node that it left is decided when the node becomes suitable again.
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    let node_takes_more = node
        .is_some_and(|node| node.spec.availability() == Availability::Active && global::suits(cluster, service, node));
    let placeless = task.is_bound() && !node_takes_more;
    if placeless || has_successor(cluster, service, task) || !may_restart(cluster, service, task) {
        give_up(cluster, task, ctx.now, out);
        return false;
    }
    if task.state.is_terminal() {
        restart(cluster, service, task, ctx, out);
    } else {
        give_up(cluster, task, ctx.now, out);
        let start_after = relocated_at(cluster, service, task, ctx.now);
        out.push(NewTask::after(task, TaskCause::Moved, start_after).event(service, ctx));
    }
    true
}

/// Creates the successor of a task that ended: a single event that also releases the ended one, and lists the tasks that it
/// pushes out of the place's history.
fn restart(cluster: &Cluster, service: &Service, task: &Task, ctx: &mut Ctx<'_>, out: &mut Correction) {
    // If the delay was before this moment, none follows.
    let waited = cluster.tried_again_at(task).is_some_and(|at| at <= ctx.now);
    let delay = if waited || is_drained(cluster, task) { Duration::ZERO } else { cluster.restart_delay(task) };
    let mut new = NewTask::after(task, TaskCause::Restart, ctx.now + delay);
    if delay.is_zero() && is_vacated(cluster, task) {
        (new.desired, new.start_after) = (TaskState::Running, None);
    }
    new.reaped = reaper::pushed_out(cluster, service, task);
    out.push(new.event(service, ctx));
}

/// When the successor of a task that loses its node starts: at once if the node is down or drained, which is not the task's
/// fault, otherwise after the usual delay; and no sooner than the task itself would have.
fn relocated_at(cluster: &Cluster, service: &Service, task: &Task, now: Timestamp) -> Timestamp {
    let is_at_once = task.node.and_then(|node| cluster.nodes.get(node)).is_some_and(Node::must_be_vacated);
    let delay = if is_at_once { Duration::ZERO } else { service.spec.restart_policy().delay_after(0) };
    let waits = task.start_after.filter(|_| task.desired == TaskState::Ready);
    waits.map_or(now + delay, |start_after| start_after.max(now + delay))
}

fn is_drained(cluster: &Cluster, task: &Task) -> bool {
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    node.is_some_and(|node| node.spec.availability() == Availability::Drain)
}

/// A prepared task starts once its delay has passed and its place is free, or its predecessor's time to stop has expired.
fn start_when_due(cluster: &Cluster, service: &Service, task: &Task, now: Timestamp, out: &mut Correction) {
    let place = TimerKey::Place(task.service, task.instance());
    let earliest = task.start_after.unwrap_or(task.created_at);
    let latest = earliest.max(task.created_at + PREDECESSOR_TIMEOUT);
    if now < earliest {
        out.wake(earliest, place);
    } else if now >= latest || is_vacated(cluster, task) {
        out.want([task], service.spec.desired_state(), DesiredCause::Start);
    } else {
        out.wake(latest, place);
    }
}

#[cfg(test)]
mod tests;
