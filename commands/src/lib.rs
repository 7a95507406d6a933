//! What is asked: a wish, judged against what is.
//!
//! [`decide`] turns a [`Command`] into events, or refuses it with a [`Rejection`]. It reads the state and the turn's time,
//! and touches nothing.

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
pub use validate::{IMAGE_HINT, is_hostname, is_image_reference};
pub use version::{Seen, unchanged};

verb::commands! {
    /// A wish.
    #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
    pub enum Command {
        /// Creates the cluster, with this manager as its first node.
        InitialiseCluster(Box<InitialiseCluster>),
        /// A manager became leader.
        AssumeLeadership(AssumeLeadership),
        /// Notes the state's hash after a frame.
        RecordStateHash(RecordStateHash),
        /// Replaces the cluster's settings.
        UpdateCluster(UpdateCluster),
        /// Creates a new join token for a role.
        RotateJoinToken(RotateJoinToken),
        /// Creates a new unlock key.
        RotateUnlockKey(RotateUnlockKey),
        /// Begins to replace the root certificate.
        RotateRoot(Box<RotateRoot>),
        /// Notes that a node has moved to the new root.
        MoveNodeToRoot(MoveNodeToRoot),
        /// Lets a node in, against a join token.
        JoinNode(JoinNode),
        /// Notes the certificate that was signed for a node.
        CertifyNode(CertifyNode),
        /// A manager's log is ready to follow.
        AnnounceManager(AnnounceManager),
        /// A manager goes on alone.
        ForceQuorum(ForceQuorum),
        /// Opens a session.
        RegisterNode(RegisterNode),
        /// A heartbeat of a node that was not thought to be ready.
        HearNode(HearNode),
        /// A session's connection broke.
        DisconnectNode(DisconnectNode),
        /// Replaces what is wanted of a node.
        UpdateNode(UpdateNode),
        /// Takes a node out of the cluster.
        RemoveNode(RemoveNode),
        /// A node leaves the cluster by itself.
        LeaveNode(LeaveNode),
        /// Creates a service.
        CreateService(CreateService),
        /// Replaces a service's spec.
        UpdateService(UpdateService),
        /// Changes the number of a service's replicas.
        ScaleService(ScaleService),
        /// Puts an earlier spec of a service back.
        RollbackService(RollbackService),
        /// Stops the rollout of a service for a while.
        PauseUpdate(PauseUpdate),
        /// Goes on with a paused rollout.
        ResumeUpdate(ResumeUpdate),
        /// Removes a service and its tasks.
        RemoveService(RemoveService),
        /// How tasks are doing, in the words of their node.
        ReportTasks(ReportTasks),
        /// Removes one task.
        RemoveTask(RemoveTask),
        /// Notes that somebody is let into a running task.
        AccessTask(AccessTask),
        /// Creates a config.
        CreateConfig(CreateConfig),
        /// Changes the labels of a config, or gives it new data.
        UpdateConfig(UpdateConfig),
        /// Removes a config.
        RemoveConfig(RemoveConfig),
        /// Creates a secret.
        CreateSecret(CreateSecret),
        /// Changes the labels of a secret, or gives it new data.
        UpdateSecret(UpdateSecret),
        /// Removes a secret.
        RemoveSecret(RemoveSecret),
        /// Lets somebody operate the cluster with a certificate.
        CreateOperator(CreateOperator),
        /// Refuses an operator's certificate from now on.
        RevokeOperator(RevokeOperator),
        /// Gives an operator another certificate.
        RenewOperator(RenewOperator),
        /// Gives a point of history a name.
        TagHistory(TagHistory),
        /// Takes the name of a point of history away.
        UntagHistory(UntagHistory),
        /// Erases a value from history.
        RedactHistory(RedactHistory),
        /// Notes that somebody is shown secrets.
        ReadSecrets(ReadSecrets),
        /// Notes what a manager refused.
        RecordRefusals(RecordRefusals),
        /// Sends events elsewhere.
        CreateSink(CreateSink),
        /// Sends nothing there any more.
        RemoveSink(RemoveSink),
        /// Sends nothing there for a while.
        PauseSink(PauseSink),
        /// Goes on with a sink.
        ResumeSink(ResumeSink),
        /// Notes how the sending goes.
        ReportSink(ReportSink),
    }
}

impl Command {
    /// The command's name in the log, such as `service.create`.
    pub fn name(&self) -> &'static str {
        self.verb().name()
    }
}

/// What a turn gives to the commands in it.
#[derive(Debug)]
pub struct Ctx {
    /// The turn's time.
    pub now: Timestamp,
    /// Maker of ids.
    pub ids: IdGenerator,
    /// The raft ids of the managers that the leader can reach, itself among them.
    pub reached: Arc<BTreeSet<u64>>,
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
    command.verb().decide(state, ctx)
}
