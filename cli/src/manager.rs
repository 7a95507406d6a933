//! What the commands need of a manager. The connection is one implementation, a simulated cluster another.

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

/// What tasks use, as it arrives.
pub type UsageParts = Pin<Box<dyn Stream<Item = Result<UsagePart, Failure>>>>;

/// What somebody gives to a task.
pub type TaskInputs = Pin<Box<dyn Stream<Item = Input> + Send>>;

/// What comes out of a task.
pub type TaskOutputs = Pin<Box<dyn Stream<Item = Result<Output, Failure>>>>;

/// Frames as they arrive, in the order of their indexes.
pub type FrameStream = Pin<Box<dyn Stream<Item = Result<FramesPage, Failure>>>>;

/// Archives as they are made.
pub type ArchivedStream = Pin<Box<dyn Stream<Item = Result<ArchivedRange, Failure>>>>;

/// A verification of history as it goes on.
pub type VerifiedStream = Pin<Box<dyn Stream<Item = Result<VerifiedHistory, Failure>>>>;

/// A backup as it arrives.
pub type BackupStream = Pin<Box<dyn Stream<Item = Result<BackupPart, Failure>>>>;

/// A manager that takes commands and answers questions.
pub trait Manager {
    /// Asks for a change; answers once it is committed. Asking again with the same id has one effect.
    fn execute(&mut self, request: CommandRequest) -> impl Future<Output = Result<CommandReply, Failure>>;

    /// What changes would do; nothing is changed.
    fn preview(&mut self, request: PreviewRequest) -> impl Future<Output = Result<PreviewReply, Failure>>;

    /// What a read answers after steps that are only tried.
    fn read_after(&mut self, request: ReadAfterRequest) -> impl Future<Output = Result<Vec<ReadAfterReply>, Failure>>;

    /// Whether everything still fits if nodes are lost.
    fn survive(&mut self, request: SurviveRequest) -> impl Future<Output = Result<SurviveReply, Failure>>;

    /// What history would have been like under another policy, from the point that was gone to on.
    fn replay(&mut self, request: ReplayRequest) -> impl Future<Output = Result<ReplayReply, Failure>>;

    /// Who answers.
    fn version(&mut self) -> impl Future<Output = Result<VersionReply, Failure>>;

    /// The cluster's settings; its join tokens too if they are asked for, and the caller may see them.
    fn cluster(&mut self, with_tokens: bool) -> impl Future<Output = Result<ClusterView, Failure>>;

    /// Where the managers stand in raft.
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

    /// Tasks, and the index of the state that was read; an unknown reference is a failure.
    fn tasks(&mut self, request: ListTasksRequest) -> impl Future<Output = Result<TaskList, Failure>>;

    /// The configs with these references and their data; all without it, in the order of their names, if there are none.
    fn configs(&mut self, references: Vec<String>) -> impl Future<Output = Result<Vec<ConfigView>, Failure>>;

    /// The secrets with these references; all, in the order of their names, if there are none.
    fn secrets(&mut self, references: Vec<String>) -> impl Future<Output = Result<Vec<SecretView>, Failure>>;

    /// The digest that the tag of an image has at its registry.
    fn resolve_image(&mut self, request: ResolveImageRequest) -> impl Future<Output = Result<ResolvedImage, Failure>>;

    /// The sinks with these references; all, in the order of their names, if there are none.
    fn sinks(&mut self, references: Vec<String>) -> impl Future<Output = Result<Vec<SinkView>, Failure>>;

    /// The operators with a certificate, in the order of their names.
    fn operators(&mut self) -> impl Future<Output = Result<Vec<OperatorView>, Failure>>;

    /// Lets somebody operate the cluster. Asking again with the same id makes one operator.
    fn create_operator(
        &mut self,
        request: CreateOperatorRequest,
    ) -> impl Future<Output = Result<OperatorCertificate, Failure>>;

    /// Another certificate for the operator who asks.
    fn renew_operator(
        &mut self,
        request: RenewOperatorRequest,
    ) -> impl Future<Output = Result<OperatorCertificate, Failure>>;

    /// The unlock key.
    fn unlock_key(&mut self) -> impl Future<Output = Result<UnlockKeyReply, Failure>>;

    /// Unlocks a manager whose keys are locked.
    fn unlock(&mut self, key: SecretText) -> impl Future<Output = Result<(), Failure>>;

    /// Takes the node at whose control socket this is asked out of its cluster.
    fn leave(&mut self, request: LeaveClusterRequest) -> impl Future<Output = Result<LeaveClusterReply, Failure>>;

    /// A backup of everything up to this moment, sealed with the passphrase.
    fn backup(&mut self, passphrase: SecretText) -> impl Future<Output = Result<BackupStream, Failure>>;

    /// With what the managers' signatures below checkpoints are verified.
    fn audit_keys(&mut self) -> impl Future<Output = Result<Vec<AuditKey>, Failure>>;

    /// A checkpoint of history, signed by the managers.
    fn checkpoint(&mut self) -> impl Future<Output = Result<CheckpointReply, Failure>>;

    /// The proof that the frame at an index is in history.
    fn prove_frame(&mut self, index: u64) -> impl Future<Output = Result<FrameProof, Failure>>;

    /// The proof that history of one size continues that of another.
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

    /// Finds a point of history; from here on reads show the state as it was then.
    fn go_to(&mut self, point: FindPointRequest) -> impl Future<Output = Result<PointView, Failure>>;

    /// From here on reads show the present again.
    fn return_to_present(&mut self);

    /// Finds a point of history, without going there.
    fn find_point(&mut self, point: FindPointRequest) -> impl Future<Output = Result<PointView, Failure>>;

    /// How something is undone; nothing is done.
    fn plan_undo(&mut self, request: PlanUndoRequest) -> impl Future<Output = Result<UndoPlan, Failure>>;

    /// How two states differ.
    fn compare(&mut self, request: CompareRequest) -> impl Future<Output = Result<DifferenceStream, Failure>>;

    /// History; with `follow` it does not end.
    fn events(&mut self, request: EventsRequest) -> impl Future<Output = Result<EventStream, Failure>>;

    /// What tasks print; with `follow` it does not end.
    fn logs(&mut self, request: LogsRequest) -> impl Future<Output = Result<LogParts, Failure>>;

    /// What running tasks use; with `follow` it does not end.
    fn usage(&mut self, request: UsageRequest) -> impl Future<Output = Result<UsageParts, Failure>>;

    /// Does something in a running task; what comes out of it. It ends when the input does.
    fn interact(
        &mut self,
        begin: Interaction,
        inputs: TaskInputs,
    ) -> impl Future<Output = Result<TaskOutputs, Failure>>;
}
