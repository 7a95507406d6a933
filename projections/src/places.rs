//! The places of services: how many have wanted tasks, and which have only unwanted ones. Derived from the tasks and updated with
//! each change of one, so that counting the places of a service does not require visiting its tasks.

use events::{ServiceId, TaskId, TaskState};
use imbl::{OrdMap, OrdSet};

use crate::counts;
use crate::instance::Instance;
use crate::tasks::End;
use crate::{Cluster, Task};

/// The status of a place, derived from its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceStatus {
    /// It has no task.
    Empty,
    /// All of its tasks are being removed.
    Leaving,
    /// None of its tasks is wanted; some are not being removed. The template version of the newest of these, and how it ended.
    Ended(u64, End),
    /// It has a wanted task.
    Wanted,
}

/// The places of all services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places {
    /// How many places have a wanted task; only services with any.
    wanted: OrdMap<ServiceId, u64>,
    /// Places with tasks, none of which is wanted.
    idle: OrdSet<(ServiceId, Instance)>,
    /// How many of these have a task that is not being removed, by the template version of the newest, and how it ended.
    ended: OrdMap<(ServiceId, u64, End), u64>,
}

impl Places {
    /// How many places of a service have a wanted task.
    pub fn wanted(&self, service: ServiceId) -> u64 {
        self.wanted.get(&service).copied().unwrap_or(0)
    }

    /// How many places of a service have no wanted task, and one that is not being removed, the newest of which ended like this.
    pub fn ended(&self, service: ServiceId, end: End) -> u64 {
        self.ended_of(service).filter(|(of, _)| *of == end).map(|(_, count)| count).sum()
    }

    /// The same, for those whose newest ran this template version.
    pub fn ended_at(&self, service: ServiceId, version: u64, end: End) -> u64 {
        self.ended.get(&(service, version, end)).copied().unwrap_or(0)
    }

    /// How many places of a service have no wanted task, and one that is not being removed.
    pub fn all_ended(&self, service: ServiceId) -> u64 {
        self.ended_of(service).map(|(_, count)| count).sum()
    }

    fn ended_of(&self, service: ServiceId) -> impl Iterator<Item = (End, u64)> {
        let range = (service, 0, End::Finished)..=(service, u64::MAX, End::Stopped);
        self.ended.range(range).map(|((_, _, end), count)| (*end, *count))
    }

    /// The places of a service that have only unwanted tasks, in order, starting from one.
    pub fn idle_from(&self, service: ServiceId, from: Instance) -> impl Iterator<Item = Instance> {
        self.idle.range((service, from)..=(service, Instance::LAST)).map(|(_, instance)| *instance)
    }

    /// Whether a place has tasks, none of which is wanted.
    pub fn is_idle(&self, service: ServiceId, instance: Instance) -> bool {
        self.idle.contains(&(service, instance))
    }

    /// Records the new status of a place.
    pub(crate) fn change(&mut self, place: (ServiceId, Instance), from: PlaceStatus, to: PlaceStatus) {
        if from == to {
            return;
        }
        match from {
            PlaceStatus::Empty | PlaceStatus::Leaving => {}
            PlaceStatus::Ended(version, end) => counts::down(&mut self.ended, (place.0, version, end)),
            PlaceStatus::Wanted => counts::down(&mut self.wanted, place.0),
        }
        match to {
            PlaceStatus::Empty | PlaceStatus::Leaving => {}
            PlaceStatus::Ended(version, end) => counts::up(&mut self.ended, (place.0, version, end)),
            PlaceStatus::Wanted => counts::up(&mut self.wanted, place.0),
        }
        match (from.is_idle(), to.is_idle()) {
            (false, true) => {
                self.idle.insert(place);
            }
            (true, false) => {
                self.idle.remove(&place);
            }
            (true, true) | (false, false) => {}
        }
    }
}

impl PlaceStatus {
    fn is_idle(self) -> bool {
        match self {
            Self::Leaving | Self::Ended(..) => true,
            Self::Empty | Self::Wanted => false,
        }
    }
}

impl Cluster {
    /// The status of the places of all services.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The places of a service that have tasks, in order.
    pub fn places_of_service(&self, service: ServiceId) -> impl Iterator<Item = Instance> {
        self.places_of_service_from(service, Instance::FIRST)
    }

    /// The same, starting from one place.
    pub fn places_of_service_from(&self, service: ServiceId, from: Instance) -> impl Iterator<Item = Instance> {
        let mut last = None;
        let range = (service, from, TaskId::default())..=(service, Instance::LAST, TaskId::MAX);
        let instances = self.tasks_by_instance.range(range).map(|(_, instance, _)| *instance);
        instances.filter(move |instance| last.replace(*instance) != Some(*instance))
    }

    /// The last place of a service that has a task.
    pub fn last_place_of_service(&self, service: ServiceId) -> Option<Instance> {
        self.instances(service).next_back()
    }

    /// Whether a task of a job has completed in a place, in the current run: even one that was asked to leave its node and
    /// finished before it did. Nothing has to run there again.
    pub fn has_completed(&self, (service, instance): (ServiceId, Instance)) -> bool {
        let version = self.services.get(service).map(|service| service.template_version);
        version.is_some_and(|version| self.has_completed_run((service, instance), version))
    }

    /// The same for one of its runs. Depends only on the tasks in the place.
    fn has_completed_run(&self, (service, instance): (ServiceId, Instance), version: u64) -> bool {
        let is_job = self.revisions.get((service, version)).is_some_and(|revision| revision.spec.is_job());
        let is_over = |task: &Task| task.desired != TaskState::Remove && task.state == TaskState::Complete;
        is_job && self.tasks_of_instance(service, instance).any(|task| task.spec_version == version && is_over(task))
    }

    /// The status of a place, derived from its tasks.
    pub(crate) fn place_status(&self, (service, instance): (ServiceId, Instance)) -> PlaceStatus {
        let (mut newest, mut is_empty): (Option<&Task>, bool) = (None, true);
        for task in self.tasks_of_instance(service, instance) {
            is_empty = false;
            if task.is_wanted() {
                return PlaceStatus::Wanted;
            }
            let age = |task: &Task| (task.created_index, task.id);
            if task.desired != TaskState::Remove && newest.is_none_or(|newest| age(newest) < age(task)) {
                newest = Some(task);
            }
        }
        match newest {
            Some(newest) if self.has_completed_run((service, instance), newest.spec_version) => {
                PlaceStatus::Ended(newest.spec_version, End::Finished)
            }
            // The node no longer suits the service, however its task ended.
            Some(newest) if newest.is_bound() && newest.had_to_leave() => {
                PlaceStatus::Ended(newest.spec_version, End::Stopped)
            }
            Some(newest) => PlaceStatus::Ended(newest.spec_version, newest.end()),
            None if is_empty => PlaceStatus::Empty,
            None => PlaceStatus::Leaving,
        }
    }
}

#[cfg(test)]
mod tests;
