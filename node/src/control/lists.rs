//! Lists, as pages of one state: no message is large however many objects there are, and pages are only created as they are
//! read.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use commands::Rejection;
use events::{Named, NodeId, ServiceId, TaskId, Timestamp};
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
    page: Box<dyn Fn(Vec<R>, u64) -> P + Send>,
    index: u64,
    started: bool,
}

impl<R: Message, P> Pages<R, P> {
    /// Creates pages with the rows of those objects that still exist when their page is created.
    pub(super) fn new<I: Send + 'static>(
        state: Arc<Published>,
        objects: Vec<I>,
        row: impl Fn(&Published, I) -> Option<R> + Send + 'static,
        page: impl Fn(Vec<R>, u64) -> P + Send + 'static,
    ) -> Self {
        let index = state.cluster.position.index;
        let rows = objects.into_iter().filter_map(move |object| row(&state, object));
        Self { rows: Box::new(rows), page: Box::new(page), index, started: false }
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
        let more = !std::mem::replace(&mut self.started, true) || !page.is_empty();
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
    let mut tasks: Vec<TaskId> = select_tasks(&state.cluster, request)?.into_iter().map(|task| task.id).collect();
    let total = request.limit.map(|_| tasks.len() as u64);
    tasks.truncate(request.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
    let with_specs = !request.tasks.is_empty();
    let row = move |state: &Published, id| {
        let task = state.cluster.tasks.get(id)?;
        Some(views::task(&state.cluster, task, with_specs, now))
    };
    Ok(Pages::new(state, tasks, row, move |tasks, index| TaskList { tasks, index, total }))
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
    let text = request.containing.as_ref().map(|text| text.to_lowercase());
    tasks.retain(|task| {
        desired.is_none_or(|desired| task.desired == desired)
            && service.is_none_or(|service| task.service == service)
            && node.is_none_or(|node| task.node == Some(node))
            && (request.live != Some(true) || task.is_wanted())
            && (request.select.is_none() || selects_task(cluster, request, task))
            && text.as_ref().is_none_or(|text| has_text(cluster, task, text))
    });
    tasks.sort_by_cached_key(|task| {
        (cluster.spec_of(task).name(), task.instance(), Reverse(task.created_index), task.id)
    });
    Ok(tasks)
}

/// Whether what lists show of a task has a text in it, which is in lower case.
fn has_text(cluster: &Cluster, task: &Task, text: &str) -> bool {
    let has = |part: &str| part.to_lowercase().contains(text);
    let node = task.node.and_then(|node| cluster.nodes.get(node)).map_or("", |node| node.hostname());
    let said = task.status.as_ref().is_some_and(|status| has(&status.message) || has(&status.error));
    has(&cluster.task_name(task))
        || has(node)
        || has(&cluster.spec_of(task).template().container().image)
        || has(&task.state.name())
        || has(&task.desired.name())
        || has(&task.id.to_string())
        || said
}

fn selects_task(cluster: &Cluster, request: &ListTasksRequest, task: &Task) -> bool {
    let labels = Some(&cluster.spec_of(task).annotations().labels);
    let candidate = Candidate { id: task.id.to_string(), name: &cluster.task_name(task), labels };
    selects(request.select.as_ref(), &candidate)
}

#[cfg(test)]
mod tests {
    use events::{Annotations, ContainerSpec, Event, Id, Kind, ServiceCreated, ServiceSpec, TaskCreated, TaskSpec};
    use projections::Stamp;

    use super::*;

    /// Two services, `api` and `web`, with twelve tasks each.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        let mut tell = |kind| cluster.apply(&Event::by_command(0, kind), &Stamp { index: 1, ..Stamp::default() });
        for (number, name) in [(1, "web"), (2, "api")] {
            let service = ServiceId::from_bits(number);
            let container = ContainerSpec { image: format!("shop/{name}:1"), ..ContainerSpec::default() };
            let spec = ServiceSpec {
                annotations: Some(Annotations { name: name.to_owned(), ..Annotations::default() }),
                task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }),
                ..ServiceSpec::default()
            };
            tell(Kind::ServiceCreated(Box::new(ServiceCreated { service, spec })));
            for slot in 1..=12 {
                let task = TaskId::from_bits(number * 100 + u128::from(slot));
                let desired = events::TaskState::Running.into();
                tell(Kind::TaskCreated(TaskCreated {
                    task,
                    service,
                    slot,
                    desired,
                    spec_version: 1,
                    ..TaskCreated::default()
                }));
            }
        }
        cluster
    }

    #[test]
    fn a_list_of_tasks_has_the_first_of_those_that_are_looked_for_and_says_how_many_there_are() {
        let state = Arc::new(Published { cluster: cluster(), ..Published::default() });
        let none: &[&str] = &[];
        let table = [
            (Some(2), None, ["api.1", "api.2"].as_slice(), Some(24)),
            (Some(2), Some("WEB"), &["web.1", "web.2"], Some(12)),
            (Some(5), Some("b.12"), &["web.12"], Some(1)),
            (None, Some("shop/api:1"), &["api.1", "api.2", "api.3"], None),
            (Some(9), Some("nothing has it"), none, Some(0)),
            (Some(0), Some("running"), none, Some(24)),
        ];
        for (limit, containing, first, total) in table {
            let request =
                ListTasksRequest { limit, containing: containing.map(str::to_owned), ..ListTasksRequest::default() };
            let pages = tasks(Arc::clone(&state), &request, Timestamp::default()).expect("a list");
            let pages: Vec<TaskList> = pages.collect();
            assert!(pages.iter().all(|page| page.total == total), "{request:?}");
            let listed = pages.into_iter().flat_map(|page| page.tasks);
            let names: Vec<String> =
                listed.map(|task| format!("{}.{}", task.service_name, task.slot.unwrap_or_default())).collect();
            assert_eq!(names[..first.len()], *first, "{request:?}");
            let expected = limit.map_or(12, |limit| limit.min(total.unwrap_or(u64::MAX)));
            assert_eq!(names.len() as u64, expected, "{request:?}");
        }
    }
}
