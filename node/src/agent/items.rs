//! The items that managers sent in this session: tasks, and the objects that they need. A task item together with the items
//! that it refers to is one [`Assignment`], the only form that the rest of the agent uses.

use std::collections::{BTreeMap, BTreeSet};

use events::spec::ConfigKey;
use events::{ConfigReference, EnvSecret, ServiceId, ServiceSpec, TaskId};
use wire::v1::{Assignment, AssignmentSet, ConfigItem, EnvSecretValue, SecretItem, SpecKey, TaskItem};

/// The items of one session.
#[derive(Debug, Default)]
pub struct Items {
    tasks: BTreeMap<TaskId, TaskItem>,
    specs: BTreeMap<(ServiceId, u64), ServiceSpec>,
    secrets: BTreeMap<String, SecretItem>,
    configs: BTreeMap<ConfigKey, ConfigItem>,
}

/// The result of taking a set of items.
#[derive(Debug, Default)]
pub struct Assigned {
    /// Whether the set lists every task.
    pub complete: bool,
    /// Tasks that are new, or whose spec or desired state changed.
    pub tasks: Vec<Assignment>,
    /// Tasks that did not change themselves, but refer to an item that did: updated only where the task is known.
    pub refreshed: Vec<Assignment>,
    /// Tasks to remove.
    pub removed: Vec<TaskId>,
}

/// A task was sent without the spec that it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpecMissing(pub TaskId);

impl Items {
    /// Takes an assignment set from a manager.
    ///
    /// # Errors
    /// When the spec of a task is missing.
    pub fn take(&mut self, set: AssignmentSet) -> Result<Assigned, SpecMissing> {
        if set.complete {
            *self = Self::default();
        }
        let listed: BTreeSet<TaskId> = set.tasks.iter().map(|item| item.task).collect();
        let specs: BTreeSet<(ServiceId, u64)> = set.specs.iter().map(|item| key(item.key)).collect();
        let secrets = set.secrets.iter().map(|item| &item.key).chain(&set.dropped_secrets);
        let secrets: BTreeSet<String> = secrets.cloned().collect();
        self.tasks.extend(set.tasks.into_iter().map(|item| (item.task, item)));
        self.specs.extend(set.specs.into_iter().map(|item| (key(item.key), item.spec)));
        self.secrets.extend(set.secrets.into_iter().map(|item| (item.key.clone(), item)));
        self.configs.extend(set.configs.into_iter().map(|item| (item.key.into(), item)));
        self.tasks.retain(|task, _| !set.removed.contains(task));
        let dropped_configs: BTreeSet<ConfigKey> = set.dropped_configs.into_iter().map(Into::into).collect();
        self.drop_items(set.dropped_specs, &set.dropped_secrets, &dropped_configs);
        let mut assigned = Assigned { complete: set.complete, removed: set.removed, ..Assigned::default() };
        for item in self.tasks.values() {
            let spec = self.specs.get(&key(item.spec)).ok_or(SpecMissing(item.task))?;
            if listed.contains(&item.task) {
                assigned.tasks.push(self.assignment(item, spec));
            } else if specs.contains(&key(item.spec)) || needs(spec, &secrets) {
                assigned.refreshed.push(self.assignment(item, spec));
            }
        }
        Ok(assigned)
    }

    /// The configs of this node's tasks.
    pub fn configs(&self) -> Vec<ConfigItem> {
        self.configs.values().cloned().collect()
    }

    /// Removes all items, including secrets and configs. Returns the resulting changes.
    pub fn clear(&mut self) -> Assigned {
        *self = Self::default();
        Assigned { complete: true, ..Assigned::default() }
    }

    fn drop_items(&mut self, specs: Vec<SpecKey>, secrets: &[String], configs: &BTreeSet<ConfigKey>) {
        for spec in specs {
            self.specs.remove(&key(spec));
        }
        self.secrets.retain(|key, _| !secrets.contains(key));
        self.configs.retain(|config, _| !configs.contains(config));
    }

    /// A task with the items that it needs, as far as they were received. A missing item is detected where it is used.
    fn assignment(&self, item: &TaskItem, spec: &ServiceSpec) -> Assignment {
        let container = spec.template().container();
        let value = |of: &EnvSecret| {
            let value = String::from_utf8(self.secrets.get(&of.key)?.value.value.clone()).ok()?;
            Some(EnvSecretValue { name: of.name.clone(), value })
        };
        let config = |reference: &ConfigReference| self.configs.get(&reference.key()?).cloned();
        Assignment {
            task: item.task,
            service: item.spec.service,
            slot: item.slot,
            spec_version: item.spec.version,
            spec: spec.clone(),
            desired: item.desired,
            state: item.state,
            claims: item.claims.clone(),
            registry_auth: self.secrets.get(&container.registry_auth_key).map(|item| item.value.clone()),
            env_secrets: container.env_secrets.iter().filter_map(value).collect(),
            configs: container.configs.iter().filter_map(config).collect(),
            secrets: container.secrets.iter().filter_map(|of| self.secrets.get(&of.key()).cloned()).collect(),
        }
    }
}

fn key(key: SpecKey) -> (ServiceId, u64) {
    (key.service, key.version)
}

/// Whether a spec refers to one of these secrets.
fn needs(spec: &ServiceSpec, secrets: &BTreeSet<String>) -> bool {
    let container = spec.template().container();
    let named = container.env_secrets.iter().any(|secret| secrets.contains(&secret.key));
    let files = container.secrets.iter().any(|reference| secrets.contains(&reference.key()));
    named || files || secrets.contains(&container.registry_auth_key)
}

#[cfg(test)]
mod tests {
    use events::{ConfigId, ContainerSpec, Id, TaskSpec, TaskState};
    use wire::v1::SpecItem;

    use super::*;

    fn spec_key(version: u64) -> SpecKey {
        SpecKey { service: ServiceId::from_bits(1), version }
    }

    fn task(number: u128, version: u64) -> TaskItem {
        let desired = TaskState::Running.into();
        TaskItem { task: TaskId::from_bits(number), spec: spec_key(version), desired, ..TaskItem::default() }
    }

    fn config() -> ConfigItem {
        ConfigItem { key: (ConfigId::from_bits(5), 0).into(), data: "data".into(), template: false }
    }

    /// A spec that needs a secret environment variable and a config.
    fn spec(version: u64) -> SpecItem {
        let container = ContainerSpec {
            env_secrets: vec![EnvSecret { name: "TOKEN".into(), key: "key".into() }],
            configs: vec![ConfigReference { config: Some(ConfigId::from_bits(5)), ..ConfigReference::default() }],
            ..ContainerSpec::default()
        };
        let task = Some(TaskSpec { container: Some(container), ..TaskSpec::default() });
        SpecItem { key: spec_key(version), spec: ServiceSpec { task, ..ServiceSpec::default() } }
    }

    fn secret(value: &str) -> SecretItem {
        SecretItem { key: "key".into(), value: value.into(), template: false }
    }

    fn numbers(assignments: &[Assignment]) -> Vec<u128> {
        assignments.iter().map(|assignment| assignment.task.bits()).collect()
    }

    #[test]
    fn tasks_are_put_together_of_what_was_sent_once() {
        let mut items = Items::default();
        let tasks = vec![task(1, 7), task(2, 7), task(3, 8)];
        let (specs, secrets) = (vec![spec(7), spec(8)], vec![secret("one")]);
        let set =
            AssignmentSet { complete: true, tasks, specs, secrets, configs: vec![config()], ..Default::default() };
        let all = items.take(set).expect("nothing is missing");
        assert_eq!((numbers(&all.tasks), all.refreshed.len()), (vec![1, 2, 3], 0));
        for assignment in &all.tasks {
            assert_eq!((assignment.env_secrets[0].value.as_str(), &assignment.configs[..]), ("one", &[config()][..]));
        }

        let mut stop = task(2, 7);
        stop.set_desired(TaskState::Shutdown);
        let stopped = items.take(AssignmentSet { tasks: vec![stop], ..Default::default() }).expect("it has the spec");
        assert_eq!((numbers(&stopped.tasks), stopped.tasks[0].desired()), (vec![2], TaskState::Shutdown));
        assert_eq!(stopped.tasks[0].spec, spec(7).spec);

        let rotated =
            AssignmentSet { secrets: vec![secret("two")], removed: vec![TaskId::from_bits(3)], ..Default::default() };
        let rotated = items.take(rotated).expect("nothing is missing");
        assert_eq!((numbers(&rotated.tasks), numbers(&rotated.refreshed)), (vec![], vec![1, 2]));
        assert_eq!(rotated.refreshed[0].env_secrets[0].value, "two");

        let gone = AssignmentSet {
            dropped_secrets: vec!["key".into()],
            dropped_specs: vec![spec_key(8)],
            ..Default::default()
        };
        let gone = items.take(gone).expect("no task needs the spec");
        assert!(gone.refreshed.iter().all(|assignment| assignment.env_secrets.is_empty()));
        let missing = items.take(AssignmentSet { tasks: vec![task(4, 8)], ..Default::default() });
        assert_eq!(missing.expect_err("its spec was dropped"), SpecMissing(TaskId::from_bits(4)));
    }

    #[test]
    fn a_node_that_was_removed_keeps_nothing() {
        let mut items = Items::default();
        let (specs, secrets) = (vec![spec(7)], vec![secret("one")]);
        let set = AssignmentSet { complete: true, tasks: vec![task(1, 7)], specs, secrets, ..Default::default() };
        items.take(AssignmentSet { configs: vec![config()], ..set }).expect("nothing is missing");
        let nothing = items.clear();
        assert!(nothing.complete && nothing.tasks.is_empty() && nothing.refreshed.is_empty());
        let Items { tasks, specs, secrets, configs } = items;
        assert_eq!((tasks.len(), specs.len(), secrets.len(), configs.len()), (0, 0, 0, 0));
    }
}
