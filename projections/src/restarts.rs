//! What is remembered of the restarts of a place: for the limit on attempts, and for the delay before the next one.
//!
//! When what a service's tasks run changes, or its registry credentials do, a new record begins: restarts before say nothing about
//! what comes. What is left of an earlier record does not count. It is dropped when its place gets another task or loses its last
//! one, so that no change of a service costs what it has places.

use std::sync::Arc;
use std::time::Duration;

use events::spec::defaults::RESTART_DELAY;
use events::spec::limits;
use events::{RestartCondition, ServiceId, TaskState, Timestamp};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;
use crate::tasks::End;
use crate::{Cluster, Stamp, Task};

/// What is remembered of the restarts of one place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarts {
    /// The record of the service that this belongs to.
    record: u64,
    /// When it was restarted, as often as the policy's limit has to know.
    pub times: Vec<Timestamp>,
    /// How often in a row its task failed before it had run for long enough to count as healthy.
    pub failures: u64,
    /// How often in the same row its task ended without an error, though its service wants it to run permanently.
    pub exits: u64,
    /// Why it failed last; empty if it did not, in this row.
    pub last_failure: Arc<str>,
}

impl Restarts {
    /// The record of the service that this belongs to.
    pub(crate) fn record(&self) -> u64 {
        self.record
    }

    /// How often in a row its task ended before it had run for long enough to count as healthy.
    pub fn in_a_row(&self) -> u64 {
        self.failures + self.exits
    }
}

impl Cluster {
    /// What is remembered of the restarts of a place.
    pub fn restarts_in(&self, (service, instance): (ServiceId, Instance)) -> Option<&Restarts> {
        let record = self.services.get(service)?.record();
        self.restarts.get((service, instance)).filter(|restarts| restarts.record == record)
    }

    /// The places of a service with restarts that are remembered, in their order.
    pub fn restarted_places(&self, service: ServiceId) -> impl Iterator<Item = (Instance, &Restarts)> {
        let record = self.services.get(service).map(crate::Service::record);
        let known = self.restarts.range((service, Instance::FIRST)..=(service, Instance::LAST));
        let counts = known.filter(move |(_, restarts)| record == Some(restarts.record));
        counts.map(|((_, instance), restarts)| (instance, restarts))
    }

    /// How long its service pauses before a task takes the place of this one.
    pub fn restart_delay(&self, task: &Task) -> Duration {
        let ends = self.restarts_in((task.service, task.instance())).map_or(0, Restarts::in_a_row);
        let service = self.services.get(task.service);
        service.map_or(RESTART_DELAY, |service| service.spec.restart_policy().delay_after(ends))
    }

    /// When the place of a task that failed before it ran is tried again. An image that cannot be pulled fails while its task is
    /// prepared, before any delay in front of its start, so that the next task is only created after the delay.
    pub fn tried_again_at(&self, task: &Task) -> Option<Timestamp> {
        let failed = matches!(task.state, TaskState::Failed | TaskState::Rejected);
        let ended = task.ended_at.filter(|_| failed && task.running_at.is_none());
        ended.map(|ended| ended + self.restart_delay(task))
    }

    /// Until when a task that ended before it ran keeps its place: not before it was to start, nor before its place is tried again.
    pub fn keeps_place_until(&self, task: &Task) -> Option<Timestamp> {
        task.start_after.filter(|_| task.state.is_terminal()).max(self.tried_again_at(task))
    }
}

/// Keeps as many restarts of a place as its service's limit needs to know.
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

/// Counts in a row how often the task of a place ended. An end after a long healthy run is the first of its row. One without an
/// error counts where the service wants its tasks to run permanently, and ends the row elsewhere.
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

/// Changes what is remembered of a task's place. Where there is nothing to remember, nothing is kept.
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

/// Drops what is left in a place of an earlier record.
pub(crate) fn drop_void(cluster: &mut Cluster, place: (ServiceId, Instance)) {
    if cluster.restarts.contains(place) && cluster.restarts_in(place).is_none() {
        cluster.restarts.remove(place);
    }
}

#[cfg(test)]
mod tests;
