//! Commands: requests that are judged against the state.
//!
//! [`decide`] turns a [`Command`] into events, or rejects it with a [`Rejection`]. It reads the state and the turn's time, and
//! changes nothing.

mod actor;
mod cluster;
mod config;
mod followers;
mod join;
mod leave;
mod level;
mod member;
mod node;
mod operator;
mod reason;
mod redact;
mod refusals;
mod rejection;
mod report;
mod root;
mod secret;
mod service;
mod sink;
pub mod space;
pub mod tag;
mod task;
mod text;
pub mod undo;
mod validate;
mod verb;
mod version;

#[cfg(test)]
mod testing;

use std::collections::BTreeSet;
use std::sync::Arc;

use events::id::IdGenerator;
use events::{Kind, Timestamp, VolatilePayload};
use projections::Cluster;

pub use actor::Actor;
pub use cluster::{
    AssumeLeadership, InitialiseCluster, RecordStateHash, RotateJoinToken, RotateUnlockKey, UpdateCluster,
};
pub use config::{CreateConfig, RemoveConfig, UpdateConfig};
pub use events::{SecretBytes, SecretText};
pub use join::{CertifyNode, JoinNode, admit};
pub use leave::LeaveNode;
pub use level::require_level;
pub use member::{AnnounceManager, ForceQuorum};
pub use node::{DisconnectNode, HearNode, RegisterNode, RemoveNode, UpdateNode};
pub use operator::{CreateOperator, ReadSecrets, RenewOperator, RevokeOperator};
pub use reason::{MAY_REQUIRE, require_reason};
pub use redact::RedactHistory;
pub use refusals::{CALLERS_MAX, RecordRefusals};
pub use rejection::{Rejection, RejectionKind};
pub use report::ReportTasks;
pub use root::{MoveNodeToRoot, RotateRoot};
pub use secret::{CreateSecret, RemoveSecret, UpdateSecret};
pub use service::{
    CreateService, PauseUpdate, RemoveService, ResumeUpdate, RevisionSpec, RollbackService, ScaleService,
    ServiceSecrets, UpdateService,
};
pub use sink::{CreateSink, PARKED_AFTER, PauseSink, RemoveSink, ReportSink, ResumeSink};
pub use tag::{TagHistory, UntagHistory};
pub use task::{Access, AccessTask, RemoveTask};
pub use text::quote;
pub use validate::{IMAGE_HINT, is_hostname, is_image_reference};
pub use version::{ExpectedVersion, unchanged};

verb::commands! {
    /// A command.
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    pub enum Command {
        /// Creates the cluster, with this manager as its first node.
        InitialiseCluster(Box<InitialiseCluster>),
        /// A manager became leader.
        AssumeLeadership(AssumeLeadership),
        /// Records the state's hash after a frame.
        RecordStateHash(RecordStateHash),
        /// Replaces the cluster's settings.
        UpdateCluster(UpdateCluster),
        /// Creates a new join token for a role.
        RotateJoinToken(RotateJoinToken),
        /// Creates a new unlock key.
        RotateUnlockKey(RotateUnlockKey),
        /// Starts to replace the root certificate.
        RotateRoot(Box<RotateRoot>),
        /// Records that a node has moved to the new root.
        MoveNodeToRoot(MoveNodeToRoot),
        /// Admits a node with a join token.
        JoinNode(JoinNode),
        /// Records the certificate that was signed for a node.
        CertifyNode(CertifyNode),
        /// A manager's log is ready to follow.
        AnnounceManager(AnnounceManager),
        /// A manager continues alone.
        ForceQuorum(ForceQuorum),
        /// Opens a session.
        RegisterNode(RegisterNode),
        /// A heartbeat of a node that did not count as ready.
        HearNode(HearNode),
        /// A session's connection broke.
        DisconnectNode(DisconnectNode),
        /// Replaces a node's spec.
        UpdateNode(UpdateNode),
        /// Removes a node from the cluster.
        RemoveNode(RemoveNode),
        /// A node leaves the cluster by itself.
        LeaveNode(LeaveNode),
        /// Creates a service.
        CreateService(CreateService),
        /// Replaces a service's spec.
        UpdateService(UpdateService),
        /// Changes the number of a service's replicas.
        ScaleService(ScaleService),
        /// Restores an earlier spec of a service.
        RollbackService(RollbackService),
        /// Pauses the rollout of a service.
        PauseUpdate(PauseUpdate),
        /// Resumes a paused rollout.
        ResumeUpdate(ResumeUpdate),
        /// Removes a service and its tasks.
        RemoveService(RemoveService),
        /// Statuses of tasks, as reported by their node.
        ReportTasks(ReportTasks),
        /// Removes one task.
        RemoveTask(RemoveTask),
        /// Records an access to a running task.
        AccessTask(AccessTask),
        /// Creates a config.
        CreateConfig(CreateConfig),
        /// Changes the labels of a config, or adds a revision with new data.
        UpdateConfig(UpdateConfig),
        /// Removes a config.
        RemoveConfig(RemoveConfig),
        /// Creates a secret.
        CreateSecret(CreateSecret),
        /// Changes the labels of a secret, or adds a revision with new data.
        UpdateSecret(UpdateSecret),
        /// Removes a secret.
        RemoveSecret(RemoveSecret),
        /// Admits an operator with a certificate.
        CreateOperator(CreateOperator),
        /// Refuses an operator's certificate from now on.
        RevokeOperator(RevokeOperator),
        /// Issues another certificate to an operator.
        RenewOperator(RenewOperator),
        /// Names a point of history.
        TagHistory(TagHistory),
        /// Removes the name of a point of history.
        UntagHistory(UntagHistory),
        /// Erases a value from history.
        RedactHistory(RedactHistory),
        /// Records an access to secrets.
        ReadSecrets(ReadSecrets),
        /// Records what a manager refused.
        RecordRefusals(RecordRefusals),
        /// Creates a sink for events.
        CreateSink(CreateSink),
        /// Removes a sink.
        RemoveSink(RemoveSink),
        /// Pauses a sink.
        PauseSink(PauseSink),
        /// Resumes a sink.
        ResumeSink(ResumeSink),
        /// Records the progress or failure of a sink.
        ReportSink(ReportSink),
    }
}

impl Command {
    /// The command's name in the log, such as `service.create`.
    pub fn name(&self) -> &'static str {
        self.verb().name()
    }
}

/// The inputs of the commands in a turn.
#[derive(Debug)]
pub struct Ctx {
    /// The turn's time.
    pub now: Timestamp,
    /// Generator of ids.
    pub ids: IdGenerator,
    /// The raft ids of the managers that the leader can reach, including its own.
    pub reached: Arc<BTreeSet<u64>>,
}

/// The result of a command.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// The new events; empty if nothing has to change.
    pub events: Vec<Kind>,
    /// Secrets to store or destroy.
    pub volatile: Vec<VolatilePayload>,
    /// The object that was created or changed.
    pub subject: Option<String>,
}

impl Decision {
    /// No change: the requested state already holds.
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
/// A [`Rejection`] if it is forbidden, impossible or invalid; then nothing has changed.
pub fn decide(state: &Cluster, actor: &Actor, command: &Command, ctx: &mut Ctx) -> Result<Decision, Rejection> {
    actor.may(command)?;
    command.verb().decide(state, ctx)
}
