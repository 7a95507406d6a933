//! The initial contents of a cluster: its keys, tokens and certificates.

use commands::{InitialiseCluster, SecretText};
use events::{ClusterId, ClusterSpec, Id, NodeId, Role};

use super::raft_id;
use crate::clock;
use crate::level::feature_level;
use crate::security::{Authority, CertificateRequest, JoinToken, PrivateKey, RootCertificate, Subject};

/// Keys, tokens and certificates of a new cluster.
pub(super) struct NewCluster {
    pub(super) command: InitialiseCluster,
    pub(super) root: RootCertificate,
    pub(super) key: PrivateKey,
}

impl NewCluster {
    pub(super) fn make(node: NodeId, hostname: &str, addr: &str) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let now = clock::now();
        let cluster = ClusterId::from_bits(rand::random());
        let authority = Authority::generate(now).map_err(|error| text(&error))?;
        let root = authority.root().clone();
        let token = || {
            let token = JoinToken::generate(&root).ok_or("the system provides no random bytes")?;
            let secret = token.secret_sha256();
            Ok::<_, String>((SecretText(token.to_string()), secret))
        };
        let spec = ClusterSpec::default();
        let request = CertificateRequest::new().map_err(|error| text(&error))?;
        let subject = Subject { node, role: Role::Manager, cluster };
        let issued =
            authority.sign(&request.csr_pem, subject, now, spec.cert_expiry()).map_err(|error| text(&error))?;
        let command = InitialiseCluster {
            cluster,
            spec,
            root_cert_pem: root.to_pem(),
            root_digest: root.digest(),
            root_key_pem: SecretText(authority.key().to_pem().to_string()),
            worker_token: token()?,
            manager_token: token()?,
            node,
            raft_id: raft_id(node),
            feature_level_max: feature_level(),
            audit_key: None,
            hostname: hostname.to_owned(),
            addr: addr.to_owned(),
            cert_pem: issued.cert_pem,
            cert_not_after: issued.not_after,
        };
        Ok(Self { command, root, key: request.key })
    }
}
