//! The places of a service and the tasks in them, and how a task for a place is created.

use std::collections::BTreeMap;

use events::spec::Restart;
use events::{
    Availability, DesiredCause, Kind, NodeId, RestartCondition, ServiceId, TaskCause, TaskCreated, TaskId, TaskState,
    Timestamp,
};
use projections::{Cluster, Instance, Node, Service, Task};

use crate::{Correction, Ctx};

/// The tasks in one place, oldest first; without those being removed.
pub(crate) type Slot<'a> = Vec<&'a Task>;

/// The tasks in one place of a service.
pub(crate) fn at(cluster: &Cluster, service: ServiceId, instance: Instance) -> Slot<'_> {
    grouped(cluster.tasks_of_instance(service, instance)).into_values().next().unwrap_or_default()
}

/// Tasks of one service, in the order of their places, by place.
pub(crate) fn grouped<'a>(tasks: impl IntoIterator<Item = &'a Task>) -> BTreeMap<Instance, Slot<'a>> {
    // Since they are sorted, the map is built in one pass.
    let mut slots: Vec<(Instance, Slot<'a>)> = Vec::new();
    for task in tasks.into_iter().filter(|task| task.desired != TaskState::Remove) {
        match slots.last_mut().filter(|(instance, _)| *instance == task.instance()) {
            Some((_, slot)) => slot.push(task),
            None => slots.push((task.instance(), vec![task])),
        }
    }
    for (_, slot) in slots.iter_mut().filter(|(_, slot)| slot.len() > 1) {
        slot.sort_by_key(|task| age(task));
    }
    slots.into_iter().collect()
}

/// Whether a task's node is lost, drained or removed.
pub(crate) fn has_to_leave(cluster: &Cluster, task: &Task) -> bool {
    task.node.is_some_and(|node| cluster.nodes.get(node).is_none_or(Node::must_be_vacated))
}

/// Whether a task is wanted and running.
pub(crate) fn serves(task: &Task) -> bool {
    task.is_live() && task.state == TaskState::Running
}

/// Whether a task is replaced by one on a node with fewer tasks of the service, and has not ended.
pub(crate) fn is_rebalanced(cluster: &Cluster, task: &Task) -> bool {
    let mut others = cluster.tasks_of_instance(task.service, task.instance());
    others.any(|other| other.replaces == Some(task.id) && other.cause == TaskCause::Rebalanced && other.is_live())
}

/// Why a task cannot stay on its node, which is lost, drained, removed, or not suitable for the task's service.
pub(crate) fn why_left(cluster: &Cluster, task: &Task) -> DesiredCause {
    match task.node.and_then(|node| cluster.nodes.get(node)) {
        None => DesiredCause::NodeRemoved,
        Some(node) if node.spec.availability() == Availability::Drain => DesiredCause::NodeDrained,
        Some(node) if node.is_down() => DesiredCause::NodeDown,
        Some(_) => DesiredCause::ConstraintsNoLongerMet,
    }
}

/// Whether any task of a service has an outdated spec. Most of the time none has, which avoids visiting each.
pub(crate) fn have_older_specs(cluster: &Cluster, service: &Service) -> bool {
    let mut revisions = cluster.revisions.range((service.id, 0)..=(service.id, u64::MAX));
    revisions.any(|((_, version), _)| version != service.template_version)
}

/// Whether any wanted task has an outdated spec.
pub(crate) fn have_older_wanted(cluster: &Cluster, service: &Service) -> bool {
    let mut revisions = cluster.tasks_by_revision().of_service(service.id);
    revisions.any(|(version, tasks)| version != service.template_version && tasks.wanted > 0)
}

/// Whether any place of a service has two wanted tasks, one of which will replace the other once it is running.
pub(crate) fn are_doubled(cluster: &Cluster, service: &Service) -> bool {
    cluster.tasks_by_revision().total(service.id).wanted > cluster.places().wanted(service.id)
}

/// Whether a rollout has started and not yet counted the service's places.
pub(crate) fn awaits_count(cluster: &Cluster, service: &Service) -> bool {
    let tally = cluster.rollout_tallies.get(service.id).filter(|_| service.is_rolling());
    tally.is_some_and(|tally| tally.slots.is_none())
}

/// Sort key of the tasks in one place, the oldest first.
pub(crate) fn age(task: &Task) -> (u64, TaskId) {
    (task.created_index, task.id)
}

/// Whether a task that ended (or has to leave its node) should be replaced under its service's policy.
pub(crate) fn may_restart(cluster: &Cluster, service: &Service, task: &Task) -> bool {
    let policy = service.spec.restart_policy();
    let called_for = match policy.condition {
        RestartCondition::None => false,
        RestartCondition::OnFailure => task.state != TaskState::Complete,
        RestartCondition::Any => true,
    };
    let is_over = cluster.has_completed((service.id, task.instance())) || !is_in_run(service, task);
    called_for && !is_over && attempts_left(cluster, &policy, task)
}

/// Whether the current run of a task's job fills its slot; always true for other services.
fn is_in_run(service: &Service, task: &Task) -> bool {
    match (service.completions(), task.instance().slot()) {
        (Some(wanted), Some(slot)) => slot < wanted.total,
        (Some(_) | None, Some(_) | None) => true,
    }
}

/// Whether a place with this newest task stays unchanged: the policy requires no other. A task that never ran counts only until
/// its service gets new registry credentials, which may have been missing.
pub(crate) fn ended_for_good(cluster: &Cluster, service: &Service, newest: &Task) -> bool {
    let never_ran = newest.state > TaskState::Shutdown && newest.running_at.is_none();
    let revived = never_ran && newest.created_index < service.credentials_version;
    !revived && !may_restart(cluster, service, newest)
}

/// Whether the limit on restarts within the window allows one more. The window ends when the task ended, not now, so that the
/// result does not change with time alone.
fn attempts_left(cluster: &Cluster, policy: &Restart, task: &Task) -> bool {
    if policy.max_attempts == 0 {
        return true;
    }
    let restarts = cluster.restarts_in((task.service, task.instance())).map_or(&[][..], |restarts| &restarts.times);
    let ended = task.ended_or_updated_at();
    let counts = |restart: &&Timestamp| policy.window.is_zero() || **restart > ended - policy.window;
    (restarts.iter().filter(counts).count() as u64) < policy.max_attempts
}

/// Whether the other tasks that should leave a task's place have done so: those that are still wanted run beside it on purpose,
/// until a start-first update is complete.
pub(crate) fn is_vacated(cluster: &Cluster, task: &Task) -> bool {
    let stopping = cluster.tasks_of_instance(task.service, task.instance()).filter(|other| !other.is_wanted());
    !stopping.into_iter().any(|other| {
        let node = other.node.and_then(|node| cluster.nodes.get(node));
        other.occupies_node() && node.is_some_and(|node| !node.is_down())
    })
}

/// Whether another task of the current template fills the place of this one, and may stay on its node.
pub(crate) fn has_successor(cluster: &Cluster, service: &Service, task: &Task) -> bool {
    successors(cluster, service, task).any(Task::is_live)
}

/// The other wanted tasks of the current template in a task's place that may stay on their nodes.
pub(crate) fn successors<'a>(cluster: &'a Cluster, service: &Service, task: &Task) -> impl Iterator<Item = &'a Task> {
    let (id, version) = (task.id, service.template_version);
    let others = cluster.tasks_of_instance(task.service, task.instance()).filter(move |other| other.id != id);
    others.filter(move |other| other.is_wanted() && other.spec_version == version && !has_to_leave(cluster, other))
}

/// A task to create.
pub(crate) struct NewTask {
    pub instance: Instance,
    pub desired: TaskState,
    pub cause: TaskCause,
    pub replaces: Option<TaskId>,
    pub start_after: Option<Timestamp>,
    /// Old tasks of the place that are removed from the state with it.
    pub reaped: Vec<TaskId>,
}

impl NewTask {
    /// A task that starts as soon as it is placed.
    pub(crate) fn at_once(instance: Instance, cause: TaskCause) -> Self {
        Self { instance, desired: TaskState::Running, cause, replaces: None, start_after: None, reaped: Vec::new() }
    }

    /// A task that starts as soon as it is placed; for a job no sooner than the tasks of an earlier run in its place are gone.
    pub(crate) fn first(cluster: &Cluster, service: &Service, instance: Instance, now: Timestamp) -> Self {
        let task = Self::at_once(instance, TaskCause::Scale);
        let is_taken = || cluster.tasks_of_instance(service.id, instance).any(Task::occupies_node);
        if service.spec.is_job() && is_taken() {
            Self { desired: TaskState::Ready, start_after: Some(now), ..task }
        } else {
            task
        }
    }

    /// A task that is prepared and starts when its predecessor has stopped and `start_after` has passed.
    pub(crate) fn after(old: &Task, cause: TaskCause, start_after: Timestamp) -> Self {
        let (replaces, start_after) = (Some(old.id), Some(start_after));
        Self { instance: old.instance(), desired: TaskState::Ready, cause, replaces, start_after, reaped: Vec::new() }
    }

    /// The event that creates it, with the service's current spec.
    pub(crate) fn event(self, service: &Service, ctx: &mut Ctx<'_>) -> Kind {
        Kind::TaskCreated(self.created(service, ctx))
    }

    /// Creates it, and returns its id.
    pub(crate) fn make(self, service: &Service, ctx: &mut Ctx<'_>, out: &mut Correction) -> TaskId {
        let created = self.created(service, ctx);
        let id = created.task;
        out.push(Kind::TaskCreated(created));
        id
    }

    fn created(self, service: &Service, ctx: &mut Ctx<'_>) -> TaskCreated {
        let (slot, node): (u64, Option<NodeId>) = match self.instance {
            Instance::Slot(slot) => (slot, None),
            Instance::Node(node) => (0, Some(node)),
        };
        let desired = if self.desired == TaskState::Running { service.spec.desired_state() } else { self.desired };
        TaskCreated {
            task: ctx.ids.next(),
            service: service.id,
            spec_version: service.template_version,
            slot,
            node,
            desired: desired.into(),
            replaces: self.replaces,
            start_after: self.start_after,
            cause: self.cause.into(),
            reaped: self.reaped,
        }
    }
}
