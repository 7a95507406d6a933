//! A reference resolves to the same object as a walk over all nodes and tasks.

use std::collections::BTreeSet;

use events::{Id, NodeId, TaskId};
use projections::views::overview::{ReferenceError, resolve_node, resolve_task};
use projections::{Cluster, Instance, Task};

/// Looks up everything that has a name, by all of its names.
pub fn expect_as_by_a_walk(cluster: &Cluster) {
    let nodes: Vec<(NodeId, &str)> = cluster.nodes.values().map(|node| (node.id, node.hostname())).collect();
    for (_, hostname) in &nodes {
        let same: Vec<NodeId> = nodes.iter().filter(|(_, other)| other == hostname).map(|(id, _)| *id).collect();
        match (resolve_node(cluster, hostname), &same[..]) {
            (Ok(found), [only]) => assert_eq!(found, *only, "{hostname}"),
            (Err(ReferenceError::Ambiguous { .. }), [_, _, ..]) => {}
            (found, same) => panic!("{hostname} means {found:?}, and is the name of {same:?}"),
        }
    }
    let mut places = BTreeSet::new();
    for task in cluster.tasks.values() {
        assert_eq!(resolve_task(cluster, &cluster.task_name(task)), Ok(task.id));
        let service = cluster.spec_of(task).name().to_owned();
        for place in names_of_place(cluster, task) {
            assert_eq!(resolve_task(cluster, &format!("{service}.{place}.{}", task.id)), Ok(task.id));
        }
        places.extend(names_of_place(cluster, task).into_iter().map(|place| (service.clone(), place)));
    }
    for (service, place) in places {
        let found = resolve_task(cluster, &format!("{service}.{place}"));
        assert_eq!(found.ok(), by_a_walk(cluster, &service, &place), "{service}.{place}");
    }
}

fn names_of_place(cluster: &Cluster, task: &Task) -> Vec<String> {
    match task.instance() {
        Instance::Slot(slot) => vec![slot.to_string()],
        Instance::Node(node) => {
            let hostname = cluster.nodes.get(node).map(|node| node.hostname().to_owned());
            [node.to_string()].into_iter().chain(hostname).collect()
        }
    }
}

/// The task that represents the slot: of the present service with this name, or else of all that had the name.
fn by_a_walk(cluster: &Cluster, service: &str, place: &str) -> Option<TaskId> {
    let present = cluster.services.values().find(|present| present.spec.name().eq_ignore_ascii_case(service));
    let tasks = cluster.tasks.values().filter(|task| match present {
        Some(present) => task.service == present.id,
        None => cluster.spec_of(task).name().eq_ignore_ascii_case(service),
    });
    let there = tasks.filter(|task| names_of_place(cluster, task).iter().any(|name| name == place));
    let order = |task: &&Task| (task.is_live(), task.is_wanted(), task.created_index, task.id.bits());
    there.max_by_key(order).map(|task| task.id)
}
