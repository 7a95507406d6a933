//! Turns that are full: the next turn starts with what a cut turn did not reach, and nothing is lost.

mod support;

use events::frame::BYTES_SOFT_MAX;
use events::service_spec::Mode;
use events::{
    Annotations, ClusterId, Event, Id, IdGenerator, Kind, NodeId, NodeSpec, NodeSpecUpdated, Placement, Reconciler,
    ReplicatedMode, ServiceCreated, ServiceId, ServiceRemoved, ServiceScaled, ServiceSpec, TaskId,
};
use projections::{Cluster, Stamp, Touched, check};
use reconcilers::{Budget, Candidates, Ctx, Presence, Settled, settle};
use support::node;

const SERVICES: u64 = 5;
const REPLICAS: u64 = 7;

fn events(events: usize) -> Budget {
    Budget { events, ..Budget::FRAME }
}

fn bytes(bytes: usize) -> Budget {
    Budget { bytes, ..Budget::FRAME }
}

/// Budgets for one event and more, and for one id in a list and more.
fn rooms() -> impl Iterator<Item = Budget> {
    [1, 3, 4, 10, 1_000].map(events).into_iter().chain([36, 37, 60, 100, 500].map(bytes))
}

fn at(index: u64) -> Stamp {
    Stamp { index, time: events::Timestamp::from_unix_ns(1_000_000_000) }
}

fn fold(cluster: &mut Cluster, index: u64, kinds: impl IntoIterator<Item = Kind>) -> Touched {
    let mut touched = Touched::default();
    for kind in kinds {
        cluster.apply_into(&Event::by_reconciler(Reconciler::Schedule, kind), &at(index), &mut touched);
    }
    touched
}

fn service(number: u64) -> Kind {
    let name = format!("service-{number}");
    let spec = ServiceSpec {
        annotations: Some(Annotations { name, ..Annotations::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: REPLICAS })),
        ..ServiceSpec::default()
    };
    Kind::ServiceCreated(Box::new(ServiceCreated { service: ServiceId::from_bits(u128::from(number) + 1), spec }))
}

fn turn(cluster: &mut Cluster, index: u64, touched: Touched, room: Budget) -> Settled {
    let (presence, mut ids) = (Presence::new(), IdGenerator::new(ClusterId::from_bits(1), index));
    let mut candidates = Candidates::default();
    let mut ctx = Ctx {
        now: at(index).time,
        ids: &mut ids,
        presence: &presence,
        peers: &reconcilers::Peers::default(),
        uses: &reconcilers::Uses::new(),
        candidates: &mut candidates,
    };
    settle(cluster, touched, &mut ctx, &at(index), room)
}

/// Turns with this budget until nothing is left; returns the index of the last.
fn turns(cluster: &mut Cluster, first: u64, mut touched: Touched, room: Budget) -> u64 {
    for index in first..first + 1_000 {
        touched = turn(cluster, index, touched, room).left;
        if touched.is_empty() {
            assert_eq!(check::check(cluster), Vec::<String>::new());
            return index;
        }
    }
    panic!("turns of {room:?} do not come to an end");
}

#[test]
fn however_small_the_turns_every_task_gets_a_place() {
    for room in rooms() {
        let mut cluster = Cluster::default();
        fold(&mut cluster, 1, [node(1), node(2)].into_iter().flatten());
        let touched = fold(&mut cluster, 2, (0..SERVICES).map(service));
        turns(&mut cluster, 3, touched, room);
        assert_eq!(cluster.tasks.len() as u64, SERVICES * REPLICAS, "turns of {room:?}");
        assert_eq!(cluster.unplaced().len(), 0, "turns of {room:?}");
    }
}

#[test]
fn tasks_that_waited_are_not_forgotten_by_a_full_turn() {
    for room in rooms() {
        let mut cluster = Cluster::default();
        let touched = fold(&mut cluster, 1, (0..SERVICES).map(service));
        let last = turns(&mut cluster, 2, touched, Budget::FRAME);
        assert!(cluster.tasks.values().all(|task| task.waiting.is_some()), "there is no node yet");
        let touched = fold(&mut cluster, last + 1, node(1));
        turns(&mut cluster, last + 2, touched, room);
        assert_eq!(cluster.unplaced().len(), 0, "turns of {room:?}");
    }
}

#[test]
fn after_turns_that_were_cut_nothing_is_left_to_say() {
    let mut cluster = Cluster::default();
    fold(&mut cluster, 1, node(1));
    let touched = fold(&mut cluster, 2, (0..SERVICES).map(service));
    let last = turns(&mut cluster, 3, touched, events(4));
    let everything = Touched { everything: true, ..Touched::default() };
    assert_eq!(turn(&mut cluster, last + 1, everything, Budget::FRAME).events, Vec::new());
}

/// Scales the first service down in turns with this budget; returns the tasks that it keeps.
fn scaled_down(room: Budget) -> Vec<TaskId> {
    let mut cluster = Cluster::default();
    fold(&mut cluster, 1, [node(1), node(2)].into_iter().flatten());
    let touched = fold(&mut cluster, 2, [service(0)]);
    turns(&mut cluster, 3, touched, Budget::FRAME);
    let scaled = ServiceScaled { service: ServiceId::from_bits(1), from: REPLICAS, to: 3, reason: None };
    let touched = fold(&mut cluster, 100, [Kind::ServiceScaled(scaled)]);
    turns(&mut cluster, 101, touched, room);
    cluster.tasks.values().filter(|task| task.is_wanted()).map(|task| task.id).collect()
}

#[test]
fn a_scale_down_in_small_turns_keeps_the_tasks_that_one_in_a_large_turn_keeps() {
    let kept = scaled_down(Budget::FRAME);
    assert_eq!(kept.len(), 3);
    for room in rooms() {
        assert_eq!(scaled_down(room), kept, "turns of {room:?}");
    }
}

#[test]
fn a_removed_service_of_many_tasks_leaves_in_frames_of_bounded_size() {
    let replicas = 40_000;
    let mut cluster = Cluster::default();
    let Kind::ServiceCreated(mut created) = service(0) else { unreachable!() };
    created.spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas }));
    let touched = fold(&mut cluster, 2, [Kind::ServiceCreated(created)]);
    let last = turns(&mut cluster, 3, touched, Budget::FRAME);
    assert_eq!(cluster.tasks.len() as u64, replicas);
    let removed = ServiceRemoved { service: ServiceId::from_bits(1) };
    let mut touched = fold(&mut cluster, last + 1, [Kind::ServiceRemoved(removed)]);
    for index in last + 2.. {
        let settled = turn(&mut cluster, index, touched, Budget::FRAME);
        let bytes: usize = settled.events.iter().filter_map(|event| event.kind.as_ref()).map(Kind::encoded_len).sum();
        assert!(bytes <= BYTES_SOFT_MAX + 100, "turn {index} says {bytes} bytes");
        touched = settled.left;
        if touched.is_empty() {
            break;
        }
    }
    assert_eq!(cluster.tasks.len(), 0);
}

#[test]
fn a_group_that_continues_after_others_keeps_its_results() {
    let mut cluster = Cluster::default();
    let Kind::ServiceCreated(mut limited) = service(0) else { unreachable!() };
    limited.spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas: 100 }));
    let placement = Placement { max_replicas: 15, ..Placement::default() };
    limited.spec.task.get_or_insert_default().placement = Some(placement);
    let touched = fold(&mut cluster, 1, [Kind::ServiceCreated(limited), service(1)]);
    let last = turns(&mut cluster, 2, touched, Budget::FRAME);
    let touched = fold(&mut cluster, last + 1, [node(1), node(2)].into_iter().flatten());
    turns(&mut cluster, last + 2, touched, events(40));
    assert_eq!((running(&cluster, 1), running(&cluster, 2) as u64), (30, REPLICAS));
}

fn running(cluster: &Cluster, service: u128) -> usize {
    cluster.tasks_of_service(ServiceId::from_bits(service)).filter(|task| task.node.is_some()).count()
}

/// Small services get everything at once, and the large one makes progress.
#[test]
fn a_large_service_delays_no_other() {
    let mut cluster = Cluster::default();
    fold(&mut cluster, 1, [node(1), node(2)].into_iter().flatten());
    let large = |number| {
        let Kind::ServiceCreated(mut created) = service(number) else { unreachable!() };
        created.spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas: 1_000 }));
        Kind::ServiceCreated(created)
    };
    let touched = fold(&mut cluster, 2, [large(0), service(1), large(2)]);
    let touched = turn(&mut cluster, 3, touched, events(100)).left;
    assert_eq!(running(&cluster, 2) as u64, REPLICAS);
    assert!(running(&cluster, 1) > 5 && running(&cluster, 3) > 5, "both get on");
    let mut later = fold(&mut cluster, 4, [service(3)]);
    later.merge(touched);
    let touched = turn(&mut cluster, 5, later, events(100)).left;
    assert_eq!(running(&cluster, 4) as u64, REPLICAS, "one that comes later does not wait either");
    turns(&mut cluster, 6, touched, events(100));
    assert_eq!(cluster.unplaced().len(), 0);
}

/// A new leader reconciles everything, part by part, including a node that changed just before the old leader ended.
#[test]
fn a_look_at_everything_that_takes_several_turns_judges_the_tasks_of_each_node_again() {
    let labelled = |number: u128, zone: &str| {
        let labels = [("zone".to_owned(), zone.to_owned())].into();
        let spec =
            NodeSpec { annotations: Some(Annotations { labels, ..Annotations::default() }), ..NodeSpec::default() };
        Kind::NodeSpecUpdated(NodeSpecUpdated { node: NodeId::from_bits(number), spec })
    };
    let mut cluster = Cluster::default();
    fold(&mut cluster, 1, (1..=2).flat_map(|number| node(number).into_iter().chain([labelled(number, "a")])));
    let Kind::ServiceCreated(mut created) = service(0) else { unreachable!() };
    created.spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas: 3_000 }));
    let placement = Placement { constraints: vec!["node.labels.zone==a".to_owned()], ..Placement::default() };
    created.spec.task.get_or_insert_default().placement = Some(placement);
    let touched = fold(&mut cluster, 2, [Kind::ServiceCreated(created)]);
    let last = turns(&mut cluster, 3, touched, Budget::FRAME);
    let on_first =
        |cluster: &Cluster| cluster.tasks_of_node(NodeId::from_bits(1)).filter(|task| task.is_live()).count();
    assert_eq!(on_first(&cluster), 1_500);
    fold(&mut cluster, last + 1, [labelled(1, "b")]);
    let everything = Touched { everything: true, ..Touched::default() };
    turns(&mut cluster, last + 2, everything, Budget::FRAME);
    assert_eq!(on_first(&cluster), 0);
}
