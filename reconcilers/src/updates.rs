//! Rollouts: tasks of an older spec are replaced by tasks of the current spec, a few at a time.
//!
//! There are no workers that sleep. The projection records which places a rollout took and when their new tasks first ran or
//! ended: a place is in flight from the moment it is taken until then, and for the delay after, whatever becomes of the task.

mod condition;
mod worklist;

use events::spec::Rollout;
use events::{
    DesiredCause, FailureAction, Kind, RollbackStarted, ServiceSpec, ServiceSpecUpdated, SpecChange, TaskCause,
    TaskState, Timestamp, UpdateCompleted, UpdateOrder, UpdatePaused, UpdateStarted, UpdateTasksOverdue,
};
use projections::rollouts::watch;
use projections::{Cluster, Instance, Service, Tally, Task};

use crate::jobs;
use crate::slots::{self, NewTask, Slot, serves};
use crate::templates::Templates;
use crate::{Correction, Ctx, Scope, TimerKey};
use condition::{Condition, condition};
pub(crate) use worklist::Worklists;
use worklist::{Loss, Worklist};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    ctx.candidates.rollouts.retain(cluster);
    let mut services = scope.concerned();
    services.extend(&scope.rollouts);
    for service in services.into_iter().filter_map(|id| cluster.services.get(id)) {
        if out.is_full() {
            return;
        }
        if service.spec.is_job() {
            jobs::end_earlier_runs(cluster, service, out);
            continue;
        }
        match cluster.rollout_tallies.get(service.id).filter(|_| service.is_rolling()) {
            Some(tally) => {
                if !stop_after_failures(service, tally, out) {
                    roll(cluster, service, tally, ctx, out);
                }
            }
            None if service.is_paused() => {}
            None => catch_up(cluster, scope, service, ctx, out),
        }
    }
}

fn roll(cluster: &Cluster, service: &Service, tally: &Tally, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let list = ctx.candidates.rollouts.of(cluster, service, ctx.now);
    out.places += list.take_judged();
    if !list.is_complete() {
        out.deferred.rollouts.insert(service.id);
        return;
    }
    let overdue = list.overdue(cluster, service, ctx.now);
    if !overdue.is_empty() {
        // The places are handled once the failures are recorded.
        let service = service.id;
        return out.push_about(overdue, |tasks| Kind::UpdateTasksOverdue(UpdateTasksOverdue { service, tasks }));
    }
    for time in [list.first_end(), list.first_deadline()].into_iter().flatten() {
        out.wake(time, TimerKey::Rollout(service.id));
    }
    let rollout = service.rollout();
    stop_superseded(cluster, service, rollout.order, list, out);
    if out.is_full() {
        return;
    }
    if tally.slots.is_none() {
        let slots = list.due().len() as u64;
        out.push(Kind::UpdateStarted(UpdateStarted { service: service.id, slots, rollback: rollback(service) }));
    }
    // Each place needs at least one event.
    let due: Vec<(Loss, Instance)> = list.due().iter().take(out.room.events).copied().collect();
    let in_flight = list.in_flight();
    if !due.is_empty() {
        take(cluster, service, &rollout, (in_flight, due), ctx, out);
    } else if in_flight == (0, 0) && !out.is_full() {
        complete(service, &rollout, tally, ctx.now, out);
    }
}

/// Stops old tasks next to serving ones of the current spec.
fn stop_superseded(cluster: &Cluster, service: &Service, order: UpdateOrder, list: &Worklist, out: &mut Correction) {
    let templates = Templates::new(cluster, service);
    for instance in list.superseded() {
        if out.is_full() {
            return;
        }
        let slot = slots::at(cluster, service.id, *instance);
        if let Condition::Superseded(others) = condition(cluster, service, &templates, order, &slot) {
            out.want(others, TaskState::Shutdown, DesiredCause::Update);
        }
    }
}

/// Takes as many of the due places as may be in flight at the same time.
fn take(
    cluster: &Cluster,
    service: &Service,
    rollout: &Rollout,
    (in_flight, due): ((u64, u64), Vec<(Loss, Instance)>),
    ctx: &mut Ctx<'_>,
    out: &mut Correction,
) {
    let limit = if rollout.parallelism == 0 { u64::MAX } else { rollout.parallelism };
    let (mut own, mut earlier) = in_flight;
    for (loss, instance) in due {
        // A place that is already in flight is counted before and after.
        let others = if loss == Loss::InFlight { own } else { own + earlier };
        if others >= limit || out.is_full() {
            return;
        }
        replace(service, rollout.order, instance, &slots::at(cluster, service.id, instance), ctx, out);
        own += 1;
        earlier -= u64::from(loss == Loss::InFlight);
    }
}

/// Without a rollout in progress: a node that could not take part in it gets the current spec once it can, and old tasks that
/// were left next to new ones stop once these are running. The same holds for tasks replaced by another one of the same spec.
fn catch_up(cluster: &Cluster, scope: &Scope, service: &Service, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if !slots::have_older_specs(cluster, service) && !slots::are_doubled(cluster, service) {
        return;
    }
    let (order, templates) = (service.rollout().order, Templates::new(cluster, service));
    for (instance, slot) in &slots::grouped(scope.tasks_of(cluster, service.id)) {
        if out.is_full() {
            return;
        }
        let stale = slot.last().is_some_and(|newest| newest.is_bound() && templates.is_out_of_date(cluster, newest));
        match condition(cluster, service, &templates, order, slot) {
            Condition::OutOfDate if stale => replace(service, order, *instance, slot, ctx, out),
            Condition::OutOfDate | Condition::Done => {}
            Condition::Superseded(others) => {
                for other in others {
                    out.want([other], TaskState::Shutdown, why_superseded(cluster, service, other));
                }
            }
        }
    }
}

/// Why a task stops that has a serving task next to it, without a rollout in progress.
fn why_superseded(cluster: &Cluster, service: &Service, task: &Task) -> DesiredCause {
    match () {
        () if slots::has_to_leave(cluster, task) => slots::why_left(cluster, task),
        () if task.spec_version != service.template_version => DesiredCause::Update,
        () if slots::is_rebalanced(cluster, task) => DesiredCause::Rebalanced,
        () => DesiredCause::Superseded,
    }
}

fn replace(
    service: &Service,
    order: UpdateOrder,
    instance: Instance,
    slot: &Slot<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut Correction,
) {
    let wanted: Vec<&Task> = slot.iter().copied().filter(|task| task.is_wanted()).collect();
    let Some(old) = wanted.last().copied() else {
        out.push(NewTask::at_once(instance, TaskCause::Update).event(service, ctx));
        return;
    };
    // One task serves until the new one does: the one that has been running longest, since one that an earlier rollout added may
    // just have been restarted. If none serves, none is kept.
    let serving = wanted.iter().filter(|task| serves(task)).min_by_key(|task| (task.running_at, task.id));
    match serving.filter(|_| order == UpdateOrder::StartFirst).map(|task| task.id) {
        None => {
            out.push(NewTask::after(old, TaskCause::Update, ctx.now).event(service, ctx));
            out.want(wanted, TaskState::Shutdown, DesiredCause::Update);
        }
        Some(kept) => {
            let new = NewTask { replaces: Some(kept), ..NewTask::at_once(instance, TaskCause::Update) };
            out.push(new.event(service, ctx));
            let others = wanted.into_iter().filter(|task| task.id != kept);
            out.want(others, TaskState::Shutdown, DesiredCause::Update);
        }
    }
}

/// Completes the rollout once the last new task has been monitored for long enough, even if it never ran.
fn complete(service: &Service, rollout: &Rollout, tally: &Tally, now: Timestamp, out: &mut Correction) {
    match tally.last_step_at.map(|last| last + watch(rollout)).filter(|watched_until| now < *watched_until) {
        Some(watched_until) => out.wake(watched_until, TimerKey::Rollout(service.id)),
        None => out.push(Kind::UpdateCompleted(UpdateCompleted { service: service.id, rollback: rollback(service) })),
    }
}

/// Pauses or rolls back a rollout with too many failed tasks; returns whether it did.
fn stop_after_failures(service: &Service, tally: &Tally, out: &mut Correction) -> bool {
    let rollout = service.rollout();
    let Some(failed_task) = tally.failed_task.filter(|_| has_failed(tally, &rollout)) else { return false };
    let is_rollback = rollback(service).is_some();
    let because = if tally.is_overdue {
        let deadline = rollout.progress_deadline;
        format!("because task {failed_task} did not run within the progress deadline of {deadline:?}")
    } else {
        format!("due to failure or early termination of task {failed_task}")
    };
    let rolls_back = rollout.failure_action == FailureAction::Rollback && !is_rollback;
    match service.previous.as_ref().filter(|previous| rolls_back && !previous.same_template(&service.spec)) {
        Some(previous) => {
            let (id, change) = (service.id, SpecChange::AutomaticRollback.into());
            let spec = with_credentials_of(previous, service);
            let reason = format!("update rolled back {because}");
            out.push(Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated {
                service: id,
                spec,
                change,
                credentials: None,
                destroyed_secrets: Vec::new(),
                restored: None,
            })));
            out.push(Kind::RollbackStarted(RollbackStarted { service: id, reason }));
        }
        None => {
            let what = if is_rollback { "rollback" } else { "update" };
            let reason = format!("{what} paused {because}");
            let rollback = rollback(service);
            out.push(Kind::UpdatePaused(UpdatePaused { service: service.id, reason, rollback }));
        }
    }
    true
}

/// Marks an event of the rollout as one of a rollback, if it is.
fn rollback(service: &Service) -> Option<bool> {
    service.update.as_ref().filter(|update| update.state.is_rollback()).map(|_| true)
}

fn has_failed(tally: &Tally, rollout: &Rollout) -> bool {
    let slots = tally.slots.unwrap_or(0).max(tally.taken);
    let too_many = u128::from(tally.failed) * 1_000_000 > u128::from(rollout.max_failure_ppm) * u128::from(slots);
    too_many && rollout.failure_action != FailureAction::Continue
}

/// The previous spec with the current credentials, which belong to the service.
fn with_credentials_of(previous: &ServiceSpec, service: &Service) -> ServiceSpec {
    let mut spec = previous.clone();
    if let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) {
        container.registry_auth_key.clone_from(&service.spec.template().container().registry_auth_key);
    }
    spec
}

#[cfg(test)]
mod tests;
