//! Moves tasks that would now be placed elsewhere, because another node has fewer tasks of their service: a few in each step.
//!
//! Only services that enable it are rebalanced, if they use the spread strategy and are quiet: all of their tasks are running, no
//! rollout is in progress, and none failed recently. So a step starts when the previous one is complete. The filters and the
//! ranks are the scheduler's. A move makes the spread strictly more even, and goes to the node that was found: none is ever
//! reversed.

use std::collections::{BTreeMap, BTreeSet};

use events::spec::Rebalancing;
use events::{
    DesiredCause, GenericResource, Kind, NodeId, ServiceId, ServiceRebalanced, TaskAssigned, TaskCause, TaskId,
    TaskState, Timestamp, UpdateOrder,
};
use projections::{Cluster, Service, Task, Touched, failures};

use super::filters::Filters;
use super::order::Order;
use super::run::Run;
use super::spread::Spread;
use super::{Crowds, Nodes};
use crate::slots::{self, NewTask, serves};
use crate::{Correction, Ctx, Scope, TimerKey};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    ctx.candidates.crowds.follow(cluster);
    if cluster.rebalancing().is_empty() {
        return;
    }
    let mut balances = due(cluster, scope, &mut ctx.candidates.crowds);
    while let Some(id) = balances.first().copied().filter(|_| !out.is_full()) {
        if let Some(service) = cluster.services.get(id)
            && let Some(rule) = service.spec.rebalancing()
        {
            step(cluster, service, rule, ctx, out);
        }
        // One that filled the turn is processed again.
        if !out.is_full() {
            balances.remove(&id);
        }
    }
    out.unreached = Some(Touched { balances, ..Touched::default() });
}

/// The services with a change that affects where their tasks would be placed.
fn due(cluster: &Cluster, scope: &Scope, crowds: &mut Crowds) -> BTreeSet<ServiceId> {
    let mut due = scope.concerned();
    due.extend(scope.balances.iter().chain(&scope.waiting));
    due.retain(|service| cluster.rebalancing().contains(service));
    if scope.roomier.is_empty() {
        return due;
    }
    let is_ready = |node: &NodeId| cluster.nodes.get(*node).is_some_and(projections::Node::takes_tasks);
    let ready: Vec<NodeId> = scope.roomier.iter().copied().filter(is_ready).collect();
    let others = cluster.rebalancing().iter().filter(|service| !scope.quarantined.contains(service));
    let others: Vec<ServiceId> = others.filter(|service| !due.contains(service)).copied().collect();
    for id in others {
        let Some(service) = cluster.services.get(id) else { continue };
        let most = crowds.most(cluster, id);
        let may_gain = |node: &NodeId| {
            let tasks = cluster.usage.active_on(id, *node);
            // A task of a node that has returned may be moved again.
            let is_back = scope.nodes.contains(node) || scope.contacts.contains(node);
            tasks + 1 < most || (is_back && tasks > 1)
        };
        if looks_beyond_counts(cluster, service) || ready.iter().any(may_gain) {
            due.insert(id);
        }
    }
    due
}

/// Whether more than the number of tasks on each node affects the placement of a service, so that any node may make a difference.
fn looks_beyond_counts(cluster: &Cluster, service: &Service) -> bool {
    let placement = service.spec.template().placement();
    !placement.preferences.is_empty()
        || !placement.affinities.is_empty()
        || cluster.kept_apart_from(service.spec.name()).next().is_some()
}

/// The next step of a service, if it is due.
fn step(cluster: &Cluster, service: &Service, rule: Rebalancing, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if !is_quiet(cluster, service) {
        return;
    }
    let earliest = earliest(cluster, service, rule);
    if let Some(time) = earliest.filter(|time| ctx.now < *time) {
        return out.wake(time, TimerKey::Balance(service.id));
    }
    for chosen in choose(cluster, service, rule.max_tasks, &mut ctx.candidates.nodes) {
        // The next step handles what does not fit into the turn.
        if out.is_full() {
            return;
        }
        chosen.begin(service, ctx, out);
    }
}

/// Whether all wanted tasks are running, and no change is in progress.
fn is_quiet(cluster: &Cluster, service: &Service) -> bool {
    let (counts, wanted) = (cluster.tasks_by_revision(), service.spec.replicas());
    let of_template = counts.of_service(service.id).find(|(version, _)| *version == service.template_version);
    let runs = of_template.is_some_and(|(_, tasks)| Some(tasks.running) == wanted);
    let is_whole = Some(counts.total(service.id).wanted) == wanted && !slots::are_doubled(cluster, service);
    runs && is_whole && !service.is_rolling() && !service.is_paused()
}

/// When the next step may start: after the pause, and not while a failure still counts.
fn earliest(cluster: &Cluster, service: &Service, rule: Rebalancing) -> Option<Timestamp> {
    let known = cluster.failures.range((service.id, NodeId::default())..=(service.id, NodeId::MAX));
    let failed = known.flat_map(|(_, failures)| failures).filter(|(version, _)| *version == service.template_version);
    let forgotten = failed.map(|(_, at)| *at + failures::WINDOW).max();
    let paced = service.rebalanced.as_ref().map(|last| last.at + rule.every);
    forgotten.max(paced)
}

/// A task to replace, and the node of its replacement.
struct Move<'a> {
    task: &'a Task,
    from: NodeId,
    to: NodeId,
    claims: Vec<GenericResource>,
    reason: String,
}

/// Up to `most` moves, each assuming the ones before it.
fn choose<'a>(cluster: &'a Cluster, service: &Service, most: u64, known: &mut Nodes) -> Vec<Move<'a>> {
    let filters = Filters::of_spec(cluster, service.id, &service.spec);
    let mut moves: Vec<Move<'a>> = Vec::new();
    if filters.order() != Order::Spread {
        return moves;
    }
    known.follow(cluster);
    let Nodes { pool, layouts } = known;
    let mut run = Run::new(cluster, pool);
    run.count_service(service.id);
    let layout = layouts.of(filters.placement(), &filters, run.pool);
    while (moves.len() as u64) < most {
        let spread = Spread::new(layout, BTreeMap::new(), &filters, &mut run);
        let Some(uneven) = spread.uneven(&filters, &mut run) else { break };
        let (from, to) = (run.pool.get(uneven.from).id, run.pool.get(uneven.to).id);
        let taken: Vec<TaskId> = moves.iter().map(|known| known.task.id).collect();
        let Some(task) = youngest(cluster, service, from, &taken) else { break };
        let claims = filters.take(uneven.to, &mut run);
        run.release(uneven.from);
        moves.push(Move { task, from, to, claims, reason: uneven.reason });
    }
    moves
}

/// The newest task of the service on a node, except for those that are already moving: stopping it loses least.
fn youngest<'a>(cluster: &'a Cluster, service: &Service, node: NodeId, taken: &[TaskId]) -> Option<&'a Task> {
    let tasks = cluster.tasks_of_node(node).filter(|task| task.service == service.id && serves(task));
    tasks.filter(|task| !taken.contains(&task.id)).max_by_key(|task| (task.created_index, task.id))
}

impl Move<'_> {
    /// Creates the task on the other node; the old one stops first or continues until the new one is running, as in an update.
    fn begin(self, service: &Service, ctx: &mut Ctx<'_>, out: &mut Correction) {
        let Self { task, from, to, claims, reason } = self;
        out.push(Kind::ServiceRebalanced(ServiceRebalanced { service: service.id, task: task.id, from, to, reason }));
        let cause = TaskCause::Rebalanced;
        let is_start_first = service.spec.update_rollout().order == UpdateOrder::StartFirst;
        let new = if is_start_first {
            NewTask { replaces: Some(task.id), ..NewTask::at_once(task.instance(), cause) }
        } else {
            NewTask::after(task, cause, ctx.now)
        };
        let id = new.make(service, ctx, out);
        out.push(Kind::TaskAssigned(TaskAssigned { task: id, node: to, claims }));
        if !is_start_first {
            out.want([task], TaskState::Shutdown, DesiredCause::Rebalanced);
        }
    }
}

#[cfg(test)]
mod tests;
