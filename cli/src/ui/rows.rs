//! Lists as lines of a page: the tables of `ls` without ids, with the object and health of each row.

use events::{Availability, TaskState};
use wire::v1::{EventRecord, NodeState, NodeSummary, ServiceMode, ServiceSummary, TaskView};

use super::question::{Health, Line, Noun, Object};
use crate::format::table::Table;
use crate::format::view::View;
use crate::format::{event_lines, node, service, task};

/// A heading, and the lines below it.
pub type Rows = (String, Vec<Line>);

/// The rows of `service ls`.
pub fn services(services: &[ServiceSummary], view: View) -> Rows {
    let about = |service: &ServiceSummary| {
        let object = Object { noun: Noun::Service, id: service.id.to_string(), name: service.name.clone() };
        (object, service_health(service))
    };
    rows(service::rows(services, view).without_ids(), view, services.iter().map(about))
}

fn service_health(service: &ServiceSummary) -> Health {
    let is_bad = service.failed_places > 0 || service.restarting.is_some() || service.set_aside_until.is_some();
    let is_job = matches!(service.mode(), ServiceMode::ReplicatedJob | ServiceMode::GlobalJob);
    match service.running_tasks < service.desired_tasks {
        _ if is_bad => Health::Bad,
        // A job runs only a limited number of tasks at once.
        true if !is_job || service.unplaced.is_some() => Health::Waiting,
        true | false => Health::Good,
    }
}

/// The rows of `node ls`.
pub fn nodes(nodes: &[NodeSummary], view: View) -> Rows {
    let about = |node: &NodeSummary| {
        let object = Object { noun: Noun::Node, id: node.id.to_string(), name: node.name.clone() };
        let health = match (node.state(), node.availability()) {
            (NodeState::Down | NodeState::Disconnected, _) => Health::Bad,
            (NodeState::Unknown, _) | (NodeState::Ready, Availability::Pause | Availability::Drain) => Health::Waiting,
            (NodeState::Ready, Availability::Active) => Health::Good,
        };
        (object, health)
    };
    rows(node::rows(nodes, view).without_ids(), view, nodes.iter().map(about))
}

/// The rows of `task ls`.
pub fn tasks(tasks: &[TaskView], view: View) -> Rows {
    let about = |found: &TaskView| {
        let object = Object { noun: Noun::Task, id: found.id.to_string(), name: task::place(found, false) };
        let health = match found.status.state() {
            TaskState::Failed | TaskState::Rejected | TaskState::Orphaned => Health::Bad,
            state if state < TaskState::Running => Health::Waiting,
            _ => Health::Good,
        };
        (object, health)
    };
    rows(task::rows(tasks, view).without_ids(), view, tasks.iter().map(about))
}

/// Entries of history, the newest first.
pub fn events(newest_first: &[EventRecord], view: View) -> Rows {
    let about = |record: &EventRecord| {
        let id = format!("{}/{}", record.index, record.ordinal);
        (Object { noun: Noun::Entry, name: id.clone(), id }, Health::Good)
    };
    rows(event_lines::table(newest_first, view.ids, view.now), view, newest_first.iter().map(about))
}

/// As much of each row as fits, and the full text for the filter.
fn rows(table: Table, view: View, about: impl Iterator<Item = (Object, Health)>) -> Rows {
    let (fitted, whole) = (table.render(view.width), table.render(None));
    let mut lines = fitted.lines().zip(whole.lines());
    let heading = lines.next().unwrap_or_default().0.to_owned();
    let line = |((text, whole), (object, health)): ((&str, &str), (Object, Health))| Line {
        text: text.trim_end().to_owned(),
        whole: Some(whole.to_owned()),
        object: Some(object),
        health,
    };
    (heading, lines.zip(about).map(line).collect())
}
