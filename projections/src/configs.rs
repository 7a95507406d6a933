//! Configs: files that are mounted into containers. The data of a revision never changes, and is in history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use events::spec::ConfigKey;
use events::{ConfigId, ConfigReference, ConfigSpec, ServiceSpec, Timestamp};
use serde::{Deserialize, Serialize};

use crate::services::name_key;
use crate::{Cluster, Stamp};

/// The revision number of a config's initial data.
const FIRST_REVISION: u64 = 1;

/// One config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The config's id.
    pub id: ConfigId,
    /// Its name and labels.
    pub spec: Arc<ConfigSpec>,
    /// The retained revisions of its data; never empty.
    pub revisions: BTreeMap<u64, ConfigRevision>,
    /// Index of the frame that last changed it.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// One revision of a config's data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigRevision {
    /// Its contents.
    pub data: Arc<[u8]>,
    /// When it was added.
    pub created_at: Timestamp,
}

impl Config {
    /// The number of the newest revision.
    pub fn newest(&self) -> u64 {
        self.revisions.last_key_value().map_or(FIRST_REVISION, |(revision, _)| *revision)
    }

    /// The contents of the newest revision.
    pub fn data(&self) -> &[u8] {
        self.revisions.last_key_value().map_or(&[], |(_, revision)| &revision.data)
    }
}

/// The configs that a spec refers to, each with its revision.
pub fn referenced(spec: &ServiceSpec) -> impl Iterator<Item = ConfigKey> {
    spec.template().container().configs.iter().filter_map(ConfigReference::key)
}

impl Cluster {
    /// The config with this name, ignoring case.
    pub fn config_named(&self, name: &str) -> Option<&Config> {
        self.config_names.get(&name_key(name)).and_then(|id| self.configs.get(*id))
    }

    /// Names of the services that still need a config: for their spec, for running tasks, or for a rollback.
    pub fn users_of_config(&self, config: ConfigId) -> BTreeSet<&str> {
        self.needed_specs().filter(|spec| referenced(spec).any(|(id, _)| id == config)).map(ServiceSpec::name).collect()
    }

    /// The same of all configs that services need, in one pass over what these refer to.
    pub fn users_of_configs(&self) -> BTreeMap<ConfigId, BTreeSet<&str>> {
        let mut users = BTreeMap::<_, BTreeSet<_>>::new();
        for spec in self.needed_specs() {
            for (config, _) in referenced(spec) {
                users.entry(config).or_default().insert(spec.name());
            }
        }
        users
    }

    /// The revisions of a config that services still need.
    pub fn used_revisions_of_config(&self, config: ConfigId) -> BTreeSet<u64> {
        self.needed_specs().flat_map(referenced).filter(|(id, _)| *id == config).map(|(_, revision)| revision).collect()
    }

    /// Every spec whose configs and secrets are needed: of tasks that have not ended, for current and future tasks of a service,
    /// and as the target of a rollback.
    pub(crate) fn needed_specs(&self) -> impl Iterator<Item = &ServiceSpec> {
        let open = self
            .revisions
            .iter()
            .filter(|((service, version), _)| self.tasks_by_revision().is_open(*service, *version));
        let of_services = self.services.values().flat_map(|service| {
            [&*service.spec, self.spec_in_force(service)].into_iter().chain(service.previous.as_deref())
        });
        open.map(|(_, revision)| &*revision.spec).chain(of_services)
    }
}

pub(crate) fn created(cluster: &mut Cluster, event: &events::ConfigCreated, at: &Stamp) {
    let taken = cluster.config_names.insert(name_key(event.spec.name()), event.config);
    assert!(taken.is_none(), "the name {} was given to two configs", event.spec.name());
    assert!(!cluster.configs.contains(event.config), "config {} was created twice", event.config);
    let config = Config {
        id: event.config,
        spec: Arc::new(event.spec.clone()),
        revisions: BTreeMap::from([(FIRST_REVISION, revision(&event.data, at))]),
        version: at.index,
        created_at: at.time,
        updated_at: at.time,
    };
    cluster.configs.insert(event.config, config);
}

pub(crate) fn spec_updated(cluster: &mut Cluster, event: &events::ConfigSpecUpdated, at: &Stamp) {
    change(cluster, event.config, at, |config| config.spec = Arc::new(event.spec.clone()));
}

pub(crate) fn revised(cluster: &mut Cluster, event: &events::ConfigRevised, at: &Stamp) {
    change(cluster, event.config, at, |config| {
        assert!(event.revision > config.newest(), "revision {} of config {} is not new", event.revision, config.id);
        config.revisions.retain(|revision, _| !event.dropped.contains(revision));
        config.revisions.insert(event.revision, revision(&event.data, at));
    });
}

fn revision(data: &[u8], at: &Stamp) -> ConfigRevision {
    ConfigRevision { data: data.into(), created_at: at.time }
}

fn change(cluster: &mut Cluster, id: ConfigId, at: &Stamp, act: impl FnOnce(&mut Config)) {
    assert!(cluster.configs.contains(id), "config {id} is not there to be updated");
    cluster.configs.update(id, |config: &mut Config| {
        act(config);
        (config.version, config.updated_at) = (at.index, at.time);
    });
}

pub(crate) fn removed(cluster: &mut Cluster, id: ConfigId) {
    let config = cluster.configs.remove(id).unwrap_or_else(|| panic!("config {id} is not there to be removed"));
    cluster.config_names.remove(&name_key(config.spec.name()));
}

/// Builds the index of names.
pub(crate) fn derive(cluster: &mut Cluster) {
    cluster.config_names = cluster.configs.values().map(|config| (name_key(config.spec.name()), config.id)).collect();
}

/// Violations that concern configs: a needed spec refers to a removed config or revision.
pub(crate) fn check(cluster: &Cluster, faults: &mut Vec<String>) {
    for spec in cluster.needed_specs() {
        for (id, revision) in referenced(spec) {
            if cluster.configs.get(id).is_none_or(|config| !config.revisions.contains_key(&revision)) {
                let service = spec.name();
                faults.push(format!(
                    "a spec of service {service} refers to revision {revision} of config {id}, which is gone"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use events::{Annotations, Event, Id, Kind};

    use super::*;
    use crate::{check, snapshot};

    fn event(kind: Kind) -> Event {
        Event::by_command(0, kind)
    }

    fn created(bits: u128, name: &str) -> Kind {
        let annotations = Some(Annotations { name: name.into(), ..Annotations::default() });
        let (config, data) = (ConfigId::from_bits(bits), vec![7; 1_000_000]);
        Kind::ConfigCreated(events::ConfigCreated {
            config,
            spec: ConfigSpec { annotations, ..Default::default() },
            data,
        })
    }

    #[test]
    fn a_config_is_known_by_name_until_it_is_removed_and_is_in_every_snapshot() {
        let (mut cluster, at) = (Cluster::default(), Stamp { index: 5, ..Stamp::default() });
        for (bits, name) in [(1, "Web"), (2, "db")] {
            cluster.apply(&event(created(bits, name)), &at);
        }
        cluster.apply(&event(Kind::ConfigRemoved(events::ConfigRemoved { config: ConfigId::from_bits(2) })), &at);
        let named =
            |cluster: &Cluster, name| cluster.config_named(name).map(|config| (config.id.bits(), config.version));
        assert_eq!((named(&cluster, "web"), named(&cluster, "db")), (Some((1, 5)), None));
        assert_eq!(check::check(&cluster), Vec::<String>::new());
        let read = snapshot::read(snapshot::chunks(&cluster)).expect("it was just written");
        assert_eq!(named(&read, "WEB"), Some((1, 5)));
        assert_eq!(read.configs.get(ConfigId::from_bits(1)).map(|config| config.data().len()), Some(1_000_000));
    }

    #[test]
    fn a_new_revision_is_the_newest_and_drops_those_that_nothing_needs() {
        let mut cluster = Cluster::default();
        let config = ConfigId::from_bits(1);
        cluster.apply(&event(created(1, "web")), &Stamp { index: 5, ..Stamp::default() });
        for (revision, dropped) in [(2, vec![]), (3, vec![1])] {
            let revised = events::ConfigRevised { config, revision, data: b"new".to_vec(), dropped };
            cluster.apply(&event(Kind::ConfigRevised(revised)), &Stamp { index: 5 + revision, ..Stamp::default() });
        }
        let config = cluster.configs.get(config).expect("it is there");
        assert!(config.revisions.keys().eq(&[2, 3]), "{config:?}");
        assert_eq!((config.newest(), config.data(), config.version), (3, &b"new"[..], 8));
        assert_eq!(check::check(&cluster), Vec::<String>::new());
    }
}
