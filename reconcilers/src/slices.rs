//! Divides what was touched into slices that share a turn: small services together, and one part of each large one per turn. So a
//! turn's work is bounded, and a service with very many tasks delays no other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use events::service_spec::Mode;
use events::{NodeId, ServiceId};
use projections::{Cluster, Instance, Touched};

/// Places that one slice visits.
const PLACES_MAX: usize = 1_000;
/// Slices of a turn; the others are left to the next turn. This many places are visited in a fraction of an election timeout.
pub(crate) const SLICES_MAX: usize = 16;
/// Slices of a turn that may be used for single places and nodes, so that the rest makes progress however many of these there
/// are.
const SLICES_OF_PLACES_MAX: usize = SLICES_MAX / 2;
/// Places that a turn may leave to the next; beyond that, no further part of a large service is started.
const PLACES_LEFT_MAX: usize = 4 * PLACES_MAX;

/// What was touched, divided.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    /// What this turn settles, one after the other.
    pub(crate) now: VecDeque<Touched>,
    /// What is left to later turns.
    pub(crate) later: Touched,
}

/// Divides what was touched. Small services come first; of the large ones, a different one is first in each turn.
pub(crate) fn slices(cluster: &Cluster, touched: Touched, turn: u64) -> Slices {
    let services = if touched.everything { all_services(cluster) } else { touched.services.clone() };
    let mut costs: Vec<(usize, ServiceId)> = services.iter().map(|id| (cost(cluster, *id), *id)).collect();
    let globals = cluster.global_services().count();
    let of_nodes = touched.nodes.iter().map(|node| cost_of_node(cluster, *node, globals));
    let others = touched.places.len() + of_nodes.sum::<usize>() + touched.contacts.len() * (1 + globals);
    let is_small = costs.iter().map(|(cost, _)| cost).sum::<usize>() + others <= PLACES_MAX;
    if is_small && touched.sweeps.is_empty() && touched.unjudged.is_empty() {
        return Slices { now: [touched].into(), later: Touched::default() };
    }
    costs.sort_unstable();
    let large = costs.split_off(costs.partition_point(|(cost, _)| *cost <= PLACES_MAX));
    let mut slices = Slices::default();
    // Of several places to continue from, the first one counts.
    let mut sweeps: BTreeMap<ServiceId, Option<Instance>> =
        touched.sweeps.iter().rev().map(|(service, from)| (*service, Some(*from))).collect();
    sweeps.extend(large.into_iter().map(|(_, service)| (service, None)));
    let is_behind = touched.places.len() > PLACES_LEFT_MAX;
    let first = slices.first(cluster, touched, is_behind);
    let (last, room) = slices.add_places(cluster, first, turn);
    slices.add_small(last, room, costs);
    slices.add_large(cluster, sweeps, turn, is_behind);
    slices
}

/// Removes large services from what a turn touched itself: the services themselves are processed now, and their places part by
/// part.
pub(crate) fn put_off_large(cluster: &Cluster, touched: &mut Touched, later: &mut Touched) {
    let is_large = |service: &ServiceId| cost(cluster, *service) > PLACES_MAX;
    let large: Vec<ServiceId> = touched.services.iter().copied().filter(is_large).collect();
    for service in large {
        touched.services.remove(&service);
        touched.merge(as_such(service));
        later.sweeps.insert((service, Instance::FIRST));
    }
}

impl Slices {
    /// Everything except the services, with as many of the nodes to judge as fit into one slice.
    fn first(&mut self, cluster: &Cluster, mut touched: Touched, is_behind: bool) -> Touched {
        let mut unjudged = std::mem::take(&mut touched.unjudged);
        if touched.everything {
            // All services, with all their places, are in other slices.
            let nodes = || cluster.nodes.iter().map(|(id, _)| id);
            unjudged = nodes().collect();
            touched = Touched { overdue: nodes().collect(), placement: true, ..Touched::default() };
        }
        if !is_behind {
            let rest = unjudged.split_off(&after_first_tasks(cluster, &unjudged));
            touched.unjudged = std::mem::replace(&mut unjudged, rest);
        }
        self.later.unjudged = unjudged;
        Touched { services: BTreeSet::new(), sweeps: BTreeSet::new(), ..touched }
    }

    /// Places and nodes, together as many as fit into one slice, in addition to everything else that was touched. If there are
    /// more than the slices can hold, different ones are first in each turn. Returns the last slice, and how many more places it
    /// may visit.
    fn add_places(&mut self, cluster: &Cluster, mut touched: Touched, turn: u64) -> (Touched, usize) {
        let single = Touched {
            nodes: std::mem::take(&mut touched.nodes),
            contacts: std::mem::take(&mut touched.contacts),
            places: std::mem::take(&mut touched.places),
            ..Touched::default()
        };
        let mut parts = parts(cluster, single);
        if let Some(first) = usize::try_from(turn).unwrap_or_default().checked_rem(parts.len()) {
            parts.rotate_left(first);
        }
        let (mut slice, mut room) = (touched, PLACES_MAX);
        for (number, (cost, part)) in parts.into_iter().enumerate() {
            if number >= SLICES_OF_PLACES_MAX {
                self.later.merge(part);
                continue;
            }
            if number > 0 {
                self.add(std::mem::take(&mut slice));
            }
            slice.merge(part);
            room = PLACES_MAX.saturating_sub(cost);
        }
        (slice, room)
    }

    /// Small services, together as many as fit into one slice.
    fn add_small(&mut self, mut slice: Touched, mut room: usize, services: Vec<(usize, ServiceId)>) {
        for (cost, service) in services {
            if cost > room {
                self.add(std::mem::take(&mut slice));
                room = PLACES_MAX;
            }
            room -= cost;
            slice.services.insert(service);
        }
        self.add(slice);
    }

    /// The next part of each large service; for one that was touched as a whole (without a place to continue from), the first one
    /// and what affects all of it.
    fn add_large(
        &mut self,
        cluster: &Cluster,
        sweeps: BTreeMap<ServiceId, Option<Instance>>,
        turn: u64,
        is_behind: bool,
    ) {
        let mut sweeps: VecDeque<(ServiceId, Option<Instance>)> = sweeps.into_iter().collect();
        if let Some(first) = usize::try_from(turn).unwrap_or_default().checked_rem(sweeps.len()) {
            sweeps.rotate_left(first);
        }
        for (service, from) in sweeps {
            let mut slice = match from {
                Some(_) => Touched::default(),
                None => as_such(service),
            };
            let mut next = Some(from.unwrap_or(Instance::FIRST));
            let is_full = self.now.len() >= SLICES_MAX;
            if !is_full && !is_behind {
                (slice.places, next) = part(cluster, service, next.unwrap_or(Instance::FIRST));
            }
            self.later.sweeps.extend(next.map(|next| (service, next)));
            self.add(slice);
        }
    }

    fn add(&mut self, slice: Touched) {
        if self.now.len() >= SLICES_MAX {
            self.later.merge(slice);
        } else if !slice.is_empty() {
            self.now.push_back(slice);
        }
    }
}

/// How many places a service has, or should have.
fn cost(cluster: &Cluster, id: ServiceId) -> usize {
    let wanted = cluster.services.get(id).map_or(0, |service| match service.spec.mode() {
        Mode::Replicated(mode) => usize::try_from(mode.replicas).unwrap_or(usize::MAX / 2),
        Mode::Global(_) | Mode::GlobalJob(_) => cluster.nodes.len(),
        Mode::ReplicatedJob(mode) => usize::try_from(mode.total_completions).unwrap_or(usize::MAX / 2),
    });
    // Only whether it is large matters, so not all are counted.
    let tasks = cluster.task_count(id, PLACES_MAX + 1);
    1 + wanted.min(PLACES_MAX).max(tasks)
}

/// How many places are visited because of a node: itself, those of its tasks, and one in each global service.
fn cost_of_node(cluster: &Cluster, node: NodeId, globals: usize) -> usize {
    1 + globals + usize::try_from(cluster.usage.of(node).tasks).unwrap_or(PLACES_MAX)
}

/// Divides nodes and places into parts that fit into one slice, each with its number of places. A node is in one part.
fn parts(cluster: &Cluster, touched: Touched) -> VecDeque<(usize, Touched)> {
    let globals = cluster.global_services().count();
    let (mut parts, mut cost, mut part) = (VecDeque::new(), 0, Touched::default());
    let mut make_room = |more: usize, part: &mut Touched| {
        if cost + more > PLACES_MAX && !part.is_empty() {
            parts.push_back((std::mem::take(&mut cost), std::mem::take(part)));
        }
        cost += more;
    };
    for node in touched.nodes {
        make_room(cost_of_node(cluster, node, globals), &mut part);
        part.nodes.insert(node);
    }
    for node in touched.contacts {
        make_room(1 + globals, &mut part);
        part.contacts.insert(node);
    }
    for place in touched.places {
        make_room(1, &mut part);
        part.places.insert(place);
    }
    if !part.is_empty() {
        parts.push_back((cost, part));
    }
    parts
}

/// What to process for a service, apart from its places.
fn as_such(service: ServiceId) -> Touched {
    let services: BTreeSet<ServiceId> = [service].into();
    Touched {
        unfilled: services.clone(),
        waiting: services.clone(),
        rollouts: services.clone(),
        balances: services.clone(),
        scalings: services,
        ..Touched::default()
    }
}

/// The next places of a service, those of its tasks and those that should be filled, and the one to continue from.
fn part(cluster: &Cluster, service: ServiceId, from: Instance) -> (BTreeSet<(ServiceId, Instance)>, Option<Instance>) {
    let first = match from {
        Instance::Slot(_) => NodeId::default(),
        Instance::Node(node) => node,
    };
    let wants_nodes = cluster.services.get(service).is_some_and(|service| service.spec.is_global());
    let nodes = cluster.nodes.range(first..).map(|(node, _)| Instance::Node(node));
    let mut places: BTreeSet<Instance> = nodes.take(if wants_nodes { PLACES_MAX + 1 } else { 0 }).collect();
    places.extend(cluster.places_of_service_from(service, from).take(PLACES_MAX + 1));
    let next = places.iter().nth(PLACES_MAX).copied();
    (places.into_iter().take(PLACES_MAX).map(|place| (service, place)).collect(), next)
}

/// The first node that no longer fits into a slice with the tasks of those before it.
fn after_first_tasks(cluster: &Cluster, nodes: &BTreeSet<NodeId>) -> NodeId {
    let mut room = PLACES_MAX;
    let after = nodes.iter().find(|node| {
        let is_after = room == 0;
        let tasks = usize::try_from(cluster.usage.of(**node).tasks).unwrap_or(usize::MAX);
        room = room.saturating_sub(1 + tasks);
        is_after
    });
    after.copied().unwrap_or(NodeId::MAX)
}

/// All services. Removed ones are found by the specs that their remaining tasks run.
pub(crate) fn all_services(cluster: &Cluster) -> BTreeSet<ServiceId> {
    let mut services: BTreeSet<ServiceId> = cluster.services.iter().map(|(id, _)| id).collect();
    services.extend(cluster.revisions.iter().map(|((id, _), _)| id));
    services
}

#[cfg(test)]
mod tests;
