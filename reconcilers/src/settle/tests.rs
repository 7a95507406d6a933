//! Reconcilers that contradict each other, and very large services.

use events::service_spec::Mode;
use events::{
    Annotations, ClusterId, Id, IdGenerator, Kind, ReplicatedMode, ServiceCreated, ServiceScaled, ServiceSpec,
};

use super::*;
use crate::slices::SLICES_MAX;
use crate::{Candidates, Presence, replicated, schedule};

fn service(number: u128) -> ServiceId {
    ServiceId::from_bits(number)
}

/// Services with these numbers of replicas.
fn services(replicas: &[u64]) -> (Cluster, Touched) {
    let (mut cluster, mut touched) = (Cluster::default(), Touched::default());
    for (number, replicas) in (1..).zip(replicas) {
        let mode = Some(Mode::Replicated(ReplicatedMode { replicas: *replicas }));
        let annotations = Some(Annotations { name: format!("service-{number}"), ..Annotations::default() });
        let spec = ServiceSpec { annotations, mode, ..ServiceSpec::default() };
        let created = Kind::ServiceCreated(Box::new(ServiceCreated { service: service(number), spec }));
        cluster.apply_into(&Event::by_reconciler(Reconciler::Updates, created), &Stamp::default(), &mut touched);
    }
    (cluster, touched)
}

fn turn(
    reconcilers: &[(Reconciler, Reconcile)],
    quarantined: &BTreeSet<ServiceId>,
    cluster: &mut Cluster,
    touched: Touched,
) -> Settled {
    // Each turn of a test creates different tasks.
    let index = 7 + cluster.tasks.len() as u64;
    let (presence, mut ids) = (Presence::new(), IdGenerator::new(ClusterId::from_bits(1), index));
    let mut candidates = Candidates::default();
    let mut ctx = Ctx {
        now: Timestamp::default(),
        ids: &mut ids,
        presence: &presence,
        peers: &crate::Peers::default(),
        uses: &crate::Uses::new(),
        candidates: &mut candidates,
    };
    let settling = Settling { reconcilers, quarantined, at: &Stamp::default(), settled: Settled::default() };
    settling.run(cluster, touched, &mut ctx, Budget::FRAME)
}

/// Changes the number of replicas of the first service, whatever it is.
fn conflict(cluster: &Cluster, scope: &Scope, _: &mut Ctx<'_>, out: &mut Correction) {
    let Some(from) = cluster.services.get(service(1)).and_then(|service| service.spec.replicas()) else { return };
    if scope.services.contains(&service(1)) {
        out.push(Kind::ServiceScaled(ServiceScaled { service: service(1), from, to: 3 - from, reason: None }));
    }
}

const CONFLICT: [(Reconciler, Reconcile); 3] = [
    (Reconciler::Updates, conflict),
    (Reconciler::Replicated, replicated::reconcile),
    (Reconciler::Schedule, schedule::reconcile),
];

fn tasks(cluster: &Cluster, number: u128) -> usize {
    cluster.tasks_of_service(service(number)).count()
}

#[test]
fn a_service_over_which_there_is_no_rest_is_named_and_the_others_are_settled() {
    let (mut cluster, touched) = services(&[1, 5]);
    let settled = turn(&CONFLICT, &BTreeSet::new(), &mut cluster, touched.clone());
    assert_eq!(settled.disputed, [service(1)].into());
    assert!(settled.left.is_empty() && settled.events.len() < 100, "{} events", settled.events.len());
    assert_eq!(tasks(&cluster, 2), 5);
}

#[test]
fn a_quarantined_service_is_not_reconciled() {
    let (mut cluster, touched) = services(&[1, 5]);
    let settled = turn(&CONFLICT, &[service(1)].into(), &mut cluster, touched);
    assert!(settled.disputed.is_empty() && settled.left.is_empty());
    assert_eq!((tasks(&cluster, 1), tasks(&cluster, 2)), (0, 5));
}

#[test]
fn a_quarantined_service_is_excluded_from_everything_and_its_places_lose_their_timers() {
    let (mut cluster, _) = services(&[1, 5]);
    let everything = Touched { everything: true, ..Touched::default() };
    turn(&CONFLICT, &[service(1)].into(), &mut cluster, everything);
    assert_eq!((tasks(&cluster, 1), tasks(&cluster, 2)), (0, 5));
    let place = (service(1), projections::Instance::FIRST);
    let due = Touched { places: [place].into(), ..Touched::default() };
    let settled = turn(&CONFLICT, &[service(1)].into(), &mut cluster, due);
    assert_eq!(settled.wakes, [(TimerKey::Place(place.0, place.1), None)].into());
}

/// Changes the number of replicas of the first service, with many events.
fn loud_conflict(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for _ in 0..Budget::FRAME.events / 6 {
        conflict(cluster, scope, ctx, out);
    }
}

/// The same, with so many events that a turn has no room for anything else.
fn loudest_conflict(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    while !out.is_full() && scope.services.contains(&service(1)) {
        conflict(cluster, scope, ctx, out);
    }
}

#[test]
fn a_conflict_that_fills_its_turn_is_distinguished_from_a_large_service() {
    let (mut cluster, touched) = services(&[1]);
    let settled = turn(&[(Reconciler::Updates, loud_conflict)], &BTreeSet::new(), &mut cluster, touched);
    assert_eq!((settled.unsettled, settled.disputed), ([service(1)].into(), [].into()));
    assert!(!settled.left.is_empty());
    let (mut cluster, touched) = services(&[1_000_000, 5]);
    let settled = turn(&ALL, &BTreeSet::new(), &mut cluster, touched);
    assert!(settled.unsettled.is_empty() && !settled.left.is_empty());
}

#[test]
fn a_conflict_that_is_cut_at_once_repeats_its_corrections_and_a_large_service_does_not() {
    type Table = Vec<(Reconciler, Reconcile)>;
    let table: [(Table, u64, bool); 2] =
        [(vec![(Reconciler::Updates, loudest_conflict), CONFLICT[2]], 1, true), (ALL.to_vec(), 1_000_000, false)];
    for (reconcilers, replicas, is_quarrel) in table {
        let (mut cluster, mut touched) = services(&[replicas]);
        let mut before = BTreeSet::new();
        for number in 0..10 {
            let settled = turn(&reconcilers, &BTreeSet::new(), &mut cluster, touched);
            assert!(settled.unsettled.is_empty() && settled.disputed.is_empty(), "it is cut at once");
            let again = settled.corrected.intersection(&before).count();
            assert!(number == 0 || (again > 0) == is_quarrel, "{again} again in turn {number}");
            (before, touched) = (settled.corrected, settled.left);
        }
    }
}

#[test]
fn other_work_than_a_conflict_is_left_to_the_next_turn() {
    let node = events::NodeId::from_bits(3);
    let others = Touched { nodes: [node].into(), waiting: [service(2)].into(), placement: true, ..Touched::default() };
    let table = [([service(1)].into(), others.clone()), (BTreeSet::new(), Touched::default())];
    for (services, left) in table {
        let (quarantined, at) = (BTreeSet::new(), Stamp::default());
        let mut settling =
            Settling { reconcilers: &CONFLICT, quarantined: &quarantined, at: &at, settled: Settled::default() };
        settling.dispute(Touched { services: services.clone(), ..others.clone() });
        assert_eq!((settling.settled.disputed, settling.settled.left), (services, left));
    }
}

#[test]
fn a_very_large_service_holds_up_no_other() {
    let (mut cluster, touched) = services(&[1_000_000, 1_000_000, 5]);
    let settled = turn(&ALL, &BTreeSet::new(), &mut cluster, touched);
    assert_eq!(tasks(&cluster, 3), 5);
    assert!(tasks(&cluster, 1) > 100 && tasks(&cluster, 2) > 100, "both go on");
    assert!(settled.left.unfilled.is_superset(&[service(1), service(2)].into()));
    assert!(settled.events.len() <= Budget::FRAME.events + SLICES_MAX);
    assert!(cluster.tasks.values().any(|task| task.waiting.is_some()), "tasks are placed before all of them are made");
}

#[test]
fn tasks_of_a_quarantined_service_stay_unchanged_whatever_happens_to_nodes() {
    use crate::samples::{Sample, replicated, service};
    let spec = |disk: &str| {
        let labels = [("disk".to_owned(), disk.to_owned())].into();
        events::NodeSpec { annotations: Some(Annotations { labels, ..Annotations::default() }), ..Default::default() }
    };
    let node = events::NodeId::from_bits(3);
    // One task on an unsuitable node, and one that waits for a node.
    let sample = Sample::default().with_node(3, spec("hdd"));
    let sample = sample.with_service(replicated(2), &["node.labels.disk==ssd"]);
    let sample = sample.with_task(7, 1, None, events::TaskState::Pending).assigned(7, 3);
    let sample = sample.with_task(8, 2, None, events::TaskState::Pending);
    let table = [
        Touched { nodes: [node].into(), ..Touched::default() },
        Touched { unjudged: [node].into(), ..Touched::default() },
        Touched { waiting: [service()].into(), placement: true, ..Touched::default() },
        Touched { sweeps: [(service(), projections::Instance::FIRST)].into(), ..Touched::default() },
    ];
    for touched in table {
        let events = |quarantined| turn(&ALL, &quarantined, &mut sample.cluster.clone(), touched.clone()).events;
        assert_eq!(events([service()].into()), [], "{touched:?}");
        assert!(!events(BTreeSet::new()).is_empty(), "{touched:?}");
    }
}
