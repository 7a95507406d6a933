//! What a set of assignments changes for the tasks of a node.

use std::collections::{BTreeMap, BTreeSet};

use events::TaskId;
use wire::v1::Assignment;

use super::items::Assigned;

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Tasks of this node that are its no more: they are stopped and removed.
    pub withdrawn: Vec<TaskId>,
    /// Tasks that the node knows.
    pub updated: Vec<Assignment>,
    /// Tasks that are new to it.
    pub begun: Vec<Assignment>,
}

/// What a set changes for a node that has these tasks.
pub fn changes<T>(tasks: &BTreeMap<TaskId, T>, set: Assigned) -> Changes {
    let listed: BTreeSet<TaskId> = set.tasks.iter().map(|assignment| assignment.task).collect();
    let unlisted = tasks.keys().filter(|task| set.complete && !listed.contains(task)).copied();
    let removed = set.removed.into_iter().filter(|task| tasks.contains_key(task));
    let withdrawn = unlisted.chain(removed).collect();
    let (mut updated, new): (Vec<_>, Vec<_>) =
        set.tasks.into_iter().partition(|assignment| tasks.contains_key(&assignment.task));
    updated.extend(set.refreshed.into_iter().filter(|assignment| tasks.contains_key(&assignment.task)));
    // A task that the cluster knows to be over and this node knows nothing of needs nothing; should a container of it exist, it
    // is a stray.
    let begun = new.into_iter().filter(|assignment| !assignment.state().is_terminal()).collect();
    Changes { withdrawn, updated, begun }
}

#[cfg(test)]
mod tests {
    use events::{Id, TaskState};

    use super::*;

    #[test]
    fn what_is_not_listed_is_withdrawn_by_a_complete_set_alone() {
        let id = |number: u128| TaskId::from_bits(number);
        let known = BTreeMap::from([(id(1), ()), (id(2), ()), (id(3), ())]);
        let assignment =
            |number, state: TaskState| Assignment { task: id(number), state: state.into(), ..Default::default() };
        let (known_one, new, over) =
            (assignment(1, TaskState::Running), assignment(4, TaskState::Assigned), assignment(5, TaskState::Failed));
        for (complete, withdrawn) in [(false, vec![id(3)]), (true, vec![id(2), id(3)])] {
            // A complete set lists everything, and removes nothing.
            let removed = if complete { vec![] } else { vec![id(3), id(9)] };
            let tasks = vec![known_one.clone(), new.clone(), over.clone()];
            let found = changes(&known, Assigned { complete, tasks, removed, ..Assigned::default() });
            let expected = Changes { withdrawn, updated: vec![known_one.clone()], begun: vec![new.clone()] };
            assert_eq!(found, expected, "complete: {complete}");
        }
    }
}
