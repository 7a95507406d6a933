//! A turn takes a bounded part of what was touched, fairly, and nothing is lost between turns.

use events::{
    Annotations, Event, Id, Kind, Reconciler, ReplicatedMode, ServiceCreated, ServiceSpec, TaskCause, TaskCreated,
    TaskId, TaskState,
};
use projections::Stamp;

use super::*;

/// Services with these numbers of replicas, all of which must be reconciled.
fn touched(replicas: &[u64]) -> (Cluster, Touched) {
    let (mut cluster, mut touched) = (Cluster::default(), Touched::default());
    for (number, replicas) in (1..).zip(replicas) {
        let mode = Some(Mode::Replicated(ReplicatedMode { replicas: *replicas }));
        let annotations = Some(Annotations { name: format!("service-{number}"), ..Annotations::default() });
        let spec = ServiceSpec { annotations, mode, ..ServiceSpec::default() };
        let created = Kind::ServiceCreated(Box::new(ServiceCreated { service: ServiceId::from_bits(number), spec }));
        cluster.apply_into(&Event::by_reconciler(Reconciler::Updates, created), &Stamp::default(), &mut touched);
    }
    (cluster, touched)
}

/// The services of each slice; large ones are identified by their remaining places.
fn services(slices: &Slices) -> Vec<Vec<u128>> {
    let ids = |slice: &Touched| slice.services.union(&slice.unfilled).map(|id| id.bits()).collect();
    slices.now.iter().map(ids).collect()
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
        let parts = slices(&cluster, touched.clone(), turn);
        assert_eq!(services(&parts), expected, "{replicas:?} in turn {turn}");
        assert!(parts.later.is_empty(), "there are no places yet");
        let everything = Touched { everything: true, ..Touched::default() };
        let all = slices(&cluster, everything, turn).now;
        let seen: BTreeSet<ServiceId> =
            all.iter().flat_map(|slice| slice.services.union(&slice.unfilled)).copied().collect();
        assert!(seen == touched.services || all[0].everything, "{replicas:?}");
    }
}

#[test]
fn a_large_service_is_looked_at_part_by_part() {
    let replicas = 2_500;
    let (mut cluster, touched) = touched(&[replicas, 3]);
    let (service, mut others) = (ServiceId::from_bits(1), Touched::default());
    for slot in 1..=replicas {
        let (task, at) = (TaskId::from_bits(u128::from(slot)), Stamp::default());
        let (desired, cause) = (TaskState::Running.into(), TaskCause::Scale.into());
        let created = TaskCreated { task, service, slot, desired, cause, ..TaskCreated::default() };
        let event = Event::by_reconciler(Reconciler::Replicated, Kind::TaskCreated(created));
        cluster.apply_into(&event, &at, &mut others);
    }
    let (mut later, mut parts, mut seen) = (touched, Vec::new(), BTreeSet::new());
    while !later.is_empty() {
        let slices = slices(&cluster, later, 0);
        let places = slices.now.iter().flat_map(|slice| slice.places.clone());
        let before = seen.len();
        seen.extend(places);
        parts.push(seen.len() - before);
        later = slices.later;
    }
    assert_eq!(parts, [1_000, 1_000, 500]);
    let everything = slices(&cluster, Touched { everything: true, ..Touched::default() }, 0);
    assert_eq!(everything.now.iter().map(|slice| slice.places.len()).sum::<usize>(), PLACES_MAX);
    assert_eq!(everything.later.sweeps, [(service, Instance::Slot(1_001))].into());
    let behind = Touched { places: others.places.clone(), ..everything.later.clone() };
    assert_eq!(slices(&cluster, behind, 0).later.sweeps, [(service, Instance::Slot(2_001))].into());
}

#[test]
fn no_part_is_started_while_too_many_places_are_left_from_earlier_ones() {
    let (cluster, touched) = touched(&[5_000]);
    let service = ServiceId::from_bits(1);
    let places = (0..=PLACES_LEFT_MAX as u64).map(|slot| (service, Instance::Slot(slot))).collect();
    let slices = slices(&cluster, Touched { places, ..touched }, 0);
    assert_eq!(slices.later.sweeps, [(service, Instance::FIRST)].into());
    assert!(slices.now.iter().any(|slice| slice.unfilled.contains(&service)), "what concerns all of it is not put off");
}

#[test]
fn places_and_nodes_share_slices_and_what_is_too_much_is_left() {
    let service = ServiceId::from_bits(9);
    let node = |number: u64| NodeId::from_bits(u128::from(number));
    // Touched nodes and places, the turn, and how many of both are in each slice.
    let table: [(u64, u64, u64, &[usize]); 5] = [
        (3, 4, 0, &[7]),
        (0, 2_500, 0, &[1_000, 1_000, 500]),
        (0, 2_500, 1, &[1_000, 500, 1_000]),
        (1_500, 600, 0, &[1_000, 1_000, 100]),
        (0, 20_000, 0, &[1_000; SLICES_OF_PLACES_MAX]),
    ];
    for (nodes, places, turn, expected) in table {
        let touched = Touched {
            nodes: (1..=nodes).map(node).collect(),
            places: (1..=places).map(|slot| (service, Instance::Slot(slot))).collect(),
            ..Touched::default()
        };
        let slices = slices(&Cluster::default(), touched.clone(), turn);
        let sizes: Vec<usize> = slices.now.iter().map(|slice| slice.nodes.len() + slice.places.len()).collect();
        assert_eq!(sizes, expected, "{nodes} nodes and {places} places in turn {turn}");
        let mut all = slices.later;
        slices.now.into_iter().for_each(|slice| all.merge(slice));
        assert_eq!(all, touched, "nothing is lost");
    }
}
