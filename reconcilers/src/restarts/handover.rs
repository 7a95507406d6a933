//! Tasks that leave a drained node only once their replacements are running, because their service updates start-first.

use events::{DesiredCause, TaskCause, TaskState, Timestamp, UpdateOrder};
use projections::{Cluster, Service, Task};

use super::give_up;
use crate::slots::{self, NewTask, age, ended_for_good, may_restart, serves, successors};
use crate::{Correction, Ctx, TimerKey};

/// Whether a task that has to leave its node keeps serving there until its replacement does.
pub(super) fn is_due(cluster: &Cluster, service: &Service, task: &Task, now: Timestamp) -> bool {
    // Tasks bound to their node, and tasks of jobs, have no replacement elsewhere.
    let moves = service.spec.replicas().is_some() && !task.is_bound();
    let order = service.spec.update_rollout().order;
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    moves && order == UpdateOrder::StartFirst && serves(task) && node.is_some_and(|node| node.drains_gracefully(now))
}

/// Creates the replacement, if there is none, and releases the task once it is running, or when there will be none. Returns
/// whether one was created.
pub(super) fn prepare(
    cluster: &Cluster,
    service: &Service,
    task: &Task,
    ctx: &mut Ctx<'_>,
    out: &mut Correction,
) -> bool {
    let is_replaced = successors(cluster, service, task).next().is_some();
    if is_covered(cluster, task) || !(is_replaced || may_be_replaced(cluster, service, task)) {
        give_up(cluster, task, ctx.now, out);
        return false;
    }
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    if let Some(deadline) = node.and_then(|node| node.drain_deadline) {
        out.wake(deadline, TimerKey::Place(task.service, task.instance()));
    }
    if !is_replaced {
        // A replacement of an older spec that is not running yet would be one more task in the place.
        out.want(waiting(cluster, task), TaskState::Shutdown, DesiredCause::Superseded);
        let new = NewTask { replaces: Some(task.id), ..NewTask::at_once(task.instance(), TaskCause::Moved) };
        out.push(new.event(service, ctx));
    }
    !is_replaced
}

/// The other tasks in the place that should run and do not yet. Those that ended, have to leave or wait for their start are
/// handled separately in the same pass.
fn waiting<'a>(cluster: &'a Cluster, task: &'a Task) -> impl Iterator<Item = &'a Task> {
    let others = cluster.tasks_of_instance(task.service, task.instance()).filter(|other| other.id != task.id);
    let waiting = others.filter(|other| other.is_live() && other.desired == TaskState::Running && !serves(other));
    waiting.filter(|other| !slots::has_to_leave(cluster, other))
}

/// Whether the place has another serving task that stays, or that has to leave as well and is newer: of several leaving tasks one
/// is enough until the replacement is running.
fn is_covered(cluster: &Cluster, task: &Task) -> bool {
    let others = cluster.tasks_of_instance(task.service, task.instance()).filter(|other| other.id != task.id);
    others.filter(|other| serves(other)).any(|other| !slots::has_to_leave(cluster, other) || age(other) > age(task))
}

/// Whether the service's policy allows another task in the place, counting those created there since.
fn may_be_replaced(cluster: &Cluster, service: &Service, task: &Task) -> bool {
    let slot = slots::at(cluster, service.id, task.instance());
    let is_over = |newest: &&&Task| newest.id != task.id && newest.state.is_terminal() && !newest.had_to_leave();
    let ended = slot.last().filter(is_over).is_some_and(|newest| ended_for_good(cluster, service, newest));
    !ended && may_restart(cluster, service, task)
}
