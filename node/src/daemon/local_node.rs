//! The control socket API of every node: leaving the cluster.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::v1::local_node_server::{LocalNode, LocalNodeServer};
use wire::v1::{LeaveClusterReply, LeaveClusterRequest, Refusal, RefusalKind};

use crate::agent::ClusterInfo;
use crate::daemon::failure::Failure;
use crate::daemon::leaving;
use crate::daemon::serve::{self, SocketFile};
use crate::daemon::single_call::SingleCallLayer;
use crate::security::{Caller, Credentials, Limits, Peer, incoming_local};

/// The call that a worker serves.
const LEAVE: &str = "/swarmlog.wire.v1.LocalNode/Leave";
/// File descriptors for a worker's socket, which only a few operators use.
const DESCRIPTORS: usize = 256;

/// A node that can be asked to leave.
#[derive(Clone)]
pub struct LocalApi {
    /// Its state directory.
    pub dir: PathBuf,
    /// Its credentials.
    pub credentials: Arc<Credentials>,
    /// The managers' addresses.
    pub cluster_info: Arc<ClusterInfo>,
    /// Stops the daemon, which then completes a leave that was started.
    pub shutdown: CancellationToken,
}

#[tonic::async_trait]
impl LocalNode for LocalApi {
    async fn leave(&self, request: Request<LeaveClusterRequest>) -> Result<Response<LeaveClusterReply>, Status> {
        let by = request.extensions().get::<Caller>().map(|Caller { peer, .. }| words(peer)).unwrap_or_default();
        let LeaveClusterRequest { force, reason } = request.into_inner();
        let reason = reason.unwrap_or_else(|| format!("asked for at the node{by}"));
        // Before the response: the managers close their connections to a node that is no longer a member.
        self.cluster_info.set_leaving(true);
        let asked = leaving::ask(&self.credentials, &self.cluster_info.managers(), Some(&reason)).await;
        self.cluster_info.set_leaving(force || matches!(asked, Ok(true)));
        match asked {
            Ok(true) => {}
            Ok(false) => return Ok(Response::new(LeaveClusterReply { left: false })),
            Err(refusal) if force => tracing::warn!(error = refusal.sentence, "this node leaves by force"),
            Err(refusal) => return Err((*refusal).into()),
        }
        leaving::write_note(&self.dir).map_err(|failure| refusal(&failure))?;
        tracing::info!("this node leaves its cluster{by}: its tasks are removed, and its state");
        self.shutdown.cancel();
        Ok(Response::new(LeaveClusterReply { left: true }))
    }
}

fn words(peer: &Peer) -> String {
    match peer {
        Peer::Operator { user } => format!(" by {user}"),
        Peer::CertifiedOperator { .. } | Peer::Node { .. } | Peer::Anonymous { .. } => String::new(),
    }
}

fn refusal(failure: &Failure) -> Status {
    Refusal {
        kind: RefusalKind::Unavailable.into(),
        subject: "node".to_owned(),
        sentence: failure.sentence.clone(),
        hint: Some(failure.hint.clone()),
    }
    .into()
}

/// A worker's response to every other call, which names the current managers that can serve it.
fn no_manager(managers: &[String]) -> Refusal {
    Refusal {
        kind: RefusalKind::Forbidden.into(),
        subject: "node".to_owned(),
        sentence: "this node is a worker: it does not have the cluster's state".to_owned(),
        hint: Some(format!(
            "ask a manager, on its machine or with --host; the managers are at {}",
            managers.join(", ")
        )),
    }
}

/// Serves a worker's control socket until `stop`.
///
/// # Errors
/// When the server fails.
pub async fn serve_worker(
    listener: UnixListener,
    file: SocketFile,
    api: LocalApi,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let cluster_info = Arc::clone(&api.cluster_info);
    let refusal = Arc::new(move || no_manager(&cluster_info.managers()));
    let incoming = incoming_local(listener, Limits::of_descriptors(DESCRIPTORS), Arc::default());
    let server =
        serve::control_server().layer(SingleCallLayer { path: LEAVE, refusal }).add_service(LocalNodeServer::new(api));
    let served = server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await;
    drop(file);
    served
}
