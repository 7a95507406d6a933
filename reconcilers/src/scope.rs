//! The part of the state that a pass of the reconcilers looks at.

use std::collections::BTreeSet;

use events::{NodeId, ServiceId};
use projections::{Cluster, Touched};

/// Services and nodes to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Services whose tasks may not be as they should, also ones that are gone and have tasks left.
    pub services: BTreeSet<ServiceId>,
    /// Nodes that changed themselves.
    pub nodes: BTreeSet<NodeId>,
    /// Nodes on which there may be more room than before.
    pub roomier: BTreeSet<NodeId>,
    /// Nodes whose liveness to look at: those that changed, and those whose time to be heard of may be over.
    pub overdue: BTreeSet<NodeId>,
    /// Tasks wait for a place that the last turn had no room to give them.
    pub placement: bool,
}

impl Scope {
    /// What has to be looked at after a change: what was touched, the services with tasks on a touched node, and, since a
    /// node may have become fit for them, all global services.
    pub fn of(cluster: &Cluster, touched: &Touched) -> Self {
        if touched.everything {
            return Self::everything(cluster);
        }
        let mut services = touched.services.clone();
        for &node in &touched.nodes {
            services.extend(cluster.tasks_of_node(node).map(|task| task.service));
        }
        if !touched.nodes.is_empty() {
            services
                .extend(cluster.services.values().filter(|service| service.spec.is_global()).map(|service| service.id));
        }
        let roomier = touched.nodes.union(&touched.tasks_of_nodes).copied().collect();
        let overdue = touched.nodes.union(&touched.overdue).copied().collect();
        Self { services, nodes: touched.nodes.clone(), roomier, overdue, placement: touched.placement }
    }

    /// All there is. Services that are gone are known by the specs that their last tasks run.
    pub fn everything(cluster: &Cluster) -> Self {
        let mut services: BTreeSet<ServiceId> = cluster.services.iter().map(|(id, _)| id).collect();
        services.extend(cluster.revisions.iter().map(|((id, _), _)| id));
        let nodes: BTreeSet<NodeId> = cluster.nodes.iter().map(|(id, _)| id).collect();
        Self { services, roomier: nodes.clone(), overdue: nodes.clone(), nodes, placement: true }
    }

    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        !self.placement && self.services.is_empty() && self.overdue.is_empty() && self.roomier.is_empty()
    }
}
