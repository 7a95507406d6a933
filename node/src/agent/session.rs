//! The agent's connection to the managers, over gRPC: one session after another, with whichever manager responds.
//!
//! A [`SessionMachine`] decides what to send and when. This module sends its requests and awaits the responses concurrently;
//! any failure ends the session without affecting tasks.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use events::{NodeDescription, SessionId, Timestamp};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::session_message::Message;
use wire::v1::{
    Head, HeartbeatReply, HeartbeatRequest, Refusal, RefusalKind, RegisterRequest, ReportRequest, SessionMessage,
    TaskUsage, TaskUse, Welcome,
};

use super::executor::ExecutorError;
use super::managers::Managers;
use super::meter::Meter;
use super::outage::Outage;
use super::protocol::{Action, DEADLINE, Retry, SessionFault, SessionMachine};
use super::streams::Streams;
use super::task::AgentContext;
use super::worker::Worker;
use super::{Config, backoff};
use crate::metrics::Measures;

/// How often the node describes itself again.
const DESCRIPTION_PERIOD: Duration = Duration::from_secs(20);
/// Maximum duration of one iteration of the loop, so that a watchdog can see that it is not stuck.
const ITERATION_MAX: Duration = Duration::from_secs(5);
/// Largest message an agent accepts: a complete set with the specs of several thousand tasks.
const MESSAGE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Logged when the manager does not have this node. Its tasks keep running, as SwarmKit's do: no one decided to stop them, and
/// the manager may still be restored from a newer backup that contains this node and its tasks.
const NOT_MEMBER: &str = "the manager does not know this node: it was restored from a backup made before this node joined, or \
    removed the node because it did not register within an hour; its tasks keep running, but the cluster does not manage them";
const NOT_MEMBER_HINT: &str = "restore the manager from a newer backup; or stop swarmd, delete the certificates directory in its \
    state directory, and start it with --join-addr and --join-token: it joins as another node and removes its old tasks";

/// Why connecting to a manager failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It is currently unreachable.
    #[error("{}", with_causes(.0.as_ref()))]
    Failed(Box<dyn Error + Send + Sync>),
    /// No manager would accept this node's credentials.
    #[error("{why}")]
    Unfit {
        /// Why not.
        why: String,
        /// What the operator can do about it.
        hint: &'static str,
    },
}

/// Connects to managers.
#[tonic::async_trait]
pub trait Connect: Send + Sync + 'static {
    /// A connection to the manager at this address, ready for calls.
    async fn connect(&self, addr: &str) -> Result<Channel, ConnectError>;

    /// The hash of the roots that this node trusts, if it has any.
    fn trust(&self) -> Option<u64> {
        None
    }

    /// Compares it with the hash of the roots that a manager trusts.
    fn compare_trust(&self, _announced: u64) {}
}

/// Why a session ended, or could not be opened.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("cannot describe this node: {0}")]
    Describe(ExecutorError),
    #[error("{0}")]
    Connect(ConnectError),
    #[error("{call} was refused: {}", .status.message())]
    Refused { call: &'static str, status: Status },
    #[error("the manager closed it")]
    Closed,
    #[error("the manager belongs to another cluster, {0}")]
    OtherCluster(events::ClusterId),
    #[error(transparent)]
    SessionFault(#[from] SessionFault),
    #[error("this node's description changed")]
    DescriptionChanged,
}

impl SessionError {
    /// The kind of a manager's refusal. Only a manager of the cluster can refuse: the connection authenticated it.
    fn refusal(&self) -> Option<RefusalKind> {
        let Self::Refused { status, .. } = self else { return None };
        Refusal::from_status(status).map(|refusal| refusal.kind())
    }

    /// When to retry.
    fn retry(&self) -> Retry {
        let needs_intervention = matches!(self.refusal(), Some(RefusalKind::Removed | RefusalKind::NotMember))
            || matches!(self, Self::Connect(ConnectError::Unfit { .. }));
        if needs_intervention { Retry::AfterIntervention } else { Retry::Soon }
    }
}

/// An error and its causes, on one line. Transport errors often wrap another error and repeat its text, or add nothing.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let (mut said, mut cause): (Vec<String>, _) = (Vec::new(), Some(error));
    while let Some(error) = cause {
        let words = error.to_string();
        if words != "transport error" && !said.last().is_some_and(|last| last.contains(&words)) {
            said.push(words);
        }
        cause = error.source();
    }
    if said.is_empty() { error.to_string() } else { said.join(": ") }
}

/// Awaits the response to a call, up to the deadline.
async fn within_deadline<T>(
    call: &'static str,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, SessionError> {
    let answer = tokio::time::timeout(DEADLINE, answer).await.map_err(|_| SessionFault::Late(call))?;
    answer.map_err(|status| SessionError::Refused { call, status })
}

/// The components that a session uses.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) context: &'a AgentContext,
    pub(super) worker: &'a Arc<Worker>,
    pub(super) streams: &'a Arc<Streams>,
}

/// Keeps a session open; never returns.
///
/// `seen` is the last frame of history that this node had seen before it restarted, `remembered` are the managers in its store.
pub(super) async fn keep_session(
    config: &Config,
    connector: &dyn Connect,
    parts: Parts<'_>,
    seen: Option<Head>,
    remembered: Vec<String>,
) -> Infallible {
    let Parts { context, worker, streams } = parts;
    let node = Node { config, connector, context };
    let (managers, epoch) = (Managers::new(&config.managers, remembered), Instant::now());
    let machine = SessionMachine::new(Timestamp::from_unix_ns(0));
    SessionDriver {
        node,
        worker,
        streams,
        machine,
        managers,
        seen,
        meter: Meter::default(),
        epoch,
        manager: String::new(),
        link: None,
        outage: Outage::default(),
        calls: FuturesUnordered::new(),
    }
    .run()
    .await
}

/// What calls need of this node.
#[derive(Clone, Copy)]
struct Node<'a> {
    config: &'a Config,
    connector: &'a dyn Connect,
    context: &'a AgentContext,
}

/// Marks a session as open until it is dropped.
struct OpenSession(Arc<Measures>);

impl OpenSession {
    fn count(measures: &Arc<Measures>) -> Self {
        measures.session.store(true, Ordering::Relaxed);
        Self(Arc::clone(measures))
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.0.session.store(false, Ordering::Relaxed);
    }
}

/// Performs the machine's requests, and reports the results to it.
struct SessionDriver<'a> {
    node: Node<'a>,
    worker: &'a Arc<Worker>,
    streams: &'a Arc<Streams>,
    machine: SessionMachine,
    managers: Managers,
    /// The last frame of history that a manager announced.
    seen: Option<Head>,
    meter: Meter,
    /// The machine's time counts from here, because the system clock may be changed.
    epoch: Instant,
    /// The manager that is being contacted.
    manager: String,
    link: Option<Link>,
    /// Which reasons for having no session were logged.
    outage: Outage,
    calls: FuturesUnordered<BoxFuture<'a, Answer>>,
}

/// The connection of an open session.
struct Link {
    client: DispatcherClient<Channel>,
    stream: Streaming<SessionMessage>,
    heartbeats: Heartbeats,
    /// The description with which the node registered.
    description: NodeDescription,
    /// Whether a usage reading is in progress.
    is_measuring: bool,
    _open: OpenSession,
}

/// The heartbeats of an open session: each is acknowledged before the next is sent.
struct Heartbeats {
    requests: mpsc::Sender<HeartbeatRequest>,
    replies: Streaming<HeartbeatReply>,
    /// The session and the number of the unacknowledged one.
    unanswered: Option<(SessionId, u64)>,
}

impl Heartbeats {
    async fn open(client: &mut DispatcherClient<Channel>) -> Result<Self, SessionError> {
        let (requests, receiver) = mpsc::channel(1);
        let opened = within_deadline("a heartbeat", client.heartbeats(ReceiverStream::new(receiver))).await?;
        Ok(Self { requests, replies: opened.into_inner(), unanswered: None })
    }

    /// Sends one, unless the previous one is still queued. The machine watches the deadline of the response.
    fn send(&mut self, session: SessionId, call: u64, trust: Option<u64>, uses: Vec<TaskUse>) {
        let beat = HeartbeatRequest { session, trust, uses };
        self.unanswered = self.requests.try_send(beat).is_ok().then_some((session, call));
    }
}

/// The result of a call.
enum Answer {
    Opened { attempt: u64, result: Result<Box<(Welcome, Link)>, SessionError> },
    Heartbeat(Result<Option<HeartbeatReply>, Status>),
    Reported { session: SessionId, reports: usize, result: Result<u64, SessionError> },
    Described(Result<NodeDescription, ExecutorError>),
    Measured(Vec<TaskUsage>),
    Message(Result<Option<SessionMessage>, Status>),
}

impl SessionDriver<'_> {
    async fn run(mut self) -> Infallible {
        loop {
            let (machine, now) = (&mut self.machine, self.epoch);
            let now = time_since(now);
            for action in self.node.context.outbox.with(|reports| machine.poll(reports, now, share())) {
                self.begin(action);
            }
            self.node.config.measures.progress.note();
            let pause = self.machine.next_wake().since(now).min(ITERATION_MAX);
            let answer = tokio::select! {
                Some(answer) = self.calls.next() => answer,
                answer = next_answer(&mut self.link) => answer,
                () = self.node.context.outbox.changed() => continue,
                () = tokio::time::sleep(pause) => continue,
            };
            if let Err(ended) = self.take(answer) {
                self.end(&ended);
            }
        }
    }

    fn begin(&mut self, action: Action) {
        let client = self.link.as_ref().map(|link| link.client.clone());
        match (action, client) {
            (Action::Open { attempt }, _) => {
                self.manager = self.managers.pick();
                let opening = self.node.open(self.manager.clone(), self.seen.clone());
                self.calls
                    .push(Box::pin(async move { Answer::Opened { attempt, result: opening.await.map(Box::new) } }));
            }
            (Action::Heartbeat { session, call }, Some(_)) => {
                let uses = self.meter.uses(time_since(self.epoch));
                if let Some(link) = &mut self.link {
                    link.heartbeats.send(session, call, self.node.connector.trust(), uses);
                }
            }
            (Action::Report(report), Some(client)) => {
                let (session, reports) = (report.session, report.reports.len());
                let sent = send_report(client, report);
                self.calls.push(Box::pin(async move { Answer::Reported { session, reports, result: sent.await } }));
            }
            (Action::Close { why, .. }, _) => self.close(&why.into()),
            // There is a client whenever the machine has a session.
            (Action::Heartbeat { .. } | Action::Report(_), None) => {}
        }
    }

    fn take(&mut self, answer: Answer) -> Result<(), SessionError> {
        let now = time_since(self.epoch);
        match answer {
            Answer::Opened { attempt, result } => {
                let (welcome, link) = *result?;
                let period = Duration::from_nanos(welcome.heartbeat_period_ns);
                if self.machine.welcomed(attempt, welcome.session, period, now) {
                    tracing::info!(manager = self.manager, session = %welcome.session, "session opened");
                    self.outage.end();
                    self.learn(welcome.managers);
                    self.link = Some(link);
                    self.describe_later();
                }
            }
            Answer::Heartbeat(reply) => {
                let reply = reply.map_err(|status| SessionError::Refused { call: "a heartbeat", status })?;
                let reply = reply.ok_or(SessionError::Closed)?;
                if reply.role.is_some() {
                    self.node.config.cluster_info.set_role(reply.role());
                }
                if let Some(announced) = reply.trust {
                    self.node.connector.compare_trust(announced);
                }
                self.meter.order(&reply.measure);
                self.measure(now);
                let period = Duration::from_nanos(reply.period_ns);
                let asked = self.link.as_mut().and_then(|link| link.heartbeats.unanswered.take());
                let (session, call) = asked.ok_or(SessionFault::Unexpected("a response without a heartbeat"))?;
                self.machine.heartbeat_acknowledged(session, call, period, now);
            }
            Answer::Reported { session, reports, result: Ok(sequence) } => {
                tracing::debug!(sequence, reports, "reports were taken");
                let machine = &mut self.machine;
                self.node.context.outbox.with(|reports| machine.acknowledged(session, sequence, reports))?;
            }
            Answer::Reported { session, reports, result: Err(error) } => {
                tracing::debug!(reports, "reports were not accepted; sending them again: {error}");
                self.machine.report_rejected(session, now, share());
            }
            Answer::Measured(readings) => {
                self.link.iter_mut().for_each(|link| link.is_measuring = false);
                for TaskUsage { task, cpu_ns, memory_bytes, .. } in readings {
                    self.meter.note(task, now, cpu_ns, memory_bytes);
                }
            }
            Answer::Described(described) => {
                self.compare(described)?;
                self.describe_later();
            }
            Answer::Message(message) => {
                let message = message.map_err(|status| SessionError::Refused { call: "the session", status })?;
                self.take_message(message.ok_or(SessionError::Closed)?)?;
            }
        }
        Ok(())
    }

    fn take_message(&mut self, message: SessionMessage) -> Result<(), SessionError> {
        match message.message {
            Some(Message::Assignments(set)) => {
                let session = self.machine.session().ok_or(SessionError::Closed)?;
                if !self.machine.assigned(session, &set)? {
                    return Ok(());
                }
                self.note_head(set.head.as_ref());
                let complete = set.complete;
                let (tasks, removed) = (set.tasks.len(), set.removed.len());
                tracing::debug!(complete, tasks, removed, "assignments taken");
                self.worker.assign(set).map_err(|_| SessionFault::Unexpected("a task without its spec"))?;
                if complete {
                    self.node.context.outbox.open();
                }
            }
            Some(Message::Welcome(welcome)) => self.learn(welcome.managers),
            Some(Message::Order(order)) => self.streams.begin(order, &self.manager),
            None => return Err(SessionFault::Unexpected("a message that this version does not know").into()),
        }
        Ok(())
    }

    /// Saves the last frame of history, also for the next start of this node. It comes with assignments, so it is written no
    /// more often than they are.
    fn note_head(&mut self, head: Option<&Head>) {
        let Some(head) = head.filter(|head| self.seen.as_ref() != Some(head)) else { return };
        if let Err(error) = self.node.context.store.save_head(head) {
            tracing::warn!(%error, "the last known frame of history cannot be saved: after a restart this node does not notice that a manager was restored from a backup");
        }
        self.seen = Some(head.clone());
    }

    /// Saves the managers' addresses, also for the next start of this node.
    fn learn(&mut self, managers: Vec<String>) {
        self.node.config.cluster_info.set_managers(managers.clone());
        if !self.managers.learn(managers) {
            return;
        }
        tracing::debug!(managers = ?self.managers.named(), "the managers of the cluster");
        if let Err(error) = self.node.context.store.save_managers(self.managers.named()) {
            tracing::warn!(%error, "the managers' addresses cannot be saved: after a restart this node asks those that it was started with first");
        }
    }

    /// Reads the usage of the tasks that the managers requested, unless the last reading is still in progress.
    fn measure(&mut self, now: Timestamp) {
        let (tasks, Some(link)) = (self.meter.due(now), &mut self.link) else { return };
        if tasks.is_empty() || std::mem::replace(&mut link.is_measuring, true) {
            return;
        }
        let worker = self.worker;
        self.calls.push(Box::pin(async move { Answer::Measured(worker.readings(tasks).await) }));
    }

    fn describe_later(&self) {
        let node = self.node;
        self.calls.push(Box::pin(async move {
            tokio::time::sleep(DESCRIPTION_PERIOD).await;
            Answer::Described(node.describe().await)
        }));
    }

    /// Ends the session when this node no longer matches the description it registered with. An unreachable engine is no
    /// reason: its tasks report that themselves.
    fn compare(&self, described: Result<NodeDescription, ExecutorError>) -> Result<(), SessionError> {
        let registered = self.link.as_ref().map(|link| &link.description);
        match described {
            Ok(description) if registered == Some(&description) => {}
            Ok(_) => return Err(SessionError::DescriptionChanged),
            Err(error) => tracing::warn!(%error, "cannot describe this node"),
        }
        Ok(())
    }

    fn end(&mut self, ended: &SessionError) {
        let (machine, now) = (&mut self.machine, time_since(self.epoch));
        self.node.context.outbox.with(|reports| machine.ended(ended.retry(), reports, now, share()));
        self.close(ended);
    }

    /// Drops the connection after the machine has ended it.
    fn close(&mut self, ended: &SessionError) {
        self.link = None;
        self.calls.clear();
        if ended.refusal() == Some(RefusalKind::Removed) {
            self.worker.withdraw_all();
            if !self.node.config.cluster_info.is_leaving() {
                let hint = "to join again, stop swarmd, run `swarmd leave` and start swarmd with a join token";
                tracing::error!(hint, "this node was removed from the cluster: its tasks are stopped and removed");
            }
        } else if ended.refusal() == Some(RefusalKind::NotMember) {
            tracing::error!(hint = NOT_MEMBER_HINT, "{NOT_MEMBER}");
        } else if let SessionError::Connect(ConnectError::Unfit { why, hint }) = ended {
            tracing::error!(error = why, hint, "no manager accepts this node; its tasks keep running");
        } else {
            let pause = self.machine.next_wake().since(time_since(self.epoch));
            let (manager, pause_ms) = (&self.manager, backoff::ms(pause));
            if self.outage.should_log(&ended.to_string(), Instant::now()) {
                tracing::warn!(manager, pause_ms, error = %ended, "no session; retrying until a manager responds");
            } else {
                tracing::debug!(manager, pause_ms, error = %ended, "no session");
            }
        }
    }
}

impl Node<'_> {
    async fn open(self, manager: String, seen: Option<Head>) -> Result<(Welcome, Link), SessionError> {
        let description = self.describe().await.map_err(SessionError::Describe)?;
        let connecting = tokio::time::timeout(DEADLINE, self.connector.connect(&manager));
        let channel = connecting.await.map_err(|_| SessionFault::Late("connecting"))?.map_err(SessionError::Connect)?;
        let mut client = DispatcherClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let advertise_addr = self.config.advertise_addr.clone();
        let request = RegisterRequest { description: description.clone(), advertise_addr, seen };
        let registering = async {
            let mut stream = client.session(request).await.map(Response::into_inner)?;
            stream.message().await.map(|first| (first, stream))
        };
        let (first, stream) = within_deadline("registration", registering).await?;
        match first.ok_or(SessionError::Closed)?.message {
            Some(Message::Welcome(welcome)) if welcome.cluster == self.config.cluster => {
                let heartbeats = Heartbeats::open(&mut client).await?;
                let _open = OpenSession::count(&self.config.measures);
                Ok((welcome, Link { client, stream, heartbeats, description, is_measuring: false, _open }))
            }
            Some(Message::Welcome(welcome)) => Err(SessionError::OtherCluster(welcome.cluster)),
            Some(Message::Assignments(_)) => Err(SessionFault::Unexpected("assignments before a welcome").into()),
            Some(Message::Order(_)) => Err(SessionFault::Unexpected("an order before a welcome").into()),
            None => Err(SessionFault::Unexpected("a message that this version does not know").into()),
        }
    }

    /// The machine as the executor describes it, with what the operator configured for the node.
    async fn describe(self) -> Result<NodeDescription, ExecutorError> {
        let late = |_| ExecutorError::Temporary("the engine does not answer".to_owned());
        let described = tokio::time::timeout(DEADLINE, self.context.executor.describe()).await;
        let mut description = described.map_err(late)??;
        description.hostname.clone_from(&self.config.hostname);
        description.version = env!("CARGO_PKG_VERSION").to_owned();
        let generic = &mut description.resources.get_or_insert_default().generic;
        generic.extend_from_slice(&self.config.generic_resources);
        Ok(description)
    }
}

async fn send_report(mut client: DispatcherClient<Channel>, report: ReportRequest) -> Result<u64, SessionError> {
    Ok(within_deadline("report", client.report(report)).await?.get_ref().sequence)
}

/// The manager's next message in the open session; pending if there is none.
async fn next_answer(link: &mut Option<Link>) -> Answer {
    let Some(link) = link else { return std::future::pending().await };
    tokio::select! {
        message = link.stream.message() => Answer::Message(message),
        reply = link.heartbeats.replies.message() => Answer::Heartbeat(reply),
    }
}

fn time_since(epoch: Instant) -> Timestamp {
    Timestamp::from_unix_ns(0) + epoch.elapsed()
}

/// The share of a delay that is kept, so that thousands of agents that lose the same manager do not reconnect at the same
/// instant.
fn share() -> f64 {
    rand::rng().random_range(0.0..1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error with a cause.
    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Caused(&'static str, #[source] Box<dyn Error + Send + Sync>);

    #[test]
    fn causes_are_said_once() {
        let refused = || Caused("cannot connect to m:4242: refused", "cannot connect to m:4242: refused".into());
        let table: [(Box<dyn Error>, &str); 3] = [
            (Box::new(Caused("transport error", Box::new(refused()))), "cannot connect to m:4242: refused"),
            (Box::new(Caused("handshake failed", "connection reset".into())), "handshake failed: connection reset"),
            ("transport error".into(), "transport error"),
        ];
        for (error, said) in table {
            assert_eq!(with_causes(&*error), said);
        }
    }
}
