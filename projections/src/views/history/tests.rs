//! Which events concern an object, and the names of objects.

use events::{
    Annotations, NodeJoined, NodeSpec, NodeSpecUpdated, Reconciler, ServiceCreated, ServiceSpec, TaskAssigned,
    TaskCreated, TaskDesiredStateSet, TaskPlacementFailed, TaskReaped, Timestamp,
};

use crate::Stamp;

use super::*;

fn service(id: u128, name: &str) -> Kind {
    let annotations = Some(Annotations { name: name.to_owned(), ..Default::default() });
    let spec = ServiceSpec { annotations, ..Default::default() };
    Kind::ServiceCreated(Box::new(ServiceCreated { service: ServiceId::from_bits(id), spec }))
}

fn node(id: u128, hostname: &str) -> Kind {
    let (node, hostname) = (NodeId::from_bits(id), hostname.to_owned());
    Kind::NodeJoined(NodeJoined { node, hostname, ..Default::default() })
}

fn task(id: u128, slot: u64, node: Option<u128>) -> Kind {
    let (task, service) = (TaskId::from_bits(id), ServiceId::from_bits(1));
    Kind::TaskCreated(TaskCreated { task, service, slot, node: node.map(NodeId::from_bits), ..Default::default() })
}

fn text(id: u128) -> String {
    TaskId::from_bits(id).to_string()
}

#[test]
fn what_is_gone_keeps_its_name() {
    let (mut names, nobody) = (Names::default(), Cluster::default());
    for kind in [service(1, "web"), node(2, "n1"), task(3, 1, None), task(4, 0, Some(2)), task(5, 0, Some(9))] {
        names.learn(&kind);
    }
    let called = [(1, "web"), (2, "n1"), (3, "web.1"), (4, "web.n1")];
    for (id, name) in called {
        assert_eq!(names.of(&nobody, &text(id)).as_deref(), Some(name));
    }
    assert_eq!(names.of(&nobody, &text(5)), Some(format!("web.{}", text(9))));
    for unknown in [text(6), "root".to_owned()] {
        assert_eq!(names.of(&nobody, &unknown), None);
    }
    names.forget(&Kind::TaskReaped(TaskReaped { tasks: vec![TaskId::from_bits(3)] }));
    assert_eq!(names.of(&nobody, &text(3)), None);
    assert_eq!(names.of(&nobody, &text(1)).as_deref(), Some("web"));
}

#[test]
fn a_later_history_takes_precedence() {
    let (mut past, mut later) = (Names::default(), Names::default());
    for kind in [service(1, "web"), node(2, "old")] {
        past.learn(&kind);
    }
    for kind in [task(3, 1, None), node(2, "new")] {
        later.learn(&kind);
    }
    let names = past.then(later);
    assert_eq!(names.of(&Cluster::default(), &text(3)).as_deref(), Some("web.1"));
    assert_eq!(names.of(&Cluster::default(), &text(2)).as_deref(), Some("new"));
}

#[test]
fn the_story_of_a_living_service_can_begin_in_the_middle() {
    let (mut cluster, at) = (Cluster::default(), Stamp { index: 1, time: Timestamp::from_unix_ns(0) });
    let (web, first) = (ServiceId::from_bits(1), TaskId::from_bits(3));
    let made = TaskCreated { task: first, service: web, slot: 1, spec_version: at.index, ..Default::default() };
    for kind in [service(1, "web"), Kind::TaskCreated(made)] {
        cluster.apply(&Event::by_command(0, kind), &at);
    }
    let waits = |task| TaskPlacementFailed { tasks: vec![TaskId::from_bits(task)], explanation: "why".to_owned() };
    let waits = |task| Event::by_command(0, Kind::TaskPlacementFailed(waits(task)));
    let mut filter = EventFilter::of(Some(text(1)), []);
    assert_eq!(filter.select([&waits(3)]), [false], "it does not know the task yet");
    assert!(filter.begin_at(&cluster));
    assert_eq!(filter.select([&waits(3), &waits(4)]), [true, false]);
    assert!(!EventFilter::of(Some(text(9)), []).begin_at(&cluster), "what is gone has left no tasks behind");
}

#[test]
fn the_story_of_a_node_has_its_tasks_on_request() {
    let assigned = |task, node| {
        let (task, node) = (TaskId::from_bits(task), NodeId::from_bits(node));
        Event::by_command(0, Kind::TaskAssigned(TaskAssigned { task, node, claims: Vec::new() }))
    };
    let waits = |task| TaskPlacementFailed { tasks: vec![TaskId::from_bits(task)], explanation: "why".to_owned() };
    let waits = |task| Event::by_command(0, Kind::TaskPlacementFailed(waits(task)));
    for with_tasks in [false, true] {
        let filter = EventFilter::of(Some(text(2)), []);
        let mut filter = if with_tasks { filter.with_tasks_of_nodes() } else { filter };
        assert_eq!(filter.select([&assigned(3, 2)]), [true], "it names the node itself");
        assert_eq!(filter.select([&assigned(4, 5)]), [false]);
        assert_eq!(filter.select([&waits(3), &waits(4)]), [with_tasks, false]);
        let global = Event::by_command(0, task(6, 0, Some(2)));
        assert_eq!(filter.select([&global]), [true]);
        assert_eq!(filter.select([&waits(6)]), [with_tasks]);
    }
}

#[test]
fn a_name_refers_to_its_last_owner() {
    let mut bearer = NameLookup::of("web");
    for kind in [service(1, "web"), node(2, "db"), service(3, "api"), task(4, 1, None)] {
        bearer.see(&kind);
    }
    assert_eq!(bearer.found(), Found::One(text(1)));
    bearer.see(&node(5, "web"));
    assert_eq!(bearer.found(), Found::One(text(5)));
    assert_eq!(NameLookup::of("web").found(), Found::Nothing);
}

#[test]
fn a_place_means_the_last_task_in_it() {
    let made = [task(3, 1, None), task(4, 2, None), task(5, 1, None), task(6, 0, Some(2))];
    let history = [[service(1, "web"), node(2, "n1")].as_slice(), &made].concat();
    for (name, id) in [("web.1", Some(5)), ("web.2", Some(4)), ("web.n1", Some(6)), ("web.3", None), ("api.1", None)] {
        let mut bearer = NameLookup::of(name);
        history.iter().for_each(|kind| bearer.see(kind));
        assert_eq!(bearer.found(), id.map_or(Found::Nothing, |id| Found::One(text(id))), "{name}");
    }
}

#[test]
fn what_is_gone_is_found_by_the_beginning_of_its_id() {
    let (first, second) = ((1 << 127) | 1, (1 << 127) | 2);
    let made = [service(first, "web"), service(1, "api"), task(second, 1, None)];
    let (one, two) = (text(first), text(second));
    let shared: String = one.chars().zip(two.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    let table = [
        (one.clone(), Found::One(one.clone())),
        (shared, Found::Several(vec![one, two.clone()])),
        (two.clone(), Found::One(two)),
        ("zzzz".to_owned(), Found::Nothing),
    ];
    for (reference, found) in table {
        let mut bearer = NameLookup::of(reference.as_str());
        made.iter().for_each(|kind| bearer.see(kind));
        assert_eq!(bearer.found(), found, "{reference}");
    }
}

#[test]
fn what_made_the_managers_move_a_task_belongs_to_its_story() {
    let moved = |cause: Option<Reconciler>, kind| match cause {
        Some(reconciler) => Event::by_reconciler(reconciler, kind),
        None => Event::by_command(0, kind),
    };
    let assigned = TaskAssigned { task: TaskId::from_bits(3), node: NodeId::from_bits(2), claims: Vec::new() };
    let spec_of = |node| {
        let event = NodeSpecUpdated { node: NodeId::from_bits(node), spec: NodeSpec::default() };
        moved(None, Kind::NodeSpecUpdated(event))
    };
    let tasks = vec![TaskId::from_bits(3)];
    let leaves = Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, ..Default::default() });
    let leaves = moved(Some(Reconciler::Restarts), leaves);
    let first_events = [
        moved(None, service(1, "web")),
        moved(Some(Reconciler::Replicated), task(3, 1, None)),
        moved(Some(Reconciler::Schedule), Kind::TaskAssigned(assigned)),
    ];
    for object in [1, 3] {
        let mut filter = EventFilter::of(Some(text(object)), []);
        assert_eq!(filter.select(&first_events), [true, true, true], "the command that made it belongs, too");
        assert_eq!(filter.select([&spec_of(2)]), [false], "nothing came of it");
        assert_eq!(filter.select([&spec_of(2), &spec_of(4), &leaves]), [true, false, true], "{object}");
    }
    let mut filter = EventFilter::of(Some(text(1)), ["task_desired_state_set".to_owned()]);
    filter.select(&first_events);
    assert_eq!(filter.select([&spec_of(2), &leaves]), [false, true], "only what was asked for");
}
