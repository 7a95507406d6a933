//! Secrets: files that are mounted into containers, in memory. The state has their names and revisions; the data is in the
//! keyring.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use events::spec::secret_key;
use events::{SecretId, SecretReference, SecretSpec, ServiceSpec, Timestamp};
use serde::{Deserialize, Serialize};

use crate::services::name_key;
use crate::{Cluster, Stamp};

/// The revision number of a secret's initial data.
const FIRST_REVISION: u64 = 1;

/// One secret, without its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterSecret {
    /// The secret's id.
    pub id: SecretId,
    /// Its name and labels.
    pub spec: Arc<SecretSpec>,
    /// The retained revisions of its data; never empty.
    pub revisions: BTreeMap<u64, SecretRevision>,
    /// Index of the frame that last changed it.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The metadata of one revision of a secret's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretRevision {
    /// Its size in KiB, rounded up.
    pub size_kib: u32,
    /// When it was added.
    pub created_at: Timestamp,
}

impl ClusterSecret {
    /// The number of the newest revision.
    pub fn newest(&self) -> u64 {
        self.revisions.last_key_value().map_or(FIRST_REVISION, |(revision, _)| *revision)
    }

    /// The names of its payloads in the keyring.
    pub fn keys(&self) -> impl Iterator<Item = String> {
        self.revisions.keys().map(|revision| secret_key(self.id, *revision))
    }
}

/// The secrets that a spec refers to.
pub fn referenced(spec: &ServiceSpec) -> impl Iterator<Item = &SecretReference> {
    spec.template().container().secrets.iter()
}

impl Cluster {
    /// The secret with this name, ignoring case.
    pub fn secret_named(&self, name: &str) -> Option<&ClusterSecret> {
        self.secret_names.get(&name_key(name)).and_then(|id| self.secrets.get(*id))
    }

    /// Names of the services that still need a secret: for their spec, for running tasks, or for a rollback.
    pub fn users_of_secret(&self, secret: SecretId) -> BTreeSet<&str> {
        let refers = |spec: &&ServiceSpec| referenced(spec).any(|reference| reference.secret == Some(secret));
        self.needed_specs().filter(refers).map(ServiceSpec::name).collect()
    }

    /// The same of all secrets that services need, in one pass over what these refer to.
    pub fn users_of_secrets(&self) -> BTreeMap<SecretId, BTreeSet<&str>> {
        let mut users = BTreeMap::<_, BTreeSet<_>>::new();
        for spec in self.needed_specs() {
            for secret in referenced(spec).filter_map(|reference| reference.secret) {
                users.entry(secret).or_default().insert(spec.name());
            }
        }
        users
    }

    /// The revisions of a secret that services still need.
    pub fn used_revisions_of_secret(&self, secret: SecretId) -> BTreeSet<u64> {
        let references = self.needed_specs().flat_map(referenced).filter(|reference| reference.secret == Some(secret));
        references.map(|reference| reference.revision).collect()
    }
}

pub(crate) fn created(cluster: &mut Cluster, event: &events::SecretCreated, at: &Stamp) {
    let taken = cluster.secret_names.insert(name_key(event.spec.name()), event.secret);
    assert!(taken.is_none(), "the name {} was given to two secrets", event.spec.name());
    assert!(!cluster.secrets.contains(event.secret), "secret {} was created twice", event.secret);
    let revision = SecretRevision { size_kib: event.size_kib, created_at: at.time };
    let secret = ClusterSecret {
        id: event.secret,
        spec: Arc::new(event.spec.clone()),
        revisions: BTreeMap::from([(FIRST_REVISION, revision)]),
        version: at.index,
        created_at: at.time,
        updated_at: at.time,
    };
    cluster.secrets.insert(event.secret, secret);
}

pub(crate) fn spec_updated(cluster: &mut Cluster, event: &events::SecretSpecUpdated, at: &Stamp) {
    change(cluster, event.secret, at, |secret| secret.spec = Arc::new(event.spec.clone()));
}

pub(crate) fn revised(cluster: &mut Cluster, event: &events::SecretRevised, at: &Stamp) {
    change(cluster, event.secret, at, |secret| {
        assert!(event.revision > secret.newest(), "revision {} of secret {} is not new", event.revision, secret.id);
        let revision = SecretRevision { size_kib: event.size_kib, created_at: at.time };
        secret.revisions.retain(|revision, _| !event.dropped.contains(revision));
        secret.revisions.insert(event.revision, revision);
    });
}

fn change(cluster: &mut Cluster, id: SecretId, at: &Stamp, act: impl FnOnce(&mut ClusterSecret)) {
    assert!(cluster.secrets.contains(id), "secret {id} is not there to be updated");
    cluster.secrets.update(id, |secret: &mut ClusterSecret| {
        act(secret);
        (secret.version, secret.updated_at) = (at.index, at.time);
    });
}

pub(crate) fn removed(cluster: &mut Cluster, id: SecretId) {
    let secret = cluster.secrets.remove(id).unwrap_or_else(|| panic!("secret {id} is not there to be removed"));
    cluster.secret_names.remove(&name_key(secret.spec.name()));
}

/// Builds the index of names.
pub(crate) fn derive(cluster: &mut Cluster) {
    cluster.secret_names = cluster.secrets.values().map(|secret| (name_key(secret.spec.name()), secret.id)).collect();
}

/// Violations that concern secrets: a needed spec refers to a removed secret or revision.
pub(crate) fn check(cluster: &Cluster, faults: &mut Vec<String>) {
    for spec in cluster.needed_specs() {
        for reference in referenced(spec) {
            let secret = reference.secret.and_then(|id| cluster.secrets.get(id));
            if secret.is_none_or(|secret| !secret.revisions.contains_key(&reference.revision)) {
                let (service, key) = (spec.name(), reference.key());
                faults.push(format!("a spec of service {service} refers to {key}, which is gone"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use events::{Annotations, Event, Id, Kind, SecretCreated, SecretRemoved};

    use super::*;
    use crate::{check, snapshot};

    #[test]
    fn a_secret_is_known_by_name_until_it_is_removed_and_is_in_every_snapshot() {
        let (mut cluster, at) = (Cluster::default(), Stamp { index: 5, ..Stamp::default() });
        let mut apply = |kind| drop(cluster.apply(&Event::by_command(0, kind), &at));
        for (bits, name) in [(1, "Web"), (2, "db")] {
            let annotations = Some(Annotations { name: name.into(), ..Annotations::default() });
            let (secret, spec) = (SecretId::from_bits(bits), SecretSpec { annotations, ..Default::default() });
            apply(Kind::SecretCreated(SecretCreated { secret, spec, size_kib: 3 }));
        }
        apply(Kind::SecretRemoved(SecretRemoved { secret: SecretId::from_bits(2) }));
        let named = |cluster: &Cluster, name| {
            cluster.secret_named(name).map(|secret| (secret.id.bits(), secret.version, secret.newest()))
        };
        assert_eq!((named(&cluster, "web"), named(&cluster, "db")), (Some((1, 5, 1)), None));
        assert_eq!(check::check(&cluster), Vec::<String>::new());
        let read = snapshot::read(snapshot::chunks(&cluster)).expect("it was just written");
        assert_eq!(named(&read, "WEB"), Some((1, 5, 1)));
    }
}
