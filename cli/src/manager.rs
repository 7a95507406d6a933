//! The interface of a manager as commands use it. One implementation is the connection, another a simulated cluster.

use std::pin::Pin;

use events::SecretText;
use tokio_stream::Stream;
use wire::v1::{
    ArchiveHistoryRequest, ArchivedRange, AuditKey, BackupPart, CheckpointReply, ClusterView, CommandReply,
    CommandRequest, CompareRequest, ConfigView, ConsistencyProof, CreateOperatorRequest, DifferencePage, EventRecord,
    EventsRequest, ExplainPlacementRequest, FindPointRequest, FrameProof, FramesPage, Interaction, LeaveClusterReply,
    LeaveClusterRequest, ListNodesRequest, ListServicesRequest, ListTasksRequest, LogsPart, LogsRequest, NodeSummary,
    NodeView, OperatorCertificate, OperatorView, PlacementExplanation, PlanUndoRequest, PointView, PreviewReply,
    PreviewRequest, ProveConsistencyRequest, RaftView, ReadAfterReply, ReadAfterRequest, ReadFramesRequest,
    RenewOperatorRequest, ReplayReply, ReplayRequest, ResolveImageRequest, ResolvedImage, SecretView, ServiceSummary,
    ServiceView, SinkView, SurviveReply, SurviveRequest, TaskList, UndoPlan, UnlockKeyReply, UsagePart, UsageRequest,
    VerifiedHistory, VersionReply, task_input::Input, task_output::Output,
};

use crate::failure::Failure;

/// History as it arrives, oldest first.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<EventRecord, Failure>>>>;

/// Pages of differences as they arrive, in the order of nouns and names.
pub type DifferenceStream = Pin<Box<dyn Stream<Item = Result<DifferencePage, Failure>>>>;

/// Lines of tasks as they arrive.
pub type LogParts = Pin<Box<dyn Stream<Item = Result<LogsPart, Failure>>>>;

/// Resource usage of tasks, as it arrives.
pub type UsageParts = Pin<Box<dyn Stream<Item = Result<UsagePart, Failure>>>>;

/// Input for a task.
pub type TaskInputs = Pin<Box<dyn Stream<Item = Input> + Send>>;

/// Output of a task.
pub type TaskOutputs = Pin<Box<dyn Stream<Item = Result<Output, Failure>>>>;

/// Frames as they arrive, in the order of their indexes.
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<FramesPage, Failure>>>>;

/// Archives as they are created.
pub type ArchivedStream = Pin<Box<dyn Stream<Item = Result<ArchivedRange, Failure>>>>;

/// Progress of a verification of history.
pub type VerifiedStream = Pin<Box<dyn Stream<Item = Result<VerifiedHistory, Failure>>>>;

/// A backup as it arrives.
pub type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupPart, Failure>>>>;

/// A manager that executes commands and answers reads.
pub trait Manager {
    /// Executes a command; answers once it is committed. Repeating a command with the same id has no further effect.
    fn execute(&mut self, request: CommandRequest) -> impl Future<Output = Result<CommandReply, Failure>>;

    /// Previews changes without making them.
    fn preview(&mut self, request: PreviewRequest) -> impl Future<Output = Result<PreviewReply, Failure>>;

    /// Answers a read on a copy of the state on which steps were tried.
    fn read_after(&mut self, request: ReadAfterRequest) -> impl Future<Output = Result<Vec<ReadAfterReply>, Failure>>;

    /// Whether all tasks still fit if nodes are lost.
    fn survive(&mut self, request: SurviveRequest) -> impl Future<Output = Result<SurviveReply, Failure>>;

    /// Replays history under another policy, from the point selected with `go_to`.
    fn replay(&mut self, request: ReplayRequest) -> impl Future<Output = Result<ReplayReply, Failure>>;

    /// The version of the manager that answers.
    fn version(&mut self) -> impl Future<Output = Result<VersionReply, Failure>>;

    /// The cluster's settings; with its join tokens if requested and the caller may see them.
    fn cluster(&mut self, with_tokens: bool) -> impl Future<Output = Result<ClusterView, Failure>>;

    /// The raft status of the managers.
    fn raft(&mut self) -> impl Future<Output = Result<RaftView, Failure>>;

    /// The nodes with these references; an unknown reference is a failure.
    fn nodes(&mut self, references: Vec<String>) -> impl Future<Output = Result<Vec<NodeView>, Failure>>;

    /// The services with these references; an unknown reference is a failure.
    fn services(&mut self, references: Vec<String>) -> impl Future<Output = Result<Vec<ServiceView>, Failure>>;

    /// Why a task is where it is, or where one more task of a service would go.
    fn explain_placement(
        &mut self,
        request: ExplainPlacementRequest,
    ) -> impl Future<Output = Result<PlacementExplanation, Failure>>;

    /// A list of nodes, in the order of their names.
    fn list_nodes(&mut self, request: ListNodesRequest) -> impl Future<Output = Result<Vec<NodeSummary>, Failure>>;

    /// A list of services, in the order of their names.
    fn list_services(
        &mut self,
        request: ListServicesRequest,
    ) -> impl Future<Output = Result<Vec<ServiceSummary>, Failure>>;

    /// Tasks, and the index of the state they were read from; an unknown reference is a failure.
    fn tasks(&mut self, request: ListTasksRequest) -> impl Future<Output = Result<TaskList, Failure>>;

    /// The configs with these references and their data; without references all configs, in the order of their names and without
    /// data.
    fn configs(&mut self, references: Vec<String>) -> impl Future<Output = Result<Vec<ConfigView>, Failure>>;

    /// The secrets with these references; without references all, in the order of their names.
    fn secrets(&mut self, references: Vec<String>) -> impl Future<Output = Result<Vec<SecretView>, Failure>>;

    /// The digest of an image's tag at its registry.
    fn resolve_image(&mut self, request: ResolveImageRequest) -> impl Future<Output = Result<ResolvedImage, Failure>>;

    /// The sinks with these references; without references all, in the order of their names.
    fn sinks(&mut self, references: Vec<String>) -> impl Future<Output = Result<Vec<SinkView>, Failure>>;

    /// The operators that have a certificate, in the order of their names.
    fn operators(&mut self) -> impl Future<Output = Result<Vec<OperatorView>, Failure>>;

    /// Creates an operator. Repeating the request with the same id creates one operator.
    fn create_operator(
        &mut self,
        request: CreateOperatorRequest,
    ) -> impl Future<Output = Result<OperatorCertificate, Failure>>;

    /// Renews the certificate of the calling operator.
    fn renew_operator(
        &mut self,
        request: RenewOperatorRequest,
    ) -> impl Future<Output = Result<OperatorCertificate, Failure>>;

    /// The unlock key.
    fn unlock_key(&mut self) -> impl Future<Output = Result<UnlockKeyReply, Failure>>;

    /// Unlocks a manager whose keys are locked.
    fn unlock(&mut self, key: SecretText) -> impl Future<Output = Result<(), Failure>>;

    /// Makes the node at this control socket leave its cluster.
    fn leave(&mut self, request: LeaveClusterRequest) -> impl Future<Output = Result<LeaveClusterReply, Failure>>;

    /// A backup of everything up to now, sealed with the passphrase.
    fn backup(&mut self, passphrase: SecretText) -> impl Future<Output = Result<BackupStream, Failure>>;

    /// The keys that verify the managers' signatures on checkpoints.
    fn audit_keys(&mut self) -> impl Future<Output = Result<Vec<AuditKey>, Failure>>;

    /// A checkpoint of history, signed by the managers.
    fn checkpoint(&mut self) -> impl Future<Output = Result<CheckpointReply, Failure>>;

    /// The proof that the frame at an index is in history.
    fn prove_frame(&mut self, index: u64) -> impl Future<Output = Result<FrameProof, Failure>>;

    /// The proof that history of one size continues history of another size.
    fn prove_consistency(
        &mut self,
        request: ProveConsistencyRequest,
    ) -> impl Future<Output = Result<ConsistencyProof, Failure>>;

    /// The stored bytes of frames.
    fn frames(&mut self, request: ReadFramesRequest) -> impl Future<Output = Result<FrameStream, Failure>>;

    /// Moves old history into archives.
    fn archive_history(
        &mut self,
        request: ArchiveHistoryRequest,
    ) -> impl Future<Output = Result<ArchivedStream, Failure>>;

    /// Verifies all of history.
    fn verify_history(&mut self) -> impl Future<Output = Result<VerifiedStream, Failure>>;

    /// Finds a point of history; later reads show the state at that point.
    fn go_to(&mut self, point: FindPointRequest) -> impl Future<Output = Result<PointView, Failure>>;

    /// Later reads show the present again.
    fn return_to_present(&mut self);

    /// Finds a point of history; later reads are not affected.
    fn find_point(&mut self, point: FindPointRequest) -> impl Future<Output = Result<PointView, Failure>>;

    /// Plans an undo without executing it.
    fn plan_undo(&mut self, request: PlanUndoRequest) -> impl Future<Output = Result<UndoPlan, Failure>>;

    /// The differences of two states.
    fn compare(&mut self, request: CompareRequest) -> impl Future<Output = Result<DifferenceStream, Failure>>;

    /// History; with `follow` the stream is endless.
    fn events(&mut self, request: EventsRequest) -> impl Future<Output = Result<EventStream, Failure>>;

    /// The logs of tasks; with `follow` the stream is endless.
    fn logs(&mut self, request: LogsRequest) -> impl Future<Output = Result<LogParts, Failure>>;

    /// The resource usage of running tasks; with `follow` the stream is endless.
    fn usage(&mut self, request: UsageRequest) -> impl Future<Output = Result<UsageParts, Failure>>;

    /// Starts an interaction with a running task and returns its output, which ends when the input does.
    fn interact(
        &mut self,
        begin: Interaction,
        inputs: TaskInputs,
    ) -> impl Future<Output = Result<TaskOutputs, Failure>>;
}
