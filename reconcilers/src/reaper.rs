//! Removes tasks that have ended and should be removed, and old tasks beyond the task history of a slot.

use events::{DesiredCause, Kind, TaskId, TaskReaped, TaskState};
use projections::{Cluster, Service, Task};

use crate::slots;
use crate::{Correction, Ctx, Scope};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, _ctx: &mut Ctx<'_>, out: &mut Correction) {
    for id in scope.concerned() {
        if out.is_full() {
            return;
        }
        let service = cluster.services.get(id);
        let counts = cluster.tasks_by_revision().total(id);
        if service.is_some() && counts.all == counts.wanted {
            continue; // Wanted tasks stay.
        }
        let tasks: Vec<&Task> = scope.tasks_of(cluster, id).collect();
        let mut reaped: Vec<TaskId> = tasks.iter().filter(|task| is_removable(task)).map(|task| task.id).collect();
        match service {
            Some(service) => reaped.extend(beyond_history(cluster, service, tasks)),
            None => out.want_first_of(tasks, TaskState::Remove, DesiredCause::ServiceRemoved),
        }
        out.push_about(reaped, |tasks| Kind::TaskReaped(TaskReaped { tasks }));
    }
}

/// It should be removed, and cannot be running.
fn is_removable(task: &Task) -> bool {
    task.desired == TaskState::Remove && (task.state < TaskState::Assigned || task.state.is_terminal())
}

/// The oldest dead tasks of each slot that has too many. The newest task of a slot stays: it shows whether the slot is filled.
fn beyond_history(cluster: &Cluster, service: &Service, tasks: Vec<&Task>) -> Vec<TaskId> {
    let mut beyond = Vec::new();
    // Most places have one task.
    let Some(kept) = kept(cluster, service) else { return beyond };
    if !tasks.windows(2).any(|pair| pair[0].instance() == pair[1].instance()) {
        return beyond;
    }
    for slot in slots::grouped(tasks).values().filter(|slot| slot.len() > kept) {
        let dead = slot[..slot.len() - 1].iter().filter(|task| is_dead(task));
        beyond.extend(dead.take(slot.len() - kept).map(|task| task.id));
    }
    beyond
}

/// The oldest dead tasks of the place of `ended` that must be removed once another task takes it over.
pub(crate) fn pushed_out(cluster: &Cluster, service: &Service, ended: &Task) -> Vec<TaskId> {
    let Some(kept) = kept(cluster, service) else { return Vec::new() };
    let slot = slots::at(cluster, service.id, ended.instance());
    let excess = (slot.len() + 1).saturating_sub(kept);
    let dead = slot.iter().filter(|task| is_dead(task) || task.id == ended.id);
    dead.take(excess).map(|task| task.id).collect()
}

/// Number of tasks that a place keeps, including the newest; `None`: all.
fn kept(cluster: &Cluster, service: &Service) -> Option<usize> {
    let attempts = service.spec.restart_policy().max_attempts;
    let limit = if attempts > 0 {
        i64::try_from(attempts).map_or(i64::MAX, |attempts| attempts.saturating_add(1))
    } else {
        cluster.spec().history_limit()
    };
    usize::try_from(limit).ok().map(|limit| limit.max(1))
}

fn is_dead(task: &Task) -> bool {
    !task.is_wanted() && (task.state.is_terminal() || task.state < TaskState::Assigned)
}

#[cfg(test)]
mod tests {
    use events::{Id, ServiceRemoved, TaskDesiredStateSet};

    use super::*;
    use crate::samples::{Sample, replicated, service};

    /// A slot with unwanted tasks, each in this state with that desired state, oldest first.
    fn slot(tasks: &[(TaskState, TaskState)]) -> Sample {
        let mut sample = Sample::default().with_service(replicated(1), &[]);
        for (number, (state, desired)) in (1..).zip(tasks) {
            sample = sample.with_task(number, 1, None, *state);
            if *desired > TaskState::Running {
                let (tasks, cause) = (vec![TaskId::from_bits(number)], DesiredCause::Update.into());
                let less = TaskDesiredStateSet { tasks, desired: (*desired).into(), cause };
                sample.apply(0, Kind::TaskDesiredStateSet(less));
            }
        }
        sample
    }

    #[test]
    fn ended_tasks_are_removed_when_the_task_history_is_full_or_on_request() {
        use TaskState::{Complete, Failed, Remove, Running, Shutdown};
        let (runs, stops, removes) = ((Running, Running), (Running, Shutdown), (Running, Remove));
        let (dead, removed) = ((Failed, Shutdown), (Shutdown, Remove));
        // Five tasks of each slot are kept, including the newest.
        let table: [(&[_], &[&str]); 8] = [
            (&[runs], &[]),
            (&[removes], &[]),
            (&[removed], &["reap 1"]),
            (&[dead, dead, dead, dead, runs], &[]),
            (&[dead, dead, dead, dead, dead, runs], &["reap 1"]),
            (&[dead, dead, dead, dead, dead, dead, dead], &["reap 1 2"]),
            // One that is still running stays, however old it is; one that ended and is wanted shows how the slot ended.
            (&[stops, dead, dead, dead, dead, runs], &["reap 2"]),
            (&[dead, dead, dead, dead, dead, (Complete, Running)], &["reap 1"]),
        ];
        for (tasks, expected) in table {
            assert_eq!(slot(tasks).ask(reconcile, 1), expected, "{tasks:?}");
        }
    }

    #[test]
    fn the_tasks_of_a_removed_service_are_removed_once_they_have_ended() {
        let mut sample = slot(&[(TaskState::Failed, TaskState::Shutdown), (TaskState::Running, TaskState::Running)]);
        sample.apply(1, Kind::ServiceRemoved(ServiceRemoved { service: service() }));
        assert_eq!(sample.ask(reconcile, 1), ["remove 1 2"]);
        let (tasks, cause) = (vec![1, 2], DesiredCause::ServiceRemoved.into());
        let tasks = tasks.into_iter().map(TaskId::from_bits).collect();
        let desired = TaskState::Remove.into();
        sample.apply(1, Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, desired, cause }));
        assert_eq!(sample.ask(reconcile, 1), ["reap 1"]);
    }
}
