//! The places that fail repeatedly: how many of each service, and which failed most. Derived from the records of restarts and
//! from the wanted tasks, so that the status of a service can be shown without visiting all its places.

use std::cmp::Reverse;

use events::{ServiceId, TaskState, Timestamp};
use imbl::{OrdMap, OrdSet};

use crate::counts;
use crate::instance::Instance;
use crate::{Cluster, Restarts, Task};

/// The status of one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// A wanted task in it is not running. How often its tasks failed and exited in a row, most first.
    Down(Reverse<(u64, u64)>),
    /// It has been running again since this time, the newest first.
    Running(Reverse<Timestamp>),
}

/// The service of a place, and the restart record that its failures belong to.
type Record = (ServiceId, u64);

/// The repeatedly failing places of all services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Failing {
    by_place: OrdMap<(ServiceId, Instance), (u64, Rank)>,
    by_rank: OrdSet<(ServiceId, u64, Rank, Instance)>,
    /// How many of them are not running.
    down: OrdMap<Record, u64>,
}

impl Failing {
    fn set(&mut self, place: (ServiceId, Instance), to: Option<(u64, Rank)>) {
        let from = self.by_place.get(&place).copied();
        if from == to {
            return;
        }
        let (service, instance) = place;
        if let Some((record, rank)) = from {
            self.by_place.remove(&place);
            self.by_rank.remove(&(service, record, rank, instance));
            if matches!(rank, Rank::Down(_)) {
                counts::down(&mut self.down, (service, record));
            }
        }
        if let Some((record, rank)) = to {
            self.by_place.insert(place, (record, rank));
            self.by_rank.insert((service, record, rank, instance));
            if matches!(rank, Rank::Down(_)) {
                counts::up(&mut self.down, (service, record));
            }
        }
    }
}

impl Cluster {
    /// How many repeatedly failing places of a service are not running.
    pub fn failing_down(&self, service: ServiceId) -> u64 {
        let record = self.services.get(service).map(|known| (service, known.record()));
        record.and_then(|record| self.failing.down.get(&record).copied()).unwrap_or(0)
    }

    /// The repeatedly failing places of a service that are not running, those with most failures in a row first.
    pub fn failing_places(&self, service: ServiceId) -> impl Iterator<Item = Instance> {
        let (most, none) = (Rank::Down(Reverse((u64::MAX, u64::MAX))), Rank::Down(Reverse((0, 0))));
        self.ranked(service, most, none)
    }

    /// The places of a service that have been running again since a time or later, the newest first.
    pub fn recovered_places(&self, service: ServiceId, since: Timestamp) -> impl Iterator<Item = Instance> {
        let last = Timestamp::from_unix_ns(i64::MAX);
        self.ranked(service, Rank::Running(Reverse(last)), Rank::Running(Reverse(since)))
    }

    fn ranked(&self, service: ServiceId, first: Rank, last: Rank) -> impl Iterator<Item = Instance> {
        let record = self.services.get(service).map(crate::Service::record);
        let range = move |record| (service, record, first, Instance::FIRST)..=(service, record, last, Instance::LAST);
        let places = record.into_iter().flat_map(move |record| self.failing.by_rank.range(range(record)));
        places.map(|(_, _, _, instance)| *instance)
    }

    fn rank(&self, place @ (service, instance): (ServiceId, Instance)) -> Option<(u64, Rank)> {
        let restarts: &Restarts = self.restarts.get(place).filter(|restarts| restarts.in_a_row() > 0)?;
        let mut since = None;
        for task in self.tasks_of_instance(service, instance).filter(|task| task.is_wanted()) {
            let running = |task: &Task| task.running_at.filter(|_| task.state == TaskState::Running);
            let Some(at) = running(task) else {
                return Some((restarts.record(), Rank::Down(Reverse((restarts.failures, restarts.exits)))));
            };
            since = since.max(Some(at));
        }
        Some((restarts.record(), Rank::Running(Reverse(since?))))
    }
}

/// Updates the entry of a place whose tasks or restarts changed.
pub(crate) fn changed(cluster: &mut Cluster, place: (ServiceId, Instance)) {
    let rank = cluster.rank(place);
    cluster.failing.set(place, rank);
}

/// Builds the index.
pub(crate) fn derive(cluster: &mut Cluster) {
    let places: Vec<(ServiceId, Instance)> = cluster.restarts.iter().map(|(place, _)| place).collect();
    for place in places {
        changed(cluster, place);
    }
}

#[cfg(test)]
mod tests;
