//! Selects the tasks whose logs or usage a request asks for, and their nodes.

use std::collections::{BTreeMap, BTreeSet};

use commands::{Rejection, RejectionKind};
use events::{Named, NodeId, ServiceId, SessionId, TaskId, TaskState};
use projections::views::overview::{resolve_service, resolve_task};
use projections::{Cluster, Liveness, Task};
use wire::v1::{LogSource, LogsRequest};

use super::{Control, views};

/// The selected tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskSelection {
    pub(super) services: BTreeSet<ServiceId>,
    pub(super) tasks: BTreeSet<TaskId>,
}

/// A node with selected tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct LogNode {
    /// Its name.
    pub name: String,
    /// Its session, or why it is unreachable.
    pub session: Result<SessionId, String>,
    /// Its selected tasks, sorted by id.
    pub sources: Vec<LogSource>,
}

impl LogNode {
    /// The ids of its tasks.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.sources.iter().map(|source| source.task)
    }

    /// The warning about missing data, such as logs.
    pub fn missing(name: &str, why: &str, what: &str, sources: &[LogSource]) -> String {
        let whose = match sources {
            [] => "its tasks".to_owned(),
            [one] => place(one),
            [one, _] => format!("{} and 1 other task", place(one)),
            [one, rest @ ..] => format!("{} and {} other tasks", place(one), rest.len()),
        };
        format!("node {name} cannot be asked: {why}; the {what} of {whose} are missing")
    }
}

/// The warning about a task whose log ended early.
pub fn incomplete(source: &LogSource, why: &str) -> String {
    format!("the logs of task {} are incomplete: {why}", source.name)
}

/// A short name of a task without its id: `web.1`, or `web` with its node for a global service.
fn place(source: &LogSource) -> String {
    match source.slot {
        Some(slot) => format!("{}.{slot}", source.service_name),
        None => format!("{} on {}", source.service_name, source.node_hostname),
    }
}

impl Control {
    /// Resolves the references of a request.
    ///
    /// # Errors
    /// When a reference matches no object, or more than one, or there is none.
    pub fn select_logs(&self, request: &LogsRequest) -> Result<TaskSelection, Rejection> {
        if request.services.is_empty() && request.tasks.is_empty() {
            let hint = "name at least one service or task";
            return Err(Rejection::new(RejectionKind::Invalid, "logs", "nothing is named whose logs are wanted", hint));
        }
        self.select_tasks(&request.services, &request.tasks)
    }

    /// Resolves references.
    pub(super) fn select_tasks(&self, services: &[String], tasks: &[String]) -> Result<TaskSelection, Rejection> {
        let cluster = &self.state.cluster;
        let services = services.iter().map(|reference| resolve_service(cluster, reference));
        let tasks = tasks.iter().map(|reference| resolve_task(cluster, reference));
        Ok(TaskSelection { services: services.collect::<Result<_, _>>()?, tasks: tasks.collect::<Result<_, _>>()? })
    }

    /// The nodes that have, or had, selected tasks that were started.
    pub fn log_nodes(&self, selection: &TaskSelection) -> BTreeMap<NodeId, LogNode> {
        let cluster = &self.state.cluster;
        let of_services = selection.services.iter().flat_map(|service| cluster.tasks_of_service(*service));
        let named = selection.tasks.iter().filter_map(|task| cluster.tasks.get(*task));
        self.nodes_of(of_services.chain(named).filter(|task| began(task)))
    }

    /// These tasks, grouped by node.
    pub(super) fn nodes_of<'a>(&'a self, tasks: impl Iterator<Item = &'a Task>) -> BTreeMap<NodeId, LogNode> {
        let cluster = &self.state.cluster;
        let tasks: BTreeMap<TaskId, &Task> = tasks.map(|task| (task.id, task)).collect();
        let mut nodes: BTreeMap<NodeId, LogNode> = BTreeMap::new();
        for task in tasks.into_values() {
            let Some(id) = task.node else { continue };
            let node = nodes.entry(id).or_insert_with(|| log_node(cluster, id));
            node.sources.push(source(cluster, task, id, &node.name));
        }
        nodes
    }

    /// Messages about selected tasks that were never started: they have no logs.
    pub fn without_logs(&self, selection: &TaskSelection) -> Vec<String> {
        let cluster = &self.state.cluster;
        let named = selection.tasks.iter().filter_map(|task| cluster.tasks.get(*task));
        let sentence = |task: &Task| {
            let name = cluster.task_name(task);
            format!("task {name} has no logs: it did not start ({})", task.state.name())
        };
        named.filter(|task| !began(task)).map(sentence).collect()
    }
}

/// Whether a task got far enough to have produced output.
fn began(task: &Task) -> bool {
    let has_container = task
        .status
        .as_ref()
        .is_some_and(|status| status.container.as_ref().is_some_and(|container| !container.container_id.is_empty()));
    has_container && task.state >= TaskState::Starting
}

fn log_node(cluster: &Cluster, id: NodeId) -> LogNode {
    let node = cluster.nodes.get(id);
    let name = node.map_or_else(|| id.to_string(), |node| views::node_name(node).to_owned());
    let session = match node {
        None => Err("it was removed from the cluster".to_owned()),
        Some(node) => match (node.session, node.liveness) {
            (Some(session), Liveness::Ready | Liveness::Unknown) => Ok(session),
            (None, Liveness::Ready) => Err("it has no session".to_owned()),
            (Some(_) | None, Liveness::Disconnected | Liveness::Down) | (None, Liveness::Unknown) => {
                Err(node.liveness_message())
            }
        },
    };
    LogNode { name, session, sources: Vec::new() }
}

fn source(cluster: &Cluster, task: &Task, node: NodeId, node_hostname: &str) -> LogSource {
    LogSource {
        task: task.id,
        name: cluster.task_name(task),
        service: task.service,
        service_name: cluster.spec_of(task).name().to_owned(),
        slot: task.instance().slot(),
        node,
        node_hostname: node_hostname.to_owned(),
        details: None,
    }
}
