//! The dispatcher over gRPC: authenticates callers, limits their rate, and translates sessions to streams.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use events::{Id, NodeDescription, NodeId, SessionId};
use futures_util::{Stream, StreamExt as _, stream};
use prost::Message as _;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use wire::v1::dispatcher_server::Dispatcher;
use wire::v1::session_message::Message;
use wire::v1::{
    FromTask, Head, HeartbeatReply, HeartbeatRequest, LeaveReply, LeaveRequest, RegisterRequest, ReportReply,
    ReportRequest, SessionMessage, ToTask,
};

use crate::control::sessions::{AssignmentStream, Caller};
use crate::manager::driver::stopping;
use crate::manager::replica::Request as CoreRequest;
use crate::metrics::Measures;
use crate::security::{Caller as Connected, Peer, access};

use super::sending::{NextShares, SendMemory, Share};
use super::streams::{self, Session as Orders};
use super::{Context, enforce_budget, jittered, status};

/// Messages queued for a slow agent; beyond that only the latest state is kept, so the queue does not grow.
const QUEUED_MAX: usize = 4;

/// Minimum time between two updates of a session, as in SwarmKit: for a node with many tasks that change one after another,
/// each update examines all of them.
const BATCH_PERIOD: Duration = Duration::from_millis(100);

/// Deadline for recording that a node has moved to another root, about the shortest time between two heartbeats.
const NOTE_TIMEOUT: Duration = Duration::from_secs(5);

/// The service for agents' sessions.
pub struct DispatchApi {
    context: Context,
    memory: SendMemory,
}

impl DispatchApi {
    /// The service of this manager.
    pub fn new(context: Context) -> Self {
        Self { context, memory: SendMemory::default() }
    }

    /// The calling node, by its certificate, and the host that it connects from. The port is omitted, because it differs for
    /// each connection.
    fn caller<T>(request: &Request<T>) -> Result<(Caller, String), Status> {
        match access::caller(request)? {
            Peer::Node { subject, address } => {
                Ok((Caller { node: subject.node, role: subject.role }, address.ip().to_string()))
            }
            Peer::Operator { .. } | Peer::CertifiedOperator { .. } | Peer::Anonymous { .. } => {
                let hint = "agents call over TLS, with their node's certificate";
                let kind = RejectionKind::Forbidden;
                Err(status(Rejection::new(kind, "session", "this call is for nodes", hint)))
            }
        }
    }

    /// Checks whether a node may open a session. Only changes of its description are written.
    fn charge_session(&self, node: NodeId, description: &NodeDescription) -> Result<(), Rejection> {
        let (budgets, now, state) = (&self.context.budgets, Instant::now(), self.context.state());
        budgets.call(node, now)?;
        budgets.session(node, now)?;
        let member = state.cluster.nodes.get(node);
        if member.is_some_and(|member| member.description.as_deref() == Some(description)) {
            return Ok(());
        }
        budgets.report(node, state.cluster.usage.of(node).tasks, description.encoded_len(), 0, now)
    }

    /// Checks whether a node may send a report.
    fn charge_report(&self, node: NodeId, report: &ReportRequest) -> Result<(), Rejection> {
        let (budgets, now) = (&self.context.budgets, Instant::now());
        budgets.call(node, now)?;
        let tasks = self.context.state().cluster.usage.of(node).tasks;
        budgets.report(node, tasks, report.encoded_len(), report.reports.len(), now)
    }

    /// Compares on a blocking thread: the disk may be slow, and this thread serves other callers.
    async fn compare(&self, node: NodeId, seen: Head) {
        let control = self.context.control();
        if let Err(error) = tokio::task::spawn_blocking(move || control.compare(node, &seen)).await {
            tracing::error!(%node, %error, "history cannot be compared with the last frame that a node has seen");
        }
    }
}

#[tonic::async_trait]
impl Dispatcher for DispatchApi {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<SessionMessage, Status>> + Send>>;
    type HeartbeatsStream = Pin<Box<dyn Stream<Item = Result<HeartbeatReply, Status>> + Send>>;

    async fn session(&self, request: Request<RegisterRequest>) -> Result<Response<Self::SessionStream>, Status> {
        let (caller, host) = Self::caller(&request)?;
        let end = request.extensions().get::<Connected>().map(Connected::end).unwrap_or_default();
        let RegisterRequest { description, advertise_addr, seen } = request.into_inner();
        enforce_budget(self.charge_session(caller.node, &description)).await?;
        self.context.core.serves_sessions().map_err(status)?;
        let session = SessionId::from_bits(rand::random());
        let registration = caller.registration(session, description, advertise_addr.unwrap_or(host));
        self.context.submit(registration).await.map_err(status)?;
        // Not before registering: the node may have had a session with a manager that is ahead of this one.
        if let Some(seen) = seen {
            self.compare(caller.node, seen).await;
        }
        // Boxed, because a channel allocates space for 32 messages at once, and there are many agents.
        let (messages, receiver) = mpsc::channel::<Box<Outgoing>>(QUEUED_MAX);
        let changes = self.context.core.follow(caller.node);
        let stream = AssignmentStream::new(caller.node, session);
        let (context, memory, next) = (self.context.clone(), self.memory.clone(), NextShares::default());
        let _open = OpenSession::count(self.context.core.measures());
        let orders = self.context.streams.serve(caller.node, session);
        tokio::spawn(Delivery { context, memory, end, changes, stream, orders, messages, _open }.run());
        let shares = next.clone();
        let messages = ReceiverStream::new(receiver).map(move |outgoing| {
            let Outgoing { message, share } = *outgoing;
            shares.leave(share);
            message
        });
        let mut response: Response<Self::SessionStream> = Response::new(Box::pin(messages));
        response.extensions_mut().insert(next);
        Ok(response)
    }

    async fn heartbeats(
        &self,
        request: Request<Streaming<HeartbeatRequest>>,
    ) -> Result<Response<Self::HeartbeatsStream>, Status> {
        let (Caller { node, .. }, _) = Self::caller(&request)?;
        // Opening a stream costs as much as a heartbeat, so there is nothing to gain by opening many.
        enforce_budget(self.context.budgets.heartbeat(node, Instant::now())).await?;
        let (context, stopping_token) = (self.context.clone(), self.context.stopping.clone());
        let replies = request.into_inner().then(move |beat| {
            let context = context.clone();
            async move { heartbeat(&context, node, beat?).await }
        });
        // An agent that has closed its end reads none of this.
        let last = stream::once(async { Err(status(stopping())) });
        Ok(Response::new(Box::pin(replies.take_until(stopping_token.cancelled_owned()).chain(last))))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportReply>, Status> {
        let (caller, _) = Self::caller(&request)?;
        enforce_budget(self.charge_report(caller.node, request.get_ref())).await?;
        let report = request.into_inner();
        let sequence = report.sequence;
        self.context.submit(caller.report(report)).await.map_err(status)?;
        Ok(Response::new(ReportReply { sequence }))
    }

    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        let (caller, _) = Self::caller(&request)?;
        enforce_budget(self.context.budgets.call(caller.node, Instant::now())).await?;
        let leave = caller.leave(request.into_inner().reason).map_err(status)?;
        self.context.submit(leave).await.map_err(status)?;
        Ok(Response::new(LeaveReply { left: !self.context.state().cluster.nodes.contains(caller.node) }))
    }

    type TaskStreamStream = ReceiverStream<Result<ToTask, Status>>;

    async fn task_stream(
        &self,
        request: Request<Streaming<FromTask>>,
    ) -> Result<Response<Self::TaskStreamStream>, Status> {
        let (Caller { node, .. }, _) = Self::caller(&request)?;
        enforce_budget(self.context.budgets.call(node, Instant::now())).await?;
        let mut inbound = request.into_inner();
        let first = tokio::time::timeout(NOTE_TIMEOUT, inbound.message()).await;
        let id = first.map_err(|_| Status::deadline_exceeded("the first message names the stream"))??;
        let id = id.and_then(|first| first.opens);
        let messages = id.and_then(|id| self.context.streams.begin(node, id, inbound));
        let messages = messages.ok_or_else(|| status(streams::not_ordered()))?;
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// Processes a heartbeat. The node may have been removed, or its session replaced, since the last one.
async fn heartbeat(context: &Context, node: NodeId, beat: HeartbeatRequest) -> Result<HeartbeatReply, Status> {
    let HeartbeatRequest { session, trust, uses } = beat;
    enforce_budget(context.budgets.heartbeat(node, Instant::now())).await?;
    context.core.heartbeat(node, session, uses).map_err(status)?;
    let control = context.control();
    let period = jittered(control.heartbeat(node, session).map_err(status)?);
    if let Some(moved) = trust.and_then(|trust| control.moved_to_root(node, trust)) {
        note_moved(context.clone(), moved);
    }
    let role = control.state.cluster.nodes.get(node).map(|node| node.spec.role().into());
    let (trust, measure) = (Some(control.trust()), control.measured(node));
    Ok(HeartbeatReply { period_ns: u64::try_from(period.as_nanos()).unwrap_or(u64::MAX), role, trust, measure })
}

/// Records that a node has moved to another root, without blocking its heartbeats: these are answered even if the cluster
/// cannot commit.
fn note_moved(context: Context, moved: CoreRequest) {
    tokio::spawn(async move {
        // If it is not recorded, the next heartbeat repeats it.
        match tokio::time::timeout(NOTE_TIMEOUT, context.submit(moved)).await {
            Ok(Ok(_)) => {}
            Ok(Err(refused)) => {
                tracing::debug!(why = refused.sentence, "that a node has moved to a root was not noted")
            }
            Err(_) => tracing::debug!("that a node has moved to a root was not recorded in time"),
        }
    });
}

/// A message to an agent, with its share of the memory for messages.
struct Outgoing {
    message: Result<SessionMessage, Status>,
    share: Option<Share>,
}

impl Outgoing {
    fn last(why: Status) -> Box<Self> {
        Box::new(Self { message: Err(why), share: None })
    }
}

/// Sends an agent the messages of its session until the agent disconnects or the session ends.
struct Delivery {
    context: Context,
    memory: SendMemory,
    /// Closes the connection of the session.
    end: CancellationToken,
    /// Notified of each change that concerns the node.
    changes: Arc<Notify>,
    stream: AssignmentStream,
    /// Streams requested from the node.
    orders: Orders,
    messages: mpsc::Sender<Box<Outgoing>>,
    _open: OpenSession,
}

/// Counts a session as open until it is dropped.
struct OpenSession(Arc<Measures>);

impl OpenSession {
    fn count(measures: Arc<Measures>) -> Self {
        measures.sessions.fetch_add(1, Ordering::Relaxed);
        Self(measures)
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a delivery ended.
#[derive(Debug)]
enum DeliveryEnd {
    /// The session has ended for this manager.
    SessionEnded,
    /// The core has ended, or this manager is stopping.
    Stopping,
    /// The agent's end of the stream is closed.
    AgentGone,
}

impl Delivery {
    async fn run(mut self) {
        let (node, session) = (self.stream.node(), self.stream.session());
        tracing::debug!(%node, %session, "a session was opened");
        let stopping_token = self.context.stopping.clone();
        let ended = tokio::select! {
            ended = self.deliver() => ended,
            () = stopping_token.cancelled() => DeliveryEnd::Stopping,
        };
        tracing::debug!(%node, %session, ?ended, "a session has ended");
        match ended {
            DeliveryEnd::SessionEnded => {}
            // An agent that no longer reads detects it itself.
            DeliveryEnd::Stopping => drop(self.messages.try_send(Outgoing::last(status(stopping())))),
            DeliveryEnd::AgentGone => self.disconnect(node, session).await,
        }
    }

    async fn deliver(&mut self) -> DeliveryEnd {
        loop {
            if self.context.core.is_over() {
                return DeliveryEnd::Stopping;
            }
            let next_look = Instant::now() + BATCH_PERIOD;
            let messages = match self.stream.next(&self.context.control()) {
                Ok(messages) => messages,
                Err(over) => {
                    // The agent itself may have ended it.
                    let _ = self.messages.send(Outgoing::last(status(over.rejection()))).await;
                    tracing::debug!(node = %self.stream.node(), ?over, "a session ended");
                    return DeliveryEnd::SessionEnded;
                }
            };
            for message in messages {
                let share = tokio::select! {
                    share = self.memory.share(&message, self.stream.node(), &self.end) => share,
                    () = self.messages.closed() => return DeliveryEnd::AgentGone,
                };
                if self.messages.send(Box::new(Outgoing { message: Ok(message), share })).await.is_err() {
                    return DeliveryEnd::AgentGone;
                }
            }
            tokio::select! {
                () = changed(&self.changes, next_look) => {}
                Some(order) = self.orders.orders.recv() => {
                    let message = Ok(SessionMessage { message: Some(Message::Order(order)) });
                    if self.messages.send(Box::new(Outgoing { message, share: None })).await.is_err() {
                        return DeliveryEnd::AgentGone;
                    }
                }
                () = self.messages.closed() => return DeliveryEnd::AgentGone,
            }
        }
    }

    /// Reports to the core that the connection was lost. If that fails, the missing heartbeats have the same effect.
    async fn disconnect(&self, node: NodeId, session: SessionId) {
        let request = self.context.control().disconnection(node, session);
        if let Err(rejection) = self.context.submit(request).await {
            tracing::debug!(%node, why = rejection.sentence, "a lost session was not recorded");
        }
    }
}

/// Waits for a change, and then until the next update is due, to batch further changes.
async fn changed(changes: &Notify, next_look: Instant) {
    changes.notified().await;
    tokio::time::sleep_until(next_look).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_are_looked_at_together_once_in_a_period() {
        let changes = Notify::new();
        let began = Instant::now();
        for look in 1..=3 {
            let next_look = Instant::now() + BATCH_PERIOD;
            for _ in 0..50 {
                changes.notify_one();
            }
            changed(&changes, next_look).await;
            assert_eq!(began.elapsed(), BATCH_PERIOD * look, "fifty changes are one look");
        }
        let next_look = Instant::now() + BATCH_PERIOD;
        let late = async {
            tokio::time::sleep(BATCH_PERIOD * 7).await;
            changes.notify_one();
        };
        tokio::join!(changed(&changes, next_look), late);
        assert_eq!(began.elapsed(), BATCH_PERIOD * 10, "one that comes later is looked at at once");
    }
}
