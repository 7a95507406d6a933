//! Rollouts: tasks of an older spec give way to ones of the present spec, a few at a time.
//!
//! There are no workers that sleep. The projection knows which places a rollout took and when their new tasks first ran or
//! ended: a place is in flight from the moment it is taken until then, and for the delay after, whatever becomes of the task.

use std::collections::{BTreeMap, BTreeSet};

use events::spec::Rollout;
use events::{
    Availability, DesiredCause, FailureAction, Kind, RollbackStarted, ServiceSpec, ServiceSpecUpdated, SpecChange,
    TaskCause, TaskState, Timestamp, UpdateCompleted, UpdateOrder, UpdatePaused, UpdateStarted,
};
use projections::rollouts::watch;
use projections::{Cluster, Instance, Node, Service, Step, Tally, Task};

use crate::global;
use crate::slots::{self, NewTask, Slot};
use crate::templates::Templates;
use crate::{Correction, Ctx, Scope, Subject};

/// How one place is, as far as a rollout is concerned.
enum Condition<'a> {
    /// Its task has another spec than it should.
    OutOfDate,
    /// A task of the present spec serves, or may only start once these others stop.
    Superseded(Vec<&'a Task>),
    /// Nothing to do.
    Done,
}

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for service in scope.services.iter().filter_map(|id| cluster.services.get(*id)) {
        if out.is_full() {
            return;
        }
        match cluster.rollout_tallies.get(service.id).filter(|_| service.is_rolling()) {
            Some(tally) => {
                if !stop_after_failures(service, tally, out) {
                    roll(cluster, service, tally, ctx, out);
                }
            }
            None if service.is_paused() => {}
            None => catch_up(cluster, service, ctx, out),
        }
    }
}

fn roll(cluster: &Cluster, service: &Service, tally: &Tally, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let (rollout, templates) = (service.rollout(), Templates::new(cluster, service));
    let flights = Flights::of(cluster, service, &rollout, ctx.now);
    for until in flights.in_flight.values().flatten() {
        out.wake(*until, Subject::Service(service.id));
    }
    let slots = slots::of(cluster, service);
    let mut due = Vec::new();
    for (instance, slot) in &slots {
        if out.is_full() {
            return;
        }
        match condition(cluster, service, &templates, rollout.order, slot) {
            Condition::OutOfDate if !flights.taken(*instance) => due.push((*instance, slot)),
            Condition::Done if !flights.taken(*instance) && waits_for_restart(cluster, &templates, slot, ctx.now) => {
                due.push((*instance, slot));
            }
            Condition::OutOfDate | Condition::Done => {}
            Condition::Superseded(others) => out.want(others, TaskState::Shutdown, DesiredCause::Update),
        }
    }
    if tally.slots.is_none() {
        out.push(Kind::UpdateStarted(UpdateStarted { service: service.id, slots: due.len() as u64 }));
    }
    if !due.is_empty() {
        take(service, &rollout, flights, due, ctx, out);
    } else if flights.in_flight.is_empty() && !out.is_full() {
        complete(service, &rollout, tally, ctx.now, out);
    }
}

/// The places that rollouts took, as they are now.
struct Flights {
    /// Places whose task is not out of its delay, with the end of it where that is known.
    in_flight: BTreeMap<Instance, Option<Timestamp>>,
    /// Places that the rollout under way took, and need not take again.
    taken: BTreeSet<Instance>,
}

impl Flights {
    fn of(cluster: &Cluster, service: &Service, rollout: &Rollout, now: Timestamp) -> Self {
        let (mut in_flight, mut taken) = (BTreeMap::new(), BTreeSet::new());
        for (instance, step) in cluster.rollout_steps(service.id) {
            let on_its_way = is_on_its_way(cluster, step);
            match step.settled_at.map(|settled| settled + rollout.delay) {
                None if on_its_way => {
                    in_flight.insert(instance, None);
                }
                Some(until) if now < until => {
                    in_flight.insert(instance, Some(until));
                }
                None | Some(_) => {}
            }
            if step.rollout == service.template_version && (on_its_way || step.settled_at.is_some()) {
                taken.insert(instance);
            }
        }
        Self { in_flight, taken }
    }

    fn taken(&self, instance: Instance) -> bool {
        self.taken.contains(&instance)
    }

    /// Places in flight that the rollout under way took, and ones that an earlier rollout left in flight.
    fn count(&self) -> (u64, u64) {
        let own = self.in_flight.keys().filter(|instance| self.taken(**instance)).count() as u64;
        (own, self.in_flight.len() as u64 - own)
    }
}

/// Whether a task that did not settle may still: one that was told to stop or was removed is not waited for.
fn is_on_its_way(cluster: &Cluster, step: &Step) -> bool {
    step.settled_at.is_none() && cluster.tasks.get(step.task).is_some_and(Task::is_live)
}

/// How bad it is to stop what is in a place: nothing is lost where an earlier rollout has left the place in flight, or where
/// nothing runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    InFlight,
    Down,
    Serving,
}

/// Takes as many places as may be in flight at the same time, first those where least is lost.
fn take(
    service: &Service,
    rollout: &Rollout,
    flights: Flights,
    due: Vec<(Instance, &Slot<'_>)>,
    ctx: &mut Ctx<'_>,
    out: &mut Correction,
) {
    let limit = if rollout.parallelism == 0 { u64::MAX } else { rollout.parallelism };
    let (mut own, mut earlier) = flights.count();
    let loss = |instance: &Instance, slot: &Slot<'_>| match () {
        () if flights.in_flight.contains_key(instance) => Loss::InFlight,
        () if !slot.iter().any(|task| serves(task)) => Loss::Down,
        () => Loss::Serving,
    };
    let mut due: Vec<_> = due.into_iter().map(|(instance, slot)| (loss(&instance, slot), instance, slot)).collect();
    due.sort_by_key(|(loss, instance, _)| (*loss, *instance));
    for (loss, instance, slot) in due {
        // A place that is in flight already is one of them before and after.
        let others = if loss == Loss::InFlight { own } else { own + earlier };
        if others >= limit || out.is_full() {
            return;
        }
        replace(service, rollout.order, instance, slot, ctx, out);
        own += 1;
        earlier -= u64::from(loss == Loss::InFlight);
    }
}

/// Where no rollout is under way: a node that could not take part in it gets the present spec once it can, and old tasks that
/// were left beside new ones stop once these run.
fn catch_up(cluster: &Cluster, service: &Service, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if !slots::have_older_specs(cluster, service) {
        return;
    }
    let (order, templates) = (service.rollout().order, Templates::new(cluster, service));
    for (instance, slot) in &slots::of(cluster, service) {
        if out.is_full() {
            return;
        }
        let stale = slot.last().is_some_and(|newest| newest.is_bound() && templates.is_out_of_date(cluster, newest));
        match condition(cluster, service, &templates, order, slot) {
            Condition::OutOfDate if stale => replace(service, order, *instance, slot, ctx, out),
            Condition::OutOfDate | Condition::Done => {}
            Condition::Superseded(others) => out.want(others, TaskState::Shutdown, DesiredCause::Update),
        }
    }
}

fn condition<'a>(
    cluster: &Cluster,
    service: &Service,
    templates: &Templates,
    order: UpdateOrder,
    slot: &Slot<'a>,
) -> Condition<'a> {
    let is_clean = |task: &&&Task| task.is_live() && !templates.is_out_of_date(cluster, task);
    let beside = |kept: &Task| -> Vec<&'a Task> {
        slot.iter().copied().filter(|task| task.is_wanted() && task.id != kept.id).collect()
    };
    let serving = slot.iter().rev().find(|task| serves(task) && is_clean(task));
    let coming = slot.iter().rev().find(is_clean);
    let others = match (serving, coming) {
        (Some(serving), _) => beside(serving),
        // The old task may hold a port that the new one needs.
        (None, Some(coming)) if order == UpdateOrder::StopFirst => beside(coming),
        (None, Some(_)) => return Condition::Done,
        (None, None) => {
            let task = slot.iter().rev().find(|task| task.is_live()).or(slot.last());
            let changes =
                |task: &&&Task| templates.is_out_of_date(cluster, task) && takes_change(cluster, service, task);
            return if task.filter(changes).is_some() { Condition::OutOfDate } else { Condition::Done };
        }
    };
    if others.is_empty() { Condition::Done } else { Condition::Superseded(others) }
}

/// Whether a place is down because its old task failed, and has a new one only after the delay between restarts. That delay is
/// for what failed, not for what the rollout brings.
fn waits_for_restart(cluster: &Cluster, templates: &Templates, slot: &Slot<'_>, now: Timestamp) -> bool {
    let waits = |task: &&&Task| task.is_wanted() && task.start_after.is_some_and(|start_after| now < start_after);
    let waiting = slot.last().filter(waits).filter(|_| !slot.iter().any(|task| serves(task)));
    let failed = waiting.and_then(|waiting| slot.iter().find(|task| waiting.replaces == Some(task.id)));
    failed.is_some_and(|failed| failed.state.is_terminal() && templates.is_out_of_date(cluster, failed))
}

fn serves(task: &Task) -> bool {
    task.is_live() && task.state == TaskState::Running
}

/// A node that takes no tasks, or does not suit a global service, or not any more, gets no new one: what is there stops by
/// itself. One that suits again gets its task without a rollout.
fn takes_change(cluster: &Cluster, service: &Service, task: &Task) -> bool {
    let Some(node) = task.node.filter(|_| task.is_bound()) else { return true };
    let suits = |node: &Node| node.spec.availability() == Availability::Active && global::suits(service, node);
    task.desired_cause != Some(DesiredCause::NodeUnfit) && cluster.nodes.get(node).is_some_and(suits)
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
    // One task serves until the new one does: the one that has for longest, since what an earlier rollout put beside it may have
    // been restarted just now. Where nothing serves, nothing is kept.
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

/// Ends the rollout once the last new task has been watched for long enough, also if it never ran.
fn complete(service: &Service, rollout: &Rollout, tally: &Tally, now: Timestamp, out: &mut Correction) {
    match tally.last_step_at.map(|last| last + watch(rollout)).filter(|watched_until| now < *watched_until) {
        Some(watched_until) => out.wake(watched_until, Subject::Service(service.id)),
        None => out.push(Kind::UpdateCompleted(UpdateCompleted { service: service.id })),
    }
}

/// Pauses or undoes a rollout too many of whose tasks failed; whether it did.
fn stop_after_failures(service: &Service, tally: &Tally, out: &mut Correction) -> bool {
    let rollout = service.rollout();
    let Some(culprit) = tally.culprit.filter(|_| has_failed(tally, &rollout)) else { return false };
    let is_rollback = service.update.as_ref().is_some_and(|update| update.state.is_rollback());
    let rolls_back = rollout.failure_action == FailureAction::Rollback && !is_rollback;
    match service.previous.as_ref().filter(|previous| rolls_back && !previous.same_template(&service.spec)) {
        Some(previous) => {
            let (id, change) = (service.id, SpecChange::AutomaticRollback.into());
            let spec = with_credentials_of(previous, service);
            let reason = format!("update rolled back due to failure or early termination of task {culprit}");
            out.push(Kind::ServiceSpecUpdated(ServiceSpecUpdated {
                service: id,
                spec,
                change,
                credentials: None,
                destroyed_secrets: Vec::new(),
            }));
            out.push(Kind::RollbackStarted(RollbackStarted { service: id, reason }));
        }
        None => {
            let what = if is_rollback { "rollback" } else { "update" };
            let reason = format!("{what} paused due to failure or early termination of task {culprit}");
            out.push(Kind::UpdatePaused(UpdatePaused { service: service.id, reason }));
        }
    }
    true
}

fn has_failed(tally: &Tally, rollout: &Rollout) -> bool {
    let slots = tally.slots.unwrap_or(0).max(tally.taken);
    let too_many = u128::from(tally.failed) * 1_000_000 > u128::from(rollout.max_failure_ppm) * u128::from(slots);
    too_many && rollout.failure_action != FailureAction::Continue
}

/// The previous spec. Credentials belong to the service: the ones that it has now are the ones that there are.
fn with_credentials_of(previous: &ServiceSpec, service: &Service) -> ServiceSpec {
    let mut spec = previous.clone();
    if let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) {
        container.registry_auth_key.clone_from(&service.spec.template().runs().registry_auth_key);
    }
    spec
}
