//! Streams of tasks at a manager: it requests one in a node's session, and the node's agent opens it with a call to the
//! manager.
//!
//! Another manager may hold the session and forwards the order; the agent calls the manager that requested the stream. So no
//! stream passes through two managers.

mod inbound;
pub(super) mod interact;
pub(super) mod logs;
pub(super) mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use events::{NodeId, SessionId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tonic::Streaming;
use wire::v1::stream_order::Order;
use wire::v1::{FromTask, NodeOrder, StreamOrder};

use super::Context;

use inbound::{NodeMessage, NodeStream, ToAgent};

/// Orders queued until a session's agent has read the previous ones.
const ORDERS_MAX: usize = 32;
/// Deadline for the agent's call.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The sessions that accept orders, and the expected streams.
#[derive(Default)]
pub struct TaskStreams {
    sessions: Mutex<BTreeMap<NodeId, (SessionId, mpsc::Sender<StreamOrder>)>>,
    expected_streams: Mutex<BTreeMap<u64, ExpectedStream>>,
}

/// An ordered stream.
struct ExpectedStream {
    node: NodeId,
    credit: u64,
    opened: oneshot::Sender<NodeStream>,
}

/// Registers a session for orders until it is dropped.
pub(super) struct Session {
    streams: Arc<TaskStreams>,
    node: NodeId,
    session: SessionId,
    /// The orders for the session.
    pub(super) orders: mpsc::Receiver<StreamOrder>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut sessions = lock(&self.streams.sessions);
        // A newer session of the node may have replaced it.
        if sessions.get(&self.node).is_some_and(|(session, _)| *session == self.session) {
            sessions.remove(&self.node);
        }
    }
}

/// Registers an expected stream until it is dropped.
struct Expected {
    streams: Arc<TaskStreams>,
    id: u64,
    opened: oneshot::Receiver<NodeStream>,
}

impl Drop for Expected {
    fn drop(&mut self) {
        lock(&self.streams.expected_streams).remove(&self.id);
    }
}

impl TaskStreams {
    /// Registers a session of a node for orders.
    pub(super) fn serve(self: &Arc<Self>, node: NodeId, session: SessionId) -> Session {
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        lock(&self.sessions).insert(node, (session, sender));
        Session { streams: Arc::clone(self), node, session, orders }
    }

    /// Passes orders to sessions held here. Returns the nodes whose orders were accepted.
    pub(super) fn hand_over(&self, orders: Vec<NodeOrder>) -> Vec<NodeId> {
        let sessions = lock(&self.sessions);
        let given = orders.into_iter().filter_map(|NodeOrder { node, order }| {
            let (_, session) = sessions.get(&node)?;
            session.try_send(order).is_ok().then_some(node)
        });
        given.collect()
    }

    /// Connects a stream that was ordered from this node. Returns the messages for it; `None` if it is not expected.
    pub(super) fn begin(&self, node: NodeId, id: u64, inbound: Streaming<FromTask>) -> Option<mpsc::Receiver<ToAgent>> {
        let mut awaited = lock(&self.expected_streams);
        awaited.get(&id).filter(|awaited| awaited.node == node)?;
        let ExpectedStream { opened, credit, .. } = awaited.remove(&id)?;
        drop(awaited);
        let (stream, messages) = NodeStream::begin(inbound, credit);
        opened.send(stream).ok().map(|()| messages)
    }

    fn expect(self: &Arc<Self>, node: NodeId, credit: u64) -> Expected {
        let (id, (sender, opened)) = (rand::random(), oneshot::channel());
        lock(&self.expected_streams).insert(id, ExpectedStream { node, credit, opened: sender });
        Expected { streams: Arc::clone(self), id, opened }
    }
}

/// The result of an order.
pub(super) type Opened = (NodeId, Result<NodeStream, String>);

/// Orders a stream from each node. Returns the results as they arrive.
pub(super) fn order(context: &Context, orders: Vec<(NodeId, Order)>, credit: u64) -> Vec<BoxFuture<'static, Opened>> {
    let (mut expected, mut elsewhere) = (Vec::new(), Vec::new());
    for (node, order) in orders {
        let awaited = context.streams.expect(node, credit);
        let order = StreamOrder { id: awaited.id, manager: None, credit, order: Some(order) };
        let is_here = !context.streams.hand_over(vec![NodeOrder { node, order: order.clone() }]).is_empty();
        if !is_here {
            let manager = Some(context.manager.remote_addr.clone());
            elsewhere.push(NodeOrder { node, order: StreamOrder { manager, ..order } });
        }
        expected.push((node, is_here, awaited));
    }
    // Each other manager is asked once for all its nodes.
    let peering = context.peering.clone();
    let asked = async move { if elsewhere.is_empty() { BTreeSet::new() } else { peering.hand_over(elsewhere).await } };
    let asked = asked.boxed().shared();
    let opened = expected.into_iter().map(|(node, is_here, awaited)| {
        let asked = asked.clone();
        let opened = async move {
            let taken = is_here || asked.await.contains(&node);
            (node, if taken { awaited.opened().await } else { Err("no manager holds its session".to_owned()) })
        };
        opened.boxed()
    });
    opened.collect()
}

impl Expected {
    async fn opened(mut self) -> Result<NodeStream, String> {
        match tokio::time::timeout(OPEN_TIMEOUT, &mut self.opened).await {
            Ok(Ok(stream)) => Ok(stream),
            // Nothing else drops the sender.
            Ok(Err(_)) => Err("its stream was interrupted".to_owned()),
            Err(_) => Err(format!("it did not call back within {} s", OPEN_TIMEOUT.as_secs())),
        }
    }
}

/// The refusal of an unexpected stream.
pub(super) fn not_ordered() -> Rejection {
    let sentence = "this stream was not ordered here, or its client has disconnected";
    Rejection::new(RejectionKind::NotFound, "stream", sentence, "managers order streams in a node's session")
}

/// No code panics while it holds the lock, so a poisoned one still guards valid data.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
