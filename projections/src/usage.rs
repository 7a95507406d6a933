//! What tasks take from their nodes: derived from the tasks, kept up to date with each change of one.

use events::{NodeId, ServiceId};
use imbl::OrdMap;

use crate::tasks::Task;

/// Sums over the tasks of each node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    nodes: OrdMap<NodeId, NodeUsage>,
    /// Tasks of a service that should run on a node.
    active: OrdMap<(ServiceId, NodeId), u64>,
}

/// What the tasks of one node take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeUsage {
    /// Reserved CPU in billionths of a core.
    pub nano_cpus: u64,
    /// Reserved memory.
    pub memory_bytes: u64,
    /// Tasks that take resources.
    pub tasks: u64,
    /// Tasks among them that should run.
    pub active: u64,
}

impl Usage {
    /// What the tasks of a node take.
    pub fn of(&self, node: NodeId) -> NodeUsage {
        self.nodes.get(&node).copied().unwrap_or_default()
    }

    /// Tasks of a service that should run, by node.
    pub fn active_of(&self, service: ServiceId) -> impl Iterator<Item = (NodeId, u64)> {
        let range = (service, NodeId::default())..=(service, NodeId::MAX);
        self.active.range(range).map(|((_, node), count)| (*node, *count))
    }

    pub(crate) fn enter(&mut self, task: &Task) {
        let Some(node) = task.node.filter(|_| task.occupies_node()) else { return };
        let usage = self.nodes.entry(node).or_default();
        usage.nano_cpus += task.nano_cpus;
        usage.memory_bytes += task.memory_bytes;
        usage.tasks += 1;
        if task.is_wanted() {
            usage.active += 1;
            *self.active.entry((task.service, node)).or_default() += 1;
        }
    }

    pub(crate) fn leave(&mut self, task: &Task) {
        let Some(node) = task.node.filter(|_| task.occupies_node()) else { return };
        let Some(usage) = self.nodes.get_mut(&node) else { return };
        usage.nano_cpus -= task.nano_cpus;
        usage.memory_bytes -= task.memory_bytes;
        usage.tasks -= 1;
        if task.is_wanted() {
            usage.active -= 1;
        }
        if usage.tasks == 0 {
            self.nodes.remove(&node);
        }
        let key = (task.service, node);
        if let Some(count) = self.active.get_mut(&key).filter(|_| task.is_wanted()) {
            *count -= 1;
            if *count == 0 {
                self.active.remove(&key);
            }
        }
    }
}
