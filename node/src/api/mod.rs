//! What a manager serves: operators on its unix socket, nodes over mutual TLS. Thin: each call is translated to a command
//! or to a read of the published state.

pub mod assignments;
mod certificates;
pub mod control;
mod dispatch;
mod events;
pub mod narrator;
pub mod refusal;
mod waiting;

mod bucket;
mod budgets;

pub use budgets::Budgets;
pub use certificates::CertificateApi;
pub use control::ControlApi;
pub use dispatch::DispatchApi;

use std::sync::Arc;

use ::events::{Duration, NodeId};
use commands::{Actor, Rejection};
use projections::Cluster;
use tokio_util::sync::CancellationToken;

use crate::disk_space::FreeSpace;
use crate::driver::{Handle, Published};
use crate::log::LogStore;
use crate::security::{Gate, Membership, Peer};

/// What every service of a manager stands on.
#[derive(Clone)]
pub struct Context {
    /// The way to the core.
    pub core: Handle,
    /// The log, for reading history.
    pub store: Arc<dyn LogStore>,
    /// This manager.
    pub node: NodeId,
    /// What this machine is called.
    pub hostname: String,
    /// Where other nodes reach this manager.
    pub remote_addr: String,
    /// What nodes and join tokens may ask for.
    pub budgets: Arc<Budgets>,
    /// How full the disk of the log is.
    pub space: FreeSpace,
    /// Done when this manager stops: sessions end then.
    pub stopping: CancellationToken,
}

/// What a node is to this manager's cluster.
pub(crate) fn membership(cluster: &Cluster, node: NodeId) -> Membership {
    if cluster.banned.contains(node) {
        Membership::Removed
    } else if cluster.nodes.contains(node) {
        Membership::Member
    } else {
        Membership::Unknown
    }
}

impl Context {
    fn state(&self) -> Arc<Published> {
        self.core.state()
    }

    /// Judges callers by the state of this moment.
    fn gate(&self) -> Gate<impl Fn(NodeId) -> Membership + use<>> {
        let state = self.state();
        Gate::new(state.cluster.id(), move |node| membership(&state.cluster, node))
    }

    /// Who a connection's other end is to the core.
    fn actor(&self, peer: &Peer) -> Actor {
        match peer {
            Peer::Operator { user } => Actor::Operator(user.clone()),
            Peer::Node { subject, .. } => Actor::Node { id: subject.node, role: subject.role },
            Peer::Anonymous { address } => Actor::Joiner(address.ip().to_string()),
        }
    }
}

/// The heartbeat period with up to a tenth more or less, so that nodes that started together do not beat together.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(rand::random_range(0.9..=1.1))
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
    refusal::status(rejection)
}
