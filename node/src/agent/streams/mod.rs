//! Streams that managers request: this node calls the requesting manager, and serves the stream until either side ends it.
//!
//! They use separate connections, one to each requesting manager, so their data never delays a heartbeat.

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
use wire::v1::to_task::Message as ToTaskMessage;
use wire::v1::{FromTask, StreamOrder, ToTask};

use super::worker::Worker;
use super::{Connect, with_causes};
use crate::streams::{Credit, INPUTS_MAX};

/// Maximum concurrent streams. Each holds its credit and a message or two for each of its tasks.
const STREAMS_MAX: usize = 64;
/// Deadline for opening a requested stream; the manager waits no longer either.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum orders and inputs of a stream queued on this node; beyond that the manager has to wait.
const ORDERS_MAX: usize = INPUTS_MAX as usize;

/// The streams of this node.
pub(super) struct Streams {
    connector: Arc<dyn Connect>,
    worker: Arc<Worker>,
    /// The connections in use.
    links: Mutex<BTreeMap<String, Weak<Link>>>,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// A connection to a manager, kept as long as streams use it.
type Link = OnceCell<Channel>;

/// The sending side of a stream to the manager that requested it.
struct Outbound {
    messages: mpsc::Sender<FromTask>,
    credit: Arc<Credit>,
}

/// The manager cancelled the stream.
struct Cancelled;

impl Outbound {
    /// Sends a message when there is credit for it.
    async fn send(&self, message: FromTask) -> Result<(), Cancelled> {
        tokio::select! {
            () = self.credit.spend(&message) => {}
            // The manager, which grants credit, is disconnected.
            () = self.messages.closed() => return Err(Cancelled),
        }
        self.messages.send(message).await.map_err(|_| Cancelled)
    }
}

impl Streams {
    pub(super) fn new(connector: Arc<dyn Connect>, worker: Arc<Worker>, stopping: CancellationToken) -> Arc<Self> {
        let (links, places) = (Mutex::default(), Arc::new(Semaphore::new(STREAMS_MAX)));
        Arc::new(Self { connector, worker, links, places, stopping })
    }

    /// Serves a stream that a manager requested in the session with `manager`. If it cannot be served, the manager notices by
    /// timeout.
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
            return Err("this version does not support this request".to_owned());
        };
        let link = self.link(addr);
        let (messages, receiver) = mpsc::channel(1);
        let opening = async {
            let channel = link.get_or_try_init(|| self.connector.connect(addr)).await;
            let mut client = DispatcherClient::new(channel.map_err(|error| error.to_string())?.clone());
            // Queued before the call, so that it is the first message.
            let first = FromTask { opens: Some(order.id), message: None };
            messages.send(first).await.map_err(|_| "it ended before it began".to_owned())?;
            let opened = client.task_stream(ReceiverStream::new(receiver)).await;
            opened.map(tonic::Response::into_inner).map_err(|status| with_causes(&status))
        };
        let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await;
        let inbound = opened.map_err(|_| "the manager does not answer".to_owned())??;
        let credit = Arc::new(Credit::new(order.credit));
        let (requests, more) = mpsc::channel(ORDERS_MAX);
        // Credit is received while lines of the tasks wait for it.
        let receiving = tokio::spawn(listen(inbound, Arc::clone(&credit), requests));
        let outbound = Outbound { messages, credit };
        match wanted {
            Order::Logs(logs) => logs::serve(&self.worker, logs, more, &outbound).await,
            Order::Usage(usage) => usage::serve(&self.worker, usage, more, &outbound).await,
            Order::Interact(order) => interact::serve(&self.worker, order, more, &outbound).await,
        }
        // Queued messages would be lost if this end closed first.
        drop(outbound);
        receiving.await.map_err(|error| error.to_string())
    }

    fn link(&self, addr: &str) -> Arc<Link> {
        // No code panics while it holds the lock, so a poisoned one still guards valid data.
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

/// Receives the manager's messages until it cancels the stream or has sent everything; then the sender of its orders is
/// dropped.
async fn listen(mut inbound: Streaming<ToTask>, credit: Arc<Credit>, requests: mpsc::Sender<ToTaskMessage>) {
    while let Ok(Some(received)) = inbound.message().await {
        match received.message {
            Some(ToTaskMessage::Credit(bytes)) => credit.earn(bytes),
            Some(more) => {
                // Fails if no receiver is left because all orders were already given.
                drop(requests.send(more).await);
            }
            None => tracing::debug!("unknown message of a manager on a stream: this version does not support it"),
        }
    }
}
