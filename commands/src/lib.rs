//! What is asked: a wish, judged against what is.
//!
//! [`decide`] turns a [`Command`] into events, or refuses it with a [`Rejection`]. It reads the state and the turn's time,
//! and touches nothing.

mod actor;
mod cluster;
mod join;
mod node;
mod rejection;
mod report;
mod service;
pub mod space;
mod task;
mod text;
mod validate;
mod version;

#[cfg(test)]
mod testing;

use events::id::IdGenerator;
use events::{
    ClusterId, ClusterSpec, Kind, NodeDescription, NodeId, NodeSpec, Role, ServiceId, ServiceSpec, SessionId, TaskId,
    TaskStatus, Timestamp, VolatilePayload,
};
use projections::Cluster;

pub use actor::Actor;
pub use events::SecretText;
pub use join::admit;
pub use rejection::{Rejection, RejectionKind};
pub use service::ServiceSecrets;
pub use validate::{IMAGE_HINT, is_hostname, is_image_reference};

/// A wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Makes the cluster, with this manager as its first node.
    InitialiseCluster(Box<InitialiseCluster>),
    /// A manager became leader.
    AssumeLeadership {
        /// The manager.
        node: NodeId,
        /// Its raft term.
        term: u64,
        /// Its version.
        version: String,
    },
    /// Notes the state's hash after a frame.
    RecordStateHash {
        /// Index of the frame.
        index: u64,
        /// The hash.
        hash: [u8; 16],
    },

    /// Replaces the cluster's settings.
    UpdateCluster {
        /// The new settings.
        spec: ClusterSpec,
        /// The version that was read; `None`: whatever it is.
        version: Option<u64>,
    },
    /// Makes a new join token for a role; the old one is void.
    RotateJoinToken {
        /// The role.
        role: Role,
        /// The whole token, made by the shell.
        token: SecretText,
        /// SHA-256 of its secret part.
        secret_sha256: [u8; 32],
    },

    /// Lets a node in, against a join token. The certificate follows once the node's id is known.
    JoinNode {
        /// SHA-256 of the token's secret part.
        secret_sha256: [u8; 32],
        /// What the node calls itself.
        hostname: String,
        /// Network address it asks from.
        addr: String,
    },
    /// Notes the certificate that was signed for a node.
    CertifyNode {
        /// The node.
        node: NodeId,
        /// The role in the certificate.
        role: Role,
        /// The certificate.
        cert_pem: String,
        /// When it expires.
        not_after: Timestamp,
    },
    /// Opens a session.
    RegisterNode {
        /// The node.
        node: NodeId,
        /// The new session.
        session: SessionId,
        /// What it says of itself.
        description: Box<NodeDescription>,
        /// Where it can be reached.
        addr: String,
    },
    /// A heartbeat of a node that was not thought to be ready.
    HearNode {
        /// The node.
        node: NodeId,
        /// Its session.
        session: SessionId,
    },
    /// A session's connection broke.
    DisconnectNode {
        /// The node.
        node: NodeId,
        /// The session.
        session: SessionId,
    },
    /// Replaces what is wanted of a node.
    UpdateNode {
        /// The node.
        node: NodeId,
        /// The new spec.
        spec: NodeSpec,
        /// The version that was read; `None`: whatever it is.
        version: Option<u64>,
    },
    /// Takes a node out of the cluster.
    RemoveNode {
        /// The node.
        node: NodeId,
        /// Also if it is ready.
        force: bool,
    },

    /// Makes a service.
    CreateService {
        /// What it should be.
        spec: Box<ServiceSpec>,
        /// What the keyring is to keep of it.
        secrets: ServiceSecrets,
    },
    /// Replaces a service's spec.
    UpdateService {
        /// The service.
        service: ServiceId,
        /// The new spec.
        spec: Box<ServiceSpec>,
        /// The version that was read; `None`: whatever it is.
        version: Option<u64>,
        /// New secrets; the others stay.
        secrets: ServiceSecrets,
    },
    /// Changes the number of a service's replicas.
    ScaleService {
        /// The service.
        service: ServiceId,
        /// The new number.
        replicas: u64,
    },
    /// Removes a service and its tasks.
    RemoveService {
        /// The service.
        service: ServiceId,
    },

    /// How tasks are doing, in the words of their node.
    ReportTasks {
        /// The node.
        node: NodeId,
        /// Its session.
        session: SessionId,
        /// What it has to say.
        reports: Vec<(TaskId, TaskStatus)>,
    },
    /// Removes one task; its service makes another if it wants one.
    RemoveTask {
        /// The task.
        task: TaskId,
    },
}

/// What the first command of a cluster carries. Keys and tokens are made by the shell, because the core has no randomness.
#[derive(Debug, Clone, PartialEq)]
pub struct InitialiseCluster {
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Its settings.
    pub spec: ClusterSpec,
    /// The root certificate.
    pub root_cert_pem: String,
    /// Its digest as join tokens carry it.
    pub root_digest: String,
    /// Its key.
    pub root_key_pem: SecretText,
    /// Token for workers and SHA-256 of its secret part.
    pub worker_token: (SecretText, [u8; 32]),
    /// Token for managers and SHA-256 of its secret part.
    pub manager_token: (SecretText, [u8; 32]),
    /// The first manager.
    pub node: NodeId,
    /// What it calls itself.
    pub hostname: String,
    /// Where it can be reached.
    pub addr: String,
    /// Its certificate.
    pub cert_pem: String,
    /// When that expires.
    pub cert_not_after: Timestamp,
}

impl Command {
    /// The command's name in the log, such as `service.create`.
    pub fn name(&self) -> &'static str {
        match self {
            Command::InitialiseCluster(_) => "cluster.initialise",
            Command::AssumeLeadership { .. } => "leadership.assume",
            Command::RecordStateHash { .. } => "state.hash",
            Command::UpdateCluster { .. } => "cluster.update",
            Command::RotateJoinToken { .. } => "cluster.rotate-token",
            Command::JoinNode { .. } => "node.join",
            Command::CertifyNode { .. } => "node.certify",
            Command::RegisterNode { .. } => "node.register",
            Command::HearNode { .. } => "node.hear",
            Command::DisconnectNode { .. } => "node.disconnect",
            Command::UpdateNode { .. } => "node.update",
            Command::RemoveNode { .. } => "node.remove",
            Command::CreateService { .. } => "service.create",
            Command::UpdateService { .. } => "service.update",
            Command::ScaleService { .. } => "service.scale",
            Command::RemoveService { .. } => "service.remove",
            Command::ReportTasks { .. } => "task.report",
            Command::RemoveTask { .. } => "task.remove",
        }
    }
}

/// What a turn gives to the commands in it.
#[derive(Debug)]
pub struct Ctx {
    /// The turn's time.
    pub now: Timestamp,
    /// Maker of ids.
    pub ids: IdGenerator,
}

/// What a command leads to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// What became true; empty if it was true already.
    pub events: Vec<Kind>,
    /// Secrets to keep or destroy.
    pub volatile: Vec<VolatilePayload>,
    /// The object that was made or changed.
    pub subject: Option<String>,
}

impl Decision {
    /// Nothing to do: what is asked for is so already.
    fn nothing(subject: impl ToString) -> Self {
        Self { subject: Some(subject.to_string()), ..Self::default() }
    }

    /// One event about one object.
    fn one(subject: impl ToString, event: Kind) -> Self {
        Self { events: vec![event], volatile: Vec::new(), subject: Some(subject.to_string()) }
    }
}

/// Judges a command against a state.
///
/// # Errors
/// A [`Rejection`] if it may not, cannot or must not be done; then nothing happened.
pub fn decide(state: &Cluster, actor: &Actor, command: &Command, ctx: &mut Ctx) -> Result<Decision, Rejection> {
    actor.may(command)?;
    match command {
        Command::InitialiseCluster(wish) => cluster::initialise(state, wish),
        Command::AssumeLeadership { node, term, version } => Ok(cluster::assume_leadership(*node, *term, version)),
        Command::RecordStateHash { index, hash } => Ok(cluster::record_state_hash(*index, hash)),
        Command::UpdateCluster { spec, version } => cluster::update(state, spec, *version),
        Command::RotateJoinToken { role, token, secret_sha256 } => {
            Ok(cluster::rotate_token(*role, token, secret_sha256))
        }
        Command::JoinNode { secret_sha256, hostname, addr } => join::join(state, secret_sha256, hostname, addr, ctx),
        Command::CertifyNode { node, role, cert_pem, not_after } => {
            join::certify(state, *node, *role, cert_pem, *not_after)
        }
        Command::RegisterNode { node, session, description, addr } => {
            node::register(state, *node, *session, description, addr)
        }
        Command::HearNode { node, session } => node::hear(state, *node, *session),
        Command::DisconnectNode { node, session } => Ok(node::disconnect(state, *node, *session)),
        Command::UpdateNode { node, spec, version } => node::update(state, *node, spec, *version),
        Command::RemoveNode { node, force } => node::remove(state, *node, *force),
        Command::CreateService { spec, secrets } => service::create(state, spec, secrets, ctx),
        Command::UpdateService { service, spec, version, secrets } => {
            service::update(state, *service, spec, *version, secrets, ctx)
        }
        Command::ScaleService { service, replicas } => service::scale(state, *service, *replicas),
        Command::RemoveService { service } => service::remove(state, *service),
        Command::ReportTasks { node, session, reports } => report::report(state, *node, *session, reports),
        Command::RemoveTask { task } => task::remove(state, *task),
    }
}
