//! The cluster's root certificate: what it is, and another one to take its place. Keys and tokens need randomness, which the core
//! does not have.

use commands::{Command, Rejection, RejectionKind, RotateRoot, SecretText};
use projections::Cluster;
use wire::v1::RootRotationView;

use super::{Control, views};
use crate::security::{Authority, JoinToken, RootCertificate};

/// Nodes of which it is shown that a rotation waits for them.
const SHOWN_MAX: usize = 5;

impl Control {
    /// A new root, signed by the present one, with its join tokens.
    ///
    /// # Errors
    /// When this manager does not have the root's key, or has no randomness.
    pub fn rotate_root(&self) -> Result<Command, Rejection> {
        self.next_root()
            .map(Box::new)
            .map(Command::RotateRoot)
            .map_err(|why| Rejection::new(RejectionKind::Unavailable, "root certificate", why, "ask another manager"))
    }

    fn next_root(&self) -> Result<RotateRoot, String> {
        let settings = &self.state.cluster.settings;
        let key = self.state.keyring.text(&settings.root_key());
        let key = key.ok_or("this manager does not have the root's key")?;
        let text = |error: crate::security::AuthorityError| error.to_string();
        let present = Authority::from_pem(&settings.root_cert_pem, key).map_err(text)?;
        let next = Authority::generate(self.now).map_err(text)?;
        Ok(RotateRoot {
            cert_pem: next.root().to_pem(),
            digest: next.root().digest(),
            cross_cert_pem: present.cross_sign(&next, self.now).map_err(text)?,
            key_pem: SecretText(next.key().to_pem().to_string()),
            worker_token: token(next.root())?,
            manager_token: token(next.root())?,
        })
    }
}

fn token(root: &RootCertificate) -> Result<(SecretText, [u8; 32]), String> {
    let token = JoinToken::generate(root).ok_or("the system provides no random bytes")?;
    Ok((SecretText(token.to_string()), token.secret_sha256()))
}

/// How far a rotation is, if one is under way.
pub fn rotation(cluster: &Cluster) -> Option<RootRotationView> {
    let rotation = cluster.settings.rotation.as_ref()?;
    let waits_for = cluster.nodes.values().filter(|node| !node.has_moved(rotation)).take(SHOWN_MAX);
    Some(RootRotationView {
        digest: rotation.digest.clone(),
        started_at: rotation.started_at,
        nodes: cluster.nodes.len() as u64,
        moved: rotation.moved,
        waits_for: waits_for.map(|node| views::node_name(node).to_owned()).collect(),
    })
}
