//! Statuses of tasks, as reported by their nodes. Agents report at least once and in any order, so a report without news is
//! silently ignored.

use std::collections::BTreeMap;

use events::{ContainerStatus, Kind, NodeId, SessionId, TaskId, TaskReported, TaskState, TaskStatus, frame};
use projections::{Cluster, Task};
use prost::Message;

use crate::node::in_session;
use crate::text::clip;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind};

/// Maximum number of reports in one command: as many events as a frame may hold.
const REPORTS_MAX: usize = frame::EVENTS_MAX;
/// Maximum stored length of a message or error, in bytes: enough for an engine's error, too little for its log.
const TEXT_BYTES_MAX: usize = 4 * 1024;
/// Maximum stored length of a container id or port name, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// Maximum number of stored ports of a report.
const PORTS_MAX: usize = 256;
/// Maximum number of stored warnings of a status.
const WARNINGS_MAX: usize = 16;
/// Maximum number of stored phases of a report; there are as many states.
const PHASES_MAX: usize = 16;

/// Statuses of tasks, as reported by their node. Changes are recorded.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReportTasks {
    /// The node.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
    /// The statuses.
    pub reports: Vec<(TaskId, TaskStatus)>,
}

impl Verb for ReportTasks {
    fn name(&self) -> &'static str {
        "task.report"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Node(self.node)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        // Without these, tasks being removed would never end.
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { node, session, reports } = self;
        let node = *node;
        in_session(state, node, *session)?;
        if reports.len() > REPORTS_MAX {
            return Err(too_much(node, format!("{} reports at once are more than {REPORTS_MAX}", reports.len())));
        }
        let mut decision = Decision::nothing(node);
        // Earlier reports of this command, which are not in the state yet.
        let mut said: BTreeMap<TaskId, TaskStatus> = BTreeMap::new();
        let mut bytes = 0;
        for (id, status) in reports {
            let Some(task) = state.tasks.get(*id) else { continue };
            belongs(task, node)?;
            let status = bounded(status);
            if !is_news(task, said.get(id).or(task.status.as_deref()), &status) {
                continue;
            }
            bytes += status.encoded_len();
            said.insert(*id, status.clone());
            decision.events.push(Kind::TaskReported(TaskReported { task: *id, status }));
        }
        if bytes > frame::BYTES_SOFT_MAX {
            return Err(too_much(node, format!("reports of {bytes} bytes are more than {}", frame::BYTES_SOFT_MAX)));
        }
        Ok(decision)
    }
}

fn belongs(task: &Task, node: NodeId) -> Result<(), Rejection> {
    if task.node == Some(node) {
        return Ok(());
    }
    let sentence = format!("task {} is not a task of node {node}", task.id);
    let hint = "a node reports only on the tasks that are assigned to it";
    Err(Rejection::new(RejectionKind::Forbidden, format!("task {}", task.id), sentence, hint))
}

/// Whether a report advances a task, or adds details to its current state.
fn is_news(task: &Task, last: Option<&TaskStatus>, status: &TaskStatus) -> bool {
    // A task that an earlier report of the command advanced has the state of that report.
    let present = last.map_or(task.state, |last| last.state().max(task.state));
    let state = status.state();
    let was_given = task.state >= TaskState::Assigned && !present.is_terminal();
    was_given
        && is_a_nodes_to_say(state)
        && state >= present
        && (state > present || last.is_none_or(|last| differ(last, status)))
}

/// Whether nodes may report this state: those from accepted on. Earlier states, and the loss of a task, are recorded by managers.
fn is_a_nodes_to_say(state: TaskState) -> bool {
    match state {
        TaskState::Accepted
        | TaskState::Preparing
        | TaskState::Ready
        | TaskState::Starting
        | TaskState::Running
        | TaskState::Complete
        | TaskState::Shutdown
        | TaskState::Failed
        | TaskState::Rejected => true,
        TaskState::New | TaskState::Pending | TaskState::Assigned | TaskState::Remove | TaskState::Orphaned => false,
    }
}

/// Whether two reports of one state differ. A new time alone is no difference.
fn differ(one: &TaskStatus, other: &TaskStatus) -> bool {
    (&one.message, &one.error, &one.container) != (&other.message, &other.error, &other.container)
}

/// The report with every field truncated to its limit.
fn bounded(status: &TaskStatus) -> TaskStatus {
    TaskStatus {
        state: status.state().into(),
        at: status.at,
        message: clip(&status.message, TEXT_BYTES_MAX).to_owned(),
        error: clip(&status.error, TEXT_BYTES_MAX).to_owned(),
        container: status.container.as_ref().map(bounded_container),
        phases: status.phases.iter().take(PHASES_MAX).cloned().collect(),
    }
}

fn bounded_container(container: &ContainerStatus) -> ContainerStatus {
    let ports = container.ports.iter().take(PORTS_MAX).map(|port| {
        let mut port = port.clone();
        port.name = clip(&port.name, NAME_BYTES_MAX).to_owned();
        port
    });
    ContainerStatus {
        container_id: clip(&container.container_id, NAME_BYTES_MAX).to_owned(),
        ports: ports.collect(),
        warnings: container
            .warnings
            .iter()
            .take(WARNINGS_MAX)
            .map(|text| clip(text, TEXT_BYTES_MAX).to_owned())
            .collect(),
        ..*container
    }
}

fn too_much(node: NodeId, sentence: String) -> Rejection {
    Rejection::new(RejectionKind::Exhausted, format!("node {node}"), sentence, "report on fewer tasks at a time")
}

#[cfg(test)]
mod tests;
