//! Tasks that their node no longer suits: its labels, role or resources changed under them.

use events::spec::generic;
use events::{Kind, NodeId, TaskRejected, TaskState};
use projections::{Cluster, Node, Task};

use crate::schedule::filters::meets_constraints;
use crate::{Correction, Ctx, Scope};

const MESSAGE: &str = "task rejected by constraint enforcer";
const ERROR: &str = "assigned node no longer meets constraints";

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, _ctx: &mut Ctx<'_>, out: &mut Correction) {
    let nodes = scope.nodes.iter().filter_map(|id| cluster.nodes.get(*id));
    for node in nodes.filter(|node| node.spec.availability() == events::Availability::Active) {
        for task in unsuited(cluster, node) {
            if out.is_full() {
                return;
            }
            let (message, error) = (MESSAGE.to_owned(), ERROR.to_owned());
            out.push(Kind::TaskRejected(TaskRejected { task: task.id, message, error }));
        }
    }
}

/// Tasks that may not stay: the ones whose service's constraints do not hold, and the youngest ones that no longer fit.
fn unsuited<'a>(cluster: &'a Cluster, node: &Node) -> Vec<&'a Task> {
    let mut tasks: Vec<&Task> = settled_tasks(cluster, node.id).collect();
    tasks.sort_by_key(|task| (task.created_index, task.id));
    let Some(offers) = node.offers() else { return Vec::new() };
    let (mut cpus, mut memory, mut claims) = (0, 0, offers.generic.clone());
    let mut unsuited = Vec::new();
    for task in tasks {
        let fits = cpus + task.nano_cpus <= offers.nano_cpus && memory + task.memory_bytes <= offers.memory_bytes;
        let suits = fits && constraints_hold(cluster, task, node) && claims_exist(task, &claims);
        if suits {
            cpus += task.nano_cpus;
            memory += task.memory_bytes;
            claims = generic::remaining(&claims, &task.claims);
        } else {
            unsuited.push(task);
        }
    }
    unsuited
}

fn settled_tasks(cluster: &Cluster, node: NodeId) -> impl Iterator<Item = &Task> {
    let settled = |task: &&Task| task.is_wanted() && (TaskState::Assigned..=TaskState::Running).contains(&task.state);
    cluster.tasks_of_node(node).filter(settled)
}

/// The service's present constraints count, not the ones that the task was made with.
fn constraints_hold(cluster: &Cluster, task: &Task, node: &Node) -> bool {
    let current = cluster.services.get(task.service).map(|service| &service.spec);
    let spec = current.unwrap_or_else(|| cluster.spec_of(task));
    meets_constraints(&spec.template().placed().constraints, node)
}

fn claims_exist(task: &Task, offered: &[events::GenericResource]) -> bool {
    task.claims.iter().all(|claim| {
        let offer = offered.iter().find(|offer| offer.kind == claim.kind);
        offer.is_some_and(|offer| {
            offer.amount >= claim.amount && claim.names.iter().all(|name| offer.names.contains(name))
        })
    })
}
