//! The progress of a rollout: the places that it took, and how many of its tasks failed.
//!
//! A rollout starts with the frame that changes what tasks run, so that the template's version identifies it. Its facts are
//! folded from the events of its own tasks, once each; they do not depend on which tasks history still holds.
//!
//! A place stays taken until no rollout that took a place of the service is in progress: then none of them counts. The record of
//! a place is dropped when a task of it changes, so that the cost of ending a rollout does not depend on the number of its
//! places.

use std::time::Duration;

use events::{ServiceId, TaskCause, TaskCreated, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::{Cluster, Service, Stamp, Task, Touched};

/// How much longer than its delay a rollout monitors its tasks where it would not notice failures otherwise: as SwarmKit does for
/// a delay that is not shorter than the monitor.
const WATCH_BEYOND_DELAY: Duration = Duration::from_secs(1);

/// A place that a rollout took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The task that it created there, or the one that replaced it because its node was lost before it ran.
    pub task: TaskId,
    /// The rollout: the template version that it rolls out.
    pub rollout: u64,
    /// When that task first ran or ended by itself, whichever came first; or when it became overdue.
    pub settled_at: Option<Timestamp>,
    /// Whether it was overdue, and so already counts as failed.
    pub is_overdue: bool,
}

/// The counters of the last rollout of a service, until it is completed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The first of the rollouts that superseded each other up to this one: none of them was completed.
    pub since: u64,
    /// Places to replace when it started; `None` until they are counted.
    pub slots: Option<u64>,
    /// Places that it took.
    pub taken: u64,
    /// Tasks of it that failed while they were monitored.
    pub failed: u64,
    /// The last of these.
    pub failed_task: Option<TaskId>,
    /// Whether that one was overdue, rather than running or ended.
    pub is_overdue: bool,
    /// When it last took a place, or a task of it first ran or ended.
    pub last_step_at: Option<Timestamp>,
}

/// How long a rollout monitors a task from its start.
pub fn watch(rollout: &events::spec::Rollout) -> Duration {
    if rollout.delay >= rollout.monitor { rollout.delay + WATCH_BEYOND_DELAY } else { rollout.monitor }
}

impl Cluster {
    /// What the current rollout, or one that it superseded, did in one place.
    pub fn rollout_step(&self, service: ServiceId, instance: Instance) -> Option<&Step> {
        let since = self.rollout_tallies.get(service)?.since;
        self.rollout_steps.get((service, instance)).filter(|step| step.rollout >= since)
    }

    /// The places in which rollouts made a step since the state was `earlier`. The cost depends on the number of changes.
    pub fn rollout_steps_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (ServiceId, Instance)> {
        self.rollout_steps.changed_since(&earlier.rollout_steps).map(|(place, _)| place)
    }
}

/// Starts a rollout of this version, superseding the one before it.
pub(crate) fn begin(cluster: &mut Cluster, id: ServiceId, version: u64) {
    let since = cluster.rollout_tallies.get(id).map_or(version, |superseded| superseded.since);
    cluster.rollout_tallies.insert(id, Tally { since, ..Tally::default() });
}

/// Records the number of places to replace.
pub(crate) fn count_slots(cluster: &mut Cluster, id: ServiceId, slots: u64) {
    let counted = cluster.rollout_tallies.update(id, |tally| tally.slots = Some(slots));
    assert!(counted.is_some(), "service {id} has no rollout to count the slots of");
}

/// Resumes a paused rollout: earlier failures no longer count.
pub(crate) fn resume(cluster: &mut Cluster, id: ServiceId, at: &Stamp) {
    let resumed = cluster.rollout_tallies.update(id, |tally| {
        *tally = Tally { failed: 0, failed_task: None, is_overdue: false, last_step_at: Some(at.time), ..*tally };
    });
    assert!(resumed.is_some(), "service {id} has no rollout to resume");
}

/// Tasks of a rollout did not run in time: they count as failed, and their later fate does not count.
pub(crate) fn tasks_overdue(
    cluster: &mut Cluster,
    event: &events::UpdateTasksOverdue,
    at: &Stamp,
    touched: &mut Touched,
) {
    for id in &event.tasks {
        let task = cluster.tasks.get(*id).unwrap_or_else(|| panic!("task {id} is not there to be overdue"));
        let place = (task.service, task.instance());
        let step = cluster.rollout_steps.update(place, |step| {
            assert!(step.task == *id && step.settled_at.is_none(), "task {id} does not keep a rollout waiting");
            (step.settled_at, step.is_overdue) = (Some(at.time), true);
        });
        assert!(step.is_some(), "task {id} is of no rollout");
        touched.places.insert(place);
    }
    cluster.rollout_tallies.update(event.service, |tally| {
        tally.failed += event.tasks.len() as u64;
        tally.failed_task = event.tasks.last().copied();
        tally.is_overdue = true;
        tally.last_step_at = Some(at.time);
    });
    touched.services.insert(event.service);
}

/// A rollout is completed, or its service was removed: nothing of it is in flight.
pub(crate) fn end(cluster: &mut Cluster, id: ServiceId) {
    cluster.rollout_tallies.remove(id);
}

/// Drops the remains of ended rollouts in a place.
fn drop_stale(cluster: &mut Cluster, (service, instance): (ServiceId, Instance)) {
    if cluster.rollout_steps.contains((service, instance)) && cluster.rollout_step(service, instance).is_none() {
        cluster.rollout_steps.remove((service, instance));
    }
}

/// A task was created: by the rollout, or to replace one of its tasks that never ran.
pub(crate) fn task_added(cluster: &mut Cluster, event: &TaskCreated, instance: Instance, at: &Stamp) {
    let place = (event.service, instance);
    let open = cluster.services.get(event.service).is_some_and(Service::is_rolling);
    if event.cause() == TaskCause::Update && open {
        let step = Step { task: event.task, rollout: event.spec_version, settled_at: None, is_overdue: false };
        cluster.rollout_steps.insert(place, step);
        cluster.rollout_tallies.update(event.service, |tally| {
            tally.taken += 1;
            tally.last_step_at = Some(at.time);
        });
        return;
    }
    drop_stale(cluster, place);
    let relocated = |step: &&Step| {
        step.settled_at.is_none() && step.rollout == event.spec_version && event.replaces == Some(step.task)
    };
    if let Some(step) = cluster.rollout_steps.get(place).filter(relocated).copied() {
        cluster.rollout_steps.insert(place, Step { task: event.task, ..step });
    }
}

/// A wanted task runs for the first time, or ended by itself.
pub(crate) fn task_progressed(cluster: &mut Cluster, task: &Task, ended: bool, at: &Stamp) {
    let place = (task.service, task.instance());
    drop_stale(cluster, place);
    let Some(step) = cluster.rollout_steps.get(place).filter(|step| step.task == task.id).copied() else { return };
    let first = step.settled_at.is_none();
    if first {
        cluster.rollout_steps.insert(place, Step { settled_at: Some(at.time), ..step });
    }
    let Some(service) = cluster.services.get(task.service) else { return };
    let watch = watch(&service.rollout());
    let watched = task.running_at.is_none_or(|running| at.time.since(running) <= watch);
    let own = service.is_rolling() && step.rollout == service.template_version;
    let failed = ended && watched && !step.is_overdue;
    if own && (first || failed) {
        cluster.rollout_tallies.update(task.service, |tally| {
            if first {
                tally.last_step_at = Some(at.time);
            }
            if failed {
                tally.failed += 1;
                (tally.failed_task, tally.is_overdue) = (Some(task.id), false);
            }
        });
    }
}

#[cfg(test)]
mod tests;
