//! As many tasks as a replicated service wants: missing ones are made, surplus ones removed.

use std::collections::{BTreeMap, BTreeSet};

use events::{DesiredCause, NodeId, ServiceId, TaskCause, TaskState};
use projections::{Cluster, Instance, Service, Task};

use crate::slots::{self, NewTask, Slot, ended_for_good};
use crate::{Correction, Ctx, Scope};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let emptied = scope.places.iter().filter(|(service, instance)| is_emptied(cluster, *service, *instance));
    let services: BTreeSet<ServiceId> =
        scope.services.iter().chain(emptied.map(|(service, _)| service)).copied().collect();
    for service in services.iter().filter_map(|id| cluster.services.get(*id)) {
        let Some(replicas) = service.spec.replicas() else { continue };
        if out.is_full() {
            return;
        }
        let mut filled = slots::of(cluster, service);
        filled.retain(|_, slot| is_filled(cluster, service, slot));
        let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
        if filled.len() < wanted {
            let free = (1..).map(Instance::Slot).filter(|slot| !filled.contains_key(slot));
            for instance in free.take(wanted - filled.len()) {
                if out.is_full() {
                    return;
                }
                out.push(NewTask::at_once(instance, TaskCause::Scale).event(service, ctx));
            }
        } else {
            let given_up = surplus(&filled, wanted).into_iter();
            let tasks = given_up.flat_map(|instance| cluster.tasks_of_instance(service.id, instance));
            out.want_first_of(tasks, TaskState::Remove, DesiredCause::ScaleDown);
        }
    }
}

/// A service that did not change itself has as many filled places as it wants, until one of them is not filled any more. One
/// that was given up is looked at in vain.
fn is_emptied(cluster: &Cluster, service: ServiceId, instance: Instance) -> bool {
    let service = cluster.services.get(service).filter(|service| !service.spec.is_global());
    service.is_some_and(|service| {
        let wanted = cluster.tasks_of_instance(service.id, instance).any(Task::is_wanted);
        !wanted && !is_filled(cluster, service, &slots::at(cluster, service.id, instance))
    })
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
