//! What was touched, in slices that share a turn: large services each for itself, and what is small together. So a turn's work
//! is bounded, and a service with very many tasks holds up no other.

use std::collections::{BTreeSet, VecDeque};

use events::ServiceId;
use events::service_spec::Mode;
use projections::{Cluster, Touched};

/// Places that one slice looks at, unless a single service has more.
const PLACES_MAX: usize = 1_000;
/// Slices of a turn; the others are the next turn's. So many places are looked at in a fraction of an election timeout.
pub(crate) const SLICES_MAX: usize = 16;

/// Parts of what was touched that are settled one after the other. What is small comes first; of what is large, another one is
/// the first in each turn.
pub(crate) fn slices(cluster: &Cluster, touched: Touched, turn: u64) -> VecDeque<Touched> {
    let services = if touched.everything { all_services(cluster) } else { touched.services.clone() };
    let mut costs: Vec<(usize, ServiceId)> = services.iter().map(|id| (cost(cluster, *id), *id)).collect();
    let others = touched.places.len() + touched.nodes.len();
    if costs.iter().map(|(cost, _)| cost).sum::<usize>() + others <= PLACES_MAX {
        return [touched].into();
    }
    costs.sort_unstable();
    let large = costs.split_off(costs.partition_point(|(cost, _)| *cost <= PLACES_MAX));
    let mut slices: Vec<Touched> = vec![without_services(cluster, touched)];
    let mut room = PLACES_MAX.saturating_sub(others);
    for (cost, service) in costs {
        if cost > room {
            slices.push(Touched::default());
            room = PLACES_MAX;
        }
        room -= cost;
        if let Some(slice) = slices.last_mut() {
            slice.services.insert(service);
        }
    }
    let mut large: VecDeque<Touched> = large.into_iter().map(|(_, service)| whole(service)).collect();
    if let Some(first) = usize::try_from(turn).unwrap_or_default().checked_rem(large.len()) {
        large.rotate_left(first);
    }
    slices.retain(|slice| !slice.is_empty());
    slices.into_iter().chain(large).collect()
}

/// How many places a service has, or is to have.
fn cost(cluster: &Cluster, id: ServiceId) -> usize {
    let wanted = cluster.services.get(id).map_or(0, |service| match service.spec.mode() {
        Mode::Replicated(mode) => usize::try_from(mode.replicas).unwrap_or(usize::MAX / 2),
        Mode::Global(_) => cluster.nodes.len(),
    });
    // Only whether it is large matters, so not all are counted.
    let tasks = cluster.tasks_of_service(id).take(PLACES_MAX + 1).count();
    1 + wanted.min(PLACES_MAX).max(tasks)
}

/// Everything but the services. When everything was touched, all services are in other slices, and all places with them; only
/// whether nodes are alive is no matter of a service.
fn without_services(cluster: &Cluster, touched: Touched) -> Touched {
    if !touched.everything {
        return Touched { services: BTreeSet::new(), ..touched };
    }
    let overdue = cluster.nodes.iter().map(|(id, _)| id).collect();
    Touched { overdue, placement: true, ..Touched::default() }
}

fn whole(service: ServiceId) -> Touched {
    Touched { services: [service].into(), ..Touched::default() }
}

/// All services. Those that are gone are known by the specs that their last tasks run.
pub(crate) fn all_services(cluster: &Cluster) -> BTreeSet<ServiceId> {
    let mut services: BTreeSet<ServiceId> = cluster.services.iter().map(|(id, _)| id).collect();
    services.extend(cluster.revisions.iter().map(|((id, _), _)| id));
    services
}

#[cfg(test)]
mod tests {
    use events::{Annotations, Event, Id, Kind, Reconciler, ReplicatedMode, ServiceCreated, ServiceSpec};
    use projections::Stamp;

    use super::*;

    /// Services of so many replicas, and that all of it is to be looked at.
    fn touched(replicas: &[u64]) -> (Cluster, Touched) {
        let (mut cluster, mut touched) = (Cluster::default(), Touched::default());
        for (number, replicas) in (1..).zip(replicas) {
            let mode = Some(Mode::Replicated(ReplicatedMode { replicas: *replicas }));
            let annotations = Some(Annotations { name: format!("service-{number}"), ..Annotations::default() });
            let spec = ServiceSpec { annotations, mode, ..ServiceSpec::default() };
            let created = Kind::ServiceCreated(ServiceCreated { service: ServiceId::from_bits(number), spec });
            cluster.apply_into(&Event::by_reconciler(Reconciler::Updates, created), &Stamp::default(), &mut touched);
        }
        (cluster, touched)
    }

    fn services(slices: &VecDeque<Touched>) -> Vec<Vec<u128>> {
        slices.iter().map(|slice| slice.services.iter().map(|id| id.bits()).collect()).collect()
    }

    #[test]
    fn small_services_share_slices_and_large_ones_take_turns() {
        let table = [
            (vec![3, 4, 5], 0, vec![vec![1, 2, 3]]),
            (vec![998], 0, vec![vec![1]]),
            (vec![1_000_000, 3, 4], 0, vec![vec![2, 3], vec![1]]),
            (vec![400, 500, 600], 0, vec![vec![1, 2], vec![3]]),
            (vec![5_000, 6_000, 7], 0, vec![vec![3], vec![1], vec![2]]),
            (vec![5_000, 6_000, 7], 1, vec![vec![3], vec![2], vec![1]]),
        ];
        for (replicas, turn, expected) in table {
            let (cluster, touched) = touched(&replicas);
            assert_eq!(services(&slices(&cluster, touched.clone(), turn)), expected, "{replicas:?} in turn {turn}");
            let everything = Touched { everything: true, ..Touched::default() };
            let all = slices(&cluster, everything, turn);
            let seen: BTreeSet<ServiceId> = all.iter().flat_map(|slice| slice.services.clone()).collect();
            assert!(seen == touched.services || all[0].everything, "{replicas:?}");
        }
    }
}
