//! A fake manager that records requests and gives prepared answers.

use std::collections::VecDeque;

use events::{Event, Kind, SecretText, Timestamp};
use tokio_stream::StreamExt;
use wire::v1::*;

use crate::format::samples;
use crate::{
    ArchivedStream, BackupStream, DifferenceStream, EventStream, Failure, FrameStream, LogParts, Manager, TaskInputs,
    TaskOutputs, UsageParts, VerifiedStream,
};

/// The prepared answers, and the recorded requests.
pub struct Fake {
    /// Executed commands.
    pub executed: Vec<CommandRequest>,
    /// Previewed commands.
    pub previewed: Vec<PreviewRequest>,
    /// Reads of tasks and history.
    pub listed: Vec<ListTasksRequest>,
    pub watched: Vec<EventsRequest>,
    /// Reads of logs, and the answer.
    pub logged: Vec<LogsRequest>,
    pub logs: Vec<LogsPart>,
    /// Reads of resource usage, and the answer.
    pub measured: Vec<UsageRequest>,
    pub usage: Vec<UsagePart>,
    /// Interactions with tasks, and their output.
    pub interactions: Vec<Interaction>,
    pub outputs: Vec<Result<task_output::Output, Failure>>,
    /// The checkpoint of its history, and its frames.
    pub checkpoint: CheckpointReply,
    pub frames: Vec<FramesPage>,
    /// The progress of a verification of its history.
    pub verified: Vec<VerifiedHistory>,
    /// The unlock keys.
    pub unlocked: Vec<SecretText>,
    /// The leave requests.
    pub left: Vec<LeaveClusterRequest>,
    /// The created operators.
    pub created: Vec<CreateOperatorRequest>,
    /// The feature level of its cluster.
    pub feature_level: u32,
    /// If set, commands are refused with this.
    pub refusal: Option<Refusal>,
    /// The indexes of the next commands; further ones are at 10.
    pub indexes: VecDeque<u64>,
    /// Successive states of the service and its tasks; the last one stays.
    pub readings: VecDeque<(ServiceView, Vec<TaskView>)>,
    /// History, each event with its index. Then the stream ends, unless it is endless.
    pub history: Vec<(u64, Event)>,
    pub endless: bool,
    /// Index of the first state; each further one is one higher.
    pub index: u64,
}

impl Fake {
    /// A manager of the sample cluster.
    pub fn new() -> Self {
        Self {
            executed: Vec::new(),
            previewed: Vec::new(),
            listed: Vec::new(),
            watched: Vec::new(),
            logged: Vec::new(),
            logs: Vec::new(),
            measured: Vec::new(),
            usage: Vec::new(),
            interactions: Vec::new(),
            outputs: Vec::new(),
            checkpoint: CheckpointReply::default(),
            frames: Vec::new(),
            verified: Vec::new(),
            created: Vec::new(),
            unlocked: Vec::new(),
            left: Vec::new(),
            feature_level: events::frame::FEATURE_LEVEL,
            refusal: None,
            indexes: VecDeque::new(),
            readings: [(samples::service(), samples::tasks())].into(),
            history: Vec::new(),
            endless: false,
            index: 10,
        }
    }

    /// The only executed command.
    pub fn command(&self) -> command_request::Command {
        let [request] = &self.executed[..] else { panic!("one command, not {:?}", self.executed) };
        request.command.clone().expect("a command")
    }
}

/// An event about the sample service.
pub fn event() -> Event {
    let service = samples::service().id;
    Event::by_command(0, Kind::ServiceScaled(events::ServiceScaled { service, from: 1, to: 2, reason: None }))
}

impl Manager for Fake {
    async fn execute(&mut self, request: CommandRequest) -> Result<CommandReply, Failure> {
        self.executed.push(request);
        match self.refusal.clone() {
            Some(refusal) => Err(refusal.into()),
            None => Ok(CommandReply {
                index: self.indexes.pop_front().unwrap_or(10),
                subject: Some(samples::service().id.to_string()),
                ..CommandReply::default()
            }),
        }
    }

    async fn preview(&mut self, request: PreviewRequest) -> Result<PreviewReply, Failure> {
        self.previewed.push(request);
        Ok(PreviewReply { refusal: self.refusal.clone(), ..PreviewReply::default() })
    }

    async fn read_after(&mut self, _: ReadAfterRequest) -> Result<Vec<ReadAfterReply>, Failure> {
        Ok(Vec::new())
    }

    async fn survive(&mut self, _: SurviveRequest) -> Result<SurviveReply, Failure> {
        Ok(SurviveReply::default())
    }

    async fn replay(&mut self, _: ReplayRequest) -> Result<ReplayReply, Failure> {
        Ok(ReplayReply::default())
    }

    async fn version(&mut self) -> Result<VersionReply, Failure> {
        Ok(VersionReply {
            version: "9.9.9".to_owned(),
            feature_level: 1,
            node_id: "n1".to_owned(),
            hostname: "manager".to_owned(),
        })
    }

    async fn cluster(&mut self, with_tokens: bool) -> Result<ClusterView, Failure> {
        let join_tokens = if with_tokens { samples::cluster().join_tokens.clone() } else { JoinTokens::default() };
        Ok(ClusterView { join_tokens, feature_level: self.feature_level, ..samples::cluster() })
    }

    async fn unlock_key(&mut self) -> Result<UnlockKeyReply, Failure> {
        Ok(UnlockKeyReply { unlock_key: "SWMKEY-1-sample".to_owned() })
    }

    async fn unlock(&mut self, key: SecretText) -> Result<(), Failure> {
        self.unlocked.push(key);
        Ok(())
    }

    async fn leave(&mut self, request: LeaveClusterRequest) -> Result<LeaveClusterReply, Failure> {
        self.left.push(request);
        match self.refusal.clone() {
            Some(refusal) => Err(refusal.into()),
            // A manager has to be demoted first.
            None => Ok(LeaveClusterReply { left: self.left.len() > 1 }),
        }
    }

    async fn explain_placement(&mut self, request: ExplainPlacementRequest) -> Result<PlacementExplanation, Failure> {
        let service_name = request.service.or(request.task).unwrap_or_default();
        Ok(PlacementExplanation { service_name, ..Default::default() })
    }

    async fn resolve_image(&mut self, _: ResolveImageRequest) -> Result<ResolvedImage, Failure> {
        Ok(ResolvedImage::default())
    }

    async fn sinks(&mut self, _: Vec<String>) -> Result<Vec<SinkView>, Failure> {
        Ok(vec![samples::sink()])
    }

    async fn operators(&mut self) -> Result<Vec<OperatorView>, Failure> {
        Ok(vec![samples::operator()])
    }

    async fn renew_operator(&mut self, _: RenewOperatorRequest) -> Result<OperatorCertificate, Failure> {
        Ok(OperatorCertificate::default())
    }

    async fn create_operator(&mut self, request: CreateOperatorRequest) -> Result<OperatorCertificate, Failure> {
        self.created.push(request);
        match self.refusal.clone() {
            Some(refusal) => Err(refusal.into()),
            None => Ok(OperatorCertificate { cert_pem: "certificate".to_owned(), ..OperatorCertificate::default() }),
        }
    }

    async fn raft(&mut self) -> Result<RaftView, Failure> {
        Ok(samples::raft())
    }

    async fn nodes(&mut self, references: Vec<String>) -> Result<Vec<NodeView>, Failure> {
        let mut nodes = samples::nodes();
        nodes.retain(|node| references.iter().any(|name| *name == crate::format::node::name(node)));
        Ok(nodes)
    }

    async fn list_nodes(&mut self, _: ListNodesRequest) -> Result<Vec<NodeSummary>, Failure> {
        Ok(samples::node_summaries())
    }

    async fn list_services(&mut self, _: ListServicesRequest) -> Result<Vec<ServiceSummary>, Failure> {
        Ok(vec![samples::service_summary()])
    }

    async fn services(&mut self, references: Vec<String>) -> Result<Vec<ServiceView>, Failure> {
        let (service, tasks) = &self.readings[0];
        let service = samples::counted(service.clone(), tasks);
        // As in a real manager, the state advances after a service was read; tasks are read before the service.
        if self.readings.len() > 1 && !self.listed.is_empty() {
            self.readings.pop_front();
        }
        let known = references.iter().all(|name| name == "web");
        Ok(if known { vec![service] } else { Vec::new() })
    }

    async fn tasks(&mut self, request: ListTasksRequest) -> Result<TaskList, Failure> {
        let live = request.live == Some(true);
        self.listed.push(request);
        self.index += 1;
        let mut tasks = self.readings[0].1.clone();
        tasks.retain(|task| !live || task.desired().is_wanted());
        Ok(TaskList { tasks, index: self.index, total: None })
    }

    async fn configs(&mut self, _: Vec<String>) -> Result<Vec<ConfigView>, Failure> {
        Ok(vec![samples::config()])
    }

    async fn secrets(&mut self, _: Vec<String>) -> Result<Vec<SecretView>, Failure> {
        Ok(vec![samples::secret()])
    }

    async fn backup(&mut self, _: events::SecretText) -> Result<BackupStream, Failure> {
        let part = |data: &[u8], last| Ok(BackupPart { data: data.to_vec(), index: 5, to: 10, last });
        let parts = [Some(part(b"one", false)), (!self.endless).then(|| part(b"two", true))];
        Ok(Box::pin(tokio_stream::iter(parts.into_iter().flatten().collect::<Vec<_>>())))
    }

    async fn logs(&mut self, request: LogsRequest) -> Result<LogParts, Failure> {
        self.logged.push(request);
        Ok(Box::pin(tokio_stream::iter(std::mem::take(&mut self.logs).into_iter().map(Ok))))
    }

    async fn usage(&mut self, request: UsageRequest) -> Result<UsageParts, Failure> {
        self.measured.push(request);
        Ok(Box::pin(tokio_stream::iter(std::mem::take(&mut self.usage).into_iter().map(Ok))))
    }

    async fn interact(&mut self, begin: Interaction, _: TaskInputs) -> Result<TaskOutputs, Failure> {
        self.interactions.push(begin);
        match self.refusal.clone() {
            Some(refusal) => Err(refusal.into()),
            None => Ok(Box::pin(tokio_stream::iter(std::mem::take(&mut self.outputs)))),
        }
    }

    async fn audit_keys(&mut self) -> Result<Vec<AuditKey>, Failure> {
        Ok(Vec::new())
    }

    async fn checkpoint(&mut self) -> Result<CheckpointReply, Failure> {
        Ok(self.checkpoint.clone())
    }

    async fn prove_frame(&mut self, _: u64) -> Result<FrameProof, Failure> {
        Ok(FrameProof::default())
    }

    async fn prove_consistency(&mut self, _: ProveConsistencyRequest) -> Result<ConsistencyProof, Failure> {
        Ok(ConsistencyProof::default())
    }

    async fn frames(&mut self, _: ReadFramesRequest) -> Result<FrameStream, Failure> {
        Ok(Box::pin(tokio_stream::iter(std::mem::take(&mut self.frames).into_iter().map(Ok))))
    }

    async fn archive_history(&mut self, request: ArchiveHistoryRequest) -> Result<ArchivedStream, Failure> {
        let archived = ArchivedRange {
            first: 0,
            last: 4_095,
            frames: 4_094,
            bytes: 1_048_576,
            file_bytes: 262_144,
            file: format!("frames-to-{:?}.archive", request.to),
        };
        Ok(Box::pin(tokio_stream::iter([Ok(archived)])))
    }

    async fn verify_history(&mut self) -> Result<VerifiedStream, Failure> {
        Ok(Box::pin(tokio_stream::iter(std::mem::take(&mut self.verified).into_iter().map(Ok))))
    }

    async fn go_to(&mut self, point: FindPointRequest) -> Result<PointView, Failure> {
        let log_time = point.time.unwrap_or(Timestamp::from_unix_ns(0));
        Ok(PointView { index: point.index.unwrap_or(7), log_time })
    }

    fn return_to_present(&mut self) {}

    async fn find_point(&mut self, point: FindPointRequest) -> Result<PointView, Failure> {
        self.go_to(point).await
    }

    async fn plan_undo(&mut self, _: PlanUndoRequest) -> Result<UndoPlan, Failure> {
        Ok(UndoPlan::default())
    }

    async fn compare(&mut self, _: CompareRequest) -> Result<DifferenceStream, Failure> {
        Ok(Box::pin(tokio_stream::empty()))
    }

    async fn events(&mut self, request: EventsRequest) -> Result<EventStream, Failure> {
        let frame_hash = request.with_hash().then(|| "ab".repeat(32));
        self.watched.push(request);
        let record = |(index, event): &(u64, Event)| {
            Ok(EventRecord {
                index: *index,
                ordinal: 0,
                log_time: Timestamp::from_unix_ns(0),
                event: event.clone(),
                command: None,
                subjects: Vec::new(),
                names: [(samples::service().id.to_string(), "web".to_owned())].into(),
                before: None,
                frame_hash: frame_hash.clone(),
            })
        };
        let records: Vec<Result<EventRecord, Failure>> = self.history.iter().map(record).collect();
        let records = tokio_stream::iter(records);
        if self.endless { Ok(Box::pin(records.chain(tokio_stream::pending()))) } else { Ok(Box::pin(records)) }
    }
}
