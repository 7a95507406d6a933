//! As many tasks as a replicated service wants: missing ones are made, surplus ones removed.

use std::collections::{BTreeMap, BTreeSet};

use events::service_spec::Mode;
use events::{DesiredCause, NodeId, ServiceId, TaskCause, TaskState};
use projections::{Cluster, Instance, Service, Task, Touched};

use crate::slots::{self, NewTask, Slot, ended_for_good};
use crate::{Correction, Ctx, Scope};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let emptied = scope.places.iter().filter(|(service, instance)| is_emptied(cluster, *service, *instance));
    let touched: BTreeSet<&ServiceId> = scope.places.iter().map(|(service, _)| service).collect();
    let refilled = touched.into_iter().filter(|service| may_have_too_many(cluster, **service));
    let whole = scope.services.iter().chain(&scope.unfilled);
    let services: BTreeSet<ServiceId> =
        whole.chain(emptied.map(|(service, _)| service)).chain(refilled).copied().collect();
    let replicated = services.into_iter().filter_map(|id| Missing::of(cluster, cluster.services.get(id)?));
    let mut left: Vec<Missing<'_>> = replicated.collect();
    // What misses least comes first, so that it never waits for what misses much.
    left.sort_by_key(|missing| (missing.tasks, missing.service.id));
    let mut left = left.as_slice();
    while let Some((first, rest)) = left.split_first().filter(|_| !out.is_full()) {
        first.make_up(cluster, ctx, out);
        // One that filled the turn may not be through.
        if !out.is_full() {
            left = rest;
        }
    }
    if !left.is_empty() {
        let unfilled = left.iter().map(|missing| missing.service.id).collect();
        out.unreached = Some(Touched { unfilled, ..Touched::default() });
    }
}

/// How far a service is from the places that it wants filled.
struct Missing<'a> {
    service: &'a Service,
    replicas: u64,
    /// Places that are filled, and those among them without a task that is wanted.
    filled: u64,
    ended: BTreeSet<Instance>,
    /// Tasks to make.
    tasks: usize,
}

impl<'a> Missing<'a> {
    /// Nothing of a service that is not replicated.
    fn of(cluster: &Cluster, service: &'a Service) -> Option<Self> {
        let replicas = match service.spec.mode() {
            Mode::Replicated(mode) => mode.replicas,
            Mode::Global(_) => return None,
        };
        let ended: BTreeSet<Instance> = ended_places(cluster, service).collect();
        let filled = cluster.places().wanted(service.id) + ended.len() as u64;
        let tasks = usize::try_from(replicas.saturating_sub(filled)).unwrap_or(usize::MAX);
        Some(Self { service, replicas, filled, ended, tasks })
    }

    /// Makes what is missing, or gives up what is too much, as far as the turn has room.
    fn make_up(&self, cluster: &Cluster, ctx: &mut Ctx<'_>, out: &mut Correction) {
        for instance in free_slots(cluster, self.service, self.filled, &self.ended).take(self.tasks) {
            if out.is_full() {
                return;
            }
            out.push(NewTask::at_once(instance, TaskCause::Scale).event(self.service, ctx));
        }
        if self.filled > self.replicas {
            give_up(cluster, self.service, self.replicas, out);
        }
    }
}

/// Places of a service that are filled although no task of theirs is wanted.
fn ended_places(cluster: &Cluster, service: &Service) -> impl Iterator<Item = Instance> {
    let idle = cluster.places().idle(service.id);
    idle.filter(|instance| is_filled(cluster, service, &slots::at(cluster, service.id, *instance)))
}

/// The slots that are not filled, the lowest first.
fn free_slots(
    cluster: &Cluster,
    service: &Service,
    filled: u64,
    ended: &BTreeSet<Instance>,
) -> impl Iterator<Item = Instance> {
    // Most services have no gap, and need no looking for one.
    let is_dense = cluster.last_place_of_service(service.id).is_none_or(|last| last <= Instance::Slot(filled));
    let first = if is_dense { filled + 1 } else { 1 };
    let places = cluster.places_of_service(service.id).take(if is_dense { 0 } else { usize::MAX });
    let is_filled = |instance: &Instance| !cluster.places().is_idle(service.id, *instance) || ended.contains(instance);
    let mut filled = places.filter(is_filled).peekable();
    (first..).map(Instance::Slot).filter(move |slot| {
        while filled.next_if(|place| place < slot).is_some() {}
        filled.peek() != Some(slot)
    })
}

/// Gives up the filled places that are more than `replicas`, as many as the turn has room for.
fn give_up(cluster: &Cluster, service: &Service, replicas: u64, out: &mut Correction) {
    let mut filled = slots::of(cluster, service);
    filled.retain(|_, slot| is_filled(cluster, service, slot));
    let given_up = surplus(&filled, usize::try_from(replicas).unwrap_or(usize::MAX)).into_iter();
    // What fills a place goes last, so that a turn that is cut in the middle of a place leaves it filled, and to be given up.
    let tasks = given_up.flat_map(|instance| {
        let mut tasks: Vec<&Task> = cluster.tasks_of_instance(service.id, instance).collect();
        tasks.sort_by_key(|task| (task.is_wanted(), task.created_index, task.id));
        tasks
    });
    out.want_first_of(tasks, TaskState::Remove, DesiredCause::ScaleDown);
}

/// A service that did not change itself has as many filled places as it wants, until one of them is not filled any more. One
/// that was given up is looked at in vain.
fn is_emptied(cluster: &Cluster, service: ServiceId, instance: Instance) -> bool {
    let service = cluster.services.get(service).filter(|service| service.spec.replicas().is_some());
    service.is_some_and(|service| {
        let wanted = cluster.tasks_of_instance(service.id, instance).any(Task::is_wanted);
        !wanted && !is_filled(cluster, service, &slots::at(cluster, service.id, instance))
    })
}

/// A place that was not filled any more may be filled again, as by a rollout, after another one was filled instead.
fn may_have_too_many(cluster: &Cluster, service: ServiceId) -> bool {
    let Some(replicas) = cluster.services.get(service).and_then(|service| service.spec.replicas()) else {
        return false;
    };
    // Which of the idle ones are filled, only a closer look says.
    match replicas.checked_sub(cluster.places().wanted(service)).map(usize::try_from) {
        Some(Ok(others)) => cluster.places().idle(service).nth(others).is_some(),
        Some(Err(_)) => false,
        None => true,
    }
}

/// A slot is filled by a task that is wanted, and by one that ended for good: its policy does not want another.
fn is_filled(cluster: &Cluster, service: &Service, slot: &Slot<'_>) -> bool {
    let wanted = slot.iter().any(|task| task.is_wanted());
    wanted || slot.last().is_some_and(|newest| ended_for_good(cluster, service, newest))
}

/// The slots to give up: first those of the nodes that hold most, among them those that do not run, then the highest. When
/// only the first of them are given up now, the next turn comes to the same order for the rest.
fn surplus(filled: &BTreeMap<Instance, Slot<'_>>, wanted: usize) -> Vec<Instance> {
    let runs = |slot: &Slot<'_>| slot.iter().any(|task| task.is_live() && task.state == TaskState::Running);
    let mut order: Vec<(&Instance, &Slot<'_>)> = filled.iter().collect();
    order.sort_by_key(|(instance, slot)| (!runs(slot), **instance));
    let mut on_node: BTreeMap<NodeId, u64> = BTreeMap::new();
    let mut ranked: Vec<(u64, Instance)> = Vec::with_capacity(order.len());
    for (instance, slot) in order {
        let live: Vec<_> = slot.iter().filter(|task| task.is_live()).collect();
        let rank = match live[..] {
            [only] => only.node.map(|node| {
                let rank = on_node.entry(node).or_default();
                *rank += 1;
                *rank
            }),
            _ => None,
        };
        // No single node: given up first.
        ranked.push((rank.unwrap_or(u64::MAX), *instance));
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.drain(wanted..).rev().map(|(_, instance)| instance).collect()
}

#[cfg(test)]
mod tests {
    use events::NodeSpec;

    use super::*;
    use crate::samples::{Sample, replicated, service};

    /// A service of so many replicas, with tasks: the slot of each, its node if it has one, and its state.
    fn sample(replicas: u64, tasks: &[(u64, Option<u128>, TaskState)]) -> Sample {
        let nodes = [1, 2].into_iter();
        let sample = nodes.fold(Sample::default(), |sample, node| sample.with_node(node, NodeSpec::default()));
        let sample = sample.with_service(replicated(replicas), &[]);
        (1..).zip(tasks).fold(sample, |sample, (number, (slot, node, state))| {
            let sample = sample.with_task(number, *slot, None, TaskState::Pending);
            let sample = node.iter().fold(sample, |sample, node| sample.assigned(number, *node));
            if *state > TaskState::Assigned { sample.reported(number, *state) } else { sample }
        })
    }

    #[test]
    fn missing_tasks_are_made_and_surplus_ones_removed() {
        use TaskState::{Assigned, Failed, Pending, Running};
        let table: [(_, &[_], &[&str]); 11] = [
            (0, &[], &[]),
            (3, &[], &["make in 1", "make in 2", "make in 3"]),
            (2, &[(1, Some(1), Running), (2, Some(2), Running)], &[]),
            (3, &[(1, Some(1), Running), (3, Some(2), Running)], &["make in 2"]),
            (1, &[(2, Some(1), Running)], &[]),
            // What ended and is wanted is the business of restarts.
            (1, &[(1, Some(1), Failed)], &[]),
            (0, &[(1, Some(1), Running)], &["remove 1"]),
            // What has no node goes first, then what the node with most holds, what does not run, and the highest slot.
            (1, &[(1, None, Pending), (2, Some(1), Running)], &["remove 1"]),
            (2, &[(1, Some(1), Running), (2, Some(2), Running), (3, Some(1), Running)], &["remove 3"]),
            (1, &[(1, Some(1), Assigned), (2, Some(1), Running)], &["remove 1"]),
            (1, &[(1, Some(1), Running), (2, Some(2), Running)], &["remove 2"]),
        ];
        for (replicas, tasks, expected) in table {
            assert_eq!(sample(replicas, tasks).ask(reconcile, 1), expected, "{replicas} replicas, {tasks:?}");
        }
    }

    #[test]
    fn a_place_that_is_filled_again_after_another_was_filled_instead_is_one_too_many() {
        use TaskState::{Complete, Running};
        let table: [(_, &[_], _, &[&str]); 4] = [
            (1, &[(1, Some(1), Running), (2, Some(2), Running)], 1, &["remove 2"]),
            (2, &[(1, Some(1), Running), (2, Some(2), Running)], 2, &[]),
            // What ended and is wanted fills its place too.
            (1, &[(1, Some(1), Running), (2, Some(2), Complete)], 1, &["remove 2"]),
            // Only what was touched is looked at: too few are another's business.
            (3, &[(1, Some(1), Running), (2, Some(2), Running)], 2, &[]),
        ];
        for (replicas, tasks, touched, expected) in table {
            let scope =
                Scope { places: [(service(), Instance::Slot(touched))].into_iter().collect(), ..Scope::default() };
            let said = sample(replicas, tasks).ask_about(&scope, reconcile, 1);
            assert_eq!(said, expected, "{replicas} replicas, {tasks:?}, place {touched}");
        }
    }
}
