//! What may be forgotten: tasks that are to be removed and are over, and old tasks beyond what history keeps in a slot.

use events::{DesiredCause, Kind, TaskId, TaskReaped, TaskState};
use projections::{Cluster, Service, Task};

use crate::slots;
use crate::{Correction, Ctx, Scope};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, _ctx: &mut Ctx<'_>, out: &mut Correction) {
    for id in scope.concerned() {
        if out.is_full() {
            return;
        }
        let tasks: Vec<&Task> = scope.tasks_of(cluster, id).collect();
        let mut reaped: Vec<TaskId> = tasks.iter().filter(|task| is_removable(task)).map(|task| task.id).collect();
        match cluster.services.get(id) {
            Some(service) => reaped.extend(beyond_history(cluster, service, tasks)),
            None => out.want_first_of(tasks, TaskState::Remove, DesiredCause::ServiceRemoved),
        }
        out.push_about(reaped, |tasks| Kind::TaskReaped(TaskReaped { tasks }));
    }
}

/// To be removed, and nothing of it can still run.
fn is_removable(task: &Task) -> bool {
    task.desired == TaskState::Remove && (task.state < TaskState::Assigned || task.state.is_terminal())
}

/// The oldest dead tasks of each slot that has too many. The newest task of a slot stays: it says whether the slot is filled.
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

/// The oldest dead tasks of the place of `ended` that have to leave once another task takes it over.
pub(crate) fn pushed_out(cluster: &Cluster, service: &Service, ended: &Task) -> Vec<TaskId> {
    let Some(kept) = kept(cluster, service) else { return Vec::new() };
    let slot = slots::at(cluster, service.id, ended.instance());
    let excess = (slot.len() + 1).saturating_sub(kept);
    let dead = slot.iter().filter(|task| is_dead(task) || task.id == ended.id);
    dead.take(excess).map(|task| task.id).collect()
}

/// Tasks that a place keeps, the newest included; `None`: all.
fn kept(cluster: &Cluster, service: &Service) -> Option<usize> {
    let attempts = service.spec.template().restart_policy().max_attempts;
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
