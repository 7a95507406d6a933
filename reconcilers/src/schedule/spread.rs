//! Which node is best: evenly over the values of the preferred labels, then over the nodes.
//!
//! A better node has fewer recent failures of the service (once there are many), then fewer tasks of the service, then fewer
//! tasks at all. Ties go to the smaller id, so that the same state gives the same choice everywhere.
//!
//! Most nodes have neither failures nor tasks of the service: they are taken from the order that the layout keeps, as far as
//! they are needed. Only those that have are ranked for each group again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, btree_set};

use events::{NodeId, Timestamp};
use projections::Cluster;
use projections::failures;
use projections::unplaced::Group;

use super::filters::Filters;
use super::layout::{Layout, Rank};
use super::pool::Pool;
use super::run::Run;

/// Rank of a node, the smallest first: failures, tasks of the service, tasks, its id, and its number.
type Entry = Reverse<(u64, u64, u64, NodeId, usize)>;

/// The nodes that will do, in a tree with one level for each preference.
pub(super) struct Spread<'l> {
    layout: &'l Layout,
    root: Branch<'l>,
    leaves: Vec<Leaf<'l>>,
    /// Failures of the service that count, by the number of the node.
    failures: BTreeMap<usize, u64>,
}

#[derive(Default)]
struct Branch<'l> {
    /// Tasks of the service on the nodes below.
    tasks: u64,
    children: BTreeMap<&'l str, Branch<'l>>,
    leaf: Option<usize>,
}

/// The nodes with the same values of all preferred labels.
struct Leaf<'l> {
    /// Nodes that may be new to the service, best first.
    order: btree_set::Iter<'l, Rank>,
    /// The best of them that will do.
    unused: Option<usize>,
    /// Nodes with tasks or failures of the service that will do. They are worse than any other.
    used: BinaryHeap<Entry>,
}

impl<'l> Spread<'l> {
    /// The nodes of a layout as they are for the service that the run has counted.
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
            leaves.push(Leaf { order: layout.order(number).iter(), unused: None, used: BinaryHeap::new() });
        }
        let mut spread = Self { layout, root, leaves, failures };
        spread.fill(filters, run);
        spread
    }

    fn fill(&mut self, filters: &Filters<'_>, run: &mut Run<'_>) {
        let with_tasks = run.counted().iter().copied();
        let without = self.failures.keys().copied().filter(|number| run.active_of_service(*number) == 0);
        for number in with_tasks.chain(without).collect::<Vec<usize>>() {
            let Ok(leaf) = self.layout.leaf_of(number) else { continue };
            // The tasks of a node that takes no more are part of how full its branch is.
            self.root.leaf(self.layout.path(leaf), run.active_of_service(number));
            if filters.judge_knowing(number, Ok(()), run).is_ok() {
                let entry = self.entry(number, run);
                self.leaves[leaf].used.push(entry);
            }
        }
        for leaf in 0..self.leaves.len() {
            self.advance(leaf, filters, run);
        }
    }

    /// Takes the best node out; it has to be put back after the task is on it.
    pub(super) fn next(&mut self, filters: &Filters<'_>, run: &mut Run<'_>) -> Option<usize> {
        let leaf = self.root.choose(&self.leaves)?;
        match self.leaves[leaf].unused.take() {
            Some(number) => {
                self.advance(leaf, filters, run);
                Some(number)
            }
            None => self.leaves[leaf].used.pop().map(|Reverse((_, _, _, _, number))| number),
        }
    }

    /// Puts a node back in, if one more task fits on it.
    pub(super) fn put_back(&mut self, number: usize, filters: &Filters<'_>, run: &mut Run<'_>) {
        if filters.judge_again(number, run).is_err() {
            return;
        }
        let Ok(leaf) = self.layout.leaf_of(number) else { return };
        let entry = self.entry(number, run);
        self.leaves[leaf].used.push(entry);
    }

    /// Finds the next node of a leaf that is new to the service and will do.
    fn advance(&mut self, leaf: usize, filters: &Filters<'_>, run: &mut Run<'_>) {
        let failures = &self.failures;
        let mut unused = self.leaves[leaf].order.by_ref().map(|(_, _, number)| *number);
        self.leaves[leaf].unused = unused.find(|number| {
            let is_new = run.active_of_service(*number) == 0 && !failures.contains_key(number);
            is_new && filters.judge_again(*number, run).is_ok()
        });
    }

    fn entry(&self, number: usize, run: &Run<'_>) -> Entry {
        let candidate = run.pool.get(number);
        let failures = self.failures.get(&number).copied().unwrap_or(0);
        Reverse((failures, run.active_of_service(number), candidate.active, candidate.id, number))
    }
}

impl Leaf<'_> {
    fn has_room(&self) -> bool {
        self.unused.is_some() || !self.used.is_empty()
    }
}

impl<'l> Branch<'l> {
    /// The branch at the end of this path; `tasks` are counted on the way.
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

    /// The leaf with room that is in the branch with the fewest tasks, at every level; one more task is counted on the way.
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

/// Nodes, by number, on which the present spec failed as often as is remembered, lately. Fewer failures do not count.
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
