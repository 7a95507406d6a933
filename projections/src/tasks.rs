//! Tasks: one-shot runs of a service's spec in a slot or on a node. A task's state only ever rises.

use std::sync::Arc;

use events::spec::{defaults, limits};
use events::{
    DesiredCause, GenericResource, NodeId, RestartCondition, ServiceId, TaskCause, TaskId, TaskState, TaskStatus,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::counts;
use crate::places::PlaceStatus;
use crate::rollouts;
use crate::services;
use crate::{Cluster, Stamp, Touched};

/// Failures of a service on a node from which on they count against the node; SwarmKit's `maxFailures`.
pub const FAILURES_COUNT_FROM: usize = 5;
/// Most failures remembered of a service on a node: nodes that have more are equally bad.
pub const FAILURES_KEPT: usize = 64;
/// How long a failure counts against a node; SwarmKit's `monitorFailures`.
pub const FAILURES_WINDOW: std::time::Duration = std::time::Duration::from_secs(300);

/// One run of a service's spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The task's id.
    pub id: TaskId,
    /// The service it belongs to.
    pub service: ServiceId,
    /// The place that it fills.
    instance: Instance,
    /// The node that runs it, once one is chosen.
    pub node: Option<NodeId>,
    /// The revision of the service's spec that it runs.
    pub spec_version: u64,
    /// What is wanted of it.
    pub desired: TaskState,
    /// Why that is wanted, when it is not what the task was made for.
    pub desired_cause: Option<DesiredCause>,
    /// How far it is.
    pub state: TaskState,
    /// Why it was made.
    pub cause: TaskCause,
    /// The task whose place it takes.
    pub replaces: Option<TaskId>,
    /// Not to be started before this time.
    pub start_after: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where in the log it was made, which orders the tasks of a slot.
    pub created_index: u64,
    /// Index of the frame that last changed it.
    pub version: u64,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When the cluster learned that it runs.
    pub running_at: Option<Timestamp>,
    /// When the cluster learned that it is over.
    pub ended_at: Option<Timestamp>,
    /// CPU that it reserves, in billionths of a core.
    pub nano_cpus: u64,
    /// Memory that it reserves.
    pub memory_bytes: u64,
    /// Generic resources that it took from its node.
    pub claims: Vec<GenericResource>,
    /// Its node's last report.
    pub status: Option<Arc<TaskStatus>>,
    /// Why it is not placed, while it is not.
    pub waiting: Option<Arc<str>>,
}

/// The place in a service that a task fills: a numbered slot, or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Instance {
    /// A slot of a replicated service, from 1.
    Slot(u64),
    /// A node of a global service.
    Node(NodeId),
}

/// What is remembered of the restarts of one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// When it was restarted, as often as the policy's limit has to know.
    pub times: Vec<Timestamp>,
    /// How often in a row its task failed before it had run for long enough to count as healthy.
    pub failures: u64,
    /// How often in the same row its task ended without an error, though its service wants it to run permanently.
    pub exits: u64,
    /// Why it failed last; empty if it did not, in this row.
    pub last_failure: Arc<str>,
}

impl Restarts {
    /// How often in a row its task ended before it had run for long enough to count as healthy.
    pub fn in_a_row(&self) -> u64 {
        self.failures + self.exits
    }
}

impl Instance {
    /// Before every instance in their order.
    pub const FIRST: Instance = Instance::Slot(0);
    /// After every instance in their order.
    pub const LAST: Instance = Instance::Node(NodeId::MAX);

    /// Where an event says that a task is: a task of a global service names its node, any other its slot.
    pub(crate) fn of(event: &events::TaskCreated) -> Self {
        event.node.map_or(Instance::Slot(event.slot), Instance::Node)
    }

    /// The slot; `None` for a node.
    pub fn slot(self) -> Option<u64> {
        match self {
            Instance::Slot(slot) => Some(slot),
            Instance::Node(_) => None,
        }
    }

    /// The node; `None` for a slot.
    pub fn node(self) -> Option<NodeId> {
        match self {
            Instance::Slot(_) => None,
            Instance::Node(node) => Some(node),
        }
    }
}

impl Task {
    /// The place that it fills.
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// Whether its node was chosen before the scheduler, as for a global service.
    pub fn is_bound(&self) -> bool {
        self.instance.node().is_some()
    }

    /// Whether it has run for so long that what failed before is over.
    pub fn is_healthy(&self, now: Timestamp) -> bool {
        self.running_at.is_some_and(|since| now.since(since) >= defaults::RESTART_HEALTHY_AFTER)
    }

    /// Whether it is wanted, or will be: not told to stop.
    pub fn is_wanted(&self) -> bool {
        self.desired.is_wanted()
    }

    /// Whether it is wanted and not over.
    pub fn is_live(&self) -> bool {
        self.is_wanted() && !self.state.is_terminal()
    }

    /// Whether it was stopped because it could not stay on its node, and for no reason of its own.
    pub fn had_to_leave(&self) -> bool {
        use DesiredCause::{ConstraintsNoLongerMet, NodeDown, NodeDrained, NodeRemoved};
        matches!(self.desired_cause, Some(ConstraintsNoLongerMet | NodeDown | NodeDrained | NodeRemoved))
    }

    /// Whether it takes resources of its node: placed there and not over.
    pub fn occupies_node(&self) -> bool {
        self.node.is_some() && self.state >= TaskState::Assigned && !self.state.is_terminal()
    }

    /// Whether the scheduler has to find a node for it, or to confirm the one it is bound to.
    pub fn awaits_placement(&self) -> bool {
        self.state < TaskState::Assigned && self.is_wanted()
    }

    /// When its end counts as having happened.
    pub fn ended_or_updated_at(&self) -> Timestamp {
        self.ended_at.unwrap_or(self.updated_at)
    }
}

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
        instance: Instance::of(event),
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
        claims: Vec::new(),
        status: None,
        waiting: None,
    };
    rollouts::task_made(cluster, event, task.instance(), at);
    if event.cause() == TaskCause::Restart {
        remember_restart(cluster, &task, at);
        if let Some(ended) = event.replaces {
            set_desired(cluster, ended, TaskState::Shutdown, DesiredCause::Restart, at, touched);
        }
    }
    let place = (task.service, task.instance());
    let before = cluster.standing(place);
    enter_service(cluster, &task);
    enter(cluster, &task);
    touch(touched, &task);
    cluster.tasks.insert(task.id, task);
    let after = cluster.standing(place);
    cluster.places.change(place, before, after);
    for &id in &event.reaped {
        reap(cluster, id, touched);
    }
}

pub(crate) fn assigned(cluster: &mut Cluster, event: &events::TaskAssigned, at: &Stamp, touched: &mut Touched) {
    // Nothing more has to be done in its place: it is on its way.
    let ((), task) = replace(cluster, event.task, at, |task| {
        assert!(task.state < TaskState::Assigned, "task {} was assigned twice", task.id);
        task.node = Some(event.node);
        task.state = TaskState::Assigned;
        task.claims.clone_from(&event.claims);
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
    let before = cluster.standing(place);
    change(cluster, id, at, touched, |task| {
        assert!(task.desired < desired, "the desired state of task {id} never goes back");
        task.desired = desired;
        task.desired_cause = Some(cause);
        // No node ever had it, so nobody else will say that it is over.
        if desired >= TaskState::Shutdown && task.state < TaskState::Assigned {
            task.state = TaskState::Shutdown;
            task.ended_at = Some(at.time);
        }
    });
    let after = cluster.standing(place);
    cluster.places.change(place, before, after);
}

pub(crate) fn reported(cluster: &mut Cluster, event: &events::TaskReported, at: &Stamp, touched: &mut Touched) {
    let status = Arc::new(event.status.clone());
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
    let before = cluster.standing(place);
    cluster.tasks.remove(id);
    leave(cluster, &task);
    leave_service(cluster, &task);
    let after = cluster.standing(place);
    if after == PlaceStatus::Empty {
        cluster.restarts.remove(place);
        cluster.rollout_steps.remove(place);
    }
    cluster.places.change(place, before, after);
    services::forget_revision(cluster, task.service, task.spec_version);
    touch(touched, &task);
}

/// Moves a task on; when that ends it too soon, the end counts against its rollout and its node.
fn end_or_advance(
    cluster: &mut Cluster,
    id: TaskId,
    state: TaskState,
    at: &Stamp,
    touched: &mut Touched,
    status: impl FnOnce(&mut Task),
) {
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
    if (started || ended) && task.is_wanted() {
        rollouts::task_moved_on(cluster, &task, ended, at);
    }
    if ended && task.is_wanted() {
        remember_failure(cluster, &task, at);
        count_in_row(cluster, &task, at);
    }
}

/// Changes one task, which concerns its place and its node.
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

/// Changes one task and keeps the indices true to it.
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
    if place(&before) != place(&after) {
        leave(cluster, &before);
        enter(cluster, &after);
    }
    (result, after)
}

/// All that the derived indices say of a task's present; most reports change nothing of it.
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

/// Adds a task to what is known of its service: its places, and the specs that its tasks run.
fn enter_service(cluster: &mut Cluster, task: &Task) {
    cluster.tasks_by_instance.insert((task.service, task.instance(), task.id));
    counts::up(&mut cluster.tasks_by_revision, (task.service, task.spec_version));
    counts::up(&mut cluster.tasks_by_state, task.state);
}

/// Takes a task out of what is known of its service.
fn leave_service(cluster: &mut Cluster, task: &Task) {
    cluster.tasks_by_instance.remove(&(task.service, task.instance(), task.id));
    counts::down(&mut cluster.tasks_by_revision, (task.service, task.spec_version));
    counts::down(&mut cluster.tasks_by_state, task.state);
}

/// Adds a task to the derived indices of its present.
fn enter(cluster: &mut Cluster, task: &Task) {
    if let Some(node) = task.node {
        cluster.tasks_by_node.insert((node, task.id));
    }
    cluster.unplaced.enter(task);
    cluster.usage.enter(task);
}

/// Takes a task out of the derived indices of its present.
fn leave(cluster: &mut Cluster, task: &Task) {
    if let Some(node) = task.node {
        cluster.tasks_by_node.remove(&(node, task.id));
    }
    cluster.unplaced.leave(task);
    cluster.usage.leave(task);
}

/// Keeps as many restarts of a place as its service's limit needs to know.
fn remember_restart(cluster: &mut Cluster, task: &Task, at: &Stamp) {
    let Some(service) = cluster.services.get(task.service) else { return };
    let limit = service.spec.template().restart_policy().max_attempts;
    let kept = usize::try_from(limit.min(limits::RESTART_ATTEMPTS_MAX)).unwrap_or(0);
    if kept == 0 {
        return;
    }
    change_restarts(cluster, task, |restarts| {
        restarts.times.push(at.time);
        restarts.times.drain(..restarts.times.len().saturating_sub(kept));
    });
}

/// Counts in a row how often the task of a place ended. An end after a long healthy run is the first of its row. One without an
/// error counts where the service wants its tasks to run permanently, and ends the row elsewhere.
fn count_in_row(cluster: &mut Cluster, task: &Task, at: &Stamp) {
    let Some(service) = cluster.services.get(task.service) else { return };
    let permanent = service.spec.template().restart_policy().condition == RestartCondition::Any;
    let failed = match task.state {
        TaskState::Failed | TaskState::Rejected => true,
        TaskState::Complete => false,
        TaskState::New
        | TaskState::Pending
        | TaskState::Assigned
        | TaskState::Accepted
        | TaskState::Preparing
        | TaskState::Ready
        | TaskState::Starting
        | TaskState::Running
        | TaskState::Shutdown
        | TaskState::Remove
        | TaskState::Orphaned => return,
    };
    let healthy = task.is_healthy(at.time);
    let why: Arc<str> = task.status.as_ref().map_or("", |status| status.error.as_str()).into();
    change_restarts(cluster, task, |restarts| {
        if healthy || !(failed || permanent) {
            (restarts.failures, restarts.exits, restarts.last_failure) = (0, 0, Arc::default());
        }
        if failed {
            restarts.failures += 1;
            restarts.last_failure = why;
        } else if permanent {
            restarts.exits += 1;
        }
    });
}

/// Changes what is remembered of a task's place. Where there is nothing to remember, nothing is kept.
fn change_restarts(cluster: &mut Cluster, task: &Task, change: impl FnOnce(&mut Restarts)) {
    let key = (task.service, task.instance());
    let mut restarts = cluster.restarts.get(key).cloned().unwrap_or_default();
    change(&mut restarts);
    if restarts == Restarts::default() {
        cluster.restarts.remove(key);
    } else {
        cluster.restarts.insert(key, restarts);
    }
}

/// Keeps the last failures of a service on a node, which the scheduler holds against it.
fn remember_failure(cluster: &mut Cluster, task: &Task, at: &Stamp) {
    let failed = matches!(task.state, TaskState::Failed | TaskState::Rejected);
    let Some(node) = task.node.filter(|node| failed && !task.is_bound() && cluster.nodes.contains(*node)) else {
        return;
    };
    if !cluster.services.contains(task.service) {
        return;
    }
    let key = (task.service, node);
    let mut failures = cluster.failures.get(key).cloned().unwrap_or_default();
    failures
        .retain(|(version, failed_at)| *version == task.spec_version && at.time.since(*failed_at) < FAILURES_WINDOW);
    failures.push((task.spec_version, at.time));
    failures.drain(..failures.len().saturating_sub(FAILURES_KEPT));
    cluster.failures.insert(key, failures);
}

/// Makes the indices of tasks.
pub(crate) fn derive(cluster: &mut Cluster) {
    let all: Vec<Arc<Task>> = cluster.tasks.iter().filter_map(|(id, _)| cluster.tasks.share(id)).collect();
    for task in all {
        enter_service(cluster, &task);
        enter(cluster, &task);
    }
}

#[cfg(test)]
mod tests;
