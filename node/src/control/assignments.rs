//! The assignments sent in an agent's session: first the complete set of its node, then changes. Tasks, the specs that they
//! run, and the secrets and configs that those need are separate items, each sent once, so that a change of a task's desired
//! state takes only a few bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use events::spec::ConfigKey;
use events::{Driver, NodeId, ServiceSpec, TaskId};
use projections::views::assignments::{self, SpecKey, Wanted};
use projections::{Cluster, Secret};
use wire::v1::{AssignmentSet, ConfigItem, SecretItem, SpecItem, SpecKey as WireSpecKey, TaskItem};

use crate::manager::driver::Published;

/// The items that an agent has received.
#[derive(Debug, Default)]
pub struct SentAssignments {
    tasks: BTreeMap<TaskId, Wanted>,
    /// Compared by pointer: a spec that is replaced without changing what tasks run is sent again.
    specs: BTreeMap<SpecKey, Arc<ServiceSpec>>,
    /// The cluster's default log driver, which was sent in each spec without one.
    log_driver: Option<Driver>,
    secrets: BTreeMap<String, Secret>,
    template_secrets: BTreeSet<String>,
    configs: BTreeSet<ConfigKey>,
    sequence: u64,
}

impl SentAssignments {
    /// The next assignment set for the agent of this node; `None` if it is up to date.
    pub fn update(&mut self, state: &Published, node: NodeId) -> Option<AssignmentSet> {
        let needed = assignments::of_node(&state.cluster, node);
        let secret = |key: String| Some((key.clone(), state.keyring.get(&key)?.clone()));
        let next = SentAssignments {
            tasks: needed.tasks,
            specs: needed.specs,
            log_driver: state.cluster.spec().log_driver.clone(),
            secrets: needed.secrets.into_iter().filter_map(secret).collect(),
            template_secrets: needed.template_secrets,
            configs: needed.configs,
            sequence: self.sequence + 1,
        };
        let set = self.difference(&next, state);
        let is_news = set.complete || set != AssignmentSet { applies_to: set.applies_to, ..empty_set(next.sequence) };
        is_news.then(|| {
            *self = next;
            set
        })
    }

    fn difference(&self, next: &SentAssignments, state: &Published) -> AssignmentSet {
        let updated = next.tasks.iter().filter(|(task, wanted)| self.tasks.get(task) != Some(wanted));
        let same_default = self.log_driver == next.log_driver;
        let same = |key: &SpecKey, spec: &Arc<ServiceSpec>| {
            let is_known = self.specs.get(key).is_some_and(|old| Arc::ptr_eq(old, spec));
            is_known && (same_default || !has_default_log_driver(spec))
        };
        let specs = next.specs.iter().filter(|(key, spec)| !same(key, spec));
        let secrets = next.secrets.iter().filter(|(key, secret)| self.secrets.get(*key) != Some(secret));
        AssignmentSet {
            complete: self.sequence == 0,
            applies_to: self.sequence,
            tasks: updated.filter_map(|(task, _)| task_item(&state.cluster, *task)).collect(),
            removed: removed_keys(self.tasks.keys(), |task| next.tasks.contains_key(task)),
            specs: specs.map(|(key, spec)| spec_item(*key, spec, &state.cluster)).collect(),
            secrets: secrets.map(|(key, secret)| secret_item(key, secret, &next.template_secrets)).collect(),
            configs: next
                .configs
                .difference(&self.configs)
                .filter_map(|key| config_item(&state.cluster, *key))
                .collect(),
            dropped_specs: removed_keys(self.specs.keys(), |key| next.specs.contains_key(key))
                .into_iter()
                .map(wire_key)
                .collect(),
            dropped_secrets: removed_keys(self.secrets.keys(), |key| next.secrets.contains_key(key)),
            dropped_configs: removed_keys(self.configs.iter(), |key| next.configs.contains(key))
                .into_iter()
                .map(Into::into)
                .collect(),
            ..empty_set(next.sequence)
        }
    }
}

fn empty_set(results_in: u64) -> AssignmentSet {
    AssignmentSet { results_in, ..AssignmentSet::default() }
}

/// Keys that no longer exist.
fn removed_keys<'a, K: Clone + 'a>(before: impl Iterator<Item = &'a K>, stays: impl Fn(&K) -> bool) -> Vec<K> {
    before.filter(|key| !stays(key)).cloned().collect()
}

fn wire_key((service, version): SpecKey) -> WireSpecKey {
    WireSpecKey { service, version }
}

fn task_item(cluster: &Cluster, id: TaskId) -> Option<TaskItem> {
    let task = cluster.tasks.get(id)?;
    Some(TaskItem {
        task: id,
        spec: wire_key((task.service, task.spec_version)),
        slot: task.instance().slot().unwrap_or(0),
        desired: task.desired.into(),
        state: task.state.into(),
        claims: task.claims.to_vec(),
    })
}

fn spec_item(key: SpecKey, spec: &ServiceSpec, cluster: &Cluster) -> SpecItem {
    SpecItem { key: wire_key(key), spec: with_default_log_driver(spec, cluster) }
}

fn secret_item(key: &str, secret: &Secret, templates: &BTreeSet<String>) -> SecretItem {
    SecretItem { key: key.to_owned(), value: secret.reveal().into(), template: templates.contains(key) }
}

/// The data is shared with the state, however many sessions it is sent in.
fn config_item(cluster: &Cluster, (config, revision): ConfigKey) -> Option<ConfigItem> {
    let found = cluster.configs.get(config)?;
    let data = bytes::Bytes::from_owner(Arc::clone(&found.revisions.get(&revision)?.data));
    Some(ConfigItem { key: (config, revision).into(), data, template: found.spec.is_template() })
}

/// Whether a node runs a spec with the cluster's default log driver.
fn has_default_log_driver(spec: &ServiceSpec) -> bool {
    spec.task.as_ref().is_some_and(|task| task.log_driver.is_none())
}

/// The spec as a node runs it: tasks without a log driver get the cluster's default.
fn with_default_log_driver(spec: &ServiceSpec, cluster: &Cluster) -> ServiceSpec {
    let mut spec = spec.clone();
    if let Some(task) = spec.task.as_mut().filter(|task| task.log_driver.is_none()) {
        task.log_driver.clone_from(&cluster.spec().log_driver);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{
        ClusterInitialised, ClusterSpec, ConfigCreated, ConfigId, ConfigReference, ContainerSpec, Driver, EnvSecret,
        Event, Id, Kind, NodeJoined, ServiceCreated, ServiceId, TaskAssigned, TaskCreated, TaskDesiredStateSet,
        TaskReported, TaskSpec, TaskState, TaskStatus,
    };
    use prost::Message;

    #[test]
    fn a_task_without_a_log_driver_has_the_clusters() {
        let driver = |name: &str| Some(Driver { name: name.to_owned(), ..Default::default() });
        let spec = ClusterSpec { log_driver: driver("journald"), ..Default::default() };
        let initialised = ClusterInitialised { name: "default".to_owned(), spec, ..Default::default() };
        let mut cluster = Cluster::default();
        cluster.apply(&Event::by_command(0, Kind::ClusterInitialised(initialised)), &projections::Stamp::default());
        for (own, expected) in [(None, "journald"), (driver("json-file"), "json-file")] {
            let task = Some(TaskSpec { log_driver: own, ..Default::default() });
            let assigned = with_default_log_driver(&ServiceSpec { task, ..Default::default() }, &cluster);
            assert_eq!(assigned.template().log_driver.as_ref().map(|driver| driver.name.as_str()), Some(expected));
        }
    }

    /// A node with two tasks of a service that has a secret environment variable and a config.
    fn published() -> (Published, NodeId) {
        let (node, service, config) = (NodeId::from_bits(1), ServiceId::from_bits(2), ConfigId::from_bits(3));
        let container = ContainerSpec {
            env_secrets: vec![EnvSecret { name: "TOKEN".into(), key: "key".into() }],
            configs: vec![ConfigReference {
                config: Some(config),
                name: "app".into(),
                revision: 1,
                ..ConfigReference::default()
            }],
            ..ContainerSpec::default()
        };
        let task = Some(TaskSpec { container: Some(container), ..TaskSpec::default() });
        let spec = ServiceSpec { task, ..ServiceSpec::default() };
        let mut cluster = Cluster::default();
        let mut kinds = vec![
            Kind::NodeJoined(NodeJoined { node, ..NodeJoined::default() }),
            Kind::ConfigCreated(ConfigCreated { config, data: vec![7; 500_000], ..ConfigCreated::default() }),
            Kind::ServiceCreated(Box::new(ServiceCreated { service, spec })),
        ];
        for slot in 1..=2 {
            let task = TaskId::from_bits(slot.into());
            let desired = TaskState::Running.into();
            kinds.push(Kind::TaskCreated(TaskCreated { task, service, slot, desired, ..TaskCreated::default() }));
            kinds.push(Kind::TaskAssigned(TaskAssigned { task, node, claims: Vec::new() }));
        }
        for kind in kinds {
            cluster.apply(&Event::by_command(0, kind), &projections::Stamp::default());
        }
        let keyring = Arc::new([events::VolatilePayload::keep("key", "value")].into_iter().collect());
        (Published { cluster, keyring, leads: true, ..Published::default() }, node)
    }

    #[test]
    fn a_changed_default_log_driver_is_sent_with_each_spec_that_names_none() {
        let (mut state, node) = published();
        let mut sent = SentAssignments::default();
        sent.update(&state, node).expect("all of it");
        let log_driver = Some(Driver { name: "journald".to_owned(), ..Driver::default() });
        let spec = ClusterSpec { log_driver, ..ClusterSpec::default() };
        let kind = Kind::ClusterSpecUpdated(events::ClusterSpecUpdated { spec });
        state.cluster.apply(&Event::by_command(0, kind), &projections::Stamp::default());
        let news = sent.update(&state, node).expect("the spec");
        let drivers: Vec<_> = news.specs.iter().map(|item| item.spec.template().log_driver.as_ref()).collect();
        assert_eq!(drivers, [state.cluster.spec().log_driver.as_ref()]);
        assert_eq!(sent.update(&state, node), None);
    }

    #[test]
    fn the_data_of_a_config_is_shared_by_all_sessions() {
        let (state, node) = published();
        let sets = [(); 2].map(|()| SentAssignments::default().update(&state, node).expect("all of it"));
        let [one, two] = sets.each_ref().map(|set| set.configs[0].data.as_ptr());
        assert_eq!(one, two);
    }

    #[test]
    fn what_tasks_share_is_sent_once_and_a_change_of_one_takes_a_few_bytes() {
        let (mut state, node) = published();
        let mut sent = SentAssignments::default();
        let all = sent.update(&state, node).expect("all of it");
        let counts = (all.tasks.len(), all.specs.len(), all.secrets.len(), all.configs.len());
        assert_eq!((all.complete, counts), (true, (2, 1, 1, 1)));
        assert_eq!(sent.update(&state, node), None);

        let apply = |state: &mut Published, kind| {
            state.cluster.apply(&Event::by_command(0, kind), &projections::Stamp::default());
        };
        let tasks: Vec<TaskId> = [1, 2].map(TaskId::from_bits).into();
        let (desired, cause) = (TaskState::Shutdown.into(), events::DesiredCause::User.into());
        let stop = TaskDesiredStateSet { tasks: vec![tasks[0]], desired, cause };
        apply(&mut state, Kind::TaskDesiredStateSet(stop));
        let stop = sent.update(&state, node).expect("one is to stop");
        assert_eq!((stop.complete, stop.tasks.len(), stop.tasks[0].task), (false, 1, tasks[0]));
        assert!(stop.encoded_len() < 120, "{} bytes", stop.encoded_len());

        for task in tasks {
            let status = TaskStatus { state: TaskState::Complete.into(), ..TaskStatus::default() };
            apply(&mut state, Kind::TaskReported(TaskReported { task, status }));
        }
        let ended = sent.update(&state, node).expect("nothing is needed any more");
        assert_eq!((ended.dropped_secrets.len(), ended.dropped_configs.len(), ended.dropped_specs.len()), (1, 1, 0));
    }
}
