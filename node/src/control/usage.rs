//! Selects the tasks whose resource usage a request asks for.

use std::collections::BTreeMap;

use commands::{Rejection, RejectionKind};
use events::{Named, NodeId, TaskState};
use projections::Task;
use wire::v1::UsageRequest;

use super::Control;
use super::logs::{LogNode, TaskSelection};

/// Maximum tasks of one request: each costs its node a reading per second, and the client a row on the screen.
const TASKS_MAX: usize = 1_000;

impl Control {
    /// Resolves the references of a request; without any, all tasks are selected.
    ///
    /// # Errors
    /// When a reference matches no object, or more than one, or there are too many tasks.
    pub fn select_usage(&self, request: &UsageRequest) -> Result<TaskSelection, Rejection> {
        let selection = self.select_tasks(&request.services, &request.tasks)?;
        let count = self.running(&selection).take(TASKS_MAX + 1).count();
        if count > TASKS_MAX {
            let sentence = format!("more than {TASKS_MAX} tasks are running");
            return Err(Rejection::new(RejectionKind::Exhausted, "usage", sentence, "name fewer services or tasks"));
        }
        Ok(selection)
    }

    /// The nodes with running tasks of a selection.
    pub fn usage_nodes(&self, selection: &TaskSelection) -> BTreeMap<NodeId, LogNode> {
        self.nodes_of(self.running(selection).take(TASKS_MAX))
    }

    /// Messages about selected tasks that are not running.
    pub fn not_running(&self, selection: &TaskSelection) -> Vec<String> {
        let cluster = &self.state.cluster;
        let named = selection.tasks.iter().filter_map(|task| cluster.tasks.get(*task));
        let sentence = |task: &Task| format!("task {} is not running ({})", cluster.task_name(task), task.state.name());
        named.filter(|task| !runs(task)).map(sentence).collect()
    }

    fn running<'a>(&'a self, selection: &'a TaskSelection) -> Box<dyn Iterator<Item = &'a Task> + 'a> {
        let cluster = &self.state.cluster;
        if *selection == TaskSelection::default() {
            return Box::new(cluster.tasks.iter().map(|(_, task)| task).filter(|task| runs(task)));
        }
        let of_services = selection.services.iter().flat_map(|service| cluster.tasks_of_service(*service));
        let named = selection.tasks.iter().filter_map(|task| cluster.tasks.get(*task));
        Box::new(of_services.chain(named).filter(|task| runs(task)))
    }
}

fn runs(task: &Task) -> bool {
    task.state == TaskState::Running && task.node.is_some()
}
