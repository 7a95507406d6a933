//! The same commands over a real control socket.

use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};
use wire::Timeouts;
use wire::v1::control_server::{Control, ControlServer};
use wire::v1::*;

use super::{RunResult, TestEnv, run};
use crate::format::samples;
use crate::grpc::Connection;

type Answers<T> = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// A manager that breaks off its first answer, and has one service.
#[derive(Default)]
struct Server {
    attempts: AtomicU32,
    /// A read of history blocks the manager until this ends; without it the event stream breaks.
    frozen: Option<Mutex<Receiver<()>>>,
}

#[tonic::async_trait]
impl Control for Server {
    type ListNodesStream = Answers<NodePage>;
    type ListServicesStream = Answers<ServicePage>;
    type ListTasksStream = Answers<TaskList>;
    type EventsStream = Answers<EventRecord>;
    type CompareStream = Answers<DifferencePage>;
    type BackupStream = Answers<BackupPart>;
    type ReadFramesStream = Answers<FramesPage>;
    type ArchiveHistoryStream = Answers<ArchivedRange>;
    type VerifyHistoryStream = Answers<VerifiedHistory>;
    type ReadAfterStream = Answers<ReadAfterReply>;
    type ExecuteStreamStream = Answers<CommandAnswer>;
    type ReadConfigsStream = Answers<ConfigPage>;
    type DescribeSecretsStream = Answers<SecretPage>;
    type LogsStream = Answers<LogsPart>;
    type UsageStream = Answers<UsagePart>;
    type InteractStream = Answers<TaskOutput>;

    async fn execute(&self, request: Request<CommandRequest>) -> Result<Response<CommandReply>, Status> {
        let command = request.into_inner().command;
        if let Some(command_request::Command::UpdateService(update)) = command {
            return Ok(Response::new(CommandReply {
                index: 1,
                subject: Some(update.service),
                ..CommandReply::default()
            }));
        }
        let Some(command_request::Command::RemoveService(_)) = command else {
            let refusal = Refusal {
                kind: RefusalKind::Conflict.into(),
                subject: "service web".to_owned(),
                sentence: "somebody else changed it".to_owned(),
                hint: None,
            };
            return Err(refusal.into());
        };
        match self.attempts.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Status::unknown("leadership was lost")),
            _ => Ok(Response::new(CommandReply { index: 1, ..CommandReply::default() })),
        }
    }

    async fn preview(&self, _: Request<PreviewRequest>) -> Result<Response<PreviewReply>, Status> {
        Err(Status::unimplemented("nothing is tried here"))
    }

    async fn read_after(&self, _: Request<ReadAfterRequest>) -> Result<Response<Self::ReadAfterStream>, Status> {
        Err(Status::unimplemented("nothing is tried here"))
    }

    async fn survive(&self, _: Request<SurviveRequest>) -> Result<Response<SurviveReply>, Status> {
        Err(Status::unimplemented("nothing is tried here"))
    }

    async fn replay(&self, _: Request<ReplayRequest>) -> Result<Response<ReplayReply>, Status> {
        Err(Status::unimplemented("nothing is tried here"))
    }

    async fn execute_stream(
        &self,
        _: Request<Streaming<CommandRequest>>,
    ) -> Result<Response<Self::ExecuteStreamStream>, Status> {
        Err(Status::unimplemented("nobody streams commands here"))
    }

    async fn logs(&self, _: Request<LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        Err(Status::unimplemented("nobody prints anything here"))
    }

    async fn usage(&self, _: Request<UsageRequest>) -> Result<Response<Self::UsageStream>, Status> {
        Err(Status::unimplemented("nobody uses anything here"))
    }

    async fn interact(&self, _: Request<Streaming<InteractRequest>>) -> Result<Response<Self::InteractStream>, Status> {
        Err(Status::unimplemented("nobody runs commands here"))
    }

    async fn backup(&self, _: Request<BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("nobody takes backups here"))
    }

    async fn get_raft(&self, _: Request<GetRaftRequest>) -> Result<Response<RaftView>, Status> {
        Ok(Response::new(samples::raft()))
    }

    async fn get_version(&self, _: Request<VersionRequest>) -> Result<Response<VersionReply>, Status> {
        Err(Status::permission_denied("only root may ask"))
    }

    async fn get_cluster(&self, _: Request<GetClusterRequest>) -> Result<Response<ClusterView>, Status> {
        Ok(Response::new(samples::cluster()))
    }

    async fn explain_placement(
        &self,
        _: Request<ExplainPlacementRequest>,
    ) -> Result<Response<PlacementExplanation>, Status> {
        Err(Status::unimplemented("nobody explains here"))
    }

    async fn resolve_image(&self, _: Request<ResolveImageRequest>) -> Result<Response<ResolvedImage>, Status> {
        Ok(Response::new(ResolvedImage::default()))
    }

    async fn list_sinks(&self, _: Request<ListSinksRequest>) -> Result<Response<SinkList>, Status> {
        Ok(Response::new(SinkList { sinks: vec![samples::sink()] }))
    }

    async fn list_operators(&self, _: Request<ListOperatorsRequest>) -> Result<Response<OperatorList>, Status> {
        Ok(Response::new(OperatorList { operators: vec![samples::operator()] }))
    }

    async fn renew_operator(&self, _: Request<RenewOperatorRequest>) -> Result<Response<OperatorCertificate>, Status> {
        Err(Status::unimplemented("no operators"))
    }

    async fn create_operator(
        &self,
        _: Request<CreateOperatorRequest>,
    ) -> Result<Response<OperatorCertificate>, Status> {
        Err(Status::permission_denied("only an admin may ask"))
    }

    async fn get_unlock_key(&self, _: Request<UnlockKeyRequest>) -> Result<Response<UnlockKeyReply>, Status> {
        Err(Status::permission_denied("only an admin may ask"))
    }

    async fn inspect_nodes(&self, _: Request<InspectNodesRequest>) -> Result<Response<NodeList>, Status> {
        Ok(Response::new(NodeList { nodes: samples::nodes() }))
    }

    async fn inspect_services(&self, _: Request<InspectServicesRequest>) -> Result<Response<ServiceList>, Status> {
        Ok(Response::new(ServiceList { services: vec![samples::service()] }))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<Self::ListNodesStream>, Status> {
        let page = |node| Ok(NodePage { nodes: vec![node], index: 1 });
        let pages: Vec<Result<NodePage, Status>> = samples::node_summaries().into_iter().map(page).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    async fn read_configs(&self, _: Request<ReadConfigsRequest>) -> Result<Response<Self::ReadConfigsStream>, Status> {
        let page = Ok(ConfigPage { configs: vec![samples::config()] });
        Ok(Response::new(Box::pin(tokio_stream::iter([page]))))
    }

    async fn describe_secrets(
        &self,
        _: Request<DescribeSecretsRequest>,
    ) -> Result<Response<Self::DescribeSecretsStream>, Status> {
        let page = Ok(SecretPage { secrets: vec![samples::secret()] });
        Ok(Response::new(Box::pin(tokio_stream::iter([page]))))
    }

    async fn list_services(
        &self,
        _: Request<ListServicesRequest>,
    ) -> Result<Response<Self::ListServicesStream>, Status> {
        let page = ServicePage { services: vec![samples::service_summary()], index: 1 };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(page)]))))
    }

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<Self::ListTasksStream>, Status> {
        let page = |task| Ok(TaskList { tasks: vec![task], index: 1, total: None });
        let pages: Vec<Result<TaskList, Status>> = samples::tasks().into_iter().map(page).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(pages))))
    }

    async fn list_audit_keys(&self, _: Request<ListAuditKeysRequest>) -> Result<Response<AuditKeyList>, Status> {
        Ok(Response::new(AuditKeyList::default()))
    }

    async fn get_checkpoint(&self, _: Request<GetCheckpointRequest>) -> Result<Response<CheckpointReply>, Status> {
        Ok(Response::new(CheckpointReply::default()))
    }

    async fn prove_frame(&self, _: Request<ProveFrameRequest>) -> Result<Response<FrameProof>, Status> {
        Ok(Response::new(FrameProof::default()))
    }

    async fn prove_consistency(
        &self,
        _: Request<ProveConsistencyRequest>,
    ) -> Result<Response<ConsistencyProof>, Status> {
        Ok(Response::new(ConsistencyProof::default()))
    }

    async fn read_frames(&self, _: Request<ReadFramesRequest>) -> Result<Response<Self::ReadFramesStream>, Status> {
        Err(Status::unimplemented("nobody reads frames here"))
    }

    async fn archive_history(
        &self,
        _: Request<ArchiveHistoryRequest>,
    ) -> Result<Response<Self::ArchiveHistoryStream>, Status> {
        Err(Status::unimplemented("nobody archives history here"))
    }

    async fn verify_history(
        &self,
        _: Request<VerifyHistoryRequest>,
    ) -> Result<Response<Self::VerifyHistoryStream>, Status> {
        Err(Status::unimplemented("nobody verifies history here"))
    }

    async fn find_point(&self, _: Request<FindPointRequest>) -> Result<Response<PointView>, Status> {
        Ok(Response::new(PointView { index: 1, log_time: events::Timestamp::from_unix_ns(0) }))
    }

    async fn plan_undo(&self, _: Request<PlanUndoRequest>) -> Result<Response<UndoPlan>, Status> {
        Ok(Response::new(UndoPlan::default()))
    }

    async fn compare(&self, _: Request<CompareRequest>) -> Result<Response<Self::CompareStream>, Status> {
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }

    async fn events(&self, _: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let Some(frozen) = &self.frozen else {
            let broken: EventResult = Err(Status::unavailable("the manager stops"));
            return Ok(Response::new(Box::pin(tokio_stream::iter([broken]))));
        };
        // An error means that the sender was dropped, which is the signal.
        let _ = frozen.lock().expect("nobody panicked").recv();
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

type EventResult = Result<EventRecord, Status>;

fn serve(listener: UnixListener, server: Server) -> impl Future<Output = Result<(), tonic::transport::Error>> {
    let server = tonic::transport::Server::builder().add_service(ControlServer::new(server));
    server.serve_with_incoming(UnixListenerStream::new(listener))
}

#[tokio::test]
async fn answers_refusals_and_broken_connections_come_through() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("swarmd.sock");
    let listener = UnixListener::bind(&socket).expect("a fresh directory takes a socket");
    tokio::spawn(serve(listener, Server::default()));
    let table = [
        ("service ls", 0),
        ("cluster inspect", 0),
        // The first answer is lost; the same command is sent again.
        ("service rm web", 0),
        ("service scale web=1", 4),
        ("version", 8),
        ("events", 7),
    ];
    for (line, code) in table {
        let ran = run(line, &mut Connection::new(socket.clone()), TestEnv::default()).await;
        assert_eq!(ran.code, code, "{line}: {}", ran.err);
        assert_eq!(ran.err.is_empty(), code == 0, "{line}: {}", ran.err);
    }
}

#[tokio::test]
async fn of_several_managers_the_first_that_answers_is_asked() {
    let directory = tempfile::tempdir().expect("a directory");
    let [gone, answers] = ["gone", "answers"].map(|name| directory.path().join(name));
    tokio::spawn(serve(UnixListener::bind(&answers).expect("a fresh directory takes a socket"), Server::default()));
    for sockets in [vec![gone.clone(), answers.clone()], vec![answers.clone(), gone.clone()]] {
        for line in ["service ls", "service rm web"] {
            let ran = run(line, &mut Connection::to_any(sockets.clone()), TestEnv::default()).await;
            assert_eq!(ran.code, 0, "{line} at {sockets:?}: {}", ran.err);
        }
    }
    let ran = run("service ls", &mut Connection::to_any([gone.clone(), gone]), TestEnv::default()).await;
    assert_eq!(ran.code, 7, "{}", ran.err);
}

/// A manager that accepts connections but does not answer, before one that does.
#[tokio::test]
async fn a_manager_that_says_nothing_is_left_for_the_next_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let [suspended, answers] = ["suspended", "answers"].map(|name| directory.path().join(name));
    let silent = UnixListener::bind(&suspended).expect("a fresh directory takes a socket");
    tokio::spawn(serve(UnixListener::bind(&answers).expect("a fresh directory takes a socket"), Server::default()));
    for line in ["service ls", "cluster inspect", "service rm web", "service update web --force"] {
        let mut manager = Connection::to_any([suspended.clone(), answers.clone()]).with_timeouts(SHORT_CALLS);
        let ran = run(line, &mut manager, TestEnv::default()).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
    }
    let mut nobody = Connection::to_any([suspended.clone(), suspended]).with_timeouts(SHORT_CALLS);
    let ran = run("service rm web", &mut nobody, TestEnv::default()).await;
    drop(silent);
    assert_eq!(ran.code, 7, "{}", ran.err);
    assert!(ran.err.contains("hint: it is unknown whether the change was made"), "{}", ran.err);
}

/// How a joining manager answers every call.
fn joining(_: Request<()>) -> Result<Request<()>, Status> {
    let kind = RefusalKind::Unavailable.into();
    let sentence = "this manager is joining the cluster".to_owned();
    Err(Refusal { kind, subject: "manager".to_owned(), sentence, hint: None }.into())
}

#[tokio::test]
async fn a_manager_that_joins_is_left_for_the_next_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let [joins, answers] = ["joins", "answers"].map(|name| directory.path().join(name));
    let listener = UnixListener::bind(&joins).expect("a fresh directory takes a socket");
    let server = ControlServer::with_interceptor(Server::default(), joining);
    let server = tonic::transport::Server::builder().add_service(server);
    tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
    tokio::spawn(serve(UnixListener::bind(&answers).expect("a fresh directory takes a socket"), Server::default()));
    for line in ["service ls", "service rm web"] {
        let mut manager = Connection::to_any([joins.clone(), answers.clone()]);
        let ran = run(line, &mut manager, TestEnv::default()).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
    }
    for (line, code) in [("service ls", 7), ("service rm web", 7)] {
        let ran = run(line, &mut Connection::to_any([joins.clone(), joins.clone()]), TestEnv::default()).await;
        assert_eq!(ran.code, code, "{line}: {}", ran.err);
        assert!(ran.err.starts_with("error: this manager is joining the cluster\n"), "{line}: {}", ran.err);
    }
}

#[tokio::test]
async fn nobody_at_the_socket_is_code_7() {
    let directory = tempfile::tempdir().expect("a directory");
    let ran = run("service ls", &mut Connection::new(directory.path().join("none")), TestEnv::default()).await;
    assert_eq!(ran.code, 7);
    assert!(ran.err.contains("none: No such file") && ran.err.contains("hint: check that swarmd runs"), "{}", ran.err);
}

/// Practically forever, for a test.
const LONG: Duration = Duration::from_secs(600);
/// A short time limit for calls, none for connections.
const SHORT_CALLS: Timeouts = Timeouts { answer: Duration::from_millis(50), probe: LONG, silence: LONG };
/// A short time limit for connections, none for calls.
const SHORT_CONNECTIONS: Timeouts =
    Timeouts { answer: LONG, probe: Duration::from_millis(20), silence: Duration::from_millis(20) };

/// Runs a line against a manager that accepts connections but does not answer: the kernel accepts them.
async fn run_without_answers(line: &str, timeouts: Timeouts) -> RunResult {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("swarmd.sock");
    let silent = UnixListener::bind(&socket).expect("a fresh directory takes a socket");
    let ran = run(line, &mut Connection::new(socket).with_timeouts(timeouts), TestEnv::default()).await;
    drop(silent);
    ran
}

#[tokio::test]
async fn a_manager_that_takes_a_call_and_says_nothing_is_given_up() {
    for line in ["service ls", "node inspect x", "task ls", "cluster inspect", "version", "service update x --force"] {
        let ran = run_without_answers(line, SHORT_CALLS).await;
        assert_eq!(ran.code, 7, "{line}: {}", ran.err);
        let expected =
            "error: the manager accepted the call but did not answer within 50ms\nhint: swarmd may be suspended";
        assert!(ran.err.starts_with(expected), "{line}: {}", ran.err);
    }
    let ran = run_without_answers("service rm web", SHORT_CALLS).await;
    assert!(
        ran.err.contains("did not answer within 50ms\nhint: it is unknown whether the change was made"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn who_follows_history_notices_that_nobody_is_there_any_more() {
    for line in ["events --follow", "events"] {
        let ran = run_without_answers(line, SHORT_CONNECTIONS).await;
        assert_eq!(ran.code, 7, "{line}: {}", ran.err);
        assert!(ran.err.starts_with("error: the manager no longer answers\n"), "{line}: {}", ran.err);
    }
}

/// A manager on its own thread that blocks as soon as history is read, until the sender is dropped.
fn serve_on_a_thread_that_freezes(socket: &Path) -> Sender<()> {
    let (thaw, frozen) = channel();
    let (listener, frozen) = (StdListener::bind(socket).expect("a fresh directory takes a socket"), Mutex::new(frozen));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = UnixListener::from_std(listener).expect("a socket");
            let server = Server { attempts: AtomicU32::new(1), frozen: Some(frozen) };
            serve(listener, server).await.expect("it serves until the test ends");
        });
    });
    thaw
}

#[tokio::test]
async fn who_waits_notices_that_nobody_is_there_any_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("swarmd.sock");
    let thaw = serve_on_a_thread_that_freezes(&socket);
    let mut manager = Connection::new(socket).with_timeouts(SHORT_CONNECTIONS);
    let ran = run("service update web --force --detach=false", &mut manager, TestEnv::default()).await;
    drop(thaw);
    assert_eq!((ran.code, ran.out.as_str()), (7, "0000000000000000000000009\n"), "{}", ran.err);
    let expected = "error: the manager no longer answers\nhint: the operation continues; once swarmd answers again, \
                `swarmctl service inspect web` shows";
    assert!(ran.err.starts_with(expected), "{}", ran.err);
}

#[tokio::test]
async fn who_follows_is_told_of_a_manager_that_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("swarmd.sock");
    let thaw = serve_on_a_thread_that_freezes(&socket);
    // The manager is unblocked and ends the stream at once.
    drop(thaw);
    let ran = run("events --follow", &mut Connection::new(socket), TestEnv::default()).await;
    assert_eq!(ran.code, 7);
    assert!(ran.err.starts_with("error: the manager was stopped, which ends the stream of events\n"), "{}", ran.err);
}
