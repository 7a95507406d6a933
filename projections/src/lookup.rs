//! Names by which references are resolved: host names of nodes, and names of the services that tasks belong to, including removed
//! services. Derived from the tables and updated with each change, so that no reference costs a walk over all nodes or tasks.

use std::sync::Arc;

use events::{NodeId, ServiceId};
use imbl::OrdSet;

use crate::services::name_key;
use crate::{Cluster, Node};

/// The names, each with the object that has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Lookup {
    /// Machines choose their own names, so several may have the same.
    hostnames: OrdSet<(Arc<str>, NodeId)>,
    /// Names of retained revisions: tasks outlive their service for a while, and a revision is retained as long as its tasks.
    revisions: OrdSet<(Arc<str>, ServiceId, u64)>,
}

impl Lookup {
    /// Records the host name of a node after a change of it, or its removal.
    pub(crate) fn node_changed(&mut self, before: Option<&Node>, after: Option<&Node>) {
        if before.map(Node::hostname) == after.map(Node::hostname) {
            return;
        }
        if let Some(node) = before {
            self.hostnames.remove(&(node.hostname().into(), node.id));
        }
        if let Some(node) = after {
            self.hostnames.insert((node.hostname().into(), node.id));
        }
    }

    /// Records a revision that is retained from now on.
    pub(crate) fn revision_kept(&mut self, name: &str, service: ServiceId, version: u64) {
        self.revisions.insert((name_key(name), service, version));
    }

    /// Removes a revision.
    pub(crate) fn revision_dropped(&mut self, name: &str, service: ServiceId, version: u64) {
        self.revisions.remove(&(name_key(name), service, version));
    }
}

impl Cluster {
    /// The nodes with this host name, by id.
    pub fn nodes_called(&self, hostname: &str) -> impl Iterator<Item = &Node> {
        let name: Arc<str> = hostname.into();
        let range = (Arc::clone(&name), NodeId::default())..=(name, NodeId::MAX);
        self.lookup.hostnames.range(range).filter_map(|(_, id)| self.nodes.get(*id))
    }

    /// The services with remaining tasks that have or had this name, ignoring case.
    pub fn services_remembered_as(&self, name: &str) -> impl Iterator<Item = ServiceId> {
        let name = name_key(name);
        let range = (Arc::clone(&name), ServiceId::default(), 0)..=(name, ServiceId::MAX, u64::MAX);
        let mut last = None;
        let services = self.lookup.revisions.range(range).map(|(_, service, _)| *service);
        services.filter(move |service| last.replace(*service) != Some(*service))
    }
}

/// Builds the index of names.
pub(crate) fn derive(cluster: &mut Cluster) {
    let hostnames = cluster.nodes.values().map(|node| (node.hostname().into(), node.id)).collect();
    let revisions = cluster.revisions.iter().map(|((service, version), revision)| {
        let name = name_key(revision.spec.name());
        (name, service, version)
    });
    cluster.lookup = Lookup { hostnames, revisions: revisions.collect() };
}
