//! One link: this manager calls another one for as long as that is a member, and sends it the queued messages.

use std::sync::Arc;

use events::Duration;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use wire::v1::managers_client::ManagersClient;
use wire::v1::{PeerBatch, PeerHello, Refusal, RefusalKind};

use crate::agent::backoff::Backoff;
use crate::manager::driver::Handle;
use crate::security::{Connector, Credentials};

use super::outbox::Outbox;
use super::{Other, Own, to_wire};

/// Timeout for establishing a connection; an attempt that was started during a network failure is given up soon after.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval and timeout of keep-alive pings on a connection: an election takes one to two seconds, and a hanging manager must not
/// delay it.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum pause before another attempt: a returning manager must hear from its leader within an election timeout.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A link that was up for this long counts as stable.
const STABLE_AFTER: Duration = Duration::from_secs(2);
/// Pause after a refusal, which only a membership change can end.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);

/// The link to one other manager.
pub(super) struct Link {
    pub(super) to: u64,
    pub(super) other: Other,
    pub(super) own: Own,
    pub(super) outbox: Arc<Outbox>,
    pub(super) core: Handle,
    pub(super) credentials: Arc<Credentials>,
    /// Cancelled when another manager reports that this node is no longer part of the cluster.
    pub(super) removed: CancellationToken,
    /// Cancelled when another manager reports that this one's log no longer belongs to a member.
    pub(super) former: CancellationToken,
}

/// Why a link broke, or could not be established.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Connect(String),
    #[error("{}", .0.message())]
    Refused(Status),
    #[error("the connection broke: {}", .0.message())]
    Lost(Status),
    #[error("it ended the connection")]
    Closed,
}

impl Link {
    /// Reconnects without end.
    pub(super) async fn run(self) {
        let (mut backoff, mut logged) = (Backoff::default(), None);
        loop {
            let started = Instant::now();
            let broken = self.deliver(&mut logged).await;
            self.outbox.discard();
            self.core.unreachable(self.to);
            if started.elapsed() >= STABLE_AFTER {
                backoff.reset();
            }
            let mut pause = backoff.pause(&mut rand::rng()).min(PAUSE_MAX);
            if let Broken::Refused(status) = &broken {
                pause = REFUSED_PAUSE;
                self.handle_refusal(status);
            }
            let why = broken.to_string();
            if logged.as_ref() != Some(&why) {
                let (node, addr) = (self.other.node, &self.other.addr);
                tracing::warn!(%node, addr, error = why, "another manager cannot be reached");
                logged = Some(why);
            }
            // The peer may have been down, and wait for an election in which this manager must vote.
            if self.outbox.wait_for_call(pause).await {
                backoff.reset();
            }
        }
    }

    /// Sends queued messages to the other manager, until that fails.
    async fn deliver(&self, logged: &mut Option<String>) -> Broken {
        let mut client = match client(&self.other, Arc::clone(&self.credentials)).await {
            Ok(client) => client,
            Err(why) => return Broken::Connect(why),
        };
        let (node, addr) = (self.other.node, &self.other.addr);
        match logged.take() {
            Some(_) => tracing::info!(%node, addr, "another manager is reached again"),
            None => tracing::debug!(%node, addr, "another manager is reached"),
        }
        match client.deliver(self.batches()).await {
            Ok(_) => Broken::Closed,
            Err(status) if Refusal::from_status(&status).is_some() => Broken::Refused(status),
            Err(status) => Broken::Lost(status),
        }
    }

    /// First the caller's identity, then queued messages as they come.
    fn batches(&self) -> impl Stream<Item = PeerBatch> + Send + 'static {
        let hello = PeerHello { from: self.own.raft_id, to: self.to, addr: self.own.addr.clone() };
        let hello = PeerBatch { hello: Some(hello), messages: Vec::new() };
        let waiting = stream::unfold(Arc::clone(&self.outbox), |outbox| async move {
            let messages = outbox.take().await.into_iter().map(to_wire).collect();
            Some((PeerBatch { hello: None, messages }, outbox))
        });
        stream::once(async { hello }).chain(waiting)
    }

    fn handle_refusal(&self, status: &Status) {
        match Refusal::from_status(status).map(|refusal| refusal.kind()) {
            Some(RefusalKind::Removed) => self.removed.cancel(),
            Some(RefusalKind::NotMember) => self.former.cancel(),
            Some(_) | None => {}
        }
    }
}

/// A connection to another manager, which must be that node.
pub(super) async fn client(other: &Other, credentials: Arc<Credentials>) -> Result<ManagersClient<Channel>, String> {
    dial(&other.addr, Connector::member(credentials).to_node(other.node)).await
}

/// A connection to whichever manager is at an address.
///
/// # Errors
/// When none can be reached there, with the reason.
pub async fn client_at(addr: &str, credentials: Arc<Credentials>) -> Result<ManagersClient<Channel>, String> {
    dial(addr, Connector::member(credentials)).await
}

async fn dial(addr: &str, connector: Connector) -> Result<ManagersClient<Channel>, String> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).map_err(|error| error.to_string())?;
    let endpoint = endpoint.http2_keep_alive_interval(KEEP_ALIVE_INTERVAL).keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    let endpoint = endpoint.keep_alive_while_idle(true);
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => Ok(ManagersClient::new(channel)),
        Ok(Err(error)) => Err(crate::agent::with_causes(&error)),
        Err(_) => Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())),
    }
}
