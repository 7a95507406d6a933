//! The places of services: how many are wanted, and which have tasks that are not. Derived from the tasks, kept up to date with
//! each change of one, so that nobody walks the tasks of a service to count its places.

use events::{ServiceId, TaskId};
use imbl::{OrdMap, OrdSet};

use crate::Cluster;
use crate::counts;
use crate::tasks::{Instance, Task};

/// What the tasks in a place make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlaceStatus {
    /// It has no task.
    Empty,
    /// None of its tasks is wanted.
    Idle,
    /// Some task of it is wanted.
    Wanted,
}

/// The places of all services.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Places {
    /// How many places have a task that is wanted; only of services that have any.
    wanted: OrdMap<ServiceId, u64>,
    /// Places with tasks of which none is wanted.
    idle: OrdSet<(ServiceId, Instance)>,
}

impl Places {
    /// How many places of a service have a task that is wanted.
    pub fn wanted(&self, service: ServiceId) -> u64 {
        self.wanted.get(&service).copied().unwrap_or(0)
    }

    /// The places of a service that have tasks of which none is wanted, in their order.
    pub fn idle(&self, service: ServiceId) -> impl Iterator<Item = Instance> {
        self.idle.range((service, Instance::FIRST)..=(service, Instance::LAST)).map(|(_, instance)| *instance)
    }

    /// Whether a place has tasks, and none of them is wanted.
    pub fn is_idle(&self, service: ServiceId, instance: Instance) -> bool {
        self.idle.contains(&(service, instance))
    }

    /// Notes what became of a place.
    pub(crate) fn change(&mut self, (service, instance): (ServiceId, Instance), from: PlaceStatus, to: PlaceStatus) {
        if from == to {
            return;
        }
        match from {
            PlaceStatus::Empty => {}
            PlaceStatus::Idle => {
                self.idle.remove(&(service, instance));
            }
            PlaceStatus::Wanted => counts::down(&mut self.wanted, service),
        }
        match to {
            PlaceStatus::Empty => {}
            PlaceStatus::Idle => {
                self.idle.insert((service, instance));
            }
            PlaceStatus::Wanted => counts::up(&mut self.wanted, service),
        }
    }
}

impl Cluster {
    /// What is known of the places of services.
    pub fn places(&self) -> &Places {
        &self.places
    }

    /// The places of a service that have tasks, in their order.
    pub fn places_of_service(&self, service: ServiceId) -> impl Iterator<Item = Instance> {
        self.places_of_service_from(service, Instance::FIRST)
    }

    /// The same from one place on.
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

    /// What the tasks in a place make of it.
    pub(crate) fn standing(&self, (service, instance): (ServiceId, Instance)) -> PlaceStatus {
        let mut tasks = self.tasks_of_instance(service, instance);
        let Some(first) = tasks.next() else { return PlaceStatus::Empty };
        if first.is_wanted() || tasks.any(Task::is_wanted) { PlaceStatus::Wanted } else { PlaceStatus::Idle }
    }
}

/// Makes the index of places.
pub(crate) fn derive(cluster: &mut Cluster) {
    let mut places = Places::default();
    let services: Vec<ServiceId> = cluster.revisions.iter().map(|((service, _), _)| service).collect();
    let mut last = None;
    for service in services.into_iter().filter(|service| last.replace(*service) != Some(*service)) {
        for instance in cluster.places_of_service(service) {
            places.change((service, instance), PlaceStatus::Empty, cluster.standing((service, instance)));
        }
    }
    cluster.places = places;
}
