//! Which node is best: evenly over the values of the preferred labels, then over the nodes.
//!
//! A better node has fewer recent failures of the service (once there are many), then fewer tasks of the service, then fewer
//! tasks at all. Ties go to the smaller id, so that the same state gives the same choice everywhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use events::{NodeId, Timestamp};
use projections::tasks::{FAILURES_COUNT_FROM, FAILURES_WINDOW};
use projections::{Cluster, Task};

use super::candidates::Candidates;
use super::explain::Explanation;
use super::filters::Filters;
use super::layout::Layout;

/// Rank of a node, the smallest first: failures, tasks of the service, tasks, and its place in the order of ids.
type Entry = Reverse<(u64, u64, u64, usize)>;

/// The nodes that will do, in a tree with one level for each preference and a heap at each leaf.
pub(super) struct Spread<'a> {
    root: Branch<'a>,
    layout: Rc<Layout<'a>>,
    /// Failures of the service that count, by node.
    failures: BTreeMap<NodeId, u64>,
    filled: Vec<usize>,
}

#[derive(Default)]
struct Branch<'a> {
    /// Tasks of the service on the nodes below.
    tasks: u64,
    children: BTreeMap<&'a str, Branch<'a>>,
    heap: BinaryHeap<Entry>,
}

impl<'a> Spread<'a> {
    /// A tree without nodes.
    pub(super) fn new(layout: Rc<Layout<'a>>, failures: BTreeMap<NodeId, u64>) -> Self {
        Self { root: Branch::default(), layout, failures, filled: Vec::new() }
    }

    /// Judges every node once and puts in those that will do.
    pub(super) fn fill(&mut self, candidates: &Candidates<'a>, filters: &Filters<'_>, explanation: &mut Explanation) {
        let layout = Rc::clone(&self.layout);
        let mut leaves: Vec<(u64, Vec<Entry>)> = vec![(0, Vec::new()); layout.paths.len()];
        for (index, leaf) in layout.leaf_of.iter().copied().enumerate() {
            let candidate = candidates.get(index);
            // The tasks of a node that takes no more are part of how full its branch is.
            if let Ok(leaf) = leaf {
                leaves[leaf].0 += candidate.active_of_service;
            }
            match (filters.judge_knowing(candidate, leaf.map(|_| ())), leaf) {
                (Ok(()), Ok(leaf)) => leaves[leaf].1.push(self.entry(index, candidates)),
                (Err(refusal), _) | (Ok(()), Err(refusal)) => explanation.count(refusal),
            }
        }
        for (path, (tasks, entries)) in layout.paths.iter().zip(leaves) {
            self.root.leaf(path, tasks).heap = BinaryHeap::from(entries);
        }
    }

    /// Takes the best node out; it has to be put back after the task is on it.
    pub(super) fn next(&mut self) -> Option<usize> {
        self.root.pop()
    }

    /// Puts a node back in, if one more task fits on it.
    pub(super) fn put_back(&mut self, index: usize, candidates: &Candidates<'a>, filters: &Filters<'_>) {
        if filters.judge_again(candidates.get(index)).is_err() {
            self.filled.push(index);
            return;
        }
        let Some(Ok(leaf)) = self.layout.leaf_of.get(index) else { return };
        let entry = self.entry(index, candidates);
        // The task itself was counted on the way down.
        self.root.leaf(&self.layout.paths[*leaf], 0).heap.push(entry);
    }

    /// Why nothing is left: what refused nodes at first, and what refuses those that were filled.
    pub(super) fn explain(
        &self,
        filters: &Filters<'_>,
        candidates: &Candidates<'_>,
        mut explanation: Explanation,
    ) -> String {
        for index in &self.filled {
            if let Err(refusal) = filters.judge_again(candidates.get(*index)) {
                explanation.count(refusal);
            }
        }
        explanation.sentence(candidates.len())
    }

    fn entry(&self, index: usize, candidates: &Candidates<'_>) -> Entry {
        let candidate = candidates.get(index);
        let failures = self.failures.get(&candidate.node.id).copied().unwrap_or(0);
        Reverse((failures, candidate.active_of_service, candidate.active, index))
    }
}

impl<'a> Branch<'a> {
    /// The branch at the end of this path; `tasks` are counted on the way.
    fn leaf(&mut self, path: &[&'a str], tasks: u64) -> &mut Self {
        self.tasks += tasks;
        path.iter().fold(self, |branch, value| {
            let child = branch.children.entry(value).or_default();
            child.tasks += tasks;
            child
        })
    }

    fn has_room(&self) -> bool {
        !self.heap.is_empty() || self.children.values().any(Branch::has_room)
    }

    /// The best node of the branch with the fewest tasks.
    fn pop(&mut self) -> Option<usize> {
        let index = match self.heap.pop() {
            Some(Reverse((_, _, _, index))) => Some(index),
            None => self.children.values_mut().filter(|child| child.has_room()).min_by_key(|child| child.tasks)?.pop(),
        };
        if index.is_some() {
            self.tasks += 1;
        }
        index
    }
}

/// Nodes on which the present spec failed as often as is remembered, lately. Fewer failures do not count.
pub(super) fn failures(cluster: &Cluster, task: &Task, now: Timestamp) -> BTreeMap<NodeId, u64> {
    let known = cluster.failures.range((task.service, NodeId::default())..=(task.service, NodeId::MAX));
    let recent = known.map(|((_, node), failures)| {
        let recent =
            failures.iter().filter(|(version, at)| *version == task.spec_version && now.since(*at) < FAILURES_WINDOW);
        (node, recent.count())
    });
    recent.filter(|(_, count)| *count >= FAILURES_COUNT_FROM).map(|(node, count)| (node, count as u64)).collect()
}
