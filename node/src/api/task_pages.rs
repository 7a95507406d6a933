//! Lists of tasks, in pages: however many tasks there are, no message is large, and no more of them is made than is read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::vec::IntoIter;

use commands::Rejection;
use events::{TaskId, Timestamp};
use projections::views::overview::{resolve_node, resolve_service, resolve_task};
use projections::{Cluster, Task};
use prost::Message;
use wire::v1::{ListTasksRequest, TaskList};

use crate::driver::Published;

use super::views;

/// From so many bytes on, a page is full: enough that a page costs little, and little enough for any client.
const PAGE_BYTES: usize = 128 * 1024;

/// The pages of one state; at least one, which may be empty.
pub struct TaskPages {
    state: Arc<Published>,
    tasks: IntoIter<TaskId>,
    with_specs: bool,
    begun: bool,
    now: Timestamp,
}

impl TaskPages {
    /// The tasks that a request names; with the specs that they run only where it names tasks themselves.
    ///
    /// # Errors
    /// When a reference names nothing, or more than one object.
    pub fn of(state: Arc<Published>, request: &ListTasksRequest, now: Timestamp) -> Result<Self, Rejection> {
        let tasks: Vec<TaskId> = select(&state.cluster, request)?.into_iter().map(|task| task.id).collect();
        Ok(Self { state, tasks: tasks.into_iter(), with_specs: !request.tasks.is_empty(), begun: false, now })
    }
}

impl Iterator for TaskPages {
    type Item = TaskList;

    fn next(&mut self) -> Option<TaskList> {
        let cluster = &self.state.cluster;
        let (mut page, mut bytes) = (TaskList { tasks: Vec::new(), index: cluster.position.index }, 0);
        while bytes < PAGE_BYTES
            && let Some(id) = self.tasks.next()
        {
            let view = cluster.tasks.get(id).map(|task| views::task(cluster, task, self.with_specs, self.now));
            bytes += view.as_ref().map_or(0, Message::encoded_len);
            page.tasks.extend(view);
        }
        (!std::mem::replace(&mut self.begun, true) || !page.tasks.is_empty()).then_some(page)
    }
}

/// The tasks that a request names, in the order of their services, slots and ages.
///
/// # Errors
/// When a reference names nothing, or more than one object.
fn select<'a>(cluster: &'a Cluster, request: &ListTasksRequest) -> Result<Vec<&'a Task>, Rejection> {
    let service = request.service.as_ref().map(|service| resolve_service(cluster, service)).transpose()?;
    let node = request.node.as_ref().map(|node| resolve_node(cluster, node)).transpose()?;
    let named = request.tasks.iter().map(|reference| resolve_task(cluster, reference));
    let named: BTreeSet<TaskId> = named.collect::<Result<_, _>>()?;
    let mut tasks: Vec<&Task> = match (service, node) {
        _ if !named.is_empty() => named.iter().filter_map(|id| cluster.tasks.get(*id)).collect(),
        (Some(service), _) => cluster.tasks_of_service(service).collect(),
        (None, Some(node)) => cluster.tasks_of_node(node).collect(),
        (None, None) => cluster.tasks.values().collect(),
    };
    tasks.retain(|task| {
        service.is_none_or(|service| task.service == service)
            && node.is_none_or(|node| task.node == Some(node))
            && (request.live != Some(true) || task.is_wanted())
    });
    tasks.sort_by_key(|task| {
        (cluster.spec_of(task).name(), task.instance(), std::cmp::Reverse(task.created_index), task.id)
    });
    Ok(tasks)
}
