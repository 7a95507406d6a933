//! Chooses the best node: evenly over the values of the preferred labels, then by the strategy over the nodes of a leaf.

mod uneven;

use std::collections::{BTreeMap, BTreeSet};

use events::{NodeId, TaskId, Timestamp};
use projections::Cluster;
use projections::failures;
use projections::unplaced::Group;

use super::filters::Filters;
use super::layout::Layout;
use super::leaf::{Leaf, Look};
use super::pool::Pool;
use super::run::Run;

/// The suitable nodes, in a tree with one level for each preference.
pub(super) struct Spread<'l> {
    layout: &'l Layout,
    root: Branch<'l>,
    leaves: Vec<Leaf<'l>>,
    /// Failures of the service that count, by node number.
    failures: BTreeMap<usize, u64>,
}

#[derive(Default)]
struct Branch<'l> {
    /// Tasks of the service on the nodes below.
    tasks: u64,
    children: BTreeMap<&'l str, Branch<'l>>,
    leaf: Option<usize>,
}

impl<'l> Spread<'l> {
    /// The nodes of a layout, for the service whose tasks the run has counted.
    pub(super) fn new(
        layout: &'l Layout,
        failures: BTreeMap<usize, u64>,
        filters: &Filters<'_>,
        run: &mut Run<'_>,
    ) -> Self {
        let mut root = Branch::default();
        let mut leaves = Vec::new();
        for (number, path) in layout.paths().enumerate() {
            root.leaf(path, 0).leaf = Some(number);
            leaves.push(Leaf::new(layout.order(number), filters, run));
        }
        let mut spread = Self { layout, root, leaves, failures };
        spread.fill(filters, run);
        spread
    }

    fn fill(&mut self, filters: &Filters<'_>, run: &mut Run<'_>) {
        let mut apart: BTreeSet<usize> = run.counted().iter().chain(self.failures.keys()).copied().collect();
        apart.append(&mut filters.affinities().nodes(run));
        for number in apart {
            let Ok(leaf) = self.layout.leaf_of(number) else { continue };
            // The tasks of a full node still count for its branch.
            self.root.leaf(self.layout.path(leaf), run.active_of_service(number));
            if filters.judge_knowing(number, Ok(()), run).is_ok() {
                self.put(leaf, number, filters, run);
            }
        }
        for leaf in &mut self.leaves {
            leaf.advance(&mut Look { failures: &self.failures, filters, run });
        }
    }

    fn put(&mut self, leaf: usize, number: usize, filters: &Filters<'_>, run: &mut Run<'_>) {
        let penalty = self.layout.penalty_of(number);
        self.leaves[leaf].put(number, penalty, &mut Look { failures: &self.failures, filters, run });
    }

    /// Removes and returns the best node for a task; it must be put back after the task is assigned to it.
    pub(super) fn next(&mut self, task: TaskId, filters: &Filters<'_>, run: &mut Run<'_>) -> Option<usize> {
        let leaf = self.root.choose(&self.leaves)?;
        self.leaves[leaf].next(task, &mut Look { failures: &self.failures, filters, run })
    }

    /// Puts a node back, if one more task fits on it.
    pub(super) fn put_back(&mut self, number: usize, filters: &Filters<'_>, run: &mut Run<'_>) {
        let Ok(leaf) = self.layout.leaf_of(number) else { return };
        if filters.judge_again(number, run).is_ok() {
            self.put(leaf, number, filters, run);
        }
        self.leaves[leaf].check(number, &mut Look { failures: &self.failures, filters, run });
    }
}

impl<'l> Branch<'l> {
    /// The branch at the end of this path; adds `tasks` on the way.
    fn leaf(&mut self, path: &'l [String], tasks: u64) -> &mut Self {
        self.tasks += tasks;
        path.iter().fold(self, |branch, value| {
            let child = branch.children.entry(value).or_default();
            child.tasks += tasks;
            child
        })
    }

    fn has_room(&self, leaves: &[Leaf<'_>]) -> bool {
        let here = self.leaf.is_some_and(|leaf| leaves[leaf].has_room());
        here || self.children.values().any(|child| child.has_room(leaves))
    }

    /// The leaf with room in the branch with the fewest tasks, at every level; adds one task on the way.
    fn choose(&mut self, leaves: &[Leaf<'_>]) -> Option<usize> {
        let leaf = match self.leaf {
            Some(leaf) => Some(leaf).filter(|leaf| leaves[*leaf].has_room()),
            None => {
                let with_room = self.children.values_mut().filter(|child| child.has_room(leaves));
                with_room.min_by_key(|child| child.tasks)?.choose(leaves)
            }
        };
        if leaf.is_some() {
            self.tasks += 1;
        }
        leaf
    }
}

/// Nodes, by number, on which the current spec recently failed as often as is recorded. Fewer failures do not count.
pub(super) fn failures(
    cluster: &Cluster,
    (service, version): Group,
    now: Timestamp,
    pool: &Pool,
) -> BTreeMap<usize, u64> {
    let known = cluster.failures.range((service, NodeId::default())..=(service, NodeId::MAX));
    let recent = known.map(|((_, node), failures)| {
        let recent = failures.iter().filter(|(failed, at)| *failed == version && now.since(*at) < failures::WINDOW);
        (node, recent.count())
    });
    let many = recent.filter(|(_, count)| *count >= failures::COUNT_FROM);
    many.filter_map(|(node, count)| Some((pool.number(node)?, count as u64))).collect()
}
