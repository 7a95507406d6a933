//! The streams that managers order: this node calls the manager that wants one, and serves it until either side ends.
//!
//! They have connections of their own, one to each manager that wants any: what they carry never waits before a heartbeat.

mod interact;
mod logs;
mod usage;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::stream_order::Order;
use wire::v1::to_task::Message as Said;
use wire::v1::{FromTask, StreamOrder, ToTask};

use super::worker::Worker;
use super::{Connect, with_causes};
use crate::streams::{Credit, INPUTS_MAX};

/// Streams at a time. Each holds its credit and a message or two of each of its tasks.
const STREAMS_MAX: usize = 64;
/// How long it may take until a manager has a stream that it ordered; it does not wait longer either.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// Orders and inputs on a stream that wait for this node: then the manager waits.
const ORDERS_MAX: usize = INPUTS_MAX as usize;

/// The streams of this node.
pub(super) struct Streams {
    connector: Arc<dyn Connect>,
    worker: Arc<Worker>,
    /// Connections that streams use.
    links: Mutex<BTreeMap<String, Weak<Link>>>,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// A connection to a manager, for as long as streams use it.
type Link = OnceCell<Channel>;

/// The way to the manager that wants a stream.
struct Outbound {
    messages: mpsc::Sender<FromTask>,
    credit: Arc<Credit>,
}

/// The manager does not want the stream any more.
struct Unwanted;

impl Outbound {
    /// Sends a message, when there is credit for it.
    async fn send(&self, message: FromTask) -> Result<(), Unwanted> {
        tokio::select! {
            () = self.credit.spend(&message) => {}
            // Who gives credit is gone.
            () = self.messages.closed() => return Err(Unwanted),
        }
        self.messages.send(message).await.map_err(|_| Unwanted)
    }
}

impl Streams {
    pub(super) fn new(connector: Arc<dyn Connect>, worker: Arc<Worker>, stopping: CancellationToken) -> Arc<Self> {
        let (links, places) = (Mutex::default(), Arc::new(Semaphore::new(STREAMS_MAX)));
        Arc::new(Self { connector, worker, links, places, stopping })
    }

    /// Serves what a manager ordered in the session with `manager`. What cannot be served, that one learns by its absence.
    pub(super) fn begin(self: &Arc<Self>, order: StreamOrder, manager: &str) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let why = format!("it serves {STREAMS_MAX} already");
            return tracing::warn!(error = why, "a manager wants another stream of this node, which cannot be served");
        };
        let (streams, addr) = (Arc::clone(self), order.manager.clone().unwrap_or_else(|| manager.to_owned()));
        tokio::spawn(async move {
            let served = streams.stopping.run_until_cancelled(streams.serve(order, &addr)).await;
            if let Some(Err(why)) = served {
                tracing::warn!(manager = addr, error = why, "a stream that a manager ordered cannot be served");
            }
            drop(place);
        });
    }

    async fn serve(&self, order: StreamOrder, addr: &str) -> Result<(), String> {
        let Some(wanted) = order.order else {
            return Err("this version does not know what is wanted".to_owned());
        };
        let link = self.link(addr);
        let (messages, receiver) = mpsc::channel(1);
        let opening = async {
            let channel = link.get_or_try_init(|| self.connector.connect(addr)).await;
            let mut client = DispatcherClient::new(channel.map_err(|error| error.to_string())?.clone());
            // Boxed in the channel, it is there before the call.
            let first = FromTask { opens: Some(order.id), message: None };
            messages.send(first).await.map_err(|_| "it ended before it began".to_owned())?;
            let opened = client.task_stream(ReceiverStream::new(receiver)).await;
            opened.map(tonic::Response::into_inner).map_err(|status| with_causes(&status))
        };
        let opened = tokio::time::timeout(OPEN_PATIENCE, opening).await;
        let inbound = opened.map_err(|_| "the manager does not answer".to_owned())??;
        let credit = Arc::new(Credit::new(order.credit));
        let (said_more, more) = mpsc::channel(ORDERS_MAX);
        // Credit comes in while the tasks' lines wait for it.
        let told = tokio::spawn(listen(inbound, Arc::clone(&credit), said_more));
        let outbound = Outbound { messages, credit };
        match wanted {
            Order::Logs(logs) => logs::serve(&self.worker, logs, more, &outbound).await,
            Order::Usage(usage) => usage::serve(&self.worker, usage, more, &outbound).await,
            Order::Interact(order) => interact::serve(&self.worker, order, more, &outbound).await,
        }
        // What is on its way would be lost if this end went first.
        drop(outbound);
        told.await.map_err(|error| error.to_string())
    }

    fn link(&self, addr: &str) -> Arc<Link> {
        // Nobody panics while holding it, so a poisoned one still holds whole data.
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|_, link| link.strong_count() > 0);
        if let Some(link) = links.get(addr).and_then(Weak::upgrade) {
            return link;
        }
        let link = Arc::default();
        links.insert(addr.to_owned(), Arc::downgrade(&link));
        link
    }
}

/// Takes what the manager says, until it wants nothing more or has all: then the sender of what it said is gone.
async fn listen(mut inbound: Streaming<ToTask>, credit: Arc<Credit>, said_more: mpsc::Sender<Said>) {
    while let Ok(Some(said)) = inbound.message().await {
        match said.message {
            Some(Said::Credit(bytes)) => credit.earn(bytes),
            Some(more) => {
                // Nobody takes it where everything was told already.
                drop(said_more.send(more).await);
            }
            None => tracing::debug!("a manager says something on a stream that this version does not know"),
        }
    }
}
