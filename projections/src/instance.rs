//! The places of a service, which tasks fill.

use events::NodeId;
use serde::{Deserialize, Serialize};

/// The place in a service that a task fills: a numbered slot, or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Instance {
    /// A slot of a replicated service, from 1, or of a job, from 0.
    Slot(u64),
    /// A node of a global service.
    Node(NodeId),
}

impl Instance {
    /// Sorts before every instance.
    pub const FIRST: Instance = Instance::Slot(0);
    /// Sorts after every instance.
    pub const LAST: Instance = Instance::Node(NodeId::MAX);

    /// The place that an event assigns to a task: for a global service its node, for any other its slot.
    pub fn of(event: &events::TaskCreated) -> Self {
        event.node.map_or(Instance::Slot(event.slot), Instance::Node)
    }

    /// The slot; `None` for a node.
    pub fn slot(self) -> Option<u64> {
        match self {
            Instance::Slot(slot) => Some(slot),
            Instance::Node(_) => None,
        }
    }

    /// The node; `None` for a slot.
    pub fn node(self) -> Option<NodeId> {
        match self {
            Instance::Slot(_) => None,
            Instance::Node(node) => Some(node),
        }
    }
}
