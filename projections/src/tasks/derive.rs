//! Builds the indices of all tasks at once, as after a state was read.
//!
//! Each tree is filled in the order of its own keys, so that each insertion is next to the previous one. In the order of the
//! tasks' ids, which is random for the other trees, it takes twice as long.

use events::{NodeId, ServiceId, TaskId};

use super::Task;
use super::fold::enter_service;
use crate::Cluster;
use crate::instance::Instance;
use crate::places::PlaceStatus;

/// Builds the indices of tasks and of the places that they are in.
pub(crate) fn derive(cluster: &mut Cluster) {
    let tasks = cluster.tasks.clone();
    let mut by_place: Vec<((ServiceId, Instance, TaskId), &Task)> =
        tasks.values().map(|task| ((task.service, task.instance(), task.id), task)).collect();
    by_place.sort_unstable_by_key(|(key, _)| *key);
    for task in in_turn(&by_place) {
        enter_service(cluster, task);
        cluster.unplaced.enter(task);
        cluster.usage.enter_service(task);
    }
    enter_places(cluster, &by_place);
    drop(by_place);
    let mut by_node: Vec<((NodeId, TaskId), &Task)> =
        tasks.values().filter_map(|task| Some(((task.node?, task.id), task))).collect();
    by_node.sort_unstable_by_key(|(key, _)| *key);
    for task in in_turn(&by_node) {
        cluster.tasks_by_node.extend(task.node.map(|node| (node, task.id)));
        cluster.usage.enter_node(task);
    }
}

/// Every second task, and then the others. A tree that only grows at its end splits each full node and never returns to the
/// halves: the second half of the tasks fills them.
fn in_turn<'a, K>(sorted: &[(K, &'a Task)]) -> impl Iterator<Item = &'a Task> {
    sorted.iter().step_by(2).chain(sorted.iter().skip(1).step_by(2)).map(|(_, task)| *task)
}

fn enter_places(cluster: &mut Cluster, by_place: &[((ServiceId, Instance, TaskId), &Task)]) {
    for tasks in
        by_place.chunk_by(|((service, instance, _), _), ((other, of, _), _)| (service, instance) == (other, of))
    {
        let Some(((service, instance, _), _)) = tasks.first() else { continue };
        // Most are wanted, and this does not visit the others in the place.
        let is_wanted = tasks.iter().any(|(_, task)| task.is_wanted());
        let place = (*service, *instance);
        let status = if is_wanted { PlaceStatus::Wanted } else { cluster.place_status(place) };
        cluster.places.change(place, PlaceStatus::Empty, status);
    }
}
