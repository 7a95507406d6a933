//! The resources that tasks use on their nodes: derived from the tasks and updated with each change of one.

use events::{NodeId, ServiceId};
use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::counts;
use crate::tasks::Task;

/// Sums over the tasks of each node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    nodes: OrdMap<NodeId, NodeUsage>,
    /// Tasks of a service that should run on a node.
    active: OrdMap<(ServiceId, NodeId), u64>,
}

/// The resources used by the tasks of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeUsage {
    /// Reserved CPU in billionths of a core.
    pub nano_cpus: u64,
    /// Reserved memory.
    pub memory_bytes: u64,
    /// Tasks that use resources.
    pub tasks: u64,
    /// Tasks among them that should run.
    pub active: u64,
}

impl Usage {
    /// The resources used by the tasks of a node.
    pub fn of(&self, node: NodeId) -> NodeUsage {
        self.nodes.get(&node).copied().unwrap_or_default()
    }

    /// The nodes whose usage differs from that in `earlier`, with the current usage. The cost depends on the number of changes,
    /// as long as one was derived from the other.
    pub fn changed_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (NodeId, NodeUsage)> {
        earlier.nodes.diff(&self.nodes).map(|change| match change {
            DiffItem::Add(node, usage) | DiffItem::Update { new: (node, usage), .. } => (*node, *usage),
            DiffItem::Remove(node, _) => (*node, NodeUsage::default()),
        })
    }

    /// Tasks of a service that should run, by node.
    pub fn active_of(&self, service: ServiceId) -> impl Iterator<Item = (NodeId, u64)> {
        let range = (service, NodeId::default())..=(service, NodeId::MAX);
        self.active.range(range).map(|((_, node), count)| (*node, *count))
    }

    /// How many tasks of a service should run on a node.
    pub fn active_on(&self, service: ServiceId, node: NodeId) -> u64 {
        self.active.get(&(service, node)).copied().unwrap_or(0)
    }

    /// The services and nodes for which this number differs from that in `earlier`, with the number then and now. The cost
    /// depends on the number of changes, as long as one was derived from the other.
    pub fn active_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (ServiceId, u64, u64)> {
        earlier.active.diff(&self.active).map(|change| match change {
            DiffItem::Add((service, _), now) => (*service, 0, *now),
            DiffItem::Update { old: (_, then), new: ((service, _), now) } => (*service, *then, *now),
            DiffItem::Remove((service, _), then) => (*service, *then, 0),
        })
    }

    pub(crate) fn enter(&mut self, task: &Task) {
        self.enter_node(task);
        self.enter_service(task);
    }

    /// Adds a task to the usage of its node.
    pub(crate) fn enter_node(&mut self, task: &Task) {
        let Some(node) = task.node.filter(|_| task.occupies_node()) else { return };
        match self.nodes.get_mut(&node) {
            Some(usage) => usage.enter(task),
            None => {
                let mut usage = NodeUsage::default();
                usage.enter(task);
                self.nodes.insert(node, usage);
            }
        }
    }

    /// Adds a task to the usage of its service.
    pub(crate) fn enter_service(&mut self, task: &Task) {
        if let Some(node) = task.node.filter(|_| task.occupies_node() && task.is_wanted()) {
            counts::up(&mut self.active, (task.service, node));
        }
    }

    pub(crate) fn leave(&mut self, task: &Task) {
        let Some(node) = task.node.filter(|_| task.occupies_node()) else { return };
        let Some(usage) = self.nodes.get_mut(&node) else { return };
        usage.leave(task);
        if usage.tasks == 0 {
            self.nodes.remove(&node);
        }
        if task.is_wanted() {
            counts::down(&mut self.active, (task.service, node));
        }
    }
}

impl NodeUsage {
    fn enter(&mut self, task: &Task) {
        self.nano_cpus += task.nano_cpus;
        self.memory_bytes += task.memory_bytes;
        self.tasks += 1;
        self.active += u64::from(task.is_wanted());
    }

    fn leave(&mut self, task: &Task) {
        self.nano_cpus -= task.nano_cpus;
        self.memory_bytes -= task.memory_bytes;
        self.tasks -= 1;
        self.active -= u64::from(task.is_wanted());
    }
}
