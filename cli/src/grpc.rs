//! The connection to a manager: at a control socket, or over the network.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use events::SecretText;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use wire::v1::control_client::ControlClient;
use wire::v1::local_node_client::LocalNodeClient;
use wire::v1::lock_client::LockClient;
use wire::v1::*;
use wire::{Freshness, Timeouts};

use crate::failure::{Failure, Kind, innermost};
use crate::manager::{
    ArchivedStream, BackupStream, DifferenceStream, EventStream, FrameStream, LogParts, Manager, TaskInputs,
    TaskOutputs, UsageParts, VerifiedStream,
};

/// How often a command is sent when connections break; its id ensures that it takes effect once.
const ATTEMPTS_MAX: usize = 3;
/// How long to wait for a manager's answer if there is another manager to ask: a healthy one answers within seconds.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay before a command is sent again.
const PAUSE: Duration = Duration::from_millis(300);

/// The hint if it is unknown whether a change was made.
const OUTCOME_UNKNOWN: &str = "it is unknown whether the change was made: `swarmctl events` shows it once swarmd answers, and its log may say more";

/// Connects on first use.
#[derive(Debug)]
pub struct Connection {
    /// The addresses; the first one is used until it stops answering.
    addrs: VecDeque<Place>,
    timeouts: Timeouts,
    /// The required freshness of reads: never older than the last change made on this connection.
    freshness: Freshness,
    client: Option<ControlClient<Channel>>,
}

/// The address of a manager.
#[derive(Debug)]
enum Place {
    /// A unix socket on this machine.
    Socket(PathBuf),
    /// An address on the network, with the directory of the identity.
    Tls { addr: String, identity: PathBuf },
}

impl Place {
    async fn connect(&self, timeouts: Timeouts) -> Result<Channel, Failure> {
        match self {
            Self::Socket(socket) => wire::channel(socket, timeouts).await.map_err(|error| unreachable_manager(&error)),
            Self::Tls { addr, identity } => crate::identity::connect(addr, identity, timeouts).await,
        }
    }
}

/// The time limit of an answer.
#[derive(Debug, Clone, Copy)]
enum Wait {
    /// The short time limit of a healthy manager.
    WithTimeout,
    /// No limit, as long as the manager is there.
    Unlimited,
}

impl Connection {
    /// The manager that listens on this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self::to_any([socket])
    }

    /// The managers that listen on these sockets: the first one is used as long as it answers.
    pub fn to_any(sockets: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::to(sockets.into_iter().map(Place::Socket))
    }

    /// The managers at these addresses, with the identity in a directory: the first one is used as long as it answers.
    pub fn over_tls(addrs: impl IntoIterator<Item = String>, identity: &Path) -> Self {
        Self::to(addrs.into_iter().map(|addr| Place::Tls { addr, identity: identity.to_owned() }))
    }

    fn to(addrs: impl Iterator<Item = Place>) -> Self {
        let (timeouts, freshness) = (Timeouts::default(), Freshness::default());
        Self { addrs: addrs.collect(), timeouts, freshness, client: None }
    }

    /// The same connection with other timeouts.
    pub fn with_timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// The same connection; `stale` reads accept the local state of a manager that lags behind.
    pub fn stale(mut self, stale: bool) -> Self {
        self.freshness.stale = stale;
        self
    }

    /// A request with the required freshness of its answer.
    fn question<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.freshness.write(request.metadata_mut());
        request
    }

    async fn client(&mut self) -> Result<&mut ControlClient<Channel>, Failure> {
        let client = match self.client.take() {
            Some(client) => client,
            None => wire::control_client(self.connect().await?),
        };
        Ok(self.client.insert(client))
    }

    /// Connects to the first manager that answers; otherwise returns the error of the last one.
    async fn connect(&mut self) -> Result<Channel, Failure> {
        let mut failure = Failure::new(Kind::Usage, "no manager is given");
        for _ in 0..self.addrs.len() {
            let Some(place) = self.addrs.front() else { break };
            match place.connect(self.timeouts).await {
                Ok(channel) => return Ok(channel),
                Err(error) => failure = error,
            }
            self.addrs.rotate_left(1);
        }
        Err(failure)
    }

    /// Moves a manager that broke the connection to the end: the next one is asked.
    fn leave(&mut self) {
        if self.addrs.len() > 1 {
            self.client = None;
            self.addrs.rotate_left(1);
        }
    }

    /// Sends a request once. A manager that accepts the call and does not answer is given up.
    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&mut ControlClient<Channel>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let timeout = self.timeouts.answer;
        let answer = async { Ok(question(self.client().await?).await?.into_inner()) };
        tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| Err(Failure::silent(timeout)))
    }

    /// Sends a read with a time limit. If a manager accepts the call and does not answer, the next one is asked.
    async fn read<Q: Clone, T>(
        &mut self,
        question: Q,
        call: impl AsyncFn(&mut ControlClient<Channel>, Request<Q>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.call_with_failover(question, Wait::WithTimeout, call).await
    }

    /// The same without a time limit: the transport notices if the manager is gone.
    async fn open<Q: Clone, T>(
        &mut self,
        question: Q,
        call: impl AsyncFn(&mut ControlClient<Channel>, Request<Q>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.call_with_failover(question, Wait::Unlimited, call).await
    }

    async fn call_with_failover<Q: Clone, T>(
        &mut self,
        question: Q,
        wait: Wait,
        call: impl AsyncFn(&mut ControlClient<Channel>, Request<Q>) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut left = self.addrs.len();
        loop {
            left = left.saturating_sub(1);
            let (timeout, request) = (self.longest_wait(left == 0), self.question(question.clone()));
            let answer = call(self.client().await?, request);
            let answer = match wait {
                Wait::WithTimeout => tokio::time::timeout(timeout, answer).await.map_err(|_| Failure::silent(timeout)),
                Wait::Unlimited => Ok(answer.await),
            };
            match answer.and_then(|answer| answer.map_err(Failure::from)) {
                Err(failure) if failure.kind == Kind::Unreachable && left > 0 => self.leave(),
                answer => return Ok(answer?.into_inner()),
            }
        }
    }

    /// How long to wait for an answer: shorter if another manager can be asked afterwards.
    fn longest_wait(&self, is_last: bool) -> Duration {
        let answer = self.timeouts.answer;
        if is_last { answer } else { answer.min(FAILOVER_TIMEOUT) }
    }

    /// The next page of a list. A manager that does not answer is given up here as well.
    async fn page<P>(&self, pages: &mut Streaming<P>) -> Result<Option<P>, Failure> {
        let timeout = self.timeouts.answer;
        let page = tokio::time::timeout(timeout, pages.message()).await;
        Ok(page.map_err(|_| Failure::silent(timeout))??)
    }

    /// Sends a command until its result is known, for a bounded time; if a manager does not answer, to the next one.
    async fn execute_with_retries(&mut self, request: CommandRequest) -> Result<CommandReply, Failure> {
        // Each manager is asked a second time: the first may have been without a leader for a moment.
        let last = if self.addrs.len() > 1 { 2 * self.addrs.len() } else { 1 };
        let (mut attempt, mut is_fate_unknown) = (1, false);
        loop {
            let timeout = self.longest_wait(attempt >= last);
            let sent = match self.client().await {
                Ok(client) => tokio::time::timeout(timeout, client.execute(request.clone())).await,
                Err(failure) => return Err(with_outcome_hint(failure, is_fate_unknown)),
            };
            let (failure, again) = match sent {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => {
                    let is_broken = is_broken(&status);
                    is_fate_unknown |= is_broken;
                    (Failure::from(status), is_broken && attempt < ATTEMPTS_MAX)
                }
                Err(_) => {
                    is_fate_unknown = true;
                    (Failure::silent(timeout), false)
                }
            };
            if !again && (failure.kind != Kind::Unreachable || attempt >= last) {
                return Err(with_outcome_hint(failure, is_fate_unknown));
            }
            attempt += 1;
            self.leave();
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Why the connection failed, with the system's error if there is one.
fn unreachable_manager(error: &wire::ConnectError) -> Failure {
    let cause = std::error::Error::source(error).map(innermost);
    let io = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let why = cause.map_or_else(String::new, |cause| format!(": {cause}"));
    let kind = match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::PermissionDenied) => Kind::Forbidden,
        Some(_) | None => Kind::Unreachable,
    };
    Failure::new(kind, format!("{error}{why}"))
}

/// A failure of a command that may have taken effect anyway. If the manager refused it, it had no effect.
fn with_outcome_hint(failure: Failure, is_unknown: bool) -> Failure {
    let says_nothing = matches!(failure.kind, Kind::Unreachable | Kind::Other);
    if is_unknown && says_nothing { failure.hint(OUTCOME_UNKNOWN) } else { failure }
}

/// Whether it is unknown if the command took effect, so that it may be sent again.
fn is_broken(status: &Status) -> bool {
    let lost = matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled)
        || std::error::Error::source(status).is_some();
    lost && Refusal::from_status(status).is_none()
}

impl Manager for Connection {
    async fn execute(&mut self, request: CommandRequest) -> Result<CommandReply, Failure> {
        let reply = self.execute_with_retries(request).await?;
        self.freshness.min_index = self.freshness.min_index.max(Some(reply.index));
        Ok(reply)
    }

    /// Without a time limit: simulating a large state until it settles takes long.
    async fn preview(&mut self, request: PreviewRequest) -> Result<PreviewReply, Failure> {
        self.open(request, async |client, request| client.preview(request).await).await
    }

    /// Without a time limit: it takes as long as the steps.
    async fn read_after(&mut self, request: ReadAfterRequest) -> Result<Vec<ReadAfterReply>, Failure> {
        let mut pages = self.open(request, async |client, request| client.read_after(request).await).await?;
        let mut replies = Vec::new();
        while let Some(page) = self.page(&mut pages).await? {
            replies.push(page);
        }
        Ok(replies)
    }

    /// Without a time limit: there is a copy for each node.
    async fn survive(&mut self, request: SurviveRequest) -> Result<SurviveReply, Failure> {
        self.open(request, async |client, request| client.survive(request).await).await
    }

    /// Without a time limit: history may be long.
    async fn replay(&mut self, request: ReplayRequest) -> Result<ReplayReply, Failure> {
        self.open(request, async |client, request| client.replay(request).await).await
    }

    async fn version(&mut self) -> Result<VersionReply, Failure> {
        self.read(VersionRequest {}, async |client, request| client.get_version(request).await).await
    }

    async fn cluster(&mut self, with_tokens: bool) -> Result<ClusterView, Failure> {
        let request = GetClusterRequest { with_tokens: Some(with_tokens) };
        self.read(request, async |client, request| client.get_cluster(request).await).await
    }

    async fn explain_placement(&mut self, request: ExplainPlacementRequest) -> Result<PlacementExplanation, Failure> {
        self.read(request, async |client, request| client.explain_placement(request).await).await
    }

    async fn resolve_image(&mut self, request: ResolveImageRequest) -> Result<ResolvedImage, Failure> {
        self.read(request, async |client, request| client.resolve_image(request).await).await
    }

    async fn sinks(&mut self, sinks: Vec<String>) -> Result<Vec<SinkView>, Failure> {
        Ok(self.read(ListSinksRequest { sinks }, async |client, request| client.list_sinks(request).await).await?.sinks)
    }

    async fn operators(&mut self) -> Result<Vec<OperatorView>, Failure> {
        Ok(self
            .read(ListOperatorsRequest {}, async |client, request| client.list_operators(request).await)
            .await?
            .operators)
    }

    async fn create_operator(&mut self, request: CreateOperatorRequest) -> Result<OperatorCertificate, Failure> {
        self.ask(async |client| client.create_operator(request).await).await
    }

    async fn renew_operator(&mut self, request: RenewOperatorRequest) -> Result<OperatorCertificate, Failure> {
        self.ask(async |client| client.renew_operator(request).await).await
    }

    async fn raft(&mut self) -> Result<RaftView, Failure> {
        self.read(GetRaftRequest {}, async |client, request| client.get_raft(request).await).await
    }

    async fn nodes(&mut self, nodes: Vec<String>) -> Result<Vec<NodeView>, Failure> {
        Ok(self
            .read(InspectNodesRequest { nodes }, async |client, request| client.inspect_nodes(request).await)
            .await?
            .nodes)
    }

    async fn services(&mut self, services: Vec<String>) -> Result<Vec<ServiceView>, Failure> {
        Ok(self
            .read(InspectServicesRequest { services }, async |client, request| client.inspect_services(request).await)
            .await?
            .services)
    }

    async fn list_nodes(&mut self, request: ListNodesRequest) -> Result<Vec<NodeSummary>, Failure> {
        let mut pages = self.read(request, async |client, request| client.list_nodes(request).await).await?;
        let mut nodes = Vec::new();
        while let Some(page) = self.page(&mut pages).await? {
            nodes.extend(page.nodes);
        }
        Ok(nodes)
    }

    async fn list_services(&mut self, request: ListServicesRequest) -> Result<Vec<ServiceSummary>, Failure> {
        let mut pages = self.read(request, async |client, request| client.list_services(request).await).await?;
        let mut services = Vec::new();
        while let Some(page) = self.page(&mut pages).await? {
            services.extend(page.services);
        }
        Ok(services)
    }

    async fn tasks(&mut self, request: ListTasksRequest) -> Result<TaskList, Failure> {
        let mut pages = self.read(request, async |client, request| client.list_tasks(request).await).await?;
        let mut list = TaskList::default();
        while let Some(page) = self.page(&mut pages).await? {
            (list.index, list.total) = (page.index, page.total);
            list.tasks.extend(page.tasks);
        }
        Ok(list)
    }

    async fn configs(&mut self, configs: Vec<String>) -> Result<Vec<ConfigView>, Failure> {
        let mut pages = self
            .read(ReadConfigsRequest { configs }, async |client, request| client.read_configs(request).await)
            .await?;
        let mut configs = Vec::new();
        while let Some(page) = self.page(&mut pages).await? {
            configs.extend(page.configs);
        }
        Ok(configs)
    }

    async fn secrets(&mut self, secrets: Vec<String>) -> Result<Vec<SecretView>, Failure> {
        let mut pages = self
            .read(DescribeSecretsRequest { secrets }, async |client, request| client.describe_secrets(request).await)
            .await?;
        let mut secrets = Vec::new();
        while let Some(page) = self.page(&mut pages).await? {
            secrets.extend(page.secrets);
        }
        Ok(secrets)
    }

    async fn unlock_key(&mut self) -> Result<UnlockKeyReply, Failure> {
        self.read(UnlockKeyRequest {}, async |client, request| client.get_unlock_key(request).await).await
    }

    async fn unlock(&mut self, key: SecretText) -> Result<(), Failure> {
        let channel = self.connect().await?;
        let request = UnlockRequest { unlock_key: key.0.clone() };
        let answer = tokio::time::timeout(self.timeouts.answer, LockClient::new(channel).unlock(request)).await;
        answer.map_err(|_| Failure::silent(self.timeouts.answer))??;
        Ok(())
    }

    /// Without a time limit: the node asks the managers, which may have no leader for a while.
    async fn leave(&mut self, request: LeaveClusterRequest) -> Result<LeaveClusterReply, Failure> {
        if let Some(Place::Tls { .. }) = self.addrs.front() {
            let failure =
                Failure::new(Kind::Usage, "a node is asked to leave at its own control socket, not over the network");
            return Err(
                failure.hint("run `swarmctl node leave` on the node; `swarmctl node rm` removes it from elsewhere")
            );
        }
        let channel = self.connect().await?;
        Ok(LocalNodeClient::new(channel).leave(request).await?.into_inner())
    }

    /// Without a time limit: the file may be large.
    async fn backup(&mut self, mut passphrase: SecretText) -> Result<BackupStream, Failure> {
        let request = BackupRequest { passphrase: std::mem::take(&mut passphrase.0) };
        let stream = self.client().await?.backup(request).await?.into_inner();
        Ok(Box::pin(stream.map(|part| part.map_err(Failure::from))))
    }

    async fn audit_keys(&mut self) -> Result<Vec<AuditKey>, Failure> {
        Ok(self
            .read(ListAuditKeysRequest {}, async |client, request| client.list_audit_keys(request).await)
            .await?
            .keys)
    }

    async fn checkpoint(&mut self) -> Result<CheckpointReply, Failure> {
        self.read(GetCheckpointRequest {}, async |client, request| client.get_checkpoint(request).await).await
    }

    async fn prove_frame(&mut self, index: u64) -> Result<FrameProof, Failure> {
        self.read(ProveFrameRequest { index }, async |client, request| client.prove_frame(request).await).await
    }

    async fn prove_consistency(&mut self, request: ProveConsistencyRequest) -> Result<ConsistencyProof, Failure> {
        self.read(request, async |client, request| client.prove_consistency(request).await).await
    }

    /// Without a time limit: history may be long.
    async fn frames(&mut self, request: ReadFramesRequest) -> Result<FrameStream, Failure> {
        let stream = self.open(request, async |client, request| client.read_frames(request).await).await?;
        Ok(Box::pin(stream.map(|page| page.map_err(Failure::from))))
    }

    /// Without a time limit: history may be long.
    async fn archive_history(&mut self, request: ArchiveHistoryRequest) -> Result<ArchivedStream, Failure> {
        let request = self.question(request);
        let stream = self.client().await?.archive_history(request).await?.into_inner();
        Ok(Box::pin(stream.map(|made| made.map_err(Failure::from))))
    }

    /// Without a time limit: history may be long.
    async fn verify_history(&mut self) -> Result<VerifiedStream, Failure> {
        let stream =
            self.open(VerifyHistoryRequest {}, async |client, request| client.verify_history(request).await).await?;
        Ok(Box::pin(stream.map(|step| step.map_err(Failure::from))))
    }

    async fn go_to(&mut self, point: FindPointRequest) -> Result<PointView, Failure> {
        let found = self.read(point, async |client, request| client.find_point(request).await).await?;
        self.freshness.at = Some(found.index);
        Ok(found)
    }

    fn return_to_present(&mut self) {
        self.freshness.at = None;
    }

    async fn find_point(&mut self, point: FindPointRequest) -> Result<PointView, Failure> {
        self.read(point, async |client, request| client.find_point(request).await).await
    }

    /// Without a time limit: several states of the past may have to be built.
    async fn plan_undo(&mut self, request: PlanUndoRequest) -> Result<UndoPlan, Failure> {
        self.open(request, async |client, request| client.plan_undo(request).await).await
    }

    /// Without a time limit: building a state of the past may take long.
    async fn compare(&mut self, request: CompareRequest) -> Result<DifferenceStream, Failure> {
        let pages = self.open(request, async |client, request| client.compare(request).await).await?;
        Ok(Box::pin(pages.map(|page| page.map_err(Failure::from))))
    }

    /// Without a time limit: finding a removed object may mean reading all of history. The transport notices if the manager is
    /// gone.
    async fn events(&mut self, request: EventsRequest) -> Result<EventStream, Failure> {
        let stream = self.open(request, async |client, request| client.events(request).await).await?;
        Ok(Box::pin(stream.map(|record| record.map_err(Failure::from))))
    }

    /// Without a time limit: it ends when the tasks do.
    async fn logs(&mut self, request: LogsRequest) -> Result<LogParts, Failure> {
        let stream = self.open(request, async |client, request| client.logs(request).await).await?;
        Ok(Box::pin(stream.map(|part| part.map_err(Failure::from))))
    }

    /// Without a time limit: it continues as long as the client reads.
    async fn usage(&mut self, request: UsageRequest) -> Result<UsageParts, Failure> {
        let stream = self.open(request, async |client, request| client.usage(request).await).await?;
        Ok(Box::pin(stream.map(|part| part.map_err(Failure::from))))
    }

    /// Without a time limit: an engine may take long to start, and the rest depends on the user.
    async fn interact(&mut self, begin: Interaction, inputs: TaskInputs) -> Result<TaskOutputs, Failure> {
        let first = tokio_stream::once(interact_request::Message::Begin(begin));
        let rest = inputs.map(|input| interact_request::Message::Input(TaskInput { input: Some(input) }));
        let requests = first.chain(rest).map(|message| InteractRequest { message: Some(message) });
        let stream = self.client().await?.interact(requests).await?.into_inner();
        // Parts that a newer manager adds are ignored.
        Ok(Box::pin(stream.filter_map(|part| part.map(|part| part.output).map_err(Failure::from).transpose())))
    }
}
