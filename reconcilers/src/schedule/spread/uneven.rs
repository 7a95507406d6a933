//! Finds where the tasks of a service are spread less evenly than possible.

use std::cmp::Reverse;

use super::super::filters::Filters;
use super::super::leaf::{Entry, Look, rank};
use super::super::run::Run;
use super::{Branch, Spread};

/// Two nodes: moving one task from the first to the second makes the spread more even.
pub(in super::super) struct Uneven {
    /// Number of the node that has too many.
    pub from: usize,
    /// Number of the node that the scheduler would choose.
    pub to: usize,
    /// The number of tasks on both, as text.
    pub reason: String,
}

impl Spread<'_> {
    /// Two such nodes, if there are any. As in every choice, branches come before nodes, and preferred affinities before numbers
    /// of tasks. The first level at which a task changes branches becomes more even, and those above stay unchanged: so moves
    /// come to an end, and none is ever reversed.
    pub(in super::super) fn uneven(&self, filters: &Filters<'_>, run: &mut Run<'_>) -> Option<Uneven> {
        let mut crowded = vec![Vec::new(); self.leaves.len()];
        for number in run.counted() {
            // Tasks stay on a node that takes no tasks.
            let has_tasks = run.pool.get(*number).takes_tasks && run.active_of_service(*number) > 0;
            if let Ok(leaf) = self.layout.leaf_of(*number)
                && has_tasks
            {
                crowded[leaf].push(*number);
            }
        }
        Comparison { spread: self, crowded, filters, run }.below(&self.root, 0)
    }
}

/// A comparison of the tree's branches.
struct Comparison<'c, 'l, 'a, 'r> {
    spread: &'c Spread<'l>,
    /// For each leaf the nodes from which a task may be moved.
    crowded: Vec<Vec<usize>>,
    filters: &'c Filters<'a>,
    run: &'c mut Run<'r>,
}

impl<'l> Comparison<'_, 'l, '_, '_> {
    fn below(&mut self, branch: &Branch<'l>, level: usize) -> Option<Uneven> {
        if let Some(leaf) = branch.leaf {
            return self.within(leaf);
        }
        let children = || branch.children.iter();
        let emptiest = children().filter(|(_, child)| child.has_room(&self.spread.leaves));
        let emptiest = emptiest.min_by_key(|(_, child)| child.tasks);
        let fullest = children().filter(|(_, child)| self.is_crowded(child)).max_by_key(|(_, child)| child.tasks);
        if let (Some((here, from)), Some((there, to))) = (fullest, emptiest)
            && from.tasks > to.tasks + 1
        {
            let label = &self.filters.placement().preferences.get(level)?.spread;
            let reason =
                format!("{} where {label} is \"{here}\", {} where it is \"{there}\"", tasks(from.tasks), to.tasks);
            return Some(Uneven { from: self.fullest_node(from)?, to: self.best_node(to)?, reason });
        }
        branch.children.values().find_map(|child| self.below(child, level + 1))
    }

    /// Two nodes of a leaf.
    fn within(&mut self, leaf: usize) -> Option<Uneven> {
        let Reverse((_, lacks, of_service, .., to)) = self.spread.leaves[leaf].best(self.filters)?;
        let fuller = self.crowded[leaf].iter().copied();
        let fuller: Vec<usize> = fuller.filter(|number| self.run.active_of_service(*number) > of_service + 1).collect();
        let worse = fuller.into_iter().filter(|number| self.lacks(*number) >= lacks).collect::<Vec<usize>>();
        let from = self.fullest_of(&worse)?;
        let host = |number| self.run.pool.node(number).map_or("", |node| node.hostname());
        let here = tasks(self.run.active_of_service(from));
        let reason = format!("{here} on {}, {of_service} on {}", host(from), host(to));
        Some(Uneven { from, to, reason })
    }

    /// Weight of the preferences that a node does not meet.
    fn lacks(&mut self, number: usize) -> u64 {
        let (penalty, failures) = (self.spread.layout.penalty_of(number), &self.spread.failures);
        let look = &mut Look { failures, filters: self.filters, run: self.run };
        let Reverse((_, lacks, ..)): Entry = rank(number, penalty, look);
        lacks
    }

    fn is_crowded(&self, branch: &Branch<'l>) -> bool {
        let here = branch.leaf.is_some_and(|leaf| !self.crowded[leaf].is_empty());
        here || branch.children.values().any(|child| self.is_crowded(child))
    }

    /// The fullest node in the fullest branch at every level, among those from which a task may be moved.
    fn fullest_node(&self, branch: &Branch<'l>) -> Option<usize> {
        match branch.leaf {
            Some(leaf) => self.fullest_of(&self.crowded[leaf]),
            None => {
                let crowded = branch.children.values().filter(|child| self.is_crowded(child));
                self.fullest_node(crowded.max_by_key(|child| child.tasks)?)
            }
        }
    }

    fn fullest_of(&self, nodes: &[usize]) -> Option<usize> {
        let by_tasks = |number: &usize| (self.run.active_of_service(*number), Reverse(self.run.pool.get(*number).id));
        nodes.iter().copied().max_by_key(by_tasks)
    }

    /// The best node in the emptiest branch with room at every level: the scheduler's choice.
    fn best_node(&self, branch: &Branch<'l>) -> Option<usize> {
        let leaves = &self.spread.leaves;
        match branch.leaf {
            Some(leaf) => leaves[leaf].best(self.filters).map(|Reverse((.., number))| number),
            None => {
                let with_room = branch.children.values().filter(|child| child.has_room(leaves));
                self.best_node(with_room.min_by_key(|child| child.tasks)?)
            }
        }
    }
}

fn tasks(number: u64) -> String {
    if number == 1 { "1 task".to_owned() } else { format!("{number} tasks") }
}
