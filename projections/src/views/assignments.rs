//! The assignments of a node: its tasks from the moment they are assigned until they are reaped, and what they need.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use events::spec::ConfigKey;
use events::{NodeId, SecretReference, ServiceId, ServiceSpec, TaskId, TaskState};

use crate::{Cluster, Task, configs};

/// Identifies a spec that tasks run: the service, and its template version.
pub type SpecKey = (ServiceId, u64);

/// The part of a task whose changes must be sent to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The desired state of the task.
    pub desired: TaskState,
    /// The spec that it runs.
    pub spec_version: u64,
}

/// Everything that must be sent to a node.
#[derive(Debug, Clone, Default)]
pub struct Assigned {
    /// Its tasks, dead ones only until their end is recorded here.
    pub tasks: BTreeMap<TaskId, Wanted>,
    /// The specs that they run.
    pub specs: BTreeMap<SpecKey, Arc<ServiceSpec>>,
    /// Names of the secrets that tasks which have not ended need.
    pub secrets: BTreeSet<String>,
    /// Those of them that are templates.
    pub template_secrets: BTreeSet<String>,
    /// The configs that tasks which have not ended need, each with its revision.
    pub configs: BTreeSet<ConfigKey>,
}

/// The assignments of a node.
pub fn of_node(cluster: &Cluster, node: NodeId) -> Assigned {
    let mut assigned = Assigned::default();
    // Most tasks of a node that run the same spec are processed together.
    let mut in_use: BTreeSet<SpecKey> = BTreeSet::new();
    for task in cluster.tasks_of_node(node).filter(|task| belongs(task)) {
        let key = (task.service, task.spec_version);
        assigned.tasks.insert(task.id, Wanted { desired: task.desired, spec_version: task.spec_version });
        assigned.specs.entry(key).or_insert_with(|| Arc::clone(cluster.spec_of(task)));
        if !task.state.is_terminal() {
            in_use.insert(key);
        }
    }
    for spec in in_use.iter().filter_map(|key| assigned.specs.get(key)) {
        assigned.secrets.extend(secrets(spec));
        assigned.template_secrets.extend(template_secrets(cluster, spec));
        assigned.configs.extend(configs::referenced(spec));
    }
    assigned
}

/// Names of the secrets that a spec needs.
fn secrets(spec: &ServiceSpec) -> impl Iterator<Item = String> {
    let container = spec.template().container();
    let credentials = Some(container.registry_auth_key.clone()).filter(|key| !key.is_empty());
    let variables = container.env_secrets.iter().map(|secret| secret.key.clone());
    credentials.into_iter().chain(variables).chain(container.secrets.iter().map(SecretReference::key))
}

/// Names of those of them that are templates.
fn template_secrets(cluster: &Cluster, spec: &ServiceSpec) -> impl Iterator<Item = String> {
    let is_template = |of: &&SecretReference| {
        of.secret.and_then(|id| cluster.secrets.get(id)).is_some_and(|secret| secret.spec.is_template())
    };
    spec.template().container().secrets.iter().filter(is_template).map(SecretReference::key)
}

/// A task that ended stays assigned until it is reaped, so that its container can be inspected; an orphan does not: its node,
/// should it return, must remove it.
fn belongs(task: &Task) -> bool {
    task.state >= TaskState::Assigned && task.state != TaskState::Orphaned
}
