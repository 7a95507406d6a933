//! Lists, as pages of one state: no message is large however many objects there are, and pages are only created as they are
//! read.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use commands::Rejection;
use events::{NodeId, ServiceId, TaskId, Timestamp};
use projections::views::overview::{resolve_node, resolve_service, resolve_task};
use projections::views::progress::watched;
use projections::{Cluster, Task};
use prost::Message;
use wire::v1::{
    ListNodesRequest, ListServicesRequest, ListTasksRequest, NodePage, NodeSummary, ServicePage, ServiceSummary,
    TaskList, TaskView,
};

use crate::manager::driver::Published;
use crate::manager::replica::RaftStatus;

use super::select::{Candidate, selects};
use super::views;

/// Page size limit: large enough for a low overhead per page, small enough for any client.
const PAGE_BYTES: usize = 128 * 1024;

/// The pages of one state; at least one, which may be empty.
pub struct Pages<R, P> {
    rows: Box<dyn Iterator<Item = R> + Send>,
    page: fn(Vec<R>, u64) -> P,
    index: u64,
    begun: bool,
}

impl<R: Message, P> Pages<R, P> {
    /// Creates pages with the rows of those objects that still exist when their page is created.
    pub(super) fn new<I: Send + 'static>(
        state: Arc<Published>,
        objects: Vec<I>,
        row: impl Fn(&Published, I) -> Option<R> + Send + 'static,
        page: fn(Vec<R>, u64) -> P,
    ) -> Self {
        let index = state.cluster.position.index;
        let rows = objects.into_iter().filter_map(move |object| row(&state, object));
        Self { rows: Box::new(rows), page, index, begun: false }
    }
}

impl<R: Message, P> Iterator for Pages<R, P> {
    type Item = P;

    fn next(&mut self) -> Option<P> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        while bytes < PAGE_BYTES
            && let Some(row) = self.rows.next()
        {
            bytes += row.encoded_len();
            page.push(row);
        }
        let more = !std::mem::replace(&mut self.begun, true) || !page.is_empty();
        more.then(|| (self.page)(page, self.index))
    }
}

/// The nodes that a request selects, sorted by name.
pub fn nodes(
    state: Arc<Published>,
    request: &ListNodesRequest,
    raft: Arc<RaftStatus>,
    own: NodeId,
) -> Pages<NodeSummary, NodePage> {
    let (role, availability) =
        (request.role.map(|_| request.role()), request.availability.map(|_| request.availability()));
    let selected = state.cluster.nodes.values().filter(|node| {
        let labels = node.spec.annotations.as_ref().map(|annotations| &annotations.labels);
        let candidate = Candidate { id: node.id.to_string(), name: views::node_name(node), labels };
        role.is_none_or(|role| node.role == role)
            && availability.is_none_or(|availability| node.spec.availability() == availability)
            && selects(request.select.as_ref(), &candidate)
    });
    let mut selected: Vec<_> = selected.map(|node| (views::node_name(node), node.id)).collect();
    selected.sort();
    let ids: Vec<NodeId> = selected.into_iter().map(|(_, id)| id).collect();
    let row = move |state: &Published, id| {
        let node = state.cluster.nodes.get(id)?;
        Some(views::node_summary(&state.cluster, node, &raft, own))
    };
    Pages::new(state, ids, row, |nodes, index| NodePage { nodes, index })
}

/// The services that a request selects, sorted by name.
pub fn services(
    state: Arc<Published>,
    request: &ListServicesRequest,
    now: Timestamp,
) -> Pages<ServiceSummary, ServicePage> {
    let mode = request.mode.map(|_| request.mode());
    let selected = state.cluster.services.values().filter(|service| {
        let named = service.spec.annotations();
        let candidate = Candidate { id: service.id.to_string(), name: &named.name, labels: Some(&named.labels) };
        mode.is_none_or(|mode| views::mode(&service.spec) == mode) && selects(request.select.as_ref(), &candidate)
    });
    let mut selected: Vec<_> = selected.map(|service| (service.spec.name(), service.id)).collect();
    selected.sort();
    let ids: Vec<ServiceId> = selected.into_iter().map(|(_, id)| id).collect();
    let row = move |state: &Published, id| {
        let service = state.cluster.services.get(id)?;
        Some(views::service_summary(state, service, now))
    };
    Pages::new(state, ids, row, |services, index| ServicePage { services, index })
}

/// The tasks that a request selects, sorted by service, slot and age; their specs are only included if the request refers to
/// individual tasks.
///
/// # Errors
/// When a reference matches no object, or more than one.
pub fn tasks(
    state: Arc<Published>,
    request: &ListTasksRequest,
    now: Timestamp,
) -> Result<Pages<TaskView, TaskList>, Rejection> {
    let tasks: Vec<TaskId> = select_tasks(&state.cluster, request)?.into_iter().map(|task| task.id).collect();
    let with_specs = !request.tasks.is_empty();
    let row = move |state: &Published, id| {
        let task = state.cluster.tasks.get(id)?;
        Some(views::task(&state.cluster, task, with_specs, now))
    };
    Ok(Pages::new(state, tasks, row, |tasks, index| TaskList { tasks, index }))
}

fn select_tasks<'a>(cluster: &'a Cluster, request: &ListTasksRequest) -> Result<Vec<&'a Task>, Rejection> {
    let service = request.service.as_ref().map(|service| resolve_service(cluster, service)).transpose()?;
    let node = request.node.as_ref().map(|node| resolve_node(cluster, node)).transpose()?;
    let named = request.tasks.iter().map(|reference| resolve_task(cluster, reference));
    let named: BTreeSet<TaskId> = named.collect::<Result<_, _>>()?;
    let mut tasks: Vec<&Task> = match (service, node) {
        _ if !named.is_empty() => named.iter().filter_map(|id| cluster.tasks.get(*id)).collect(),
        (Some(service), _) if request.watched == Some(true) => {
            cluster.services.get(service).map_or_else(Vec::new, |service| watched(cluster, service))
        }
        (Some(service), _) => cluster.tasks_of_service(service).collect(),
        (None, Some(node)) => cluster.tasks_of_node(node).collect(),
        (None, None) => cluster.tasks.values().collect(),
    };
    let desired = request.desired.map(|_| request.desired());
    tasks.retain(|task| {
        desired.is_none_or(|desired| task.desired == desired)
            && service.is_none_or(|service| task.service == service)
            && node.is_none_or(|node| task.node == Some(node))
            && (request.live != Some(true) || task.is_wanted())
            && (request.select.is_none() || selects_task(cluster, request, task))
    });
    tasks.sort_by_key(|task| (cluster.spec_of(task).name(), task.instance(), Reverse(task.created_index), task.id));
    Ok(tasks)
}

fn selects_task(cluster: &Cluster, request: &ListTasksRequest, task: &Task) -> bool {
    let labels = Some(&cluster.spec_of(task).annotations().labels);
    let candidate = Candidate { id: task.id.to_string(), name: &cluster.task_name(task), labels };
    selects(request.select.as_ref(), &candidate)
}
