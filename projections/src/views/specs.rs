//! The specs in the history processed so far: what an event that changes a spec replaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::{ClusterSpec, Kind, NodeId, NodeSpec, ServiceId, ServiceSpec};

use crate::{Cluster, services};

/// The last spec of every existing object.
#[derive(Debug, Clone, Default)]
pub struct Specs {
    services: BTreeMap<ServiceId, Arc<ServiceSpec>>,
    nodes: BTreeMap<NodeId, Arc<NodeSpec>>,
    cluster: Option<Arc<ClusterSpec>>,
}

/// A spec that an event replaces.
#[derive(Debug, Clone, PartialEq)]
pub enum Before {
    /// That of a service.
    Service(Arc<ServiceSpec>),
    /// That of a node.
    Node(Arc<NodeSpec>),
    /// The cluster's settings.
    Cluster(Arc<ClusterSpec>),
}

impl Specs {
    /// Whether an event replaces a spec as a whole.
    pub fn replaces(kind: &Kind) -> bool {
        matches!(kind, Kind::ServiceSpecUpdated(_) | Kind::NodeSpecUpdated(_) | Kind::ClusterSpecUpdated(_))
    }

    /// The spec that an event replaces, as far as the processed history has it.
    pub fn before(&self, kind: &Kind) -> Option<Before> {
        if let Kind::ServiceSpecUpdated(event) = kind {
            self.services.get(&event.service).cloned().map(Before::Service)
        } else if let Kind::NodeSpecUpdated(event) = kind {
            self.nodes.get(&event.node).cloned().map(Before::Node)
        } else if let Kind::ClusterSpecUpdated(_) = kind {
            self.cluster.clone().map(Before::Cluster)
        } else {
            None
        }
    }

    /// Whether the current spec of the object that an event changes is known.
    pub fn knows(&self, kind: &Kind) -> bool {
        if let Kind::ServiceScaled(event) = kind {
            self.services.contains_key(&event.service)
        } else {
            self.before(kind).is_some()
        }
    }

    /// Takes the spec that an event is about to change from the state before the processed history, unless that history has it.
    pub fn begin_at(&mut self, cluster: &Cluster, kind: &Kind) {
        if let Kind::ServiceSpecUpdated(event) = kind {
            self.begin_service(cluster, event.service);
        } else if let Kind::ServiceScaled(event) = kind {
            self.begin_service(cluster, event.service);
        } else if let Kind::NodeSpecUpdated(event) = kind
            && let Some(node) = cluster.nodes.get(event.node)
        {
            self.nodes.entry(event.node).or_insert_with(|| Arc::clone(&node.spec));
        } else if let Kind::ClusterSpecUpdated(_) = kind {
            self.cluster.get_or_insert_with(|| Arc::clone(&cluster.settings.spec));
        }
    }

    fn begin_service(&mut self, cluster: &Cluster, service: ServiceId) {
        if let Some(known) = cluster.services.get(service) {
            self.services.entry(service).or_insert_with(|| Arc::clone(&known.spec));
        }
    }

    /// Records the spec in an event, after it was shown. Specs of removed objects are dropped.
    pub fn learn(&mut self, kind: &Kind) {
        if let Kind::ServiceCreated(event) = kind {
            self.services.insert(event.service, Arc::new(event.spec.clone()));
        } else if let Kind::ServiceSpecUpdated(event) = kind {
            self.services.insert(event.service, Arc::new(event.spec.clone()));
        } else if let Kind::ServiceScaled(event) = kind {
            if let Some(spec) = self.services.get_mut(&event.service) {
                services::set_replicas(Arc::make_mut(spec), event.to);
            }
        } else if let Kind::ServiceRemoved(event) = kind {
            self.services.remove(&event.service);
        } else if let Kind::NodeJoined(event) = kind {
            self.nodes.insert(event.node, Arc::new(event.spec.clone()));
        } else if let Kind::NodeSpecUpdated(event) = kind {
            self.nodes.insert(event.node, Arc::new(event.spec.clone()));
        } else if let Kind::NodeRemoved(event) = kind {
            self.nodes.remove(&event.node);
        } else if let Kind::ClusterInitialised(event) = kind {
            self.cluster = Some(Arc::new(event.spec.clone()));
        } else if let Kind::ClusterSpecUpdated(event) = kind {
            self.cluster = Some(Arc::new(event.spec.clone()));
        }
    }

    /// Adds the specs from a later history, which take precedence.
    pub fn then(mut self, later: Self) -> Self {
        self.services.extend(later.services);
        self.nodes.extend(later.nodes);
        Self { cluster: later.cluster.or(self.cluster), ..self }
    }
}
