//! Rollouts: tasks of an older spec give way to ones of the present spec, a few at a time.
//!
//! There are no workers that sleep: how many places are in flight follows from the tasks themselves, a place being in
//! flight from the moment its new task is made until that task has run for the delay.

use std::collections::BTreeMap;

use events::spec::Rollout;
use events::{
    Availability, DesiredCause, FailureAction, Kind, RollbackStarted, ServiceSpecUpdated, SpecChange, TaskCause,
    TaskState, Timestamp, UpdateCompleted, UpdateOrder, UpdatePaused, UpdateStarted,
};
use projections::{Cluster, Instance, Node, Service, Task, Update};

use crate::global;
use crate::schedule::filters::meets_constraints;
use crate::slots::{self, NewTask, Slot};
use crate::{Correction, Ctx, Scope, Subject};

/// How far one place is.
enum Progress<'a> {
    /// Its task has another spec than it should.
    OutOfDate,
    /// Its new task is not running yet, or its delay is not over, which it is at this time.
    InFlight(Option<Timestamp>),
    /// Its new task runs, and old ones beside it are not needed any more.
    Superseded(Vec<&'a Task>),
    /// Nothing to do.
    Done,
}

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for service in scope.services.iter().filter_map(|id| cluster.services.get(*id)) {
        if out.is_full() {
            return;
        }
        if !stop_after_failures(cluster, service, out) {
            roll(cluster, service, ctx, out);
        }
    }
}

fn roll(cluster: &Cluster, service: &Service, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let is_open = service.update.as_ref().is_some_and(|update| update.state.is_open());
    if !is_open && !slots::have_older_specs(cluster, service) {
        return;
    }
    let (rollout, templates) = (service.rollout(), Templates::new(cluster, service));
    let slots = slots::of(cluster, service);
    let (mut out_of_date, mut in_flight) = (Vec::new(), 0);
    for (instance, slot) in &slots {
        if out.is_full() {
            return;
        }
        match progress(cluster, service, &templates, &rollout, slot, ctx.now) {
            Progress::OutOfDate => out_of_date.push((*instance, slot)),
            Progress::InFlight(until) => {
                in_flight += 1;
                if let Some(until) = until {
                    out.wake(until, Subject::Service(service.id));
                }
            }
            Progress::Superseded(old) => {
                in_flight += 1;
                out.want(old, TaskState::Shutdown, DesiredCause::Update);
            }
            Progress::Done => {}
        }
    }
    if service.update.as_ref().is_some_and(|update| update.state.is_paused()) {
        return;
    }
    if out_of_date.is_empty() {
        if in_flight == 0 {
            complete(service, &rollout, &slots, ctx.now, out);
        }
        return;
    }
    if !service.update.as_ref().is_some_and(|update| update.state.is_open() && update.slots > 0) {
        out.push(Kind::UpdateStarted(UpdateStarted { service: service.id, slots: out_of_date.len() as u64 }));
    }
    let free = match rollout.parallelism {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(in_flight),
    };
    for (instance, slot) in out_of_date.into_iter().take(free) {
        if out.is_full() {
            return;
        }
        replace(service, &rollout, instance, slot, ctx, out);
    }
}

fn progress<'a>(
    cluster: &Cluster,
    service: &Service,
    templates: &Templates,
    rollout: &Rollout,
    slot: &Slot<'a>,
    now: Timestamp,
) -> Progress<'a> {
    let Some((newest, older)) = slot.split_last() else { return Progress::Done };
    if templates.is_out_of_date(cluster, newest) {
        return if takes_change(cluster, service, newest) { Progress::OutOfDate } else { Progress::Done };
    }
    let older: Vec<&Task> = older.iter().copied().filter(|task| task.is_live()).collect();
    if !newest.is_live() {
        return Progress::Done;
    }
    if newest.state < TaskState::Running {
        // A new order may be what lets the new task run at last: the old one holds a port that it needs.
        if rollout.order == UpdateOrder::StopFirst && !older.is_empty() {
            return Progress::Superseded(older);
        }
        return if made_by_rollout(service, newest) { Progress::InFlight(None) } else { Progress::Done };
    }
    if !older.is_empty() {
        return Progress::Superseded(older);
    }
    let until = newest.running_at.unwrap_or(now) + rollout.delay;
    if made_by_rollout(service, newest) && now < until { Progress::InFlight(Some(until)) } else { Progress::Done }
}

/// Whether the rollout under way made this task. What takes its place should it end is the business of restarts: the rollout
/// goes on, or is stopped by too many failures.
fn made_by_rollout(service: &Service, task: &Task) -> bool {
    let began = service.update.as_ref().filter(|update| update.state.is_open()).map(|update| update.started_at);
    began.is_some_and(|began| task.created_at >= began) && task.cause == TaskCause::Update
}

/// A node that takes no tasks, or does not suit a global service, or not any more, gets no new one: what is there stops by
/// itself. One that suits again gets its task without a rollout.
fn takes_change(cluster: &Cluster, service: &Service, task: &Task) -> bool {
    let Some(node) = task.node.filter(|_| task.bound) else { return true };
    let suits = |node: &Node| node.spec.availability() == Availability::Active && global::suits(service, node);
    task.desired_cause != Some(DesiredCause::NodeUnfit) && cluster.nodes.get(node).is_some_and(suits)
}

fn replace(
    service: &Service,
    rollout: &Rollout,
    instance: Instance,
    slot: &Slot<'_>,
    ctx: &mut Ctx<'_>,
    out: &mut Correction,
) {
    let live: Vec<&Task> = slot.iter().copied().filter(|task| task.is_wanted()).collect();
    let Some(old) = live.last().copied() else {
        out.push(NewTask::at_once(instance, TaskCause::Update).event(service, ctx));
        return;
    };
    match rollout.order {
        UpdateOrder::StopFirst => {
            out.push(NewTask::after(old, TaskCause::Update, ctx.now).event(service, ctx));
            out.want(live, TaskState::Shutdown, DesiredCause::Update);
        }
        UpdateOrder::StartFirst => {
            // One task serves until the new one does. Those that an earlier rollout put beside it are not needed any more.
            let serving =
                live.iter().rev().find(|task| task.state == TaskState::Running).map_or(old.id, |task| task.id);
            let new = NewTask { replaces: Some(serving), ..NewTask::at_once(instance, TaskCause::Update) };
            out.push(new.event(service, ctx));
            let others = live.into_iter().filter(|task| task.id != serving);
            out.want(others, TaskState::Shutdown, DesiredCause::Update);
        }
    }
}

/// Ends the rollout once the last new task has been watched for long enough.
fn complete(
    service: &Service,
    rollout: &Rollout,
    slots: &BTreeMap<Instance, Slot<'_>>,
    now: Timestamp,
    out: &mut Correction,
) {
    let Some(update) = service.update.as_ref().filter(|update| update.state.is_open()) else { return };
    let newest = slots.values().filter_map(|slot| slot.last()).filter(|task| task.created_at >= update.started_at);
    let watched_until =
        newest.filter_map(|task| task.running_at).max().map_or(update.started_at, |last| last + rollout.monitor);
    if now >= watched_until {
        out.push(Kind::UpdateCompleted(UpdateCompleted { service: service.id }));
    } else {
        out.wake(watched_until, Subject::Service(service.id));
    }
}

/// Pauses or undoes a rollout too many of whose tasks failed; whether it did.
fn stop_after_failures(cluster: &Cluster, service: &Service, out: &mut Correction) -> bool {
    let rollout = service.rollout();
    let Some(update) = service.update.as_ref().filter(|update| has_failed(update, &rollout)) else { return false };
    let culprit = cluster.tasks_of_service(service.id).filter(|task| is_culprit(service, task));
    let culprit = culprit.max_by_key(|task| (task.ended_at, task.id)).map(|task| task.id.to_string());
    let task = culprit.unwrap_or_else(|| "that was removed since".to_owned());
    let back = service
        .previous
        .as_ref()
        .filter(|_| rollout.failure_action == FailureAction::Rollback && !update.state.is_rollback());
    match back {
        Some((previous, _)) => {
            let (service, spec, change) = (service.id, (**previous).clone(), SpecChange::AutomaticRollback.into());
            let reason = format!("update rolled back due to failure or early termination of task {task}");
            out.push(Kind::ServiceSpecUpdated(ServiceSpecUpdated { service, spec, change }));
            out.push(Kind::RollbackStarted(RollbackStarted { service, reason }));
        }
        None => {
            let what = if update.state.is_rollback() { "rollback" } else { "update" };
            let reason = format!("{what} paused due to failure or early termination of task {task}");
            out.push(Kind::UpdatePaused(UpdatePaused { service: service.id, reason }));
        }
    }
    true
}

fn has_failed(update: &Update, rollout: &Rollout) -> bool {
    let too_many =
        u128::from(update.failed) * 1_000_000 > u128::from(rollout.max_failure_ppm) * u128::from(update.slots);
    update.state.is_open() && update.failed > 0 && too_many && rollout.failure_action != FailureAction::Continue
}

fn is_culprit(service: &Service, task: &Task) -> bool {
    task.spec_version == service.template_version && task.state.is_terminal() && task.state != TaskState::Shutdown
}

/// How the older specs that tasks run differ from the present one, each compared once.
struct Templates {
    current: u64,
    differences: BTreeMap<u64, Difference>,
    constraints: Vec<String>,
}

#[derive(Clone, Copy)]
enum Difference {
    None,
    /// Only where tasks may run: one that may stay where it is keeps its old spec.
    PlacementOnly,
    Other,
}

impl Templates {
    fn new(cluster: &Cluster, service: &Service) -> Self {
        let older = cluster.revisions.range((service.id, 0)..=(service.id, u64::MAX));
        let differences = older.map(|((_, version), revision)| (version, difference(&revision.spec, &service.spec)));
        let constraints = service.spec.template().placed().constraints.clone();
        Self { current: service.template_version, differences: differences.collect(), constraints }
    }

    fn is_out_of_date(&self, cluster: &Cluster, task: &Task) -> bool {
        if task.spec_version == self.current {
            return false;
        }
        match self.differences.get(&task.spec_version) {
            Some(Difference::None) => false,
            Some(Difference::PlacementOnly) => {
                let node = task.node.and_then(|node| cluster.nodes.get(node));
                !node.is_some_and(|node| meets_constraints(&self.constraints, node))
            }
            Some(Difference::Other) | None => true,
        }
    }
}

fn difference(old: &events::ServiceSpec, new: &events::ServiceSpec) -> Difference {
    if old.same_template(new) {
        return Difference::None;
    }
    let placement = new.template().placement.clone();
    let moved = events::TaskSpec { placement, ..old.template().without_credentials() };
    let only_moved = old.endpoint == new.endpoint && moved == new.template().without_credentials();
    if only_moved { Difference::PlacementOnly } else { Difference::Other }
}
