//! What one session's agent is told: its node's tasks, first all of them, then what changed.

use std::collections::BTreeMap;

use events::{EnvSecret, NodeId, ServiceSpec, TaskId};
use projections::Cluster;
use projections::views::assignments::{self, Wanted};
use wire::v1::{Assignment, AssignmentSet, EnvSecretValue, SecretValue};

use crate::driver::Published;

/// What an agent knows.
#[derive(Debug, Default)]
pub struct Told {
    tasks: BTreeMap<TaskId, Wanted>,
    sequence: u64,
}

impl Told {
    /// What the agent of this node has to hear after what it knows; nothing if that is all.
    pub fn update(&mut self, state: &Published, node: NodeId) -> Option<AssignmentSet> {
        let tasks = assignments::of_node(&state.cluster, node);
        let change = assignments::diff(&self.tasks, &tasks);
        let complete = self.sequence == 0;
        if !complete && change.updated.is_empty() && change.removed.is_empty() {
            return None;
        }
        let applies_to = self.sequence;
        self.sequence += 1;
        self.tasks = tasks;
        let tasks = change.updated.iter().filter_map(|task| assignment(state, *task)).collect();
        Some(AssignmentSet {
            complete,
            applies_to,
            results_in: self.sequence,
            tasks,
            removed: change.removed,
            head: None,
        })
    }
}

fn assignment(state: &Published, id: TaskId) -> Option<Assignment> {
    let task = state.cluster.tasks.get(id)?;
    let spec = state.cluster.spec_of(task);
    let container = spec.template().runs();
    let secret = |key: &str| state.keyring.text(key).map(str::to_owned);
    let value = |of: &EnvSecret| Some(EnvSecretValue { name: of.name.clone(), value: secret(&of.key)? });
    Some(Assignment {
        task: id,
        service: task.service,
        slot: task.instance().slot().unwrap_or(0),
        spec_version: task.spec_version,
        spec: with_default_log_driver(spec, &state.cluster),
        desired: task.desired.into(),
        state: task.state.into(),
        claims: task.claims.clone(),
        registry_auth: secret(&container.registry_auth_key).map(SecretValue::from),
        env_secrets: container.env_secrets.iter().filter_map(value).collect(),
    })
}

/// The spec as a node runs it: tasks that name no log driver have the cluster's.
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
    use events::{ClusterInitialised, ClusterSpec, Driver, Event, Kind, TaskSpec};

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
}
