//! The cluster itself: its identity, its settings, its root certificates and its join tokens.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::frame::FEATURE_LEVEL_MIN;
use events::{ClusterId, ClusterSpec, Role, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Cluster, Stamp, Touched};

/// Cluster-wide settings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The cluster's id; zero until it is initialised.
    pub id: ClusterId,
    /// Its name.
    pub name: String,
    /// The settings of operators.
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
    /// Whether managers wrap their keys with an unlock key.
    pub locked: bool,
    /// How many roots the cluster had before this one; part of its secrets' names.
    pub root_generation: u32,
    /// Whether the current root's key is outside the cluster, with an external certificate authority.
    pub root_key_outside: bool,
    /// The root rotation in progress.
    pub rotation: Option<RootRotation>,
    /// The feature level that every manager supports, as far as it was raised; 0 before that.
    pub feature_level: u32,
    /// Named points of history.
    pub tags: BTreeMap<String, Tag>,
}

/// A named point of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Index of its frame.
    pub index: u64,
    /// The frame's time.
    pub time: Timestamp,
}

/// A new root that is about to replace the current one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RootRotation {
    /// The new root certificate.
    pub cert_pem: String,
    /// Its digest.
    pub digest: String,
    /// The new root signed by the old one.
    pub cross_cert_pem: String,
    /// SHA-256 of the secret that lets a worker join afterwards.
    pub worker_token_sha256: Vec<u8>,
    /// SHA-256 of the secret that lets a manager join afterwards.
    pub manager_token_sha256: Vec<u8>,
    /// Whether the new root's key is outside the cluster.
    pub key_outside: bool,
    /// Index of the frame that started it.
    pub started: u64,
    /// When it started.
    pub started_at: Timestamp,
    /// Nodes that have moved.
    pub moved: u64,
}

impl Settings {
    /// SHA-256 of the secret that lets a node of this role join.
    pub fn token_sha256(&self, role: Role) -> &[u8] {
        match role {
            Role::Worker => &self.worker_token_sha256,
            Role::Manager => &self.manager_token_sha256,
        }
    }

    /// The roots that nodes trust: during a rotation both.
    pub fn trusted_pem(&self) -> String {
        let next = self.rotation.as_ref().map_or("", |rotation| &rotation.cert_pem);
        format!("{}{next}", self.root_cert_pem)
    }

    /// How many roots the cluster had before the signing one: during a rotation that is the new one.
    pub fn signing_generation(&self) -> u32 {
        self.root_generation + u32::from(self.rotation.is_some())
    }

    /// Name under which the keyring stores the signing key: during a rotation that of the new root.
    pub fn signing_key(&self) -> String {
        of_generation(ROOT_KEY, self.signing_generation())
    }

    /// Whether only an external certificate authority can sign now.
    pub fn signing_key_outside(&self) -> bool {
        self.rotation.as_ref().map_or(self.root_key_outside, |rotation| rotation.key_outside)
    }

    /// Name under which the keyring stores the current root's key.
    pub fn root_key(&self) -> String {
        of_generation(ROOT_KEY, self.root_generation)
    }

    /// Name under which the keyring stores the join token of a role.
    pub fn token_key(&self, role: Role) -> String {
        of_generation(token_key(role), self.root_generation)
    }

    /// Names of the secrets that belong to the current root: the join tokens, and its key unless that is outside the cluster.
    pub fn root_secrets(&self) -> Vec<String> {
        secrets_of_generation(self.root_generation, self.root_key_outside)
    }

    /// Names of those that belong to the new root of a rotation.
    pub fn next_root_secrets(&self, key_outside: bool) -> Vec<String> {
        secrets_of_generation(self.root_generation + 1, key_outside)
    }
}

impl Cluster {
    /// The feature level for new events: every manager supports it.
    pub fn feature_level(&self) -> u32 {
        self.settings.feature_level.max(FEATURE_LEVEL_MIN)
    }
}

fn secrets_of_generation(generation: u32, key_outside: bool) -> Vec<String> {
    let tokens = [token_key(Role::Worker), token_key(Role::Manager)].into_iter();
    tokens.chain((!key_outside).then_some(ROOT_KEY)).map(|name| of_generation(name, generation)).collect()
}

fn of_generation(name: &str, generation: u32) -> String {
    match generation {
        0 => name.to_owned(),
        _ => format!("{name}/{generation}"),
    }
}

/// Name under which the keyring stores the key of a cluster's first root.
pub const ROOT_KEY: &str = "root-ca/key";

/// Name under which the keyring stores the unlock key.
pub const UNLOCK_KEY: &str = "unlock-key";

/// Prefix of the names of the keys that seal archives of history. These keys are never changed or destroyed.
pub const ARCHIVE_KEY: &str = "archive-key/";
/// Name of the payload with the key for the digests that replace values erased from history.
pub const REDACTION_KEY: &str = "redaction-key";

/// Name under which the keyring stores the join token of a role that belongs to the first root.
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

pub(crate) fn feature_level_raised(cluster: &mut Cluster, level: u32) {
    let before = cluster.feature_level();
    assert!(level > before, "the feature level goes from {before} to {level}");
    Arc::make_mut(&mut cluster.settings).feature_level = level;
}

pub(crate) fn root_generated(cluster: &mut Cluster, event: &events::RootCaGenerated) {
    let settings = Arc::make_mut(&mut cluster.settings);
    settings.root_cert_pem.clone_from(&event.cert_pem);
    settings.root_digest.clone_from(&event.digest);
}

pub(crate) fn unlock_key_changed(cluster: &mut Cluster, event: &events::UnlockKeyChanged) {
    Arc::make_mut(&mut cluster.settings).locked = event.locked;
}

pub(crate) fn history_tagged(cluster: &mut Cluster, event: &events::HistoryTagged) {
    let tag = Tag { index: event.index, time: event.time };
    let taken = Arc::make_mut(&mut cluster.settings).tags.insert(event.name.clone(), tag);
    assert!(taken.is_none(), "the tag {} was given twice", event.name);
}

pub(crate) fn history_untagged(cluster: &mut Cluster, event: &events::HistoryUntagged) {
    let removed = Arc::make_mut(&mut cluster.settings).tags.remove(&event.name);
    assert!(removed.is_some(), "the tag {} was taken away and is not there", event.name);
}

pub(crate) fn rotation_started(cluster: &mut Cluster, event: &events::RootRotationStarted, at: &Stamp) {
    let settings = Arc::make_mut(&mut cluster.settings);
    assert!(settings.rotation.is_none(), "a rotation of the root began during another");
    settings.rotation = Some(RootRotation {
        cert_pem: event.cert_pem.clone(),
        digest: event.digest.clone(),
        cross_cert_pem: event.cross_cert_pem.clone(),
        worker_token_sha256: event.worker_token_sha256.clone(),
        manager_token_sha256: event.manager_token_sha256.clone(),
        key_outside: event.key_outside(),
        started: at.index,
        started_at: at.time,
        moved: 0,
    });
}

pub(crate) fn rotation_completed(cluster: &mut Cluster) {
    let settings = Arc::make_mut(&mut cluster.settings);
    let rotation = settings.rotation.take().expect("a rotation of the root ends once");
    settings.root_cert_pem = rotation.cert_pem;
    settings.root_digest = rotation.digest;
    settings.worker_token_sha256 = rotation.worker_token_sha256;
    settings.manager_token_sha256 = rotation.manager_token_sha256;
    settings.root_key_outside = rotation.key_outside;
    settings.root_generation += 1;
}

/// Updates the count of moved nodes, for a node that has moved or was removed after it had.
pub(crate) fn count_moved(cluster: &mut Cluster, count: impl FnOnce(u64) -> u64) {
    if let Some(rotation) = &mut Arc::make_mut(&mut cluster.settings).rotation {
        rotation.moved = count(rotation.moved);
    }
}

/// Violations that concern a rotation: its count of nodes.
pub(crate) fn check(cluster: &Cluster, faults: &mut Vec<String>) {
    let Some(rotation) = &cluster.settings.rotation else { return };
    let moved = cluster.nodes.values().filter(|node| node.has_moved(rotation)).count();
    if rotation.moved != moved as u64 {
        faults.push(format!("{moved} nodes have moved to the new root, not {}", rotation.moved));
    }
}

#[cfg(test)]
mod tests;
