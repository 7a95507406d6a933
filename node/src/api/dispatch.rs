//! The dispatcher: sessions with agents, their heartbeats and reports.

use std::pin::Pin;
use std::sync::Arc;

use commands::{Actor, Command, Rejection};
use events::frame;
use events::{CommandId, Id, NodeDescription, NodeId, SessionId};
use futures_util::Stream;
use prost::Message as _;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use wire::v1::dispatcher_server::Dispatcher;
use wire::v1::session_message::Message;
use wire::v1::{
    Head, HeartbeatReply, HeartbeatRequest, RegisterRequest, ReportReply, ReportRequest, SessionMessage, Welcome,
};

use crate::driver::{Published, Request as CoreRequest, stopping};
use crate::log::{FrameLink, LogStore, frame_at};
use crate::security::{Allowed, Peer, Subject};

use super::assignments::Told;
use crate::control::views;

use super::{Context, affordable, jittered, refusal, status};

/// Messages that wait for a slow agent; then the newest state waits, and nothing piles up.
const QUEUED_MAX: usize = 4;

/// The service that agents hold their sessions with.
pub struct DispatchApi {
    context: Context,
}

impl DispatchApi {
    /// The service of this manager.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// The node that calls, by its certificate, and the host that it calls from. Its port says nothing: each connection has
    /// another.
    fn node<T>(&self, request: &Request<T>) -> Result<(Subject, String), Status> {
        match self.context.gate().require(request, Allowed::Nodes)? {
            Peer::Node { subject, address } => Ok((subject, address.ip().to_string())),
            Peer::Operator { .. } | Peer::Anonymous { .. } => {
                let hint = "agents call over TLS, with their node's certificate";
                Err(status(Rejection::new(
                    commands::RejectionKind::Forbidden,
                    "session",
                    "this call is for nodes",
                    hint,
                )))
            }
        }
    }

    /// Whether a node may open a session. Only what is new in its description is written.
    fn session_fits(&self, node: NodeId, description: &NodeDescription) -> Result<(), Rejection> {
        let (budgets, now, state) = (&self.context.budgets, Instant::now(), self.context.state());
        budgets.call(node, now)?;
        budgets.session(node, now)?;
        let member = state.cluster.nodes.get(node);
        if member.is_some_and(|member| member.description.as_deref() == Some(description)) {
            return Ok(());
        }
        budgets.report(node, state.cluster.usage.of(node).tasks, description.encoded_len(), 0, now)
    }

    /// Whether a node may send a report.
    fn report_fits(&self, node: NodeId, report: &ReportRequest) -> Result<(), Rejection> {
        let (budgets, now) = (&self.context.budgets, Instant::now());
        budgets.call(node, now)?;
        let tasks = self.context.state().cluster.usage.of(node).tasks;
        budgets.report(node, tasks, report.encoded_len(), report.reports.len(), now)
    }

    /// Compares on a thread of its own: the disk may be slow, and this one serves others.
    async fn compare(&self, node: NodeId, seen: Head) {
        let store = Arc::clone(&self.context.store);
        if let Err(error) = tokio::task::spawn_blocking(move || compare(&*store, node, &seen)).await {
            tracing::error!(%node, %error, "history is not compared with what a node knows");
        }
    }

    async fn command(&self, subject: Subject, command: Command) -> Result<u64, Status> {
        let actor = Actor::Node { id: subject.node, role: subject.role };
        // Nodes' commands repeat without harm, so they need no id.
        let request = CoreRequest { id: CommandId::default(), actor, command, reason: None, correlation: None };
        refusal::execute(&self.context, request).await.map(|(index, _)| index)
    }
}

#[tonic::async_trait]
impl Dispatcher for DispatchApi {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionMessage, Status>> + Send>>;

    async fn session(&self, request: Request<RegisterRequest>) -> Result<Response<Self::SessionStream>, Status> {
        let (subject, host) = self.node(&request)?;
        let request = request.into_inner();
        affordable(self.session_fits(subject.node, &request.description)).await?;
        if let Some(seen) = request.seen {
            self.compare(subject.node, seen).await;
        }
        let session = SessionId::from_bits(rand::random());
        let addr = request.advertise_addr.unwrap_or(host);
        let (node, description) = (subject.node, Box::new(request.description));
        self.command(subject, Command::RegisterNode(commands::RegisterNode { node, session, description, addr }))
            .await?;
        let (messages, receiver) = mpsc::channel(QUEUED_MAX);
        let bell = self.context.core.follow(node);
        let feed = Feed { context: self.context.clone(), bell, node, session, messages };
        tokio::spawn(feed.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatReply>, Status> {
        let (subject, _) = self.node(&request)?;
        affordable(self.context.budgets.heartbeat(subject.node, Instant::now())).await?;
        self.context.core.hear(subject.node, request.into_inner().session).map_err(status)?;
        let period = jittered(self.context.state().cluster.spec().heartbeat_period());
        Ok(Response::new(HeartbeatReply { period_ns: u64::try_from(period.as_nanos()).unwrap_or(u64::MAX) }))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let (subject, _) = self.node(&request)?;
        affordable(self.report_fits(subject.node, request.get_ref())).await?;
        let ReportRequest { session, sequence, reports } = request.into_inner();
        let reports = reports.into_iter().map(|report| (report.task, report.status)).collect();
        self.command(subject, Command::ReportTasks(commands::ReportTasks { node: subject.node, session, reports }))
            .await?;
        Ok(Response::new(ReportReply { sequence }))
    }
}

/// Feeds one session with assignments until its agent is gone or another session takes its place.
struct Feed {
    context: Context,
    bell: Arc<Notify>,
    node: NodeId,
    session: SessionId,
    messages: mpsc::Sender<Result<SessionMessage, Status>>,
}

impl Feed {
    async fn run(self) {
        tracing::debug!(node = %self.node, session = %self.session, "a session was opened");
        let ended = tokio::select! {
            ended = self.feed() => ended,
            () = self.context.stopping.cancelled() => {
                // An agent that does not read any more finds out by itself.
                let _ = self.messages.try_send(Err(status(stopping())));
                Ok("this manager stops")
            }
        };
        match ended {
            Ok(why) => tracing::debug!(node = %self.node, session = %self.session, why, "a session has ended"),
            Err(AgentGone) => {
                tracing::debug!(node = %self.node, session = %self.session, "a session broke");
                self.disconnect().await;
            }
        }
    }

    /// Ends well, with the reason, when the session is over for this manager.
    async fn feed(&self) -> Result<&'static str, AgentGone> {
        self.send(Message::Welcome(self.welcome(&self.context.state()))).await?;
        let mut told = Told::default();
        loop {
            if self.context.core.is_over() {
                return Ok("the core has ended");
            }
            let state = self.context.state();
            let node = state.cluster.nodes.get(self.node);
            if node.is_none_or(|node| node.session != Some(self.session)) {
                let ended = Rejection::conflict("session", "the session has ended", "register again");
                // The agent may be the one that ended it.
                let _ = self.messages.send(Err(status(ended))).await;
                return Ok(if node.is_none() { "the node was removed" } else { "another session took its place" });
            }
            if let Some(mut set) = told.update(&state, self.node) {
                set.head = self.head();
                let (complete, tasks, removed) = (set.complete, set.tasks.len(), set.removed.len());
                tracing::debug!(node = %self.node, complete, tasks, removed, "assignments are sent");
                self.send(Message::Assignments(set)).await?;
            }
            tokio::select! {
                () = self.bell.notified() => {}
                () = self.messages.closed() => return Err(AgentGone),
            }
        }
    }

    /// The last frame of history; nothing while it cannot be told, as it only serves to compare.
    fn head(&self) -> Option<Head> {
        let applied = self.context.store.applied().inspect_err(|error| tracing::warn!(%error, "no end of history"));
        applied.ok()?.frame.map(views::head)
    }

    async fn send(&self, message: Message) -> Result<(), AgentGone> {
        self.messages.send(Ok(SessionMessage { message: Some(message) })).await.map_err(|_| AgentGone)
    }

    fn welcome(&self, state: &Published) -> Welcome {
        let period = state.cluster.spec().heartbeat_period().as_nanos();
        Welcome {
            session: self.session,
            cluster: state.cluster.id(),
            heartbeat_period_ns: u64::try_from(period).unwrap_or(u64::MAX),
            managers: vec![self.context.remote_addr.clone()],
        }
    }

    /// Tells the core that the connection broke. Should that fail, the missing heartbeats tell it as well.
    async fn disconnect(&self) {
        let actor = Actor::Manager(self.context.node);
        let command = Command::DisconnectNode(commands::DisconnectNode { node: self.node, session: self.session });
        let request = CoreRequest { id: CommandId::default(), actor, command, reason: None, correlation: None };
        if let Err(error) = refusal::execute(&self.context, request).await {
            tracing::debug!(node = %self.node, %error, "a broken session was not noted");
        }
    }
}

/// Compares the history here with what an agent was told of before. If the frame is not there, somebody put this manager back
/// to a backup, or its disk lost what it had confirmed. The agent gets all of its assignments anew in either case; that
/// history has another future, or cannot be read, is for people to know, and no reason to refuse the session.
fn compare(store: &dyn LogStore, node: NodeId, seen: &Head) {
    let found = match frame_at(store, seen.index) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!(%node, index = seen.index, %error, hint = error.hint(), "history is not compared with what a node knows");
            return;
        }
    };
    let here = found.map(|stored| views::head(FrameLink { index: seen.index, hash: frame::hash(&stored) }));
    if here.as_ref() != Some(seen) {
        let hint = "if nobody restored this manager from a backup, see whether its disk is failing";
        tracing::warn!(%node, index = seen.index, hint, "history was put back, says a node: it knows a frame that is not there");
    }
}

/// The agent's end of the stream is closed.
struct AgentGone;
