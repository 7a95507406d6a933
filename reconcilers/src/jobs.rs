//! Jobs: as many tasks as have to complete, at most as many at the same time as configured, and none of an earlier run.
//!
//! A run is identified by the template version: any change of it, including a forced one, makes all tasks run again. `runs`
//! decides when the runs of a scheduled job start. Failed tasks are restarted by the restart policy, which never restarts
//! completed ones; a place without remaining attempts is left unchanged, and so are completed tasks. One task on every node is
//! the responsibility of `global`, even for a job.

use std::collections::BTreeSet;

use events::spec::Completions;
use events::{DesiredCause, ServiceId, TaskState};
use projections::{Cluster, Instance, Service, Task};

use crate::slots::{self, NewTask};
use crate::{Correction, Ctx, Scope};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let touched = scope.places.iter().map(|(service, _)| service);
    let concerned: BTreeSet<&ServiceId> = scope.services.iter().chain(&scope.unfilled).chain(touched).collect();
    for service in concerned.into_iter().filter_map(|id| cluster.services.get(*id)) {
        if let Some(wanted) = service.completions() {
            give_up_surplus(cluster, service, wanted, out);
            fill(cluster, service, wanted, ctx, out);
        }
    }
}

/// Tasks of earlier runs are removed, whether they are running or not.
pub(crate) fn end_earlier_runs(cluster: &Cluster, service: &Service, out: &mut Correction) {
    if slots::have_older_specs(cluster, service) {
        let tasks = cluster.tasks_of_service(service.id);
        let earlier = tasks.filter(|task| task.spec_version != service.template_version);
        out.want_first_of(earlier, TaskState::Remove, DesiredCause::Update);
    }
}

/// Tasks beyond the number that has to complete, after that was lowered.
fn give_up_surplus(cluster: &Cluster, service: &Service, wanted: Completions, out: &mut Correction) {
    let places = cluster.places_of_service_from(service.id, Instance::Slot(wanted.total));
    let tasks = places.flat_map(|place| cluster.tasks_of_instance(service.id, place));
    out.want_first_of(tasks.filter(|task| task.is_live()), TaskState::Remove, DesiredCause::ScaleDown);
}

/// Creates the next tasks, as many as may run concurrently with the existing ones.
fn fill(cluster: &Cluster, service: &Service, wanted: Completions, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let places = cluster.places();
    let (active, ended) = (places.wanted(service.id), places.all_ended(service.id));
    let missing = wanted.total.saturating_sub(active + ended).min(wanted.concurrent.saturating_sub(active));
    if missing == 0 || slots::have_older_wanted(cluster, service) {
        return;
    }
    let missing = usize::try_from(missing).unwrap_or(usize::MAX);
    for slot in free_slots(cluster, service, wanted.total, active + ended).take(missing) {
        if out.is_full() {
            return;
        }
        out.push(NewTask::first(cluster, service, Instance::Slot(slot), ctx.now).event(service, ctx));
    }
}

/// Slots without a task of the current run, lowest first. As slots are filled in order, those after the last one are the only
/// free ones, unless tasks were removed; only then the others are searched.
fn free_slots(cluster: &Cluster, service: &Service, total: u64, filled: u64) -> impl Iterator<Item = u64> {
    let last = cluster.last_place_of_service(service.id).and_then(Instance::slot);
    let next = last.map_or(0, |last| last + 1);
    let first = if next == filled { next } else { 0 };
    let is_kept = |task: &Task| task.desired != TaskState::Remove;
    let is_free = move |slot: &u64| !cluster.tasks_of_instance(service.id, Instance::Slot(*slot)).any(is_kept);
    (first..total).filter(is_free)
}

#[cfg(test)]
mod tests {
    use events::service_spec::Mode;
    use events::{Id, Kind, NodeSpec, ReplicatedJobMode, ServiceSpecUpdated, SpecChange, TaskDesiredStateSet, TaskId};

    use super::*;
    use crate::samples::{Sample, service};

    fn mode(max_concurrent: u64, total_completions: u64) -> Mode {
        Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent, total_completions })
    }

    /// A job with these tasks of one node: their slots and states. Those that have ended are released.
    fn sample(mode: Mode, tasks: &[(u64, TaskState)]) -> Sample {
        let mut sample = Sample::default().with_node(1, NodeSpec::default()).with_service(mode, &[]);
        for (number, (slot, state)) in (1..).zip(tasks) {
            sample = sample.with_task(number, *slot, None, TaskState::Pending).assigned(number, 1);
            sample = sample.reported(number, *state);
            if state.is_terminal() {
                let (tasks, cause) = (vec![TaskId::from_bits(number)], DesiredCause::Restart.into());
                let desired = TaskState::Shutdown.into();
                sample.apply(0, Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, desired, cause }));
            }
        }
        sample
    }

    #[test]
    fn as_many_run_as_may_until_all_have_completed() {
        use TaskState::{Complete, Failed, Running};
        let table: [(_, &[_], &[&str]); 9] = [
            (mode(0, 0), &[], &[]),
            (mode(0, 3), &[], &["make in 0", "make in 1", "make in 2"]),
            (mode(2, 3), &[], &["make in 0", "make in 1"]),
            (mode(2, 3), &[(0, Running), (1, Running)], &[]),
            (mode(2, 3), &[(0, Running), (1, Complete)], &["make in 2"]),
            (mode(2, 3), &[(0, Complete), (1, Complete), (2, Complete)], &[]),
            // A task that failed permanently is not retried in another slot.
            (mode(2, 3), &[(0, Failed), (1, Complete)], &["make in 2"]),
            // A slot whose task was removed is filled again.
            (mode(2, 3), &[(1, Complete), (2, Complete)], &["make in 0"]),
            // Fewer have to complete now.
            (mode(2, 1), &[(0, Running), (1, Running)], &["remove 2"]),
        ];
        for (mode, tasks, expected) in table {
            assert_eq!(sample(mode, tasks).ask(reconcile, 1), expected, "{mode:?}, {tasks:?}");
        }
    }

    #[test]
    fn another_run_begins_once_the_tasks_of_the_one_before_are_given_up() {
        let mut sample = sample(mode(2, 2), &[(0, TaskState::Running), (1, TaskState::Complete)]);
        let known = sample.cluster.services.get(service()).expect("the service is there");
        let mut spec = (*known.spec).clone();
        spec.task.get_or_insert_default().force_update = 1;
        let change = SpecChange::Update.into();
        let updated = ServiceSpecUpdated { service: service(), spec, change, ..ServiceSpecUpdated::default() };
        sample.apply(1, Kind::ServiceSpecUpdated(Box::new(updated)));
        assert_eq!(sample.ask(reconcile, 1), [""; 0]);
        assert_eq!(sample.ask(crate::updates::reconcile, 1), ["remove 1 2"]);
        let tasks = [1, 2].map(TaskId::from_bits).into();
        let (desired, cause) = (TaskState::Remove.into(), DesiredCause::Update.into());
        sample.apply(1, Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, desired, cause }));
        assert_eq!(sample.ask(reconcile, 1), ["make in 0", "make in 1"]);
    }
}
