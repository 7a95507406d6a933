//! Letting nodes in and renewing their certificates. The core decides who is let in; the signature is made here, because
//! it needs a clock and randomness, and is then noted in the log.

use std::mem::take;
use std::str::FromStr;
use std::sync::Arc;

use commands::{Actor, Command, Rejection, RejectionKind};
use events::{CommandId, Id, Kind, NodeId, Role, codec};
use projections::settings::ROOT_KEY;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tonic::{Request, Response, Status};
use wire::v1::certificates_server::Certificates;
use wire::v1::{CertificateReply, JoinRequest, RenewRequest, RootReply, RootRequest};

use crate::clock;
use crate::driver::Published;
use crate::leader::Request as CoreRequest;
use crate::log::{LogStore, frame_at};
use crate::security::failures;
use crate::security::{Allowed, Authority, AuthorityError, Issued, JoinToken, Peer, RequestedKey, Subject};

use super::{Context, affordable, status};

/// The cluster's certificate authority, as nodes call it.
pub struct CertificateApi {
    context: Context,
}

impl CertificateApi {
    /// The service of this manager.
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    async fn certify(&self, node: NodeId, role: Role, csr_pem: &str) -> Result<CertificateReply, Status> {
        let state = self.context.state();
        let issued = sign(&state, Subject { node, role, cluster: state.cluster.id() }, csr_pem)?;
        let (cert_pem, not_after) = (issued.cert_pem, issued.not_after);
        let command = Command::CertifyNode(commands::CertifyNode { node, role, cert_pem: cert_pem.clone(), not_after });
        let actor = Actor::Manager(self.context.manager.node);
        let request = CoreRequest::unnamed(actor, command);
        self.context.submit(request).await.map_err(status)?;
        Ok(CertificateReply { node, cert_pem })
    }

    /// The answer to a join that was answered before: the certificate that the log holds, for it gives nobody another.
    async fn recorded(&self, node: NodeId, index: u64, key: RequestedKey) -> Result<CertificateReply, Status> {
        let store = Arc::clone(&self.context.store);
        let read = tokio::task::spawn_blocking(move || certificate_in(&*store, index, node)).await;
        let read = read.map_err(|error| broken(error.to_string()))?;
        let cert_pem =
            read?.ok_or_else(|| broken(format!("the certificate of node {node} is not in frame {index}")))?;
        if key.is_certified_by(&cert_pem) {
            tracing::info!(%node, "a join is answered again");
            return Ok(CertificateReply { node, cert_pem });
        }
        let hint = "to join as another node, stop swarmd, empty its state directory and start it with a join token";
        let sentence = format!("node {node} joined with this request, and has renewed its certificate since");
        Err(status(Rejection::conflict(format!("node {node}"), sentence, hint)))
    }
}

/// The certificate that a frame of history gives a node.
fn certificate_in(store: &dyn LogStore, index: u64, node: NodeId) -> Result<Option<String>, Status> {
    let unreadable = |why: String| Status::internal(format!("history cannot be read: {why}"));
    let stored = frame_at(store, index).map_err(|error| unreadable(error.to_string()))?;
    let Some(stored) = stored else { return Ok(None) };
    let frame = codec::decode_frame(&stored).map_err(|error| unreadable(error.to_string()))?;
    let issued = codec::kinds(&frame).filter_map(|kind| {
        let Kind::CertificateIssued(issued) = kind else { return None };
        (issued.node == node).then(|| issued.cert_pem.clone())
    });
    Ok(issued.last())
}

#[tonic::async_trait]
impl Certificates for CertificateApi {
    async fn get_root(&self, request: Request<RootRequest>) -> Result<Response<RootReply>, Status> {
        self.context.gate().require(&request, Allowed::Anyone)?;
        Ok(Response::new(RootReply { cert_pem: self.context.state().cluster.settings.root_cert_pem.clone() }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<CertificateReply>, Status> {
        let peer = self.context.gate().require(&request, Allowed::Anyone)?;
        let addr = match &peer {
            Peer::Anonymous { address } | Peer::Node { address, .. } => address.ip().to_string(),
            Peer::Operator { user } => user.clone(),
        };
        let mut request = request.into_inner();
        let (id, csr_pem, hostname) = (request.id, take(&mut request.csr_pem), take(&mut request.hostname));
        let token = JoinToken::from_str(&request.token)
            .map_err(|error| status(Rejection::invalid("join token", error.to_string(), error.hint())))?;
        // A request that cannot be signed must not leave a node behind; but nothing is signed for whom nobody let in.
        let state = self.context.state();
        // Also of a join that was answered before: the answer to its repetition would not look at the token again.
        let role = commands::admit(&state.cluster, token.root_digest(), &token.secret_sha256())
            .inspect_err(|rejection| failures::note(&peer, &rejection.sentence))
            .map_err(status)?;
        affordable(self.context.budgets.join(role, Instant::now())).await?;
        let key = authority(&state)?.judge(&csr_pem, clock::now()).map_err(unfit)?;
        let id = repeatable(id, &token, &key);
        let command = Command::JoinNode(commands::JoinNode {
            secret_sha256: token.secret_sha256(),
            hostname,
            addr: addr.clone(),
        });
        let request = CoreRequest { id, actor: Actor::Joiner(addr), command, reason: None, correlation: None };
        let subject = self.context.submit(request).await.map_err(status)?.subject;
        let node: NodeId =
            subject.and_then(|id| id.parse().ok()).ok_or_else(|| broken("the new node has no id".to_owned()))?;
        let state = self.context.state();
        let member = state.cluster.nodes.get(node).ok_or_else(|| status(Rejection::not_found("node", node)))?;
        if member.certificate_index > 0 {
            return Ok(Response::new(self.recorded(node, member.certificate_index, key).await?));
        }
        let role = member.role;
        affordable(self.context.budgets.certificate(node, Instant::now())).await?;
        let certified = self.certify(node, role, &csr_pem).await?;
        Ok(Response::new(certified))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<CertificateReply>, Status> {
        let Peer::Node { subject, .. } = self.context.gate().require(&request, Allowed::Nodes)? else {
            let hint = "nodes renew over TLS, with their present certificate";
            return Err(status(Rejection::new(
                RejectionKind::Forbidden,
                "certificate",
                "this call is for nodes",
                hint,
            )));
        };
        affordable(self.context.budgets.call(subject.node, Instant::now())).await?;
        let role = self.context.state().cluster.nodes.get(subject.node).map(|node| node.role);
        let role = role.ok_or_else(|| status(Rejection::not_found("node", subject.node)))?;
        affordable(self.context.budgets.certificate(subject.node, Instant::now())).await?;
        Ok(Response::new(self.certify(subject.node, role, &request.into_inner().csr_pem).await?))
    }
}

/// The id under which a join is remembered. It stands for the same answer only if the token and the key are the same too:
/// the first answer is given before the token is judged again, and no other may get it by knowing an id.
fn repeatable(id: CommandId, token: &JoinToken, key: &RequestedKey) -> CommandId {
    let parts = Sha256::new().chain_update(id.bits().to_be_bytes()).chain_update(token.secret_sha256());
    let digest = parts.chain_update(key.as_bytes()).finalize();
    let bits = digest.first_chunk::<16>().copied().unwrap_or_default();
    CommandId::from_bits(u128::from_be_bytes(bits))
}

fn authority(state: &Published) -> Result<Authority, Status> {
    let key =
        state.keyring.text(ROOT_KEY).ok_or_else(|| broken("this manager does not have the root's key".to_owned()))?;
    let authority = Authority::from_pem(&state.cluster.settings.root_cert_pem, key);
    authority.map_err(|error| broken(error.to_string()))
}

fn sign(state: &Published, subject: Subject, csr_pem: &str) -> Result<Issued, Status> {
    let expiry = state.cluster.spec().cert_expiry();
    authority(state)?.sign(csr_pem, subject, clock::now(), expiry).map_err(unfit)
}

fn unfit(error: AuthorityError) -> Status {
    match error {
        AuthorityError::Request(_) => {
            let hint = "send a certificate request in PEM form, signed with its own key";
            status(Rejection::invalid("certificate request", error.to_string(), hint))
        }
        other => broken(other.to_string()),
    }
}

fn broken(why: String) -> Status {
    status(Rejection::new(RejectionKind::Unavailable, "certificate authority", why, "ask another manager"))
}
