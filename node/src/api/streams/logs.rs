//! Log lines of tasks, for one client, from all nodes that run any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use events::{NodeId, SessionId, TaskId, Timestamp};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{FutureExt, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wire::v1::stream_order::Order;
use wire::v1::to_task::Message as ToMessage;
use wire::v1::{LogSource, LogTask, LogsOrder, LogsPart, LogsRequest, ToTask};

use super::{Context, NodeMessage, Opened, ToAgent, order};
use crate::api::status;
use crate::clock;
use crate::control::logs::{LogNode, TaskSelection, incomplete};
use crate::streams::{Gather, Line, MESSAGE_BYTES, Piece, batches, encoded};

/// Maximum concurrent log readers. With the limit of each, this bounds the total memory to about 512 MiB, if none of them
/// reads.
pub(in crate::api) const READERS_MAX: usize = 64;
/// Bytes in flight to one reader from all nodes, in the transport and here.
const READER_BYTES: u64 = 8 << 20;
/// Of one node: enough for full speed over a slow network, and at least one message if there are many nodes.
const NODE_BYTES_MAX: u64 = 1 << 20;
const NODE_BYTES_MIN: u64 = 16 << 10;
/// Messages queued for a reader's connection.
const WAITING_MAX: usize = 2;
/// Minimum time between two updates of a follower about new tasks: there can be thousands of commits per second.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// How long after `until` late lines are still accepted.
const LATE: Duration = Duration::from_secs(2);

/// The lines that a request selects.
pub(in crate::api) fn stream(
    context: &Context,
    readers: &Arc<Semaphore>,
    request: LogsRequest,
) -> Result<impl Stream<Item = Result<LogsPart, Status>> + use<>, Status> {
    let selection = context.control().select_logs(&request).map_err(status)?;
    let admitted = Arc::clone(readers).try_acquire_owned().map_err(|_| status(too_many()))?;
    let (parts, receiver) = mpsc::channel(WAITING_MAX);
    let reader = Reader {
        context: context.clone(),
        gather: Gather::new(request.follow),
        selection,
        request,
        parts,
        part: LogsPart::default(),
        bytes: 0,
        first: None,
        sources: BTreeMap::new(),
        nodes: BTreeMap::new(),
        opening: FuturesUnordered::new(),
        last: BTreeMap::new(),
    };
    tokio::spawn(reader.run(admitted));
    Ok(ReceiverStream::new(receiver))
}

fn too_many() -> Rejection {
    let sentence = format!("{READERS_MAX} clients read logs of this manager already");
    Rejection::new(RejectionKind::Exhausted, "logs", sentence, "end one of them, or ask another manager")
}

/// The client has disconnected, or this manager is stopping.
struct Disconnected;

struct Reader {
    context: Context,
    request: LogsRequest,
    selection: TaskSelection,
    parts: mpsc::Sender<Result<LogsPart, Status>>,
    /// The next message, and its size.
    part: LogsPart,
    bytes: usize,
    /// The tasks at the start: `tail` applies only to them, all lines of later tasks are sent.
    first: Option<BTreeSet<TaskId>>,
    /// Tasks whose lines are expected, and whether they were reported to the client.
    sources: BTreeMap<TaskId, (LogSource, bool)>,
    nodes: BTreeMap<NodeId, KnownNode>,
    opening: FuturesUnordered<BoxFuture<'static, Opened>>,
    gather: Gather<NodeMessage>,
    /// The time of the last line of a task: where to resume if its stream breaks.
    last: BTreeMap<TaskId, Timestamp>,
}

/// The state of a node.
#[derive(Default)]
struct KnownNode {
    name: String,
    /// The session that got the last request.
    asked: Option<SessionId>,
    /// Whether the client was notified that the node is unreachable.
    missing: bool,
    /// The requested tasks.
    tasks: BTreeSet<TaskId>,
    /// Sends further requests.
    more: Option<mpsc::Sender<ToAgent>>,
}

impl Reader {
    async fn run(mut self, admitted: OwnedSemaphorePermit) {
        let stopping = self.context.stopping.clone();
        let forwarded = async { if self.request.follow { self.follow().await } else { self.once().await } };
        match stopping.run_until_cancelled(forwarded).await {
            // If this manager stops, a client that follows notices by the end of the stream.
            Some(Ok(()) | Err(Disconnected)) | None => drop(admitted),
        }
    }

    /// Sends the existing lines.
    async fn once(&mut self) -> Result<(), Disconnected> {
        self.part.warnings = self.context.control().without_logs(&self.selection);
        self.look();
        // To sort by time, all nodes must have answered first.
        while let Some(opened) = self.opening.next().await {
            self.opened(opened);
        }
        while let Some(piece) = self.gather.next().await {
            self.take(piece).await?;
        }
        self.flush().await
    }

    /// Sends existing and new lines, until the client disconnects or `until` has passed.
    async fn follow(&mut self) -> Result<(), Disconnected> {
        let mut states = self.context.core.states();
        let end = self.end();
        let mut next_look = Instant::now();
        loop {
            if next_look <= Instant::now() {
                states.borrow_and_update();
                self.look();
                next_look = Instant::now() + LOOK_PERIOD;
            }
            self.flush().await?;
            let change = async {
                let changed = states.changed().await;
                tokio::time::sleep_until(next_look).await;
                changed
            };
            tokio::select! {
                Some(opened) = self.opening.next() => self.opened(opened),
                Some(piece) = self.gather.next() => self.take(piece).await?,
                changed = change => changed.map_err(|_| Disconnected)?,
                () = self.parts.closed() => return Err(Disconnected),
                () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => return Ok(()),
            }
        }
    }

    /// When the request ends.
    fn end(&self) -> Option<Instant> {
        self.request.until.map(|until| Instant::now() + until.since(clock::now()) + LATE)
    }

    /// Updates the requests to nodes according to the selected tasks.
    fn look(&mut self) {
        let nodes = self.context.control().log_nodes(&self.selection);
        self.first.get_or_insert_with(|| nodes.values().flat_map(LogNode::tasks).collect());
        let mut orders = Vec::new();
        for (id, node) in nodes {
            let known = self.nodes.entry(id).or_default();
            known.name.clone_from(&node.name);
            match node.session {
                Err(why) if known.more.is_none() => known.miss(&mut self.part.warnings, &node.sources, &why),
                // An open stream reports itself when it breaks.
                Err(_) => {}
                Ok(session) => {
                    let new: Vec<LogSource> =
                        node.sources.into_iter().filter(|source| !known.tasks.contains(&source.task)).collect();
                    let again = known.more.is_none() && known.asked != Some(session);
                    if !new.is_empty() && (again || known.more.is_some()) {
                        orders.push((id, session, new));
                    }
                }
            }
        }
        self.ask(orders);
    }

    fn ask(&mut self, orders: Vec<(NodeId, SessionId, Vec<LogSource>)>) {
        let mut fresh = Vec::new();
        for (id, session, sources) in orders {
            let order = self.order(&sources);
            let Some(known) = self.nodes.get_mut(&id) else { continue };
            known.tasks.extend(sources.iter().map(|source| source.task));
            let tasks = sources.into_iter().map(|source| (source.task, (source, false)));
            // A task that is requested again was already reported to the client.
            for (task, source) in tasks {
                self.sources.entry(task).or_insert(source);
            }
            match &known.more {
                Some(more) => {
                    let message = ToTask { message: Some(ToMessage::Logs(order)) };
                    if more.try_send(Ok(message)).is_err() {
                        tracing::debug!(node = %id, "a node does not take orders for further logs");
                    }
                }
                None => {
                    known.asked = Some(session);
                    fresh.push((id, Order::Logs(order)));
                }
            }
        }
        let count = self.nodes.len().max(1) as u64;
        let credit = (READER_BYTES / count).clamp(NODE_BYTES_MIN, NODE_BYTES_MAX);
        self.opening.extend(order(&self.context, fresh, credit));
    }

    fn order(&self, sources: &[LogSource]) -> LogsOrder {
        let LogsRequest { follow, tail, since, until, details, .. } = &self.request;
        let is_first = |task: &TaskId| self.first.as_ref().is_none_or(|first| first.contains(task));
        let wanted = |LogSource { task, .. }: &LogSource| match self.last.get(task) {
            Some(last) => LogTask { task: *task, tail: None, since: Some(*last + Duration::from_nanos(1)) },
            None => LogTask { task: *task, tail: tail.filter(|_| is_first(task)), since: *since },
        };
        let tasks = sources.iter().map(wanted).collect();
        LogsOrder { tasks, follow: *follow, until: *until, details: details.unwrap_or_default() }
    }

    fn opened(&mut self, (node, opened): Opened) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        match opened {
            Ok(stream) => {
                known.missing = false;
                known.more = Some(stream.sender());
                self.gather.push(stream.pieces(node));
            }
            Err(why) => self.lost(node, why),
        }
    }

    /// A node sends no more lines, unless it is asked again.
    fn lost(&mut self, node: NodeId, why: String) {
        let Some(known) = self.nodes.get_mut(&node) else { return };
        known.more = None;
        let tasks = std::mem::take(&mut known.tasks);
        let sources = tasks.iter().filter_map(|task| self.sources.get(task)).map(|(source, _)| source.clone());
        let sources: Vec<LogSource> = sources.collect();
        known.miss(&mut self.part.warnings, &sources, &why);
    }

    async fn take(&mut self, piece: Piece<NodeMessage>) -> Result<(), Disconnected> {
        match piece {
            Piece::Lines(lines) => self.tell(lines).await?,
            Piece::Control(NodeMessage::Details(details)) => {
                if let Some((source, _)) = self.sources.get_mut(&details.task) {
                    source.details = Some(details.details);
                }
            }
            Piece::Control(NodeMessage::Failed(failure)) => {
                if let Some((source, _)) = self.sources.get(&failure.task) {
                    self.part.warnings.push(incomplete(source, &failure.sentence));
                }
            }
            // Not requested on this stream.
            Piece::Control(NodeMessage::Used(_)) => {}
            Piece::Control(NodeMessage::Ended(node, None)) => {
                if let Some(known) = self.nodes.get_mut(&node) {
                    known.more = None;
                }
            }
            Piece::Control(NodeMessage::Ended(node, Some(why))) => {
                self.lost(node, format!("its stream was interrupted: {why}"))
            }
        }
        Ok(())
    }

    /// Adds lines, batched with those that are already available as long as they fit in a message.
    async fn tell(&mut self, lines: Vec<Line>) -> Result<(), Disconnected> {
        let mut next = Some(lines);
        while let Some(lines) = next.take() {
            for line in &lines {
                self.last.insert(line.task, line.line.at);
                if let Some((source, known)) = self.sources.get_mut(&line.task)
                    && !std::mem::replace(known, true)
                {
                    self.part.sources.push(source.clone());
                }
            }
            self.bytes += lines.iter().map(encoded).sum::<usize>();
            self.part.batches.extend(batches(lines));
            if self.bytes >= MESSAGE_BYTES {
                return self.flush().await;
            }
            match self.gather.next().now_or_never().flatten() {
                Some(Piece::Lines(lines)) => next = Some(lines),
                Some(control @ Piece::Control(_)) => {
                    self.flush().await?;
                    return Box::pin(self.take(control)).await;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Sends the message, once the client has read the previous ones.
    async fn flush(&mut self) -> Result<(), Disconnected> {
        if self.part == LogsPart::default() {
            return Ok(());
        }
        self.bytes = 0;
        self.parts.send(Ok(std::mem::take(&mut self.part))).await.map_err(|_| Disconnected)
    }
}

impl KnownNode {
    /// Warns that lines are missing, once until the node is back.
    fn miss(&mut self, warnings: &mut Vec<String>, sources: &[LogSource], why: &str) {
        if !std::mem::replace(&mut self.missing, true) {
            warnings.push(LogNode::missing(&self.name, why, "logs", sources));
        }
    }
}
