//! The APIs of a manager: for operators on its unix socket, for nodes over mutual TLS. A thin layer that authorises and
//! rate-limits callers; [`Control`] produces the responses.

mod audit;
mod certificates;
mod command_stream;
mod control;
mod dispatch;
mod events;
mod images;
mod live;
mod managers;
mod record_queue;
mod refusals;
mod sending;
mod signing;
mod streams;

mod budgets;

pub use audit::compare_histories;
pub use budgets::Budgets;
pub use certificates::CertificateApi;
pub use control::ControlApi;
pub use dispatch::DispatchApi;
pub use images::Images;
pub use managers::ManagerApi;
pub use refusals::record_refusals;
pub use sending::keep_shares;
pub use streams::TaskStreams;

use std::sync::Arc;

use ::events::{ClusterId, Duration, NodeId, OperatorId, OperatorRole};
use commands::{Actor, Rejection};
use tokio_util::sync::CancellationToken;
use wire::Freshness;
use wire::v1::{CommandReply, CommandRequest};

use crate::clock;
use crate::control::command::Received;
use crate::control::{Control, ManagerInfo, command, views};
use crate::log::LogStore;
use crate::manager::driver::{Handle, Published};
use crate::manager::replica::Request;
use crate::peering::Peering;
use crate::security::access::AccessLayer;
use crate::security::{AccessError, Allowed, ExternalClient, Gate, Membership, Peer, Refusals, failures};

/// Shared by all services of a manager.
#[derive(Clone)]
pub struct Context {
    /// The core.
    pub core: Handle,
    /// The log, for reading history.
    pub store: Arc<dyn LogStore>,
    /// The identity of this manager.
    pub manager: Arc<ManagerInfo>,
    /// Calls external certificate authorities.
    pub external: Arc<ExternalClient>,
    /// Rate limits of nodes and join tokens.
    pub budgets: Arc<Budgets>,
    /// Calls refused for lack of a certificate or role.
    pub refusals: Arc<Refusals>,
    /// Shared by the event streams.
    pub event_streams: Arc<events::Streams>,
    /// The links to the other managers.
    pub peering: Peering,
    /// Queries registries of images.
    pub images: Images,
    /// Streams of tasks.
    pub streams: Arc<TaskStreams>,
    /// Cancelled when this manager stops: sessions end then.
    pub stopping: CancellationToken,
}

/// The membership of a node in this manager's cluster. Only the leading manager can conclude that the cluster has no such node.
pub(crate) fn membership(state: &Published, node: NodeId) -> Membership {
    let cluster = &state.cluster;
    if cluster.banned.contains(node) {
        Membership::Removed
    } else if cluster.nodes.contains(node) {
        Membership::Member
    } else if state.leads {
        Membership::Unknown
    } else {
        Membership::NotYetKnown
    }
}

impl Context {
    fn state(&self) -> Arc<Published> {
        self.core.state()
    }

    /// The manager's current state.
    fn control(&self) -> Control {
        let (manager, store) = (Arc::clone(&self.manager), Arc::clone(&self.store));
        Control { manager, state: self.state(), raft: self.core.raft(), store, now: clock::now(), past: None }
    }

    /// Waits until the local state is as fresh as a reader requests.
    ///
    /// # Errors
    /// When this times out.
    async fn catch_up(&self, freshness: Freshness) -> Result<(), Rejection> {
        if let Some(index) = freshness.min_index {
            self.core.applied(index).await?;
        }
        if freshness.stale { Ok(()) } else { self.core.read_barrier().await }
    }

    /// Waits until objects that a command names can be looked up here. A leading manager has everything it acknowledged; if it
    /// no longer leads, the command fails anyway.
    async fn catch_up_with_leader(&self) -> Result<(), Rejection> {
        if self.state().leads { Ok(()) } else { self.core.read_barrier().await }
    }

    /// Submits a command to the core, and waits for its outcome.
    async fn submit(&self, request: Request) -> Result<CommandReply, Rejection> {
        self.begin(request).await
    }

    /// Submits a command to the core, and returns a future of its outcome. Commands are judged in the order of the calls.
    fn begin(&self, request: Request) -> impl Future<Output = Result<CommandReply, Rejection>> + Send + use<> {
        let outcome = self.core.submit(request);
        async move { command::reply(outcome.await) }
    }

    /// The layer that enforces the access table, with the current state.
    pub fn access(&self) -> AccessLayer<impl Fn(&Peer, &'static str, Allowed) -> Result<Peer, AccessError> + use<>> {
        let context = self.clone();
        AccessLayer::new(move |peer: &Peer, rpc, allowed| {
            context.gate().judge(peer, allowed).inspect_err(|refusal| {
                let has_role = !matches!(refusal, AccessError::NotOperator(_));
                if refusal.is_denial() {
                    context.refusals.note(&context.actor(peer), has_role, rpc, clock::now());
                }
            })
        })
    }

    /// Judges a command request. A command that its caller may not execute is refused and recorded.
    fn receive(&self, actor: &Actor, request: CommandRequest) -> Result<Received, Rejection> {
        let received = self.control().receive(actor.clone(), request)?;
        let Received::New(asked) = &received else { return Ok(received) };
        for command in asked.all().map(|request| &request.command) {
            actor.may(command).inspect_err(|refusal| {
                failures::note(&actor.record(None).subject, refusal);
                self.refusals.note(actor, true, command.name(), clock::now());
            })?;
        }
        Ok(received)
    }

    /// The gate with the current state.
    fn gate(&self) -> Gate<impl Fn(NodeId) -> Membership + use<>, impl Fn(OperatorId) -> Option<OperatorRole> + use<>> {
        let (state, also) = (self.state(), self.state());
        let role = move |operator| also.cluster.operators.get(operator).map(|operator| operator.role);
        // A joining manager has no state yet, and knows its cluster from its own certificate.
        let cluster = Some(state.cluster.id()).filter(|id| *id != ClusterId::default());
        let cluster = cluster.unwrap_or(self.manager.cluster);
        Gate::new(cluster, move |node| membership(&state, node), role)
    }

    /// The actor of a connection's peer.
    fn actor(&self, peer: &Peer) -> Actor {
        match peer {
            Peer::Operator { user } => Actor::Operator(user.clone()),
            Peer::CertifiedOperator { operator, .. } => {
                let (state, id) = (self.state(), *operator);
                let known = state.cluster.operators.get(id).map(|known| (known.name.clone(), known.role));
                // The operator was revoked after the call was admitted: it has no permissions left.
                let (name, role) = known.unwrap_or_else(|| (id.to_string(), OperatorRole::Viewer));
                Actor::CertifiedOperator { name, role }
            }
            Peer::Node { subject, .. } => Actor::Node { id: subject.node, role: subject.role },
            Peer::Anonymous { address } => Actor::Joiner(address.ip().to_string()),
        }
    }
}

/// The heartbeat period, reduced by up to a fifth, so that nodes that started together do not send heartbeats together. Never
/// increased, because a node is declared down after a number of missed periods.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.8..=1.0))
}

/// Delay of the response to a caller that exceeded its budget. With the limits on its connections and calls, this bounds how
/// often it retries.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// Refuses what exceeds a budget, after a delay.
async fn enforce_budget(verdict: Result<(), Rejection>) -> Result<(), tonic::Status> {
    match verdict {
        Ok(()) => Ok(()),
        Err(rejection) => {
            tracing::debug!(why = rejection.sentence, "a budget is spent");
            tokio::time::sleep(REFUSAL_PAUSE).await;
            Err(status(rejection))
        }
    }
}

fn status(rejection: Rejection) -> tonic::Status {
    views::refusal(rejection).into()
}
