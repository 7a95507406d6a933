//! The certificate authority over gRPC: authenticates the caller, limits the rate, and translates to
//! [`crate::control::enrolment`].

use commands::{Actor, Rejection, RejectionKind};
use events::{NodeId, Role};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use wire::v1::certificates_server::Certificates;
use wire::v1::{CertificateReply, JoinRequest, RenewRequest, RootReply, RootRequest};

use crate::clock;
use crate::control::enrolment::{self, Join, JoinOutcome};
use crate::security::{Peer, RequestedKey, access, failures};

use super::{Context, enforce_budget, status};

/// The cluster's certificate authority, as a service for nodes.
pub struct CertificateApi {
    context: Context,
}

impl CertificateApi {
    /// The service of this manager.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn certify(&self, node: NodeId, role: Role, csr_pem: &str) -> Result<CertificateReply, Status> {
        enforce_budget(self.context.budgets.certificate(node, Instant::now())).await?;
        let control = self.context.control();
        let certified = control.certify(&self.context.external, node, role, csr_pem).await;
        let (request, reply) = certified.map_err(status)?;
        self.context.submit(request).await.map_err(status)?;
        Ok(reply)
    }

    /// Reads on a blocking thread: the disk may be slow, and this thread serves other callers.
    async fn recorded(&self, node: NodeId, index: u64, key: RequestedKey) -> Result<CertificateReply, Status> {
        let control = self.context.control();
        let read = tokio::task::spawn_blocking(move || control.recorded(node, index, &key)).await;
        read.map_err(|error| Status::internal(error.to_string()))?.map_err(status)
    }
}

#[tonic::async_trait]
impl Certificates for CertificateApi {
    async fn get_root(&self, request: Request<RootRequest>) -> Result<Response<RootReply>, Status> {
        access::caller(&request)?;
        Ok(Response::new(self.context.control().root()))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<CertificateReply>, Status> {
        let peer = access::caller(&request)?;
        let addr = match &peer {
            Peer::Anonymous { address } | Peer::Node { address, .. } => address.ip().to_string(),
            Peer::CertifiedOperator { address, .. } => address.ip().to_string(),
            Peer::Operator { user } => user.clone(),
        };
        let asked = request.into_inner();
        self.context.catch_up_with_leader().await.map_err(status)?;
        let control = self.context.control();
        let token = enrolment::token(&asked.token).map_err(status)?;
        let role = control.admitted_by(&token);
        let role = role.inspect_err(|rejection| {
            failures::note(&peer, &rejection.sentence);
            self.context.refusals.note(&Actor::Joiner(addr.clone()), true, "Certificates/Join", clock::now());
        });
        let role = role.map_err(status)?;
        enforce_budget(self.context.budgets.join(role, Instant::now())).await?;
        let csr_pem = asked.csr_pem.clone();
        let Join { request, key } = control.join(asked, &token, addr).map_err(status)?;
        let reply = self.context.submit(request).await.map_err(status)?;
        match self.context.control().joined(&reply).map_err(status)? {
            JoinOutcome::Before { node, index } => Ok(Response::new(self.recorded(node, index, key).await?)),
            JoinOutcome::Now { node, role } => Ok(Response::new(self.certify(node, role, &csr_pem).await?)),
        }
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<CertificateReply>, Status> {
        let Peer::Node { subject, .. } = access::caller(&request)? else {
            let hint = "nodes renew over TLS, with their present certificate";
            let kind = RejectionKind::Forbidden;
            return Err(status(Rejection::new(kind, "certificate", "this call is for nodes", hint)));
        };
        enforce_budget(self.context.budgets.call(subject.node, Instant::now())).await?;
        let role = self.context.control().role_of(subject.node).map_err(status)?;
        Ok(Response::new(self.certify(subject.node, role, &request.into_inner().csr_pem).await?))
    }
}
