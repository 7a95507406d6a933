//! What a set of assignments changes for the tasks of a node.

use std::collections::{BTreeMap, BTreeSet};

use events::TaskId;
use wire::v1::Assignment;

use super::items::Assigned;

/// The changes to make.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Tasks that are no longer assigned to this node: they are stopped and removed.
    pub withdrawn: Vec<TaskId>,
    /// Tasks that the node already has.
    pub updated: Vec<Assignment>,
    /// Tasks that are new to the node.
    pub added: Vec<Assignment>,
}

/// The changes that an assignment set makes on a node that has these tasks.
pub fn changes<T>(tasks: &BTreeMap<TaskId, T>, set: Assigned) -> Changes {
    let listed: BTreeSet<TaskId> = set.tasks.iter().map(|assignment| assignment.task).collect();
    let unlisted = tasks.keys().filter(|task| set.complete && !listed.contains(task)).copied();
    let removed = set.removed.into_iter().filter(|task| tasks.contains_key(task));
    let withdrawn = unlisted.chain(removed).collect();
    let (mut updated, new): (Vec<_>, Vec<_>) =
        set.tasks.into_iter().partition(|assignment| tasks.contains_key(&assignment.task));
    updated.extend(set.refreshed.into_iter().filter(|assignment| tasks.contains_key(&assignment.task)));
    // A finished task that this node does not have needs no action. If a container of it exists, the sweep removes it.
    let added = new.into_iter().filter(|assignment| !assignment.state().is_terminal()).collect();
    Changes { withdrawn, updated, added }
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
            // A complete set lists every task, and contains no removals.
            let removed = if complete { vec![] } else { vec![id(3), id(9)] };
            let tasks = vec![known_one.clone(), new.clone(), over.clone()];
            let found = changes(&known, Assigned { complete, tasks, removed, ..Assigned::default() });
            let expected = Changes { withdrawn, updated: vec![known_one.clone()], added: vec![new.clone()] };
            assert_eq!(found, expected, "complete: {complete}");
        }
    }
}
