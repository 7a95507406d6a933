//! Which places of a service are filled, while their number differs from the desired one: cached between turns, so that a turn
//! visits only the places that changed since, however many the service has.
//!
//! This is a cache of the state, like the [worklists of rollouts](crate::updates): the tables show what changed since it was last
//! updated, and tests verify that a cached one leads to the same decisions as one built from scratch.

use std::collections::{BTreeMap, BTreeSet};

use events::spec::Restart;
use events::{ServiceId, TaskId};
use projections::{Cluster, Instance, Service, Table, Task};

use super::ranking::Ranking;
use crate::slots::{self, Slot, ended_for_good};

/// Places visited for the first time in one pass. Nothing is created or released before all are known.
const NEW_PLACES_MAX: usize = 10_000;

/// All services with more or fewer filled places than desired, and the tasks as of the last update.
#[derive(Debug, Default)]
pub(crate) struct Fillings {
    services: BTreeMap<ServiceId, Filling>,
    seen: Table<TaskId, Task>,
}

impl Fillings {
    /// Records which places changed.
    pub(super) fn follow(&mut self, cluster: &Cluster) {
        self.services.retain(|id, filling| {
            let same = |service: &&Service| Rules::of(service) == filling.rules;
            let service = cluster.services.get(*id).filter(same);
            service.is_some_and(|service| !filling.is_settled || may_have_too_many(cluster, service))
        });
        if self.services.is_empty() {
            self.seen = Table::default();
            return;
        }
        let seen = std::mem::replace(&mut self.seen, cluster.tasks.clone());
        for (id, task) in cluster.tasks.changed_since(&seen) {
            if let Some(task) = task.or_else(|| seen.get(id))
                && let Some(filling) = self.services.get_mut(&task.service)
            {
                filling.changed.insert(task.instance());
            }
        }
    }

    /// The current filling of a service.
    pub(super) fn of(&mut self, cluster: &Cluster, service: &Service) -> &mut Filling {
        if self.services.is_empty() {
            self.seen = cluster.tasks.clone();
        }
        let filling = self.services.entry(service.id).or_insert_with(|| Filling::new(service));
        filling.look(cluster, service);
        filling
    }
}

/// What determines whether a place is filled, in addition to its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rules {
    policy: Restart,
    record: u64,
    credentials_version: u64,
}

impl Rules {
    fn of(service: &Service) -> Self {
        let policy = service.spec.restart_policy();
        Self { policy, record: service.record(), credentials_version: service.credentials_version }
    }
}

/// Which places of one service are filled.
#[derive(Debug)]
pub(super) struct Filling {
    rules: Rules,
    /// Places that changed since they were last visited.
    changed: BTreeSet<Instance>,
    /// The first idle place that was never visited.
    idle_from: Option<Instance>,
    /// Idle places that are filled: their tasks ended permanently.
    ended: BTreeSet<Instance>,
    /// All slots before this one are filled.
    free_from: u64,
    /// The order in which places are released, and the first that was never visited; only while there are too many.
    ranking: Option<(Ranking, Option<Instance>)>,
    /// Whether the desired number of places is filled.
    is_settled: bool,
    /// Places that were visited and not yet counted.
    judged: usize,
}

impl Filling {
    fn new(service: &Service) -> Self {
        Self {
            rules: Rules::of(service),
            changed: BTreeSet::new(),
            idle_from: Some(Instance::FIRST),
            ended: BTreeSet::new(),
            free_from: 1,
            ranking: None,
            is_settled: false,
            judged: 0,
        }
    }

    /// How many places of the service are filled; `None` until all were visited.
    pub(super) fn count(&self, cluster: &Cluster, service: &Service) -> Option<u64> {
        let ended = self.idle_from.is_none().then_some(self.ended.len() as u64)?;
        Some(ended + cluster.places().wanted(service.id))
    }

    /// Records whether the desired number of places is filled. Such a service is dropped from the cache.
    pub(super) fn settle(&mut self, is_settled: bool) {
        self.is_settled = is_settled;
    }

    /// How many places were visited since the last call.
    pub(super) fn take_judged(&mut self) -> usize {
        std::mem::take(&mut self.judged)
    }

    /// The slots that are not filled, the lowest first.
    pub(super) fn free_slots<'a>(
        &'a mut self,
        cluster: &'a Cluster,
        service: &'a Service,
        filled: u64,
    ) -> impl Iterator<Item = Instance> + 'a {
        // Most services have no gap, and need no search for one.
        let is_dense = cluster.last_place_of_service(service.id).is_none_or(|last| last <= Instance::Slot(filled));
        if is_dense {
            self.free_from = filled + 1;
        }
        let Self { ended, free_from, judged, .. } = self;
        let places = cluster.places_of_service_from(service.id, Instance::Slot(*free_from));
        let is_filled = |place: &Instance| !cluster.places().is_idle(service.id, *place) || ended.contains(place);
        let mut filled = places.filter(move |place| is_filled(place)).peekable();
        let first_of_all = *free_from;
        let mut is_first = true;
        (first_of_all..).filter_map(move |slot| {
            while filled.next_if(|place| *place < Instance::Slot(slot)).is_some() {
                *judged += 1;
            }
            let is_free = filled.peek() != Some(&Instance::Slot(slot));
            if is_free && std::mem::take(&mut is_first) {
                *free_from = slot;
            }
            is_free.then_some(Instance::Slot(slot))
        })
    }

    /// The order in which places are released; `None` until all were visited.
    pub(super) fn ranking(&mut self, cluster: &Cluster, service: &Service) -> Option<&mut Ranking> {
        if self.ranking.is_none() {
            self.ranking = Some((Ranking::default(), Some(Instance::FIRST)));
            self.rank_new_places(cluster, service);
        }
        self.ranking.as_mut().filter(|(_, next)| next.is_none()).map(|(ranking, _)| ranking)
    }

    /// Visits a place again although its tasks may not change: its planned change may not take effect.
    pub(super) fn look_again_at(&mut self, instance: Instance) {
        self.changed.insert(instance);
    }

    /// Visits what changed, and some of the places that were never visited.
    fn look(&mut self, cluster: &Cluster, service: &Service) {
        while let Some(instance) = self.changed.pop_first() {
            self.judge(cluster, service, instance);
        }
        if let Some(from) = self.idle_from {
            let mut idle = cluster.places().idle_from(service.id, from);
            for instance in idle.by_ref().take(NEW_PLACES_MAX) {
                self.judge(cluster, service, instance);
            }
            self.idle_from = idle.next();
        }
        self.rank_new_places(cluster, service);
    }

    fn rank_new_places(&mut self, cluster: &Cluster, service: &Service) {
        let Some(from) = self.ranking.as_ref().and_then(|(_, from)| *from) else { return };
        let mut places = cluster.places_of_service_from(service.id, from);
        for instance in places.by_ref().take(NEW_PLACES_MAX) {
            self.judge(cluster, service, instance);
        }
        let next = places.next();
        self.ranking = self.ranking.take().map(|(ranking, _)| (ranking, next));
    }

    fn judge(&mut self, cluster: &Cluster, service: &Service, instance: Instance) {
        self.judged += 1;
        let slot = slots::at(cluster, service.id, instance);
        let is_filled = is_filled(cluster, service, &slot);
        if is_filled && cluster.places().is_idle(service.id, instance) {
            self.ended.insert(instance);
        } else {
            self.ended.remove(&instance);
        }
        if let Some(slot) = instance.slot().filter(|_| !is_filled) {
            self.free_from = self.free_from.min(slot);
        }
        if let Some((ranking, _)) = &mut self.ranking {
            if is_filled {
                ranking.add(instance, &slot);
            } else {
                ranking.remove(instance);
            }
        }
    }
}

/// A place that was no longer filled may be filled again, as by a rollout, after another one was filled instead. Which of the
/// places that ended are filled requires a visit to each.
pub(super) fn may_have_too_many(cluster: &Cluster, service: &Service) -> bool {
    let at_most = cluster.places().wanted(service.id) + cluster.places().all_ended(service.id);
    service.spec.replicas().is_some_and(|replicas| at_most > replicas)
}

/// A slot is filled by a wanted task, and by one that ended permanently: its policy does not require another.
pub(super) fn is_filled(cluster: &Cluster, service: &Service, slot: &Slot<'_>) -> bool {
    let wanted = slot.iter().any(|task| task.is_wanted());
    wanted || slot.last().is_some_and(|newest| ended_for_good(cluster, service, newest))
}

#[cfg(test)]
mod tests;
