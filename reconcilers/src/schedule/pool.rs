//! The nodes as the scheduler sees them: their free resources, and the order in which it would choose them.
//!
//! They are a cache of the state between turns, which the leader owns and lends to each turn. A run of the scheduler first
//! updates it from the differences between the tables, so that this costs what changed and not what exists. Whatever became of
//! the last turn, only the state counts: tests verify that a cached pool makes the same choices as one built from scratch.

use std::collections::BTreeMap;

use events::NodeId;
use projections::{Cluster, Node, NodeUsage, Table, Usage};

/// Minimum number of changes of nodes that are kept: those of a full turn.
pub(super) const CHANGES_MIN: usize = 4_096;

/// One node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The node.
    pub id: NodeId,
    /// Whether it accepts new tasks at all.
    pub takes_tasks: bool,
    /// CPU not reserved, in billionths of a core.
    pub free_nano_cpus: u64,
    /// Memory not reserved.
    pub free_memory_bytes: u64,
    /// Tasks that should run here.
    pub active: u64,
    /// Its total CPU and memory.
    pub offers: (u64, u64),
}

impl Candidate {
    /// A node without tasks.
    fn of(node: &Node) -> Self {
        let offers = node.offers().map_or((0, 0), |offers| (offers.nano_cpus, offers.memory_bytes));
        let (free_nano_cpus, free_memory_bytes) = offers;
        Self { id: node.id, takes_tasks: node.takes_tasks(), free_nano_cpus, free_memory_bytes, active: 0, offers }
    }

    /// The node with tasks that use this much.
    fn with(self, usage: NodeUsage) -> Self {
        let (nano_cpus, memory_bytes) = self.offers;
        Self {
            free_nano_cpus: nano_cpus.saturating_sub(usage.nano_cpus),
            free_memory_bytes: memory_bytes.saturating_sub(usage.memory_bytes),
            active: usage.active,
            ..self
        }
    }

    /// A removed node.
    fn gone(id: NodeId) -> Self {
        Self { id, takes_tasks: false, free_nano_cpus: 0, free_memory_bytes: 0, active: 0, offers: (0, 0) }
    }
}

/// The nodes by number, in no particular order: a node keeps its number as long as it exists, and the number is never reused.
#[derive(Debug, Default)]
pub(super) struct Pool {
    all: Vec<Candidate>,
    /// For each node: the last change of its description, other than of its tasks.
    described: Vec<u64>,
    numbers: BTreeMap<NodeId, usize>,
    changes: Changes,
    /// The tables from which the candidates were last updated.
    nodes: Table<NodeId, Node>,
    usage: Usage,
    /// Nodes that got tasks in the last run. Whether the state has these tasks is unknown before the next run.
    promised: Vec<usize>,
    /// The maximum of CPU and memory that any node has offered so far.
    most: (u64, u64),
}

impl Pool {
    pub(super) fn get(&self, number: usize) -> &Candidate {
        &self.all[number]
    }

    /// The node, unless it was removed.
    pub(super) fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(self.all[number].id)
    }

    pub(super) fn number(&self, node: NodeId) -> Option<usize> {
        self.numbers.get(&node).copied()
    }

    /// The numbers of the existing nodes, in the order of their ids.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.numbers.values().copied()
    }

    /// The maximum of CPU and memory that a node may offer.
    pub(super) fn most(&self) -> (u64, u64) {
        self.most
    }

    /// Number of existing nodes.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Upper bound of all assigned numbers.
    pub(super) fn numbers_end(&self) -> usize {
        self.all.len()
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Whether the description of the node changed with this change or a later one.
    pub(super) fn is_described_since(&self, number: usize, change: u64) -> bool {
        self.described[number] >= change
    }

    /// Records that a task uses this much of a node.
    pub(super) fn take(&mut self, number: usize, nano_cpus: u64, memory_bytes: u64) {
        let candidate = &mut self.all[number];
        self.promised.push(number);
        candidate.free_nano_cpus = candidate.free_nano_cpus.saturating_sub(nano_cpus);
        candidate.free_memory_bytes = candidate.free_memory_bytes.saturating_sub(memory_bytes);
        candidate.active += 1;
        self.changes.push(number);
    }

    /// Removed nodes keep their numbers; when they are the majority, the pool is rebuilt.
    pub(super) fn is_mostly_gone(&self) -> bool {
        self.all.len() > 2 * self.numbers.len()
    }

    pub(super) fn follow(&mut self, cluster: &Cluster) {
        self.changes.forget_more_than(CHANGES_MIN.max(2 * self.all.len()));
        let nodes = std::mem::replace(&mut self.nodes, cluster.nodes.clone());
        for (id, node) in cluster.nodes.changed_since(&nodes) {
            match node {
                Some(node) => self.describe(Candidate::of(node).with(cluster.usage.of(id))),
                None => self.forget(id),
            }
        }
        let usage = std::mem::replace(&mut self.usage, cluster.usage.clone());
        for (id, usage) in cluster.usage.changed_since(&usage) {
            if let Some(number) = self.number(id) {
                self.measure(number, usage);
            }
        }
        // The assignments of the last run: mostly they took effect, and are measured already.
        for number in std::mem::take(&mut self.promised) {
            self.measure(number, cluster.usage.of(self.all[number].id));
        }
    }

    /// Adds or replaces a node.
    fn describe(&mut self, candidate: Candidate) {
        let change = self.changes.end();
        let number = match self.number(candidate.id) {
            Some(number) => number,
            None => {
                let number = self.all.len();
                self.numbers.insert(candidate.id, number);
                self.all.push(Candidate::gone(candidate.id));
                self.described.push(change);
                number
            }
        };
        self.all[number] = candidate;
        self.most = (self.most.0.max(candidate.offers.0), self.most.1.max(candidate.offers.1));
        self.described[number] = change;
        self.changes.push(number);
    }

    fn forget(&mut self, node: NodeId) {
        let Some(number) = self.numbers.remove(&node) else { return };
        self.all[number] = Candidate::gone(node);
        self.described[number] = self.changes.end();
        self.changes.push(number);
    }

    /// Updates the resources used by the tasks of a node. A removed node may still have some.
    fn measure(&mut self, number: usize, usage: NodeUsage) {
        let measured = self.all[number].with(usage);
        if self.all[number] != measured {
            self.all[number] = measured;
            self.changes.push(number);
        }
    }
}

/// The numbers of the changed nodes, in the order of the changes, as far back as useful.
#[derive(Debug, Default)]
pub(super) struct Changes {
    first: u64,
    numbers: Vec<usize>,
}

impl Changes {
    /// The first available change.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The end, after the last change.
    pub(super) fn end(&self) -> u64 {
        self.first + self.numbers.len() as u64
    }

    /// The nodes that changed from this change on.
    pub(super) fn since(&self, change: u64) -> &[usize] {
        let known = usize::try_from(change.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.numbers.get(known..).unwrap_or_default()
    }

    fn push(&mut self, number: usize) {
        self.numbers.push(number);
    }

    /// For more missed changes than there are nodes, visiting the nodes is cheaper.
    fn forget_more_than(&mut self, most: usize) {
        if self.numbers.len() > most {
            self.first = self.end();
            self.numbers.clear();
        }
    }
}
