//! The restart record of a place: for the limit on attempts, and for the delay before the next one.
//!
//! When what a service's tasks run changes, or its registry credentials do, a new record starts: earlier restarts say nothing
//! about the new tasks. The remains of an earlier record do not count. They are dropped when their place gets another task or
//! loses its last one, so that a change of a service does not cost a visit to all its places.

use std::sync::Arc;
use std::time::Duration;

use events::spec::defaults::RESTART_DELAY;
use events::spec::limits;
use events::{RestartCondition, ServiceId, TaskState, Timestamp};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::tasks::End;
use crate::{Cluster, Stamp, Task};

/// The restart record of one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// The service's record that this belongs to.
    record: u64,
    /// When it was restarted, as many times as the policy's limit requires.
    pub times: Vec<Timestamp>,
    /// How many times in a row its task failed before it had run long enough to count as healthy.
    pub failures: u64,
    /// How many times in the same row its task exited without an error, although its service should run permanently.
    pub exits: u64,
    /// The last failure; empty if there was none in this row.
    pub last_failure: Arc<str>,
}

impl Restarts {
    /// The service's record that this belongs to.
    pub(crate) fn record(&self) -> u64 {
        self.record
    }

    /// How many times in a row its task ended before it had run long enough to count as healthy.
    pub fn in_a_row(&self) -> u64 {
        self.failures + self.exits
    }
}

impl Cluster {
    /// The restart record of a place.
    pub fn restarts_in(&self, (service, instance): (ServiceId, Instance)) -> Option<&Restarts> {
        let record = self.services.get(service)?.record();
        self.restarts.get((service, instance)).filter(|restarts| restarts.record == record)
    }

    /// The places of a service with restart records, in order.
    pub fn restarted_places(&self, service: ServiceId) -> impl Iterator<Item = (Instance, &Restarts)> {
        let record = self.services.get(service).map(crate::Service::record);
        let known = self.restarts.range((service, Instance::FIRST)..=(service, Instance::LAST));
        let counts = known.filter(move |(_, restarts)| record == Some(restarts.record));
        counts.map(|((_, instance), restarts)| (instance, restarts))
    }

    /// The restart delay of its service before a task replaces this one.
    pub fn restart_delay(&self, task: &Task) -> Duration {
        let ends = self.restarts_in((task.service, task.instance())).map_or(0, Restarts::in_a_row);
        let service = self.services.get(task.service);
        service.map_or(RESTART_DELAY, |service| service.spec.restart_policy().delay_after(ends))
    }

    /// When the place of a task that failed before it ran is tried again. A failed image pull occurs while a task is prepared,
    /// before any start delay, so that the next task is only created after the delay.
    pub fn tried_again_at(&self, task: &Task) -> Option<Timestamp> {
        let failed = matches!(task.state, TaskState::Failed | TaskState::Rejected);
        let ended = task.ended_at.filter(|_| failed && task.running_at.is_none());
        ended.map(|ended| ended + self.restart_delay(task))
    }

    /// Until when a task that ended before it ran keeps its place: until its start time, and until its place is tried again.
    pub fn keeps_place_until(&self, task: &Task) -> Option<Timestamp> {
        task.start_after.filter(|_| task.state.is_terminal()).max(self.tried_again_at(task))
    }
}

/// Records a restart of a place, and drops those that the service's limit does not need.
pub(crate) fn restarted(cluster: &mut Cluster, task: &Task, at: &Stamp) {
    let Some(service) = cluster.services.get(task.service) else { return };
    let limit = service.spec.restart_policy().max_attempts;
    let kept = usize::try_from(limit.min(limits::RESTART_ATTEMPTS_MAX)).unwrap_or(0);
    if kept == 0 {
        return;
    }
    change(cluster, task, |restarts| {
        restarts.times.push(at.time);
        restarts.times.drain(..restarts.times.len().saturating_sub(kept));
    });
}

/// Counts how many times in a row the task of a place ended. An end after a long healthy run is the first of its row. One without
/// an error counts if the service should run permanently, and otherwise ends the row.
pub(crate) fn ended(cluster: &mut Cluster, task: &Task, at: &Stamp) {
    let Some(service) = cluster.services.get(task.service) else { return };
    let permanent = service.spec.restart_policy().condition == RestartCondition::Any;
    let failed = match task.end() {
        End::Failed => true,
        End::Finished => false,
        End::Stopped => return,
    };
    let healthy = task.is_healthy(at.time);
    let why: Arc<str> = task.status.as_ref().map_or("", |status| status.error.as_str()).into();
    change(cluster, task, |restarts| {
        if healthy || !(failed || permanent) {
            (restarts.failures, restarts.exits, restarts.last_failure) = (0, 0, Arc::default());
        }
        if failed {
            restarts.failures += 1;
            restarts.last_failure = why;
        } else if permanent {
            restarts.exits += 1;
        }
    });
}

/// Changes the record of a task's place. An empty record is removed.
fn change(cluster: &mut Cluster, task: &Task, change: impl FnOnce(&mut Restarts)) {
    let Some(record) = cluster.services.get(task.service).map(crate::Service::record) else { return };
    let place = (task.service, task.instance());
    let nothing = Restarts { record, ..Restarts::default() };
    let mut restarts = cluster.restarts_in(place).cloned().unwrap_or_else(|| nothing.clone());
    change(&mut restarts);
    if restarts == nothing {
        cluster.restarts.remove(place);
    } else {
        cluster.restarts.insert(place, restarts);
    }
}

/// Drops the remains of an earlier record in a place.
pub(crate) fn drop_stale(cluster: &mut Cluster, place: (ServiceId, Instance)) {
    if cluster.restarts.contains(place) && cluster.restarts_in(place).is_none() {
        cluster.restarts.remove(place);
    }
}

#[cfg(test)]
mod tests;
