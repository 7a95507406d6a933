//! The cluster itself: its identity, its settings, whom it trusts and whom it lets in.

use std::sync::Arc;

use events::{ClusterId, ClusterSpec, Role, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Cluster, Stamp, Touched};

/// What holds for the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The cluster's id; zero until it is initialised.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// What operators set.
    pub spec: Arc<ClusterSpec>,
    /// Index of the frame that last changed the spec.
    pub version: u64,
    /// When the cluster was initialised.
    pub created_at: Timestamp,
    /// When its spec last changed.
    pub updated_at: Timestamp,
    /// The root certificate that every node trusts.
    pub root_cert_pem: String,
    /// The root certificate's digest, as join tokens carry it.
    pub root_digest: String,
    /// SHA-256 of the secret that lets a worker join.
    pub worker_token_sha256: Vec<u8>,
    /// SHA-256 of the secret that lets a manager join.
    pub manager_token_sha256: Vec<u8>,
}

impl Settings {
    /// SHA-256 of the secret that lets a node of this role join.
    pub fn token_sha256(&self, role: Role) -> &[u8] {
        match role {
            Role::Worker => &self.worker_token_sha256,
            Role::Manager => &self.manager_token_sha256,
        }
    }
}

/// Name under which the keyring keeps the root certificate's key.
pub const ROOT_KEY: &str = "root-ca/key";

/// Name under which the keyring keeps the join token of a role.
pub fn token_key(role: Role) -> &'static str {
    match role {
        Role::Worker => "join-token/worker",
        Role::Manager => "join-token/manager",
    }
}

pub(crate) fn initialised(
    cluster: &mut Cluster,
    event: &events::ClusterInitialised,
    at: &Stamp,
    touched: &mut Touched,
) {
    assert!(cluster.settings.id == ClusterId::default(), "the cluster is initialised once");
    let settings = Arc::make_mut(&mut cluster.settings);
    settings.id = event.cluster;
    settings.name.clone_from(&event.name);
    settings.created_at = at.time;
    spec_updated(cluster, &event.spec, at, touched);
}

pub(crate) fn spec_updated(cluster: &mut Cluster, spec: &ClusterSpec, at: &Stamp, touched: &mut Touched) {
    let settings = Arc::make_mut(&mut cluster.settings);
    settings.spec = Arc::new(spec.clone());
    settings.version = at.index;
    settings.updated_at = at.time;
    touched.everything = true;
}

pub(crate) fn token_rotated(cluster: &mut Cluster, event: &events::JoinTokenRotated) {
    let settings = Arc::make_mut(&mut cluster.settings);
    match event.role() {
        Role::Worker => settings.worker_token_sha256.clone_from(&event.secret_sha256),
        Role::Manager => settings.manager_token_sha256.clone_from(&event.secret_sha256),
    }
}

pub(crate) fn root_generated(cluster: &mut Cluster, event: &events::RootCaGenerated) {
    let settings = Arc::make_mut(&mut cluster.settings);
    settings.root_cert_pem.clone_from(&event.cert_pem);
    settings.root_digest.clone_from(&event.digest);
}

#[cfg(test)]
mod tests;
