//! A manager controlled by the test: it speaks the real protocol over in-memory connections.

use std::sync::Arc;
use std::time::Duration;

use events::{ClusterId, Id, SessionId, TaskId, TaskState, TaskStatus};
use futures_util::stream::{BoxStream, StreamExt as _};
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};
use wire::v1::dispatcher_server::{Dispatcher, DispatcherServer};
use wire::v1::session_message::Message;
use wire::v1::*;

use crate::agent::{Connect, ConnectError};

pub const CLUSTER: u128 = 7;
const PIPE_BYTES: usize = 64 * 1024;

/// What the manager has received, and how it behaves.
#[derive(Default)]
pub struct Seen {
    pub away: bool,
    /// Whether reports are acknowledged.
    pub ignores_reports: bool,
    pub other_cluster: bool,
    /// How registrations are refused.
    pub refuses: Option<RefusalKind>,
    /// Why connections with the node's certificate are refused, and how often that happened.
    pub certificate_error: Option<&'static str>,
    pub refused: u32,
    pub registrations: Vec<RegisterRequest>,
    pub heartbeats: Vec<Instant>,
    /// Every report request, in order, acknowledged or not.
    pub requests: Vec<ReportRequest>,
    pub acknowledged: Vec<TaskReport>,
    session: Option<mpsc::Sender<Result<SessionMessage, Status>>>,
}

/// A stream that the agent opened.
pub struct Opened {
    pub inbound: Streaming<FromTask>,
    pub to_agent: mpsc::Sender<Result<ToTask, Status>>,
}

#[derive(Clone)]
pub struct Manager {
    seen: Arc<watch::Sender<Seen>>,
    opened: Arc<(mpsc::Sender<Opened>, Mutex<mpsc::Receiver<Opened>>)>,
    connections: mpsc::Sender<Result<DuplexStream, std::io::Error>>,
}

impl Manager {
    pub fn start() -> Self {
        let (connections, incoming) = mpsc::channel(8);
        let (opened, streams) = mpsc::channel(8);
        let opened = Arc::new((opened, Mutex::new(streams)));
        let manager = Self { seen: Arc::new(watch::Sender::new(Seen::default())), opened, connections };
        let server = Server::builder().add_service(DispatcherServer::new(manager.clone()));
        tokio::spawn(server.serve_with_incoming(ReceiverStream::new(incoming)));
        manager
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let mut result = None;
        self.seen.send_modify(|seen| result = Some(change(seen)));
        result.expect("the change was made")
    }

    /// Waits until this has been received, for an hour of paused time.
    pub async fn until(&self, what: &str, seen: impl FnMut(&Seen) -> bool) {
        let mut receiver = self.seen.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(3600), receiver.wait_for(seen)).await;
        assert!(waited.is_ok_and(|found| found.is_ok()), "never seen: {what}");
    }

    /// Waits until an acknowledged report has this state for the task, and returns its status.
    pub async fn reported(&self, task: TaskId, state: TaskState) -> TaskStatus {
        let says = |report: &&TaskReport| report.task == task && report.status.state() == state;
        self.until(&format!("{task} {state:?}"), |seen| seen.acknowledged.iter().any(|report| says(&report))).await;
        let seen = self.seen.borrow();
        seen.acknowledged.iter().rev().find(says).expect("it was just seen").status.clone()
    }

    pub async fn registered(&self, times: usize) {
        self.until(&format!("registration {times}"), |seen| seen.registrations.len() >= times).await;
    }

    /// Closes all sessions and accepts no requests.
    pub fn go_away(&self) {
        self.change(|seen| {
            seen.away = true;
            seen.session = None;
        });
    }

    /// Closes all sessions; new ones may be opened.
    pub fn cut(&self) {
        self.change(|seen| seen.session = None);
    }

    pub fn come_back(&self) {
        self.change(|seen| seen.away = false);
    }

    pub async fn send(&self, set: AssignmentSet) {
        self.say(Message::Assignments(set)).await;
    }

    /// Requests a stream.
    pub async fn order(&self, order: StreamOrder) {
        self.say(Message::Order(order)).await;
    }

    /// The next stream that the agent opens.
    pub async fn opened(&self) -> Opened {
        let opened = tokio::time::timeout(Duration::from_secs(3600), async { self.opened.1.lock().await.recv().await });
        opened.await.ok().flatten().expect("the agent never opened a stream")
    }

    async fn say(&self, message: Message) {
        let session = self.seen.borrow().session.clone().expect("a session");
        session.send(Ok(SessionMessage { message: Some(message) })).await.expect("the agent listens");
    }
}

#[tonic::async_trait]
impl Connect for Manager {
    async fn connect(&self, addr: &str) -> Result<Channel, ConnectError> {
        if self.seen.borrow().away {
            return Err(ConnectError::Failed(format!("{addr} does not answer").into()));
        }
        if let Some(why) = self.change(|seen| seen.certificate_error.inspect(|_| seen.refused += 1)) {
            return Err(ConnectError::Unfit { why: why.to_owned(), hint: "get another" });
        }
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| ConnectError::Failed(error);
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        self.connections.send(Ok(far)).await.map_err(|error| failed(error.into()))?;
        let mut near = Some(near);
        let connector = tower::service_fn(move |_| {
            let near = near.take().map(TokioIo::new);
            async move { near.ok_or_else(|| std::io::Error::other("connected already")) }
        });
        let channel = Endpoint::from_static("http://manager.invalid").connect_with_connector(connector).await;
        channel.map_err(|error| failed(error.into()))
    }
}

#[tonic::async_trait]
impl Dispatcher for Manager {
    type SessionStream = ReceiverStream<Result<SessionMessage, Status>>;
    type HeartbeatsStream = BoxStream<'static, Result<HeartbeatReply, Status>>;

    async fn session(&self, request: Request<RegisterRequest>) -> Result<Response<Self::SessionStream>, Status> {
        let (sender, receiver) = mpsc::channel(16);
        let (number, cluster) = self.change(|seen| {
            seen.registrations.push(request.into_inner());
            seen.session = Some(sender.clone()).filter(|_| seen.refuses.is_none());
            (seen.registrations.len(), if seen.other_cluster { CLUSTER + 1 } else { CLUSTER })
        });
        if let Some(kind) = self.seen.borrow().refuses {
            return Err(Refusal { kind: kind.into(), ..Refusal::default() }.into());
        }
        let welcome = Welcome {
            session: SessionId::from_bits(number as u128),
            cluster: ClusterId::from_bits(cluster),
            heartbeat_period_ns: 5_000_000_000,
            managers: vec!["manager".into()],
        };
        sender.send(Ok(SessionMessage { message: Some(Message::Welcome(welcome)) })).await.expect("room");
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn heartbeats(
        &self,
        request: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatsStream>, Status> {
        let manager = self.clone();
        let replies = request.into_inner().map(move |beat| {
            let away = beat.map(|_| {
                manager.change(|seen| {
                    seen.heartbeats.push(Instant::now());
                    seen.away
                })
            });
            if away? {
                Err(Status::unavailable("away"))
            } else {
                Ok(HeartbeatReply { period_ns: 3_000_000_000, role: None, trust: None, measure: Vec::new() })
            }
        });
        Ok(Response::new(replies.boxed()))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let request = request.into_inner();
        let sequence = request.sequence;
        let heard = self.change(|seen| {
            seen.requests.push(request.clone());
            if !seen.ignores_reports {
                seen.acknowledged.extend(request.reports);
            }
            !seen.ignores_reports
        });
        if heard { Ok(Response::new(ReportReply { sequence })) } else { Err(Status::unavailable("no quorum")) }
    }

    type TaskStreamStream = ReceiverStream<Result<ToTask, Status>>;

    async fn task_stream(
        &self,
        request: Request<Streaming<FromTask>>,
    ) -> Result<Response<Self::TaskStreamStream>, Status> {
        let (to_agent, receiver) = mpsc::channel(8);
        let opened = self.opened.0.send(Opened { inbound: request.into_inner(), to_agent });
        opened.await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn leave(&self, _: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        Err(Status::unimplemented("nobody leaves"))
    }
}
