//! Which node is best: evenly over the values of the preferred labels, then over the nodes.
//!
//! A better node has fewer recent failures of the service (once there are many), then fewer tasks of the service, then fewer
//! tasks at all. Ties go to the smaller id, so that the same state gives the same choice everywhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use events::{NodeId, Timestamp};
use projections::tasks::{FAILURES_KEPT, FAILURES_WINDOW};
use projections::{Cluster, Node, Task};

use super::candidates::Candidates;
use super::explain::Explanation;
use super::filters::Filters;

/// Rank of a node: the smallest is the best.
type Rank = (u64, u64, u64, NodeId);

/// The nodes that will do, in a tree with one level for each preference and a heap at each leaf.
pub(super) struct Spread {
    root: Branch,
    /// Failures of the service that count, by node.
    failures: BTreeMap<NodeId, u64>,
    /// For each node that would do: its path through the tree.
    paths: BTreeMap<usize, Vec<String>>,
    filled: Vec<usize>,
}

#[derive(Default)]
struct Branch {
    /// Tasks of the service on the nodes below.
    tasks: u64,
    children: BTreeMap<String, Branch>,
    heap: BinaryHeap<Reverse<(Rank, usize)>>,
}

impl Spread {
    /// Judges every node once.
    pub(super) fn of(
        cluster: &Cluster,
        task: &Task,
        filters: &Filters<'_>,
        candidates: &mut Candidates<'_>,
        explanation: &mut Explanation,
        now: Timestamp,
    ) -> Self {
        candidates.count_service(cluster, task);
        let preferences = &cluster.spec_of(task).template().placed().preferences;
        let labels: Vec<&str> = preferences.iter().map(|preference| preference.spread.as_str()).collect();
        let mut spread = Self {
            root: Branch::default(),
            failures: failures(cluster, task, now),
            paths: BTreeMap::new(),
            filled: Vec::new(),
        };
        let mut ranked = Vec::new();
        for index in 0..candidates.len() {
            match filters.judge(candidates.get(index)) {
                Ok(()) => ranked.push(index),
                Err(refusal) => explanation.count(refusal),
            }
        }
        if labels.is_empty() {
            let entries = ranked.iter().map(|index| Reverse((spread.rank(*index, candidates), *index)));
            spread.root.heap = entries.collect();
        } else {
            for index in ranked {
                let candidate = candidates.get(index);
                let path: Vec<String> = labels.iter().map(|label| label_value(candidate.node, label)).collect();
                let rank = spread.rank(index, candidates);
                spread.root.enter(&path, candidate.active_of_service, Reverse((rank, index)));
                spread.paths.insert(index, path);
            }
        }
        spread
    }

    /// Takes the best node out; it has to be put back after the task is on it.
    pub(super) fn next(&mut self, _candidates: &Candidates<'_>) -> Option<usize> {
        self.root.pop()
    }

    /// Puts a node back in, if one more task fits on it.
    pub(super) fn put_back(&mut self, index: usize, candidates: &Candidates<'_>, filters: &Filters<'_>) {
        if filters.judge_again(candidates.get(index)).is_err() {
            self.filled.push(index);
            return;
        }
        let entry = Reverse((self.rank(index, candidates), index));
        match self.paths.get(&index) {
            None => self.root.heap.push(entry),
            // The task itself was counted on the way down.
            Some(path) => self.root.enter(path, 0, entry),
        }
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

    fn rank(&self, index: usize, candidates: &Candidates<'_>) -> Rank {
        let candidate = candidates.get(index);
        let failures = self.failures.get(&candidate.node.id).copied().unwrap_or(0);
        (failures, candidate.active_of_service, candidate.active, candidate.node.id)
    }
}

impl Branch {
    fn enter(&mut self, path: &[String], tasks: u64, entry: Reverse<(Rank, usize)>) {
        self.tasks += tasks;
        match path.split_first() {
            None => self.heap.push(entry),
            Some((value, rest)) => self.children.entry(value.clone()).or_default().enter(rest, tasks, entry),
        }
    }

    fn has_room(&self) -> bool {
        !self.heap.is_empty() || self.children.values().any(Branch::has_room)
    }

    /// The best node of the branch with the fewest tasks.
    fn pop(&mut self) -> Option<usize> {
        let index = match self.heap.pop() {
            Some(Reverse((_, index))) => Some(index),
            None => self.children.values_mut().filter(|child| child.has_room()).min_by_key(|child| child.tasks)?.pop(),
        };
        if index.is_some() {
            self.tasks += 1;
        }
        index
    }
}

/// Nodes on which the present spec failed as often as is remembered, lately. Fewer failures do not count.
fn failures(cluster: &Cluster, task: &Task, now: Timestamp) -> BTreeMap<NodeId, u64> {
    let known = cluster.failures.range((task.service, NodeId::default())..=(task.service, NodeId::MAX));
    let recent = known.map(|((_, node), failures)| {
        let recent =
            failures.iter().filter(|(version, at)| *version == task.spec_version && now.since(*at) < FAILURES_WINDOW);
        (node, recent.count())
    });
    recent.filter(|(_, count)| *count >= FAILURES_KEPT).map(|(node, count)| (node, count as u64)).collect()
}

/// The value of `node.labels.<key>` or `engine.labels.<key>`; empty if the node has no such label.
fn label_value(node: &Node, label: &str) -> String {
    let facts = node.facts();
    let lower = label.to_ascii_lowercase();
    let (labels, prefix) = match lower.starts_with("engine.labels.") {
        true => (facts.engine_labels, "engine.labels.".len()),
        false => (facts.node_labels, "node.labels.".len()),
    };
    let key = label.get(prefix..).unwrap_or_default();
    labels.and_then(|labels| labels.get(key)).cloned().unwrap_or_default()
}
