//! The worklist of each rollout in progress: cached between turns, so that a turn visits only the places that changed since,
//! however many the service has.
//!
//! This is a cache of the state: it is updated from the differences between states, and tests verify that a cached list equals
//! one built from scratch.

use std::collections::{BTreeMap, BTreeSet};

use events::{Duration, ServiceId, TaskId, Timestamp, UpdateOrder};
use projections::{Cluster, Instance, Service, Step, Task};

use super::condition::{Condition, condition, waits_for_restart};
use crate::slots::{self, serves};
use crate::templates::Templates;

/// Places visited for the first time in one pass. A rollout starts once all are known.
const NEW_PLACES_MAX: usize = 10_000;

/// How much is lost by stopping the tasks of a place: nothing where an earlier rollout has left the place in flight, or where
/// nothing is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Loss {
    InFlight,
    Down,
    Serving,
}

/// The lists of all rollouts that were processed, and the state as of the last update.
#[derive(Debug, Default)]
pub(crate) struct Worklists {
    lists: BTreeMap<ServiceId, Worklist>,
    seen: Cluster,
}

impl Worklists {
    /// The current list of a service that rolls out.
    pub(super) fn of(&mut self, cluster: &Cluster, service: &Service, now: Timestamp) -> &mut Worklist {
        self.follow(cluster);
        let list = self.lists.entry(service.id).or_insert_with(|| Worklist::new(service));
        list.look(cluster, service, now);
        list
    }

    /// Drops the lists of rollouts that have ended or changed their rules; without any, no state is retained either.
    pub(super) fn retain(&mut self, cluster: &Cluster) {
        let rolls = |service: &Service, list: &Worklist| service.is_rolling() && list.rules == Rules::of(service);
        self.lists.retain(|id, list| cluster.services.get(*id).is_some_and(|service| rolls(service, list)));
        if self.lists.is_empty() {
            self.seen = Cluster::default();
        }
    }

    /// Records which places of rollouts changed.
    fn follow(&mut self, cluster: &Cluster) {
        let seen = std::mem::replace(&mut self.seen, cluster.clone());
        if self.lists.is_empty() {
            return;
        }
        for (id, task) in cluster.tasks.changed_since(&seen.tasks) {
            if let Some(task) = task.or_else(|| seen.tasks.get(id)) {
                self.note(task.service, task.instance());
            }
        }
        for (service, instance) in cluster.rollout_steps_since(&seen) {
            self.note(service, instance);
        }
        for (node, _) in cluster.nodes.changed_since(&seen.nodes) {
            for task in cluster.tasks_of_node(node) {
                self.note(task.service, task.instance());
            }
        }
    }

    fn note(&mut self, service: ServiceId, instance: Instance) {
        if let Some(list) = self.lists.get_mut(&service) {
            list.changed.insert(instance);
        }
    }
}

/// What the meaning of a list depends on, in addition to the places themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rules {
    template_version: u64,
    order: UpdateOrder,
    delay: Duration,
    progress_deadline: Duration,
}

impl Rules {
    fn of(service: &Service) -> Self {
        let rollout = service.rollout();
        Self {
            template_version: service.template_version,
            order: rollout.order,
            delay: rollout.delay,
            progress_deadline: rollout.progress_deadline,
        }
    }
}

/// A place in flight.
#[derive(Debug, Clone, Copy)]
struct Flight {
    /// Whether the current rollout took it, and not an earlier one.
    own: bool,
    /// When its delay ends, once that is known.
    until: Option<Timestamp>,
    /// When its task should have run by, if the current rollout has a deadline for that.
    deadline: Option<Timestamp>,
}

/// The remaining work of one rollout.
#[derive(Debug)]
pub(super) struct Worklist {
    rules: Rules,
    /// The first place that was never visited.
    new_from: Option<Instance>,
    /// Places that changed since they were last visited.
    changed: BTreeSet<Instance>,
    /// Places to take, first those where least is lost.
    due: BTreeSet<(Loss, Instance)>,
    /// Places with tasks next to a serving one of the current spec.
    superseded: BTreeSet<Instance>,
    flights: BTreeMap<Instance, Flight>,
    /// The known ends of delays.
    ends: BTreeSet<(Timestamp, Instance)>,
    /// The deadlines of places in flight.
    deadlines: BTreeSet<(Timestamp, Instance)>,
    /// Number of places in flight of the current rollout.
    own: u64,
    /// Ends of the restart delays because of which places are due.
    delays: BTreeSet<(Timestamp, Instance)>,
    /// Places that were visited and not yet counted.
    judged: usize,
}

impl Worklist {
    fn new(service: &Service) -> Self {
        Self {
            rules: Rules::of(service),
            new_from: Some(Instance::FIRST),
            changed: BTreeSet::new(),
            due: BTreeSet::new(),
            superseded: BTreeSet::new(),
            flights: BTreeMap::new(),
            ends: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            own: 0,
            delays: BTreeSet::new(),
            judged: 0,
        }
    }

    /// Whether all places were visited.
    pub(super) fn is_complete(&self) -> bool {
        self.new_from.is_none()
    }

    /// Places that the rollout has yet to take, first those where least is lost.
    pub(super) fn due(&self) -> &BTreeSet<(Loss, Instance)> {
        &self.due
    }

    /// Places with tasks next to a serving one of the current spec.
    pub(super) fn superseded(&self) -> &BTreeSet<Instance> {
        &self.superseded
    }

    /// Places in flight that the current rollout took, and those that an earlier rollout left in flight.
    pub(super) fn in_flight(&self) -> (u64, u64) {
        (self.own, self.flights.len() as u64 - self.own)
    }

    /// When the first place that only waits for its delay stops being in flight.
    pub(super) fn first_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|(end, _)| *end)
    }

    /// When the first task that the rollout waits for should have run.
    pub(super) fn first_deadline(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The tasks that should have run by now.
    pub(super) fn overdue(&self, cluster: &Cluster, service: &Service, now: Timestamp) -> Vec<TaskId> {
        let late = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        late.filter_map(|(_, instance)| Some(cluster.rollout_step(service.id, *instance)?.task)).collect()
    }

    /// How many places were visited since the last call.
    pub(super) fn take_judged(&mut self) -> usize {
        std::mem::take(&mut self.judged)
    }

    /// Visits the places that changed, those affected by time, and some of those that were never visited.
    fn look(&mut self, cluster: &Cluster, service: &Service, now: Timestamp) {
        let templates = Templates::new(cluster, service);
        for times in [&mut self.ends, &mut self.delays] {
            while let Some((_, instance)) = times.first().copied().filter(|(time, _)| *time <= now) {
                times.pop_first();
                self.changed.insert(instance);
            }
        }
        while let Some(instance) = self.changed.pop_first() {
            self.judge(cluster, service, &templates, instance, now);
        }
        if let Some(from) = self.new_from {
            let mut places = cluster.places_of_service_from(service.id, from);
            for instance in places.by_ref().take(NEW_PLACES_MAX) {
                self.judge(cluster, service, &templates, instance, now);
            }
            self.new_from = places.next();
        }
    }

    fn judge(
        &mut self,
        cluster: &Cluster,
        service: &Service,
        templates: &Templates,
        instance: Instance,
        now: Timestamp,
    ) {
        self.judged += 1;
        self.forget(instance);
        let mut is_taken = false;
        if let Some(step) = cluster.rollout_step(service.id, instance) {
            let own = step.rollout == self.rules.template_version;
            let on_its_way = is_on_its_way(cluster, step);
            is_taken = own && (on_its_way || step.settled_at.is_some());
            let until = step.settled_at.map(|settled| settled + self.rules.delay);
            if on_its_way || until.is_some_and(|until| now < until) {
                let deadline = cluster.tasks.get(step.task).filter(|_| is_taken && on_its_way).and_then(|task| {
                    let allowed = self.rules.progress_deadline;
                    (!allowed.is_zero()).then(|| task.created_at + allowed)
                });
                self.add_flight(instance, Flight { own: is_taken, until, deadline });
            }
        }
        let slot = slots::at(cluster, service.id, instance);
        let is_due = match condition(cluster, service, templates, self.rules.order, &slot) {
            Condition::OutOfDate => true,
            Condition::Done => {
                let until = waits_for_restart(cluster, templates, &slot, now);
                self.delays.extend(until.map(|until| (until, instance)));
                until.is_some()
            }
            Condition::Superseded(_) => {
                self.superseded.insert(instance);
                false
            }
        };
        if is_due && !is_taken {
            let loss = match () {
                () if self.flights.contains_key(&instance) => Loss::InFlight,
                () if !slot.iter().any(|task| serves(task)) => Loss::Down,
                () => Loss::Serving,
            };
            self.due.insert((loss, instance));
        }
    }

    fn add_flight(&mut self, instance: Instance, flight: Flight) {
        self.own += u64::from(flight.own);
        self.ends.extend(flight.until.map(|until| (until, instance)));
        self.deadlines.extend(flight.deadline.map(|deadline| (deadline, instance)));
        self.flights.insert(instance, flight);
    }

    /// Drops the entries of a place. An unused delay is harmless.
    fn forget(&mut self, instance: Instance) {
        for loss in [Loss::InFlight, Loss::Down, Loss::Serving] {
            self.due.remove(&(loss, instance));
        }
        self.superseded.remove(&instance);
        if let Some(flight) = self.flights.remove(&instance) {
            self.own -= u64::from(flight.own);
            if let Some(until) = flight.until {
                self.ends.remove(&(until, instance));
            }
            if let Some(deadline) = flight.deadline {
                self.deadlines.remove(&(deadline, instance));
            }
        }
    }
}

/// Whether a task that did not settle may still do so: one that was stopped or removed is not waited for.
fn is_on_its_way(cluster: &Cluster, step: &Step) -> bool {
    step.settled_at.is_none() && cluster.tasks.get(step.task).is_some_and(Task::is_live)
}
