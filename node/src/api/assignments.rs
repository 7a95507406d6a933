//! What one session's agent is told: its node's tasks, first all of them, then what changed.

use std::collections::BTreeMap;

use events::{NodeId, TaskId};
use projections::views::assignments::{self, Wanted};
use wire::v1::{Assignment, AssignmentSet};

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
        Some(AssignmentSet { complete, applies_to, results_in: self.sequence, tasks, removed: change.removed })
    }
}

fn assignment(state: &Published, id: TaskId) -> Option<Assignment> {
    let task = state.cluster.tasks.get(id)?;
    let spec = state.cluster.spec_of(task);
    let key = &spec.template().runs().registry_auth_key;
    Some(Assignment {
        task: id,
        service: task.service,
        slot: task.slot,
        spec_version: task.spec_version,
        spec: (**spec).clone(),
        desired: task.desired.into(),
        state: task.state.into(),
        claims: task.claims.clone(),
        registry_auth: state.keyring.text(key).map(str::to_owned),
    })
}
