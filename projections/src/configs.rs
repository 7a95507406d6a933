//! Configs: files that containers are given. Their data never changes, and is in history.

use std::collections::BTreeSet;
use std::sync::Arc;

use events::{ConfigId, ConfigSpec, ServiceSpec, Timestamp};
use serde::{Deserialize, Serialize};

use crate::services::name_key;
use crate::{Cluster, Stamp};

/// One config.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The config's id.
    pub id: ConfigId,
    /// Its name and labels.
    pub spec: Arc<ConfigSpec>,
    /// What is in it.
    pub data: Arc<[u8]>,
    /// Index of the frame that created it.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

/// The configs that a spec refers to.
pub fn referenced(spec: &ServiceSpec) -> impl Iterator<Item = ConfigId> {
    spec.template().container().configs.iter().filter_map(|reference| reference.config)
}

impl Cluster {
    /// The config with this name, without regard to case.
    pub fn config_named(&self, name: &str) -> Option<&Config> {
        self.config_names.get(&name_key(name)).and_then(|id| self.configs.get(*id))
    }

    /// Names of the services that still need a config: for what they are, for what their tasks run, or for a rollback.
    pub fn users_of_config(&self, config: ConfigId) -> BTreeSet<&str> {
        self.kept_specs().filter(|spec| referenced(spec).any(|id| id == config)).map(ServiceSpec::name).collect()
    }

    /// Every spec that a task runs, that a service is at, or that one may be rolled back to.
    pub(crate) fn kept_specs(&self) -> impl Iterator<Item = &ServiceSpec> {
        let run = self.revisions.iter().map(|(_, revision)| &*revision.spec);
        let past = self.services.values().filter_map(|service| service.previous.as_deref());
        run.chain(past).chain(self.services.values().map(|service| &*service.spec))
    }
}

pub(crate) fn created(cluster: &mut Cluster, event: &events::ConfigCreated, at: &Stamp) {
    let taken = cluster.config_names.insert(name_key(event.spec.name()), event.config);
    assert!(taken.is_none(), "the name {} was given to two configs", event.spec.name());
    assert!(!cluster.configs.contains(event.config), "config {} was created twice", event.config);
    let config = Config {
        id: event.config,
        spec: Arc::new(event.spec.clone()),
        data: event.data.as_slice().into(),
        version: at.index,
        created_at: at.time,
    };
    cluster.configs.insert(event.config, config);
}

pub(crate) fn removed(cluster: &mut Cluster, id: ConfigId) {
    let config = cluster.configs.remove(id).unwrap_or_else(|| panic!("config {id} is not there to be removed"));
    cluster.config_names.remove(&name_key(config.spec.name()));
}

/// Makes the index of names.
pub(crate) fn derive(cluster: &mut Cluster) {
    cluster.config_names = cluster.configs.values().map(|config| (name_key(config.spec.name()), config.id)).collect();
}

/// What is wrong with configs: a spec that is kept refers to one that is gone.
pub(crate) fn check(cluster: &Cluster, faults: &mut Vec<String>) {
    for spec in cluster.kept_specs() {
        for id in referenced(spec).filter(|id| !cluster.configs.contains(*id)) {
            faults.push(format!("a spec of service {} refers to config {id}, which is gone", spec.name()));
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
        Kind::ConfigCreated(events::ConfigCreated { config, spec: ConfigSpec { annotations }, data })
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
        assert_eq!(read.configs.get(ConfigId::from_bits(1)).map(|config| config.data.len()), Some(1_000_000));
    }
}
