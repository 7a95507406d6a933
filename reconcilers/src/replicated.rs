//! The tasks of replicated services: missing ones are created, surplus ones removed.

mod filling;
mod ranking;

use std::collections::BTreeSet;

use events::{DesiredCause, ServiceId, TaskCause, TaskState};
use projections::{Cluster, Instance, Service, Task, Touched};

use crate::slots::{self, NewTask};
use crate::{Correction, Ctx, Scope};
pub(crate) use filling::Fillings;
use filling::{Filling, is_filled, may_have_too_many};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let emptied = scope.places.iter().filter(|(service, instance)| is_emptied(cluster, *service, *instance));
    let touched: BTreeSet<&ServiceId> = scope.places.iter().map(|(service, _)| service).collect();
    let refilled = touched
        .into_iter()
        .filter(|id| cluster.services.get(**id).is_some_and(|service| may_have_too_many(cluster, service)));
    let whole = scope.services.iter().chain(&scope.unfilled);
    let services: BTreeSet<ServiceId> =
        whole.chain(emptied.map(|(service, _)| service)).chain(refilled).copied().collect();
    let mut fillings = std::mem::take(&mut ctx.candidates.fillings);
    fillings.follow(cluster);
    let replicated =
        services.into_iter().filter_map(|id| Missing::of(cluster, cluster.services.get(id)?, &mut fillings, out));
    let mut left: Vec<Missing<'_>> = replicated.collect();
    // The service that lacks the fewest comes first, so that it never waits for one that lacks many.
    left.sort_by_key(|missing| (missing.tasks, missing.service.id));
    let mut left = left.as_slice();
    while let Some((first, rest)) = left.split_first().filter(|_| !out.is_full()) {
        first.make_up(cluster, &mut fillings, ctx, out);
        // One that filled the turn may not be complete.
        if !out.is_full() {
            left = rest;
        }
    }
    if !left.is_empty() {
        let unfilled = left.iter().map(|missing| missing.service.id).collect();
        out.unreached = Some(Touched { unfilled, ..Touched::default() });
    }
    ctx.candidates.fillings = fillings;
}

/// How far a service is from the desired number of filled places.
struct Missing<'a> {
    service: &'a Service,
    replicas: u64,
    /// Number of filled places.
    filled: u64,
    /// Tasks to create.
    tasks: usize,
}

impl<'a> Missing<'a> {
    /// `None` for a service that is not replicated, has the desired number, or is not fully known yet.
    fn of(cluster: &Cluster, service: &'a Service, fillings: &mut Fillings, out: &mut Correction) -> Option<Self> {
        let replicas = service.spec.replicas()?;
        let filling = fillings.of(cluster, service);
        out.places += filling.take_judged();
        let Some(filled) = filling.count(cluster, service) else {
            out.deferred.unfilled.insert(service.id);
            return None;
        };
        filling.settle(filled == replicas);
        let tasks = usize::try_from(replicas.saturating_sub(filled)).unwrap_or(usize::MAX);
        (filled != replicas).then_some(Self { service, replicas, filled, tasks })
    }

    /// Creates missing tasks, or removes surplus ones, as far as the turn has room.
    fn make_up(&self, cluster: &Cluster, fillings: &mut Fillings, ctx: &mut Ctx<'_>, out: &mut Correction) {
        let filling = fillings.of(cluster, self.service);
        if self.filled > self.replicas {
            give_up(cluster, self.service, self.filled - self.replicas, filling, out);
        } else {
            for instance in filling.free_slots(cluster, self.service, self.filled).take(self.tasks) {
                if out.is_full() {
                    break;
                }
                out.push(NewTask::at_once(instance, TaskCause::Scale).event(self.service, ctx));
            }
        }
        out.places += filling.take_judged();
    }
}

/// Releases this many filled places, as far as the turn has room, once it is known which.
fn give_up(cluster: &Cluster, service: &Service, surplus: u64, filling: &mut Filling, out: &mut Correction) {
    let mut tasks: Vec<&Task> = Vec::new();
    let mut places: Vec<Instance> = Vec::new();
    let Some(ranking) = filling.ranking(cluster, service) else {
        out.deferred.unfilled.insert(service.id);
        return;
    };
    for _ in 0..surplus {
        // One more means that the turn is full.
        if tasks.len() > out.most_tasks() {
            break;
        }
        let Some(instance) = ranking.pop() else { break };
        places.push(instance);
        let of_place = tasks.len();
        tasks.extend(cluster.tasks_of_instance(service.id, instance).filter(|task| task.desired < TaskState::Remove));
        // The task that fills a place comes last, so that a turn that is cut within a place leaves it filled, to be released
        // later.
        tasks[of_place..].sort_by_key(|task| (task.is_wanted(), task.created_index, task.id));
    }
    places.into_iter().for_each(|instance| filling.look_again_at(instance));
    out.want_first_of(tasks, TaskState::Remove, DesiredCause::ScaleDown);
}

/// A service that did not change itself has the desired number of filled places, until one of them is no longer filled. For a
/// place that was released, the check finds nothing to do.
fn is_emptied(cluster: &Cluster, service: ServiceId, instance: Instance) -> bool {
    let service = cluster.services.get(service).filter(|service| service.spec.replicas().is_some());
    service.is_some_and(|service| {
        let wanted = cluster.tasks_of_instance(service.id, instance).any(Task::is_wanted);
        !wanted && !is_filled(cluster, service, &slots::at(cluster, service.id, instance))
    })
}

#[cfg(test)]
mod tests {
    use events::NodeSpec;

    use super::*;
    use crate::samples::{Sample, replicated, service};

    /// A service with this many replicas and these tasks: the slot of each, its node if it has one, and its state.
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
            // Wanted tasks that ended are handled by `restarts`.
            (1, &[(1, Some(1), Failed)], &[]),
            (0, &[(1, Some(1), Running)], &["remove 1"]),
            // Tasks without a node are removed first, then those on the node with most tasks, those that are not running, and the
            // highest slot.
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
            // A wanted task that ended fills its place too.
            (1, &[(1, Some(1), Running), (2, Some(2), Complete)], 1, &["remove 2"]),
            // Only touched places are visited: missing ones are detected elsewhere.
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
