//! What a manager answers, in plain types: gRPC and the simulated cluster's socket translate it, and add nothing to it.
//!
//! A [`Control`] is a manager at one moment. It answers reads at once. What changes something becomes a [`Request`] for the core,
//! which whoever drives the core submits, and whose outcome becomes the answer. Nothing here waits, knows a transport or reads a
//! clock; only history is read from the disk.
//!
//! Messages of the wire schema serve as plain types: they are data, made by prost, and a second set of the same shapes would
//! only be copied from one to the other. Clients, servers, statuses and streams of tonic have no place here, which
//! `tests/tests/purity.rs` sees to.

pub mod archive;
pub mod audit;
pub mod backup;
pub mod command;
mod compare;
mod configs;
pub mod lists;
pub mod logs;
mod managers;
mod secrets;
pub mod usage;
pub mod views;

mod interact;

pub mod event_reader;
mod explain;

pub mod enrolment;
mod operators;
mod past;
pub mod preview;
pub mod read_after;
mod redact;
mod replay;
mod revisions;
pub mod root;

pub mod assignments;
pub mod sessions;

mod select;
mod sinks;
mod survive;
mod undo;
mod unlock;

use std::sync::Arc;

use commands::{Rejection, RejectionKind};
use events::{ClusterId, NodeId, Timestamp};
use projections::views::overview::{resolve_node, resolve_service};
use wire::v1::{
    ClusterView, EventsRequest, Head, ListNodesRequest, ListServicesRequest, ListTasksRequest, NodeList, NodePage,
    NodeSummary, ServiceList, ServicePage, ServiceSummary, TaskList, TaskView, VersionReply,
};

use crate::agent::executor::RegistryAuth;
use crate::log::{FrameLink, LogError, LogStore};
use crate::manager::driver::Published;
use crate::manager::replica::RaftStatus;

use event_reader::EventReader;
use lists::Pages;

/// Who answers.
#[derive(Debug, Clone)]
pub struct ManagerInfo {
    /// The cluster, by this manager's certificate.
    pub cluster: ClusterId,
    /// This manager's node.
    pub node: NodeId,
    /// What its machine is called.
    pub hostname: String,
    /// Where other nodes reach it.
    pub remote_addr: String,
}

/// A manager at one moment: everything that an answer depends on.
#[derive(Clone)]
pub struct Control {
    /// Who answers.
    pub manager: Arc<ManagerInfo>,
    /// The committed state.
    pub state: Arc<Published>,
    /// Where this manager stands in raft.
    pub raft: Arc<RaftStatus>,
    /// The log, for reading history.
    pub store: Arc<dyn LogStore>,
    /// The present, or the time of the point that is looked at.
    pub now: Timestamp,
    /// The last frame of the point of the past that is looked at; nothing where that is the present.
    pub past: Option<Option<FrameLink>>,
}

impl Control {
    /// Who answers, and with which version.
    pub fn version(&self) -> VersionReply {
        VersionReply {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            feature_level: crate::level::feature_level(),
            node_id: self.manager.node.to_string(),
            hostname: self.manager.hostname.clone(),
        }
    }

    /// The cluster's settings and addresses, and the end of its history; its join tokens only for whoever may see them, once that
    /// is noted.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn cluster(&self, with_tokens: bool) -> Result<ClusterView, Rejection> {
        let view = views::cluster(&self.state, &self.manager.remote_addr, self.head()?, with_tokens);
        // Where managers stand in raft is known of the present alone.
        Ok(ClusterView { raft: self.past.is_none().then(|| self.raft()), ..view })
    }

    /// The nodes with these references.
    ///
    /// # Errors
    /// When a reference names nothing, or more than one node.
    pub fn inspect_nodes(&self, references: &[String]) -> Result<NodeList, Rejection> {
        let cluster = &self.state.cluster;
        let ids = references.iter().map(|reference| resolve_node(cluster, reference));
        let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
        let found = ids.into_iter().filter_map(|id| cluster.nodes.get(id));
        let view = |node| views::node(cluster, node, &self.raft, self.manager.node);
        Ok(NodeList { nodes: found.map(view).collect() })
    }

    /// The services with these references.
    ///
    /// # Errors
    /// When a reference names nothing, or more than one service.
    pub fn inspect_services(&self, references: &[String]) -> Result<ServiceList, Rejection> {
        let cluster = &self.state.cluster;
        let ids = references.iter().map(|reference| resolve_service(cluster, reference));
        let ids: Vec<_> = ids.collect::<Result<_, _>>()?;
        let found = ids.into_iter().filter_map(|id| cluster.services.get(id));
        Ok(ServiceList { services: found.map(|service| views::service(&self.state, service, self.now)).collect() })
    }

    /// The credentials for a registry: those that were given, or else those that a service has.
    ///
    /// # Errors
    /// When the reference names nothing, or more than one service.
    pub fn registry_auth(
        &self,
        given: Option<String>,
        service: Option<&str>,
    ) -> Result<Option<RegistryAuth>, Rejection> {
        let (Some(reference), None) = (service, &given) else { return Ok(given.map(RegistryAuth)) };
        let cluster = &self.state.cluster;
        let service = cluster.services.get(resolve_service(cluster, reference)?);
        let key = service.map_or("", |service| &service.spec.template().container().registry_auth_key);
        Ok(self.state.keyring.text(key).map(|auth| RegistryAuth(auth.to_owned())))
    }

    /// The nodes that a request selects, in the order of their names.
    pub fn list_nodes(&self, request: &ListNodesRequest) -> Pages<NodeSummary, NodePage> {
        lists::nodes(Arc::clone(&self.state), request, Arc::clone(&self.raft), self.manager.node)
    }

    /// The services that a request selects, in the order of their names.
    pub fn list_services(&self, request: &ListServicesRequest) -> Pages<ServiceSummary, ServicePage> {
        lists::services(Arc::clone(&self.state), request, self.now)
    }

    /// The tasks that a request names, in the order of their services, places and ages.
    ///
    /// # Errors
    /// When a reference names nothing, or more than one object.
    pub fn list_tasks(&self, request: &ListTasksRequest) -> Result<Pages<TaskView, TaskList>, Rejection> {
        lists::tasks(Arc::clone(&self.state), request, self.now)
    }

    /// The events that a request asks for. This and what it returns may wait for the disk.
    ///
    /// # Errors
    /// When there is no such object or kind of event, and was none, or history cannot be read.
    pub fn history(&self, request: EventsRequest) -> Result<EventReader, Rejection> {
        EventReader::open(Arc::clone(&self.store), &self.state.cluster, request)
    }

    /// The last frame of history.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn head(&self) -> Result<Option<Head>, Rejection> {
        if let Some(end) = self.past {
            return Ok(end.map(views::head));
        }
        let applied = self.store.applied().map_err(|error| unreadable(&error))?;
        Ok(applied.frame.map(views::head))
    }
}

/// Why there is no answer of the log.
pub fn unreadable(error: &LogError) -> Rejection {
    if error.is_of_an_archive() {
        return Rejection::new(RejectionKind::Unavailable, "history", error.to_string(), error.hint());
    }
    let sentence = format!("the log cannot be read: {error}");
    Rejection::new(RejectionKind::Unavailable, "log", sentence, "see the manager's own log")
}
