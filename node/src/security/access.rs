//! Access control of RPCs: one table, and the layer that enforces it on every server of a manager.
//!
//! An RPC without a row does not exist. Handlers get the authenticated caller of their request from [`caller`], which fails if
//! the layer is missing, so nothing is served that was not judged here.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use events::OperatorRole;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use super::authorise::{AccessError, Allowed};
use super::caller::Caller;
use super::peer::Peer;

/// The prefix of every RPC's path.
const PACKAGE: &str = "/swarmlog.wire.v1.";

/// Every RPC of a manager, and the callers that it serves.
pub const TABLE: &[(&str, Allowed)] = &[
    // Each command is also judged by its own row in `commands::Actor::may`, when it is read and again in its turn.
    ("Control/Execute", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ExecuteStream", Allowed::Operators(OperatorRole::Viewer)),
    // Read-only; each command is judged as if it were executed.
    ("Control/ReadAfter", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/Preview", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/Survive", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/Replay", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/GetVersion", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/GetCluster", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/GetRaft", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/InspectNodes", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/InspectServices", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ExplainPlacement", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ListNodes", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ListServices", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ListTasks", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ReadConfigs", Allowed::Operators(OperatorRole::Viewer)),
    // Without their data.
    ("Control/DescribeSecrets", Allowed::Operators(OperatorRole::Viewer)),
    // Makes the engine call a registry that the caller names.
    ("Control/ResolveImage", Allowed::Operators(OperatorRole::Operator)),
    ("Control/Events", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/Logs", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/Usage", Allowed::Operators(OperatorRole::Viewer)),
    // What is done in the task is also a command, with a row of its own.
    ("Control/Interact", Allowed::Operators(OperatorRole::Operator)),
    ("Control/ListSinks", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ListOperators", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ListAuditKeys", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/GetCheckpoint", Allowed::Operators(OperatorRole::Viewer)),
    // Frames contain what events show, and no secrets.
    ("Control/ProveFrame", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ProveConsistency", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ReadFrames", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/ArchiveHistory", Allowed::Operators(OperatorRole::Admin)),
    ("Control/VerifyHistory", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/FindPoint", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/PlanUndo", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/Compare", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/CreateOperator", Allowed::Operators(OperatorRole::Admin)),
    // The handler accepts only operators with a certificate.
    ("Control/RenewOperator", Allowed::Operators(OperatorRole::Viewer)),
    ("Control/GetUnlockKey", Allowed::Operators(OperatorRole::Admin)),
    ("Control/Backup", Allowed::Operators(OperatorRole::Admin)),
    ("Lock/Unlock", Allowed::Operators(OperatorRole::Admin)),
    ("LocalNode/Leave", Allowed::Operators(OperatorRole::Admin)),
    ("Certificates/GetRoot", Allowed::Anyone),
    // Authorised by the join token.
    ("Certificates/Join", Allowed::Anyone),
    ("Certificates/Renew", Allowed::Nodes),
    ("Dispatcher/Session", Allowed::Nodes),
    ("Dispatcher/Heartbeats", Allowed::Nodes),
    ("Dispatcher/Report", Allowed::Nodes),
    ("Dispatcher/Leave", Allowed::Nodes),
    // The handler accepts only the node that received the order.
    ("Dispatcher/TaskStream", Allowed::Nodes),
    ("Managers/Deliver", Allowed::Peers),
    ("Managers/Announce", Allowed::Peers),
    ("Managers/ReadHistory", Allowed::Peers),
    ("Managers/SignCheckpoint", Allowed::Peers),
    ("Managers/HandOver", Allowed::Peers),
];

/// The row of the RPC with this path; `None` if there is no such RPC.
fn row(path: &str) -> Option<(&'static str, Allowed)> {
    let name = path.strip_prefix(PACKAGE)?;
    TABLE.iter().find(|(rpc, _)| *rpc == name).copied()
}

/// The authenticated caller of an allowed request; set by the layer.
#[derive(Debug, Clone)]
struct Proven(Peer);

/// The caller, as the connection authenticated it and the table allows.
///
/// # Errors
/// When the request was not judged.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<Peer, AccessError> {
    request.extensions().get().map(|Proven(peer)| peer.clone()).ok_or(AccessError::Unknown)
}

/// Passes the calls that the table allows; the closure judges a caller by the current state. It is shared, because servers
/// clone their services for each call.
#[derive(Debug)]
pub struct AccessLayer<J> {
    judge: Arc<J>,
}

impl<J> Clone for AccessLayer<J> {
    fn clone(&self) -> Self {
        Self { judge: Arc::clone(&self.judge) }
    }
}

impl<J> AccessLayer<J>
where
    J: Fn(&Peer, &'static str, Allowed) -> Result<Peer, AccessError>,
{
    /// The layer with this judge.
    pub fn new(judge: J) -> Self {
        Self { judge: Arc::new(judge) }
    }
}

impl<S, J> Layer<S> for AccessLayer<J> {
    type Service = AccessService<S, J>;

    fn layer(&self, inner: S) -> AccessService<S, J> {
        AccessService { inner, judge: Arc::clone(&self.judge) }
    }
}

/// See [`AccessLayer`].
#[derive(Debug)]
pub struct AccessService<S, J> {
    inner: S,
    judge: Arc<J>,
}

impl<S: Clone, J> Clone for AccessService<S, J> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), judge: Arc::clone(&self.judge) }
    }
}

impl<S, J> AccessService<S, J>
where
    J: Fn(&Peer, &'static str, Allowed) -> Result<Peer, AccessError>,
{
    fn judged(&self, request: &Request<Body>) -> Result<Peer, Status> {
        let path = request.uri().path();
        let (rpc, allowed) = row(path).ok_or_else(|| Status::unimplemented(format!("there is no call {path}")))?;
        let Caller { peer, .. } = request.extensions().get::<Caller>().ok_or(AccessError::Unknown)?;
        Ok((self.judge)(peer, rpc, allowed)?)
    }
}

impl<S, J> Service<Request<Body>> for AccessService<S, J>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    J: Fn(&Peer, &'static str, Allowed) -> Result<Peer, AccessError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.judged(&request) {
            Ok(peer) => {
                request.extensions_mut().insert(Proven(peer));
                Box::pin(self.inner.call(request))
            }
            Err(refusal) => Box::pin(async { Ok(refusal.into_http()) }),
        }
    }
}

#[cfg(test)]
mod tests;
