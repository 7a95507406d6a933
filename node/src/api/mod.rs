//! How a manager is asked: by operators on its unix socket, by nodes over mutual TLS. Thin: who calls is looked at here, and what
//! nodes may ask for; the answers are [`Control`]'s.

mod audit;
mod certificates;
mod command_stream;
mod control;
mod dispatch;
mod events;
mod images;
mod live;
mod managers;
mod refusals;
mod sending;
mod signing;
mod streams;
mod waiting;

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

/// What every service of a manager stands on.
#[derive(Clone)]
pub struct Context {
    /// The way to the core.
    pub core: Handle,
    /// The log, for reading history.
    pub store: Arc<dyn LogStore>,
    /// Who this manager is.
    pub manager: Arc<ManagerInfo>,
    /// How it asks certificate authorities outside the cluster.
    pub external: Arc<ExternalClient>,
    /// What nodes and join tokens may ask for.
    pub budgets: Arc<Budgets>,
    /// What it refused to callers without the certificate or the role for it.
    pub refusals: Arc<Refusals>,
    /// What streams of events share.
    pub event_streams: Arc<events::Streams>,
    /// The way to the other managers.
    pub peering: Peering,
    /// Registries of images.
    pub images: Images,
    /// Streams of tasks.
    pub streams: Arc<TaskStreams>,
    /// Done when this manager stops: sessions end then.
    pub stopping: CancellationToken,
}

/// What a node is to this manager's cluster. Only the manager that leads can say that nobody knows it.
pub(crate) fn membership(state: &Published, node: NodeId) -> Membership {
    let cluster = &state.cluster;
    if cluster.banned.contains(node) {
        Membership::Removed
    } else if cluster.nodes.contains(node) {
        Membership::Member
    } else if state.leads {
        Membership::Unknown
    } else {
        Membership::Unheard
    }
}

impl Context {
    fn state(&self) -> Arc<Published> {
        self.core.state()
    }

    /// The manager at this moment.
    fn control(&self) -> Control {
        let (manager, store) = (Arc::clone(&self.manager), Arc::clone(&self.store));
        Control { manager, state: self.state(), raft: self.core.raft(), store, now: clock::now(), past: None }
    }

    /// Waits until the state here is as new as a reader wants it.
    ///
    /// # Errors
    /// When it does not become so in time.
    async fn catch_up(&self, freshness: Freshness) -> Result<(), Rejection> {
        if let Some(index) = freshness.min_index {
            self.core.applied(index).await?;
        }
        if freshness.stale { Ok(()) } else { self.core.read_barrier().await }
    }

    /// Waits until what a command names can be looked up here. The manager that leads has what it acknowledged, and if another
    /// leads by now, nothing comes of the command.
    async fn catch_up_with_leader(&self) -> Result<(), Rejection> {
        if self.state().leads { Ok(()) } else { self.core.read_barrier().await }
    }

    /// Asks the core for a command, and waits for what became of it.
    async fn submit(&self, request: Request) -> Result<CommandReply, Rejection> {
        self.begin(request).await
    }

    /// Asks the core for a command; what it returns waits for what became of it. Commands are judged in the order of the calls.
    fn begin(&self, request: Request) -> impl Future<Output = Result<CommandReply, Rejection>> + Send + use<> {
        let outcome = self.core.submit(request);
        async move { command::reply(outcome.await) }
    }

    /// What holds calls to the table of who may call what, judged by the state of the moment.
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

    /// Looks at a request for a command. One that its caller may not ask goes no further, and is noted.
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

    /// Judges callers by the state of this moment.
    fn gate(&self) -> Gate<impl Fn(NodeId) -> Membership + use<>, impl Fn(OperatorId) -> Option<OperatorRole> + use<>> {
        let (state, also) = (self.state(), self.state());
        let role = move |operator| also.cluster.operators.get(operator).map(|operator| operator.role);
        // A manager that joins has no state yet, and knows its cluster by its own certificate.
        let cluster = Some(state.cluster.id()).filter(|id| *id != ClusterId::default());
        let cluster = cluster.unwrap_or(self.manager.cluster);
        Gate::new(cluster, move |node| membership(&state, node), role)
    }

    /// Who a connection's other end is to the core.
    fn actor(&self, peer: &Peer) -> Actor {
        match peer {
            Peer::Operator { user } => Actor::Operator(user.clone()),
            Peer::CertifiedOperator { operator, .. } => {
                let (state, id) = (self.state(), *operator);
                let known = state.cluster.operators.get(id).map(|known| (known.name.clone(), known.role));
                // Revoked since the call was let through: it may do nothing any more.
                let (name, role) = known.unwrap_or_else(|| (id.to_string(), OperatorRole::Viewer));
                Actor::CertifiedOperator { name, role }
            }
            Peer::Node { subject, .. } => Actor::Node { id: subject.node, role: subject.role },
            Peer::Anonymous { address } => Actor::Joiner(address.ip().to_string()),
        }
    }
}

/// The heartbeat period or up to a fifth less, so that nodes that started together do not beat together. Never more: so many
/// periods of silence are a lost node.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.8..=1.0))
}

/// How long who asked for too much waits for its answer. With the bounds on its connections and calls, this bounds how often
/// it asks.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// Refuses what a budget does not allow, and not at once.
async fn affordable(verdict: Result<(), Rejection>) -> Result<(), tonic::Status> {
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
