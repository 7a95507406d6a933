//! Which tasks move where, and which services are not rebalanced.

use events::{
    Annotations, Availability, Id, NodeId, NodeSpec, NodeSpecUpdated, Placement, PlacementPreference,
    PlacementStrategy, Rebalance, ServiceSpec, TaskReported, TaskSpec, TaskStatus, UpdateConfig,
};

use super::*;
use crate::samples::{Sample, replicated, service};

/// A service that moves up to two tasks each minute, and whose tasks are on these nodes; node 9 has none. Each node is in the
/// zone of its number's parity.
fn sample(nodes: &[u128], change: impl FnOnce(&mut ServiceSpec)) -> Sample {
    let numbers: BTreeSet<u128> = nodes.iter().copied().chain([9]).collect();
    let zone = |number: u128| if number.is_multiple_of(2) { "even" } else { "odd" };
    let labels = |number| [("zone".to_owned(), zone(number).to_owned())].into();
    let spec = |number| NodeSpec {
        annotations: Some(Annotations { labels: labels(number), ..Annotations::default() }),
        ..NodeSpec::default()
    };
    let sample = numbers.into_iter().fold(Sample::default(), |all, number| all.with_node(number, spec(number)));
    let mut wanted = ServiceSpec {
        mode: Some(replicated(nodes.len() as u64)),
        rebalance: Some(Rebalance { max_tasks: Some(2), every_ns: Some(60_000_000_000) }),
        ..ServiceSpec::default()
    };
    change(&mut wanted);
    let sample = sample.with_spec(wanted, &[]);
    (1..).zip(nodes).fold(sample, |sample, (number, node)| {
        let slot = u64::try_from(number).unwrap_or_default();
        let sample = sample.with_task(number, slot, None, TaskState::Pending);
        sample.assigned(number, *node).reported(number, TaskState::Running)
    })
}

fn placement(spec: &mut ServiceSpec) -> &mut Placement {
    spec.task.get_or_insert_with(TaskSpec::default).placement.get_or_insert_default()
}

fn start_first(spec: &mut ServiceSpec) {
    spec.update = Some(UpdateConfig { order: UpdateOrder::StartFirst.into(), ..UpdateConfig::default() });
}

fn over_zones(spec: &mut ServiceSpec) {
    placement(spec).preferences = vec![PlacementPreference { spread: "node.labels.zone".to_owned() }];
}

/// The topic, the nodes of the tasks, the special settings of the service, and the result.
type Case = (&'static str, &'static [u128], fn(&mut ServiceSpec), &'static [&'static str]);

#[test]
fn tasks_move_to_nodes_with_fewer_of_them() {
    let unchanged: fn(&mut ServiceSpec) = |_| {};
    let table: [Case; 13] = [
        ("one of two", &[1, 1], unchanged, &["move 2 from 1 to 9", "make in 2", "place on 9", "shutdown 2"]),
        ("start-first", &[1, 1], start_first, &["move 2 from 1 to 9", "make in 2", "place on 9"]),
        (
            "no more than two in a step",
            &[1, 1, 1, 1, 1, 2, 2, 2],
            start_first,
            &["move 5 from 1 to 9", "make in 5", "place on 9", "move 4 from 1 to 9", "make in 4", "place on 9"],
        ),
        ("as even as can be", &[1, 9], unchanged, &[]),
        ("a difference of one", &[1, 1, 9], unchanged, &[]),
        ("each on one node", &[1, 2, 3], unchanged, &[]),
        ("off", &[1, 1], |spec| spec.rebalance = None, &[]),
        ("not all run", &[1, 1], |spec| spec.mode = Some(replicated(3)), &[]),
        ("packed", &[1, 1], |spec| placement(spec).strategy = Some(PlacementStrategy::Binpack.into()), &[]),
        ("at random", &[1, 1], |spec| placement(spec).strategy = Some(PlacementStrategy::Random.into()), &[]),
        // Zones come first, regardless of the nodes; then the nodes within them.
        ("zones", &[2, 4, 6], over_zones, &["move 1 from 2 to 9", "make in 1", "place on 9", "shutdown 1"]),
        ("even zones", &[1, 1, 2, 2], over_zones, &["move 2 from 1 to 9", "make in 2", "place on 9", "shutdown 2"]),
        ("nothing to gain in zones", &[1, 9, 2, 2], over_zones, &[]),
    ];
    for (case, nodes, change, expected) in table {
        let change = |spec: &mut ServiceSpec| change(spec);
        assert_eq!(sample(nodes, change).ask(reconcile, 1), expected, "{case}");
    }
}

#[test]
fn what_a_node_is_like_decides_whether_tasks_move() {
    let node = |number: u128, availability: Availability| {
        let spec = NodeSpec { availability: availability.into(), ..NodeSpec::default() };
        Kind::NodeSpecUpdated(NodeSpecUpdated { node: NodeId::from_bits(number), spec })
    };
    let table = [
        (vec![], true),
        (vec![node(9, Availability::Pause)], false),
        (vec![node(9, Availability::Drain)], false),
        // Tasks stay on a paused node.
        (vec![node(1, Availability::Pause)], false),
    ];
    for (changes, moves) in table {
        let case = format!("{changes:?}");
        let mut sample = sample(&[1, 1], |_| {});
        changes.into_iter().for_each(|kind| sample.apply(0, kind));
        assert_eq!(!sample.ask(reconcile, 1).is_empty(), moves, "{case}");
    }
    assert_eq!(sample(&[1, 1], |_| {}).offering(9, 0).ask(reconcile, 1), Vec::<String>::new(), "no room");
}

#[test]
fn a_step_waits_for_its_time_and_for_failures_to_be_forgotten() {
    let mut sample = sample(&[1, 1], |_| {});
    let moved = |from: u128, to: u128| {
        let (task, from, to) = (TaskId::from_bits(2), NodeId::from_bits(from), NodeId::from_bits(to));
        Kind::ServiceRebalanced(ServiceRebalanced { service: service(), task, from, to, reason: String::new() })
    };
    sample.apply(100, moved(1, 9));
    assert_eq!(sample.ask(reconcile, 159), ["look at 160"]);
    assert_eq!(sample.ask(reconcile, 160).len(), 4);
    let status = TaskStatus { state: TaskState::Failed.into(), ..TaskStatus::default() };
    sample.apply(200, Kind::TaskReported(TaskReported { task: TaskId::from_bits(2), status }));
    assert_eq!(sample.ask(reconcile, 201), Vec::<String>::new(), "not all run");
    let sample = sample.with_task(3, 2, None, TaskState::Pending).assigned(3, 1).reported(3, TaskState::Running);
    let mut sample = sample;
    let (tasks, desired) = (vec![TaskId::from_bits(2)], TaskState::Shutdown.into());
    let cause = DesiredCause::Restart.into();
    sample.apply(201, Kind::TaskDesiredStateSet(events::TaskDesiredStateSet { tasks, desired, cause }));
    assert_eq!(sample.ask(reconcile, 202), ["look at 500"]);
    assert_eq!(sample.ask(reconcile, 500).len(), 4);
}
