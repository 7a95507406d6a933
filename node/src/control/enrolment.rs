//! Admission and certification of nodes. The core decides on admission; `api/signing` signs, and the certificate is then
//! recorded in the log.

use std::mem::take;
use std::str::FromStr;

use commands::{Actor, Command, JoinNode, MoveNodeToRoot, Rejection, RejectionKind};
use events::{CommandId, Id, Kind, NodeId, Role, certificate, codec};
use sha2::{Digest, Sha256};
use wire::v1::{CertificateReply, CommandReply, JoinRequest, RootReply};

use crate::log::{LogStore, frame_at};
use crate::manager::replica::Request;
use crate::security::{AuthorityError, JoinToken, RequestedKey, SignError, Signer};

use super::Control;

/// The core request of a join.
pub struct Join {
    /// The request.
    pub request: Request,
    /// The key to be certified.
    pub key: RequestedKey,
}

/// The outcome of a join.
pub enum JoinOutcome {
    /// The node is new, and needs a certificate.
    Now {
        /// The node.
        node: NodeId,
        /// Its role.
        role: Role,
    },
    /// The join was answered before, with the certificate in this frame.
    Before {
        /// The node.
        node: NodeId,
        /// The index of the frame.
        index: u64,
    },
}

/// Parses the token of a join.
///
/// # Errors
/// When it is malformed.
pub fn token(text: &str) -> Result<JoinToken, Rejection> {
    JoinToken::from_str(text).map_err(|error| Rejection::invalid("join token", error.to_string(), error.hint()))
}

impl Control {
    /// The cluster's root certificate.
    pub fn root(&self) -> RootReply {
        RootReply { cert_pem: self.state.cluster.settings.root_cert_pem.clone() }
    }

    /// The role that a token grants. Must also be checked for a join that was answered before: the repeated response would not
    /// check the token again.
    ///
    /// # Errors
    /// When the token is not valid.
    pub fn admitted_by(&self, token: &JoinToken) -> Result<Role, Rejection> {
        commands::admit(&self.state.cluster, token.root_digest(), &token.secret_sha256())
    }

    /// The core request of a join. A join whose certificate cannot be signed must not create a node; but nothing is signed
    /// before a node is admitted.
    ///
    /// # Errors
    /// When the certificate request is invalid.
    pub fn join(&self, mut asked: JoinRequest, token: &JoinToken, addr: String) -> Result<Join, Rejection> {
        let key = self.signer()?.judge(&asked.csr_pem, self.now).map_err(unfit)?;
        let hostname = take(&mut asked.hostname);
        let join = JoinNode { secret_sha256: token.secret_sha256(), hostname, addr: addr.clone() };
        let id = repeatable(asked.id, token, &key);
        let request = Request { id, ..Request::unnamed(Actor::Joiner(addr), Command::JoinNode(join)) };
        Ok(Join { request, key })
    }

    /// The outcome of a join that the core answered.
    ///
    /// # Errors
    /// When the node has been removed since.
    pub fn joined(&self, reply: &CommandReply) -> Result<JoinOutcome, Rejection> {
        let node = reply.subject.as_ref().and_then(|id| id.parse::<NodeId>().ok());
        let node = node.ok_or_else(|| broken("the new node has no id".to_owned()))?;
        let member = self.state.cluster.nodes.get(node).ok_or_else(|| Rejection::not_found("node", node))?;
        Ok(match member.certificate_index {
            0 => JoinOutcome::Now { node, role: member.role },
            index => JoinOutcome::Before { node, index },
        })
    }

    /// The response to a join that was answered before: the certificate in the log, because it is issued only once. May block
    /// on disk I/O.
    ///
    /// # Errors
    /// When the node has renewed its certificate since, or history cannot be read.
    pub fn recorded(&self, node: NodeId, index: u64, key: &RequestedKey) -> Result<CertificateReply, Rejection> {
        let cert_pem = certificate_in(&*self.store, index, node)?;
        let cert_pem =
            cert_pem.ok_or_else(|| broken(format!("the certificate of node {node} is not in frame {index}")))?;
        if key.is_certified_by(&cert_pem) {
            tracing::info!(%node, "a join is answered again");
            return Ok(CertificateReply { node, cert_pem, roots_pem: self.state.cluster.settings.trusted_pem() });
        }
        let hint = "to join as another node, stop swarmd, run `swarmd leave` and start swarmd with a join token";
        let sentence = format!("node {node} joined with this request, and has renewed its certificate since");
        Err(Rejection::conflict(format!("node {node}"), sentence, hint))
    }

    /// The role for which a node's certificate is renewed.
    ///
    /// # Errors
    /// When it is not a member.
    pub fn role_of(&self, node: NodeId) -> Result<Role, Rejection> {
        let cluster = &self.state.cluster;
        let role = cluster.nodes.get(node).map(|node| node.spec.role());
        let role = role.ok_or_else(|| Rejection::not_found("node", node))?;
        if role == Role::Worker && cluster.members.contains(node) {
            let sentence = format!("node {node} still replicates the log: it becomes a worker once it does not");
            return Err(Rejection::conflict(format!("node {node}"), sentence, "the node asks again by itself"));
        }
        Ok(role)
    }

    /// The hash of the roots that nodes must trust.
    pub fn trust(&self) -> u64 {
        certificate::trust(&self.state.cluster.settings.trusted_pem())
    }

    /// The core request that records that a node has moved to the new root of a rotation, by the hash of its trusted roots;
    /// `None` if it has not moved, or this is already recorded.
    pub fn moved_to_root(&self, node: NodeId, trust: u64) -> Option<Request> {
        let cluster = &self.state.cluster;
        let rotation = cluster.settings.rotation.as_ref()?;
        let member = cluster.nodes.get(node)?;
        if member.has_moved(rotation) || trust != self.trust() {
            return None;
        }
        let command = Command::MoveNodeToRoot(MoveNodeToRoot { node, digest: rotation.digest.clone() });
        Some(Request::unnamed(Actor::Node { id: node, role: member.role }, command))
    }

    /// The current signer of certificates.
    pub fn signer(&self) -> Result<Signer, Rejection> {
        Signer::of(&self.state.cluster.settings, &self.state.keyring).map_err(broken)
    }
}

/// The certificate of a node in a frame of history.
fn certificate_in(store: &dyn LogStore, index: u64, node: NodeId) -> Result<Option<String>, Rejection> {
    let unreadable = |why: String| broken(format!("history cannot be read: {why}"));
    let stored = frame_at(store, index).map_err(|error| unreadable(error.to_string()))?;
    let Some(stored) = stored else { return Ok(None) };
    let frame = codec::decode_frame(&stored).map_err(|error| unreadable(error.to_string()))?;
    let issued = codec::kinds(&frame).filter_map(|kind| {
        let Kind::CertificateIssued(issued) = kind else { return None };
        (issued.node == node).then(|| issued.cert_pem.clone())
    });
    Ok(issued.last())
}

/// The id under which a join is remembered. It includes the token and the key: the original response is returned before the
/// token is judged again, and must not be available to a client that only knows an id.
fn repeatable(id: CommandId, token: &JoinToken, key: &RequestedKey) -> CommandId {
    let parts = Sha256::new().chain_update(id.bits().to_be_bytes()).chain_update(token.secret_sha256());
    let digest = parts.chain_update(key.as_bytes()).finalize();
    let bits = digest.first_chunk::<16>().copied().unwrap_or_default();
    CommandId::from_bits(u128::from_be_bytes(bits))
}

/// The rejection of a certificate request.
pub(super) fn unfit(error: AuthorityError) -> Rejection {
    match error {
        AuthorityError::Request(_) => {
            let hint = "send a certificate request in PEM form, signed with its own key";
            Rejection::invalid("certificate request", error.to_string(), hint)
        }
        other => broken(other.to_string()),
    }
}

/// The rejection when signing failed.
pub fn unsigned(error: SignError) -> Rejection {
    match error {
        SignError::Authority(error) => unfit(error),
        SignError::External(_) => {
            let hint =
                "check the external certificate authority; `swarmctl cluster inspect` shows which ones are asked";
            Rejection::new(RejectionKind::Unavailable, "certificate authority", error.to_string(), hint)
        }
    }
}

/// The rejection when this manager cannot issue certificates.
pub fn broken(why: String) -> Rejection {
    Rejection::new(RejectionKind::Unavailable, "certificate authority", why, "ask another manager")
}
