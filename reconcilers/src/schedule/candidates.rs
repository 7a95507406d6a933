//! The nodes as one run of the scheduler sees them: what is free on each, kept up to date as tasks are placed.

use events::spec::generic;
use events::{GenericResource, NodeId};
use projections::{Cluster, Node, Task};

use super::filters::Filters;

/// One node.
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    /// The node.
    pub node: &'a Node,
    /// Whether it may be given new tasks at all.
    pub takes_tasks: bool,
    /// CPU not reserved, in billionths of a core.
    pub free_nano_cpus: u64,
    /// Memory not reserved.
    pub free_memory_bytes: u64,
    /// Generic resources not claimed.
    pub free_generic: Vec<GenericResource>,
    /// Host ports in use: protocol and number.
    pub ports: Vec<(i32, u32)>,
    /// Tasks that should run here.
    pub active: u64,
    /// Tasks among them of the service that is being placed.
    pub active_of_service: u64,
}

/// All nodes, in the order of their ids.
pub(super) struct Candidates<'a> {
    all: Vec<Candidate<'a>>,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let with_ports = cluster.publishes_host_ports();
        Self { all: cluster.nodes.values().map(|node| Self::one(cluster, node, with_ports)).collect() }
    }

    /// A node as it is now, without the counts that only ranking needs; its ports only if somebody will ask for them.
    pub(super) fn one(cluster: &'a Cluster, node: &'a Node, with_ports: bool) -> Candidate<'a> {
        let usage = cluster.usage.of(node.id);
        let offers = node.offers();
        let mut candidate = Candidate {
            node,
            takes_tasks: node.takes_tasks(),
            free_nano_cpus: offers.map_or(0, |offers| offers.nano_cpus).saturating_sub(usage.nano_cpus),
            free_memory_bytes: offers.map_or(0, |offers| offers.memory_bytes).saturating_sub(usage.memory_bytes),
            free_generic: offers.map(|offers| offers.generic.clone()).unwrap_or_default(),
            ports: Vec::new(),
            active: usage.active,
            active_of_service: 0,
        };
        if !candidate.free_generic.is_empty() {
            let tasks = cluster.tasks_of_node(node.id).filter(|task| task.occupies_node());
            let claims: Vec<GenericResource> = tasks.flat_map(|task| task.claims.iter().cloned()).collect();
            candidate.free_generic = generic::remaining(&candidate.free_generic, &claims);
        }
        if usage.tasks > 0 && with_ports {
            let tasks = cluster.tasks_of_node(node.id).filter(|task| task.occupies_node());
            let ports = tasks.flat_map(|task| cluster.spec_of(task).host_ports());
            candidate.ports = ports.map(|port| (port.protocol, port.published_port)).collect();
        }
        candidate
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, index: usize) -> &Candidate<'a> {
        &self.all[index]
    }

    pub(super) fn node(&self, index: usize) -> NodeId {
        self.all[index].node.id
    }

    pub(super) fn position(&self, node: NodeId) -> Option<usize> {
        self.all.binary_search_by_key(&node, |candidate| candidate.node.id).ok()
    }

    /// Forgets the counts of the last service and sets those of this one.
    pub(super) fn count_service(&mut self, cluster: &Cluster, task: &Task) {
        for candidate in &mut self.all {
            candidate.active_of_service = 0;
        }
        for (node, active) in cluster.usage.active_of(task.service) {
            if let Some(index) = self.position(node) {
                self.all[index].active_of_service = active;
            }
        }
    }

    /// Takes what the task needs from a node that will do; returns the generic resources that it got.
    pub(super) fn take(&mut self, index: usize, task: &Task, filters: &Filters<'_>) -> Vec<GenericResource> {
        let candidate = &mut self.all[index];
        candidate.free_nano_cpus = candidate.free_nano_cpus.saturating_sub(task.nano_cpus);
        candidate.free_memory_bytes = candidate.free_memory_bytes.saturating_sub(task.memory_bytes);
        candidate.ports.extend(filters.ports());
        candidate.active += 1;
        candidate.active_of_service += 1;
        if filters.generic().is_empty() {
            return Vec::new();
        }
        generic::claim(&mut candidate.free_generic, filters.generic()).unwrap_or_default()
    }
}
