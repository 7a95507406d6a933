//! The effect of events on tasks.

use std::sync::Arc;

use events::{DesiredCause, NodeId, TaskCause, TaskId, TaskState, TaskStatus};

use super::Task;
use crate::counts;
use crate::instance::Instance;
use crate::places::PlaceStatus;
use crate::{Cluster, Stamp, Touched};
use crate::{failing, failures, nodes, restarts, rollouts, services};

pub(crate) fn created(cluster: &mut Cluster, event: &events::TaskCreated, at: &Stamp, touched: &mut Touched) {
    assert!(!cluster.tasks.contains(event.task), "task {} was made twice", event.task);
    let revision = (event.service, event.spec_version);
    let known = cluster.revisions.get(revision);
    let known = known.unwrap_or_else(|| panic!("task {} has an unknown spec", event.task));
    let reserved = known.spec.template().reserved();
    let (nano_cpus, memory_bytes) = (reserved.nano_cpus, reserved.memory_bytes);
    let task = Task {
        id: event.task,
        service: event.service,
        slot: Instance::of(event).slot(),
        node: event.node,
        spec_version: event.spec_version,
        desired: event.desired(),
        desired_cause: None,
        state: TaskState::Pending,
        cause: event.cause(),
        replaces: event.replaces,
        start_after: event.start_after,
        created_at: at.time,
        created_index: at.index,
        version: at.index,
        updated_at: at.time,
        running_at: None,
        ended_at: None,
        nano_cpus,
        memory_bytes,
        claims: Box::default(),
        status: None,
        waiting: None,
    };
    rollouts::task_added(cluster, event, task.instance(), at);
    restarts::drop_stale(cluster, (task.service, task.instance()));
    if event.cause() == TaskCause::Restart {
        restarts::restarted(cluster, &task, at);
        if let Some(ended) = event.replaces {
            set_desired(cluster, ended, TaskState::Shutdown, DesiredCause::Restart, at, touched);
        }
    }
    let place = (task.service, task.instance());
    let before = cluster.place_status(place);
    enter_service(cluster, &task);
    enter(cluster, &task);
    touch(touched, &task);
    cluster.tasks.insert(task.id, task);
    let after = cluster.place_status(place);
    cluster.places.change(place, before, after);
    failing::changed(cluster, place);
    for &id in &event.reaped {
        reap(cluster, id, touched);
    }
}

pub(crate) fn assigned(cluster: &mut Cluster, event: &events::TaskAssigned, at: &Stamp, touched: &mut Touched) {
    // Nothing else has to be done in its place: it is being started.
    let ((), task) = replace(cluster, event.task, at, |task| {
        assert!(task.state < TaskState::Assigned, "task {} was assigned twice", task.id);
        task.node = Some(event.node);
        task.state = TaskState::Assigned;
        task.claims = event.claims.as_slice().into();
        task.waiting = None;
    });
    touched.tasks_of_nodes.extend(task.node);
}

pub(crate) fn placement_failed(
    cluster: &mut Cluster,
    event: &events::TaskPlacementFailed,
    at: &Stamp,
    touched: &mut Touched,
) {
    let explanation: Arc<str> = event.explanation.as_str().into();
    for &task in &event.tasks {
        change(cluster, task, at, touched, |task| task.waiting = Some(Arc::clone(&explanation)));
    }
}

pub(crate) fn desired(cluster: &mut Cluster, event: &events::TaskDesiredStateSet, at: &Stamp, touched: &mut Touched) {
    for &task in &event.tasks {
        set_desired(cluster, task, event.desired(), event.cause(), at, touched);
        let node = cluster.tasks.get(task).and_then(|task| task.node);
        if let Some(node) = node.filter(|_| event.cause() == DesiredCause::DrainDeadlinePassed) {
            nodes::task_stopped_at_deadline(cluster, node);
        }
    }
}

fn set_desired(
    cluster: &mut Cluster,
    id: TaskId,
    desired: TaskState,
    cause: DesiredCause,
    at: &Stamp,
    touched: &mut Touched,
) {
    let task = cluster.tasks.get(id).unwrap_or_else(|| panic!("task {id} is not there to be changed"));
    let place = (task.service, task.instance());
    let before = cluster.place_status(place);
    change(cluster, id, at, touched, |task| {
        assert!(task.desired < desired, "the desired state of task {id} never goes back");
        task.desired = desired;
        task.desired_cause = Some(cause);
        // No node ever had it, so no node will report its end.
        if desired >= TaskState::Shutdown && task.state < TaskState::Assigned {
            task.state = TaskState::Shutdown;
            task.ended_at = Some(at.time);
        }
    });
    let after = cluster.place_status(place);
    cluster.places.change(place, before, after);
    failing::changed(cluster, place);
}

pub(crate) fn reported(cluster: &mut Cluster, event: &events::TaskReported, at: &Stamp, touched: &mut Touched) {
    // The times of its phases stay in history only.
    let status = Arc::new(TaskStatus { phases: Vec::new(), ..event.status.clone() });
    end_or_advance(cluster, event.task, event.status.state(), at, touched, |task| task.status = Some(status));
}

pub(crate) fn rejected(cluster: &mut Cluster, event: &events::TaskRejected, at: &Stamp, touched: &mut Touched) {
    let (message, error) = (event.message.clone(), event.error.clone());
    end_or_advance(cluster, event.task, TaskState::Rejected, at, touched, |task| {
        set_status(task, TaskState::Rejected, at, message, error);
    });
}

pub(crate) fn orphaned(cluster: &mut Cluster, event: &events::TaskOrphaned, at: &Stamp, touched: &mut Touched) {
    for &task in &event.tasks {
        end_or_advance(cluster, task, TaskState::Orphaned, at, touched, |task| {
            set_status(task, TaskState::Orphaned, at, event.message.clone(), String::new());
        });
    }
}

pub(crate) fn reaped(cluster: &mut Cluster, event: &events::TaskReaped, touched: &mut Touched) {
    for &id in &event.tasks {
        reap(cluster, id, touched);
    }
}

fn reap(cluster: &mut Cluster, id: TaskId, touched: &mut Touched) {
    let task = cluster.tasks.share(id).unwrap_or_else(|| panic!("task {id} is not there to be reaped"));
    let place = (task.service, task.instance());
    let before = cluster.place_status(place);
    cluster.tasks.remove(id);
    leave(cluster, &task);
    leave_service(cluster, &task);
    let after = cluster.place_status(place);
    if after == PlaceStatus::Empty {
        cluster.restarts.remove(place);
        cluster.rollout_steps.remove(place);
    }
    cluster.places.change(place, before, after);
    failing::changed(cluster, place);
    services::fold::forget_revision(cluster, task.service, task.spec_version);
    touch(touched, &task);
}

/// Advances a task; if that ends it too soon, the end counts against its rollout and its node.
fn end_or_advance(
    cluster: &mut Cluster,
    id: TaskId,
    state: TaskState,
    at: &Stamp,
    touched: &mut Touched,
    status: impl FnOnce(&mut Task),
) {
    let known = cluster.tasks.get(id).unwrap_or_else(|| panic!("task {id} is not there to be moved on"));
    // A wanted task's progress makes no difference for its place.
    let idle = (!known.is_wanted()).then(|| (known.service, known.instance()));
    let before = idle.map(|place| (place, cluster.place_status(place)));
    let ((started, ended), task) = change(cluster, id, at, touched, |task| {
        assert!(task.state <= state, "the state of task {id} never goes back");
        let ended = !task.state.is_terminal() && state.is_terminal();
        let started = task.running_at.is_none() && state == TaskState::Running;
        task.state = state;
        if state == TaskState::Running {
            task.running_at.get_or_insert(at.time);
        }
        if ended {
            task.ended_at = Some(at.time);
        }
        status(task);
        (started, ended)
    });
    if let Some((place, before)) = before {
        let after = cluster.place_status(place);
        cluster.places.change(place, before, after);
    }
    if (started || ended) && task.is_wanted() {
        rollouts::task_progressed(cluster, &task, ended, at);
    }
    if ended && task.is_wanted() {
        failures::remember(cluster, &task, at);
        restarts::ended(cluster, &task, at);
    }
    failing::changed(cluster, (task.service, task.instance()));
}

/// Changes one task, which affects its place and its node.
fn change<R>(
    cluster: &mut Cluster,
    id: TaskId,
    at: &Stamp,
    touched: &mut Touched,
    change: impl FnOnce(&mut Task) -> R,
) -> (R, Arc<Task>) {
    let changed = replace(cluster, id, at, change);
    touch(touched, &changed.1);
    changed
}

/// Changes one task and keeps the indices consistent.
fn replace<R>(cluster: &mut Cluster, id: TaskId, at: &Stamp, change: impl FnOnce(&mut Task) -> R) -> (R, Arc<Task>) {
    let changed = cluster.tasks.replace(id, |task| {
        let result = change(task);
        task.version = at.index;
        task.updated_at = at.time;
        result
    });
    let (result, before, after) = changed.unwrap_or_else(|| panic!("task {id} is not there to be changed"));
    if before.state != after.state {
        counts::down(&mut cluster.tasks_by_state, before.state);
        counts::up(&mut cluster.tasks_by_state, after.state);
    }
    cluster.tasks_by_revision.change(&before, &after);
    if place(&before) != place(&after) {
        leave(cluster, &before);
        enter(cluster, &after);
    }
    (result, after)
}

/// Everything in the derived indices that depends on a task's current state; most reports change none of it.
fn place(task: &Task) -> (Option<NodeId>, bool, bool, bool, Option<&str>) {
    (task.node, task.occupies_node(), task.is_wanted(), task.awaits_placement(), task.waiting.as_deref())
}

fn set_status(task: &mut Task, state: TaskState, at: &Stamp, message: String, error: String) {
    let mut status = task.status.as_deref().cloned().unwrap_or_default();
    status.set_state(state);
    status.at = Some(at.time);
    status.message = message;
    status.error = error;
    task.status = Some(Arc::new(status));
}

fn touch(touched: &mut Touched, task: &Task) {
    touched.places.insert((task.service, task.instance()));
    touched.tasks_of_nodes.extend(task.node);
}

/// Adds a task to the indices of its service: its places, and the specs that its tasks run.
pub(super) fn enter_service(cluster: &mut Cluster, task: &Task) {
    cluster.tasks_by_instance.insert((task.service, task.instance(), task.id));
    cluster.tasks_by_revision.enter(task);
    counts::up(&mut cluster.tasks_by_state, task.state);
}

/// Removes a task from the indices of its service.
fn leave_service(cluster: &mut Cluster, task: &Task) {
    cluster.tasks_by_instance.remove(&(task.service, task.instance(), task.id));
    cluster.tasks_by_revision.leave(task);
    counts::down(&mut cluster.tasks_by_state, task.state);
}

/// Adds a task to the indices of its current state.
fn enter(cluster: &mut Cluster, task: &Task) {
    if let Some(node) = task.node {
        cluster.tasks_by_node.insert((node, task.id));
    }
    cluster.unplaced.enter(task);
    cluster.usage.enter(task);
}

/// Removes a task from the indices of its current state.
fn leave(cluster: &mut Cluster, task: &Task) {
    if let Some(node) = task.node {
        cluster.tasks_by_node.remove(&(node, task.id));
    }
    cluster.unplaced.leave(task);
    cluster.usage.leave(task);
}

#[cfg(test)]
mod tests;
