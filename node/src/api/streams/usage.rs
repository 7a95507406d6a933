//! Resource usage of tasks, for one client, from all nodes that run any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use events::{NodeId, SessionId, TaskId};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::MissedTickBehavior;
use tokio_stream::StreamMap;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wire::v1::stream_order::Order;
use wire::v1::{TaskUsage, UsageOrder, UsagePart, UsageRequest};

use super::{Context, NodeMessage, Opened, order};
use crate::api::status;
use crate::control::logs::{LogNode, TaskSelection};
use crate::streams::Piece;

/// How often tasks are read, and how often a follower is updated about new tasks.
const PERIOD: Duration = Duration::from_secs(1);
/// Readings of each task for a client that does not follow: two are needed for a rate.
const ROUNDS: u32 = 2;
/// Bytes of readings in flight from one node: several readings of all its tasks.
const NODE_BYTES: u64 = 128 << 10;
/// Messages queued for a client's connection.
const WAITING_MAX: usize = 2;

/// The usage of the selected tasks.
pub(in crate::api) fn stream(
    context: &Context,
    readers: &Arc<Semaphore>,
    request: UsageRequest,
) -> Result<impl Stream<Item = Result<UsagePart, Status>> + use<>, Status> {
    let selection = context.control().select_usage(&request).map_err(status)?;
    let admitted = Arc::clone(readers).try_acquire_owned().map_err(|_| status(too_many()))?;
    let (parts, receiver) = mpsc::channel(WAITING_MAX);
    let reader = Reader {
        context: context.clone(),
        selection,
        follow: request.follow,
        parts,
        known: BTreeSet::new(),
        nodes: BTreeMap::new(),
        opening: FuturesUnordered::new(),
        streams: StreamMap::new(),
    };
    tokio::spawn(reader.run(admitted));
    Ok(ReceiverStream::new(receiver))
}

fn too_many() -> Rejection {
    let sentence = "too many clients read logs or the use of tasks of this manager already";
    Rejection::new(RejectionKind::Exhausted, "usage", sentence, "end one of them, or ask another manager")
}

/// The client has disconnected.
struct Disconnected;

struct Reader {
    context: Context,
    selection: TaskSelection,
    follow: bool,
    parts: mpsc::Sender<Result<UsagePart, Status>>,
    /// Tasks already reported to the client.
    known: BTreeSet<TaskId>,
    nodes: BTreeMap<NodeId, Asked>,
    opening: FuturesUnordered<BoxFuture<'static, Opened>>,
    streams: StreamMap<NodeId, BoxStream<'static, Piece<NodeMessage>>>,
}

/// The request to a node.
struct Asked {
    node: LogNode,
    /// The session that got the request; `None` after its stream broke.
    session: Option<SessionId>,
    /// Whether the client was notified that the node is unreachable.
    missing: bool,
}

impl Reader {
    async fn run(mut self, admitted: OwnedSemaphorePermit) {
        let stopping = self.context.stopping.clone();
        // If this manager stops, a client that follows notices by the end of the stream.
        let _ = stopping.run_until_cancelled(self.read()).await;
        drop(admitted);
    }

    async fn read(&mut self) -> Result<(), Disconnected> {
        let warnings = self.context.control().not_running(&self.selection);
        self.tell(UsagePart { warnings, ..UsagePart::default() }).await?;
        let mut looks = tokio::time::interval(PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks.tick().await;
        self.look().await?;
        loop {
            if !self.follow && self.opening.is_empty() && self.streams.is_empty() {
                return Ok(());
            }
            tokio::select! {
                _ = looks.tick(), if self.follow => self.look().await?,
                Some((node, opened)) = self.opening.next() => match opened {
                    Ok(stream) => drop(self.streams.insert(node, stream.pieces(node))),
                    Err(why) => self.lost(node, &why).await?,
                },
                Some((node, piece)) = self.streams.next() => self.take(node, piece).await?,
                () = self.parts.closed() => return Err(Disconnected),
            }
        }
    }

    /// Sends a new request to each node whose selected tasks have changed.
    async fn look(&mut self) -> Result<(), Disconnected> {
        let nodes = self.context.control().usage_nodes(&self.selection);
        self.nodes.retain(|id, _| nodes.contains_key(id));
        let (mut orders, mut lost) = (Vec::new(), Vec::new());
        for (id, node) in nodes {
            match (&node.session, self.nodes.get(&id)) {
                (Ok(session), Some(asked)) if asked.session == Some(*session) && asked.node.sources == node.sources => {
                }
                (Ok(session), asked) => {
                    let missing = asked.is_some_and(|asked| asked.missing);
                    orders.push((id, self.order(&node)));
                    self.nodes.insert(id, Asked { session: Some(*session), node, missing });
                }
                (Err(why), asked) => {
                    lost.push((id, why.clone()));
                    let missing = asked.is_some_and(|asked| asked.missing);
                    self.nodes.insert(id, Asked { session: None, node, missing });
                }
            }
        }
        for (id, _) in &orders {
            // A new stream replaces it.
            self.streams.remove(id);
        }
        self.opening.extend(order(&self.context, orders, NODE_BYTES));
        for (id, why) in lost {
            self.lost(id, &why).await?;
        }
        Ok(())
    }

    fn order(&self, node: &LogNode) -> Order {
        let period_ns = u64::try_from(PERIOD.as_nanos()).unwrap_or(u64::MAX);
        let rounds = (!self.follow).then_some(ROUNDS);
        Order::Usage(UsageOrder { tasks: node.tasks().collect(), period_ns, rounds })
    }

    /// Warns that a node is unreachable, once until it is back.
    async fn lost(&mut self, node: NodeId, why: &str) -> Result<(), Disconnected> {
        self.streams.remove(&node);
        let Some(asked) = self.nodes.get_mut(&node) else { return Ok(()) };
        asked.session = None;
        if std::mem::replace(&mut asked.missing, true) {
            return Ok(());
        }
        let warning = LogNode::missing(&asked.node.name, why, "readings", &asked.node.sources);
        self.tell(UsagePart { warnings: vec![warning], ..UsagePart::default() }).await
    }

    async fn take(&mut self, node: NodeId, piece: Piece<NodeMessage>) -> Result<(), Disconnected> {
        match piece {
            Piece::Control(NodeMessage::Used(readings)) => self.readings(node, readings).await,
            Piece::Control(NodeMessage::Failed(failure)) => {
                let source = self
                    .nodes
                    .get(&node)
                    .and_then(|asked| asked.node.sources.iter().find(|source| source.task == failure.task));
                let Some(source) = source else { return Ok(()) };
                let warning = format!("the use of task {} cannot be read: {}", source.name, failure.sentence);
                self.tell(UsagePart { warnings: vec![warning], ..UsagePart::default() }).await
            }
            // The stream was ended by this reader, or was replaced.
            Piece::Control(NodeMessage::Ended(_, None)) => {
                self.streams.remove(&node);
                Ok(())
            }
            Piece::Control(NodeMessage::Ended(_, Some(why))) => {
                self.lost(node, &format!("its stream was interrupted: {why}")).await
            }
            // Not requested on this stream.
            Piece::Lines(_) | Piece::Control(NodeMessage::Details(_)) => Ok(()),
        }
    }

    /// Forwards readings of the tasks that the node was asked for; others are not trusted.
    async fn readings(&mut self, node: NodeId, readings: Vec<TaskUsage>) -> Result<(), Disconnected> {
        let Some(asked) = self.nodes.get_mut(&node) else { return Ok(()) };
        asked.missing = false;
        let mut part = UsagePart::default();
        for reading in readings {
            let Some(source) = asked.node.sources.iter().find(|source| source.task == reading.task) else { continue };
            if self.known.insert(reading.task) {
                part.sources.push(source.clone());
            }
            part.readings.push(reading);
        }
        self.tell(part).await
    }

    async fn tell(&mut self, part: UsagePart) -> Result<(), Disconnected> {
        if part == UsagePart::default() {
            return Ok(());
        }
        self.parts.send(Ok(part)).await.map_err(|_| Disconnected)
    }
}
