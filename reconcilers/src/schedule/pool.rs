//! The nodes as the scheduler sees them: what is free on each, and in which order it would choose them.
//!
//! They are kept between turns, as a cache of the state that whoever leads owns and lends to each turn. A run of the scheduler
//! first brings them up to date: the tables of the state tell what changed since the last run, so that this costs what
//! changed and not what there is. Whatever became of the last turn, the state alone counts: candidates that were kept choose
//! like ones that are made again, which is tested.

use std::collections::BTreeMap;

use events::NodeId;
use projections::{Cluster, Node, NodeUsage, Table, Usage};

/// Changes of nodes that are kept however few nodes there are: those of a full turn.
pub(super) const CHANGES_MIN: usize = 4_096;

/// One node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// The node.
    pub id: NodeId,
    /// Whether it may be given new tasks at all.
    pub takes_tasks: bool,
    /// CPU not reserved, in billionths of a core.
    pub free_nano_cpus: u64,
    /// Memory not reserved.
    pub free_memory_bytes: u64,
    /// Tasks that should run here.
    pub active: u64,
    /// All the CPU and memory that it offers.
    pub offers: (u64, u64),
}

impl Candidate {
    /// A node without tasks.
    fn of(node: &Node) -> Self {
        let offers = node.offers().map_or((0, 0), |offers| (offers.nano_cpus, offers.memory_bytes));
        let (free_nano_cpus, free_memory_bytes) = offers;
        Self { id: node.id, takes_tasks: node.takes_tasks(), free_nano_cpus, free_memory_bytes, active: 0, offers }
    }

    /// The node with tasks that take this much.
    fn with(self, usage: NodeUsage) -> Self {
        let (nano_cpus, memory_bytes) = self.offers;
        Self {
            free_nano_cpus: nano_cpus.saturating_sub(usage.nano_cpus),
            free_memory_bytes: memory_bytes.saturating_sub(usage.memory_bytes),
            active: usage.active,
            ..self
        }
    }

    /// A node that is none any more.
    fn gone(id: NodeId) -> Self {
        Self { id, takes_tasks: false, free_nano_cpus: 0, free_memory_bytes: 0, active: 0, offers: (0, 0) }
    }
}

/// The nodes by number, in no order that means anything: a node keeps its number as long as it is there, and nobody else ever
/// gets it.
#[derive(Debug, Default)]
pub(super) struct Pool {
    all: Vec<Candidate>,
    /// For each node: the change that last said what it is like, and not only what runs on it.
    described: Vec<u64>,
    numbers: BTreeMap<NodeId, usize>,
    changes: Changes,
    /// The tables that the candidates were last made from.
    nodes: Table<NodeId, Node>,
    usage: Usage,
    /// Nodes that the last run gave tasks. Whether the state has these tasks is not known before the next run.
    promised: Vec<usize>,
    /// The most CPU and memory that any node has offered so far.
    most: (u64, u64),
}

impl Pool {
    pub(super) fn get(&self, number: usize) -> &Candidate {
        &self.all[number]
    }

    /// The node, unless it is gone.
    pub(super) fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(self.all[number].id)
    }

    pub(super) fn number(&self, node: NodeId) -> Option<usize> {
        self.numbers.get(&node).copied()
    }

    /// The numbers of the nodes that are there, in the order of their ids.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.numbers.values().copied()
    }

    /// The most CPU and memory that a node may offer.
    pub(super) fn most(&self) -> (u64, u64) {
        self.most
    }

    /// Nodes that are there.
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Numbers that were given out: all are smaller than this.
    pub(super) fn numbers_end(&self) -> usize {
        self.all.len()
    }

    pub(super) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Whether what the node is like changed with this change or a later one.
    pub(super) fn is_described_since(&self, number: usize, change: u64) -> bool {
        self.described[number] >= change
    }

    /// Notes that a task takes this much of a node.
    pub(super) fn take(&mut self, number: usize, nano_cpus: u64, memory_bytes: u64) {
        let candidate = &mut self.all[number];
        self.promised.push(number);
        candidate.free_nano_cpus = candidate.free_nano_cpus.saturating_sub(nano_cpus);
        candidate.free_memory_bytes = candidate.free_memory_bytes.saturating_sub(memory_bytes);
        candidate.active += 1;
        self.changes.push(number);
    }

    /// Nodes that were removed keep their numbers; when they are more than the others, it is time to begin again.
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
        // What became of the promises: mostly they are kept, and measured already.
        for number in std::mem::take(&mut self.promised) {
            self.measure(number, cluster.usage.of(self.all[number].id));
        }
    }

    /// A node is another than before, or new.
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

    /// What the tasks of a node take. One that was removed may still have some.
    fn measure(&mut self, number: usize, usage: NodeUsage) {
        let measured = self.all[number].with(usage);
        if self.all[number] != measured {
            self.all[number] = measured;
            self.changes.push(number);
        }
    }
}

/// The numbers of the nodes that changed, in the order of the changes, as far back as is worth keeping.
#[derive(Debug, Default)]
pub(super) struct Changes {
    first: u64,
    numbers: Vec<usize>,
}

impl Changes {
    /// The first change that is known.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// After the last change.
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

    /// Who has not seen more changes than there are nodes does better to look at the nodes.
    fn forget_more_than(&mut self, most: usize) {
        if self.numbers.len() > most {
            self.first = self.end();
            self.numbers.clear();
        }
    }
}
