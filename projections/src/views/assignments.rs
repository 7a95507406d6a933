//! What a node is told to do: its tasks from the moment they are assigned until they are reaped.

use std::collections::BTreeMap;

use events::{NodeId, TaskId, TaskState};

use crate::{Cluster, Task};

/// The part of a task that its node has to hear about when it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// What is wanted of the task.
    pub desired: TaskState,
    /// The spec that it runs.
    pub spec_version: u64,
}

/// The difference between two sets of assignments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Tasks that are new, or of which something else is wanted.
    pub updated: Vec<TaskId>,
    /// Tasks to forget.
    pub removed: Vec<TaskId>,
}

/// The tasks that a node has to know, dead ones only until their end is known here.
pub fn of_node(cluster: &Cluster, node: NodeId) -> BTreeMap<TaskId, Wanted> {
    let tasks = cluster.tasks_of_node(node).filter(|task| belongs(task));
    tasks.map(|task| (task.id, Wanted { desired: task.desired, spec_version: task.spec_version })).collect()
}

/// What changed from one set to the next. A report of the node itself changes nothing.
pub fn diff(before: &BTreeMap<TaskId, Wanted>, after: &BTreeMap<TaskId, Wanted>) -> Change {
    let updated = after.iter().filter(|(task, wanted)| before.get(task) != Some(wanted)).map(|(task, _)| *task);
    let removed = before.keys().filter(|task| !after.contains_key(task)).copied();
    Change { updated: updated.collect(), removed: removed.collect() }
}

/// A task that ended stays assigned, so that its container can be looked at, until it is reaped; an orphan does not: its
/// node, should it come back, has to remove what is left of it.
fn belongs(task: &Task) -> bool {
    task.state >= TaskState::Assigned && task.state != TaskState::Orphaned
}
