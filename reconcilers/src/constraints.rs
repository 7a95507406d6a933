//! Tasks whose node is no longer suitable: its labels, role or resources changed.
//!
//! The service's current constraints count, even for tasks of an older spec. Only during a rollout, a task that still meets the
//! constraints that it was created with is left to the rollout, and so to the configured pace.

use events::spec::generic;
use events::{Availability, Kind, NodeId, TaskRejected, TaskState};
use projections::{Cluster, Node, Service, Task};

use crate::schedule::filters::meets_constraints;
use crate::{Correction, Ctx, Scope, slots};

const MESSAGE: &str = "task rejected by constraint enforcer";
const ERROR: &str = "assigned node no longer meets constraints";

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, _ctx: &mut Ctx<'_>, out: &mut Correction) {
    let nodes = scope.nodes.iter().chain(&scope.unjudged);
    let of_nodes = nodes.filter_map(|id| cluster.nodes.get(*id)).filter(|node| is_enforced(node));
    let of_services = scope.concerned().into_iter().filter_map(|id| cluster.services.get(id));
    let of_nodes = of_nodes.flat_map(|node| unsuited(cluster, node));
    let of_nodes = of_nodes.filter(|task| !scope.quarantined.contains(&task.service));
    let of_services = of_services.flat_map(|service| misplaced(cluster, scope, service));
    for task in of_nodes.chain(of_services) {
        if out.is_full() {
            return;
        }
        let (message, error) = (MESSAGE.to_owned(), ERROR.to_owned());
        out.push(Kind::TaskRejected(TaskRejected { task: task.id, message, error }));
    }
}

/// On a paused node tasks stay in any case, and from a drained one they are removed anyway.
fn is_enforced(node: &Node) -> bool {
    node.spec.availability() == Availability::Active
}

/// Tasks of a changed service on unchanged nodes: a completed rollout leaves them to the service's constraints, which may have
/// been changed back and forth. That only concerns tasks of an older spec.
fn misplaced<'a>(cluster: &'a Cluster, scope: &Scope, service: &Service) -> Vec<&'a Task> {
    let constraints = &cluster.spec_in_force(service).template().placement().constraints;
    if constraints.is_empty() || !slots::have_older_specs(cluster, service) {
        return Vec::new();
    }
    let tasks = scope.tasks_of(cluster, service.id).filter(|task| is_settled(task));
    let is_judged = |node: &NodeId| scope.nodes.contains(node) || scope.unjudged.contains(node);
    let misplaced = tasks.filter(|task| {
        let node = task.node.filter(|node| !is_judged(node)).and_then(|node| cluster.nodes.get(node));
        node.is_some_and(|node| is_enforced(node) && !constraints_hold(cluster, task, node))
    });
    misplaced.collect()
}

/// Tasks that must not stay: those whose service's constraints are not met, and the newest ones that no longer fit.
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
    cluster.tasks_of_node(node).filter(|task| is_settled(task))
}

fn is_settled(task: &Task) -> bool {
    task.is_wanted() && (TaskState::Assigned..=TaskState::Running).contains(&task.state)
}

/// Whether the node meets the service's constraints, or those of the task's own spec while a rollout has yet to replace it.
fn constraints_hold(cluster: &Cluster, task: &Task, node: &Node) -> bool {
    let own = &cluster.spec_of(task).template().placement().constraints;
    let Some(service) = cluster.services.get(task.service) else { return meets_constraints(own, node) };
    let awaits_rollout = task.spec_version != service.template_version && (service.is_rolling() || service.is_paused());
    meets_constraints(&cluster.spec_in_force(service).template().placement().constraints, node)
        || (awaits_rollout && meets_constraints(own, node))
}

fn claims_exist(task: &Task, offered: &[events::GenericResource]) -> bool {
    task.claims.iter().all(|claim| {
        let offer = offered.iter().find(|offer| offer.kind == claim.kind);
        offer.is_some_and(|offer| {
            offer.amount >= claim.amount && claim.names.iter().all(|name| offer.names.contains(name))
        })
    })
}

#[cfg(test)]
mod tests {
    use events::{Annotations, Id, NodeSpec, NodeSpecUpdated};

    use super::*;
    use crate::samples::{Sample, replicated};

    const NODE: u128 = 3;

    fn spec(availability: Availability, disk: &str) -> NodeSpec {
        let labels = [("disk".to_owned(), disk.to_owned())].into();
        let annotations = Some(Annotations { labels, ..Annotations::default() });
        NodeSpec { annotations, availability: availability.into(), ..NodeSpec::default() }
    }

    /// Tasks that require an SSD, on a node that has one, in these states.
    fn tasks(states: &[TaskState]) -> Sample {
        let sample = Sample::default().with_node(NODE, spec(Availability::Active, "ssd"));
        let sample = sample.with_service(replicated(3), &["node.labels.disk==ssd"]);
        (7..).zip(states).fold(sample, |sample, (number, state)| {
            let slot = u64::try_from(number - 6).unwrap_or_default();
            sample.with_task(number, slot, None, TaskState::Pending).assigned(number, NODE).reported(number, *state)
        })
    }

    #[test]
    fn a_task_is_rejected_when_its_node_has_lost_what_it_was_chosen_for() {
        use Availability::{Active, Drain, Pause};
        // The node's current state, the task's state, and the result.
        let table: [(_, _, _, &[&str]); 9] = [
            (Active, "ssd", TaskState::Running, &[]),
            (Active, "hdd", TaskState::Assigned, &["reject 7"]),
            (Active, "hdd", TaskState::Preparing, &["reject 7"]),
            (Active, "hdd", TaskState::Running, &["reject 7"]),
            (Active, "hdd", TaskState::Complete, &[]),
            (Active, "hdd", TaskState::Failed, &[]),
            (Pause, "hdd", TaskState::Running, &[]),
            (Drain, "hdd", TaskState::Running, &[]),
            (Active, "", TaskState::Running, &["reject 7"]),
        ];
        for (availability, disk, state, expected) in table {
            let mut sample = tasks(&[state]);
            let (node, spec) = (NodeId::from_bits(NODE), spec(availability, disk));
            sample.apply(1, Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec }));
            assert_eq!(sample.ask(reconcile, 1), expected, "{availability:?}, {disk}, {state:?}");
        }
    }

    #[test]
    fn the_youngest_tasks_are_rejected_when_a_node_offers_less() {
        let table: [(_, &[&str]); 4] =
            [(3, &[]), (2, &["reject 9"]), (1, &["reject 8", "reject 9"]), (0, &["reject 7", "reject 8", "reject 9"])];
        for (cores, expected) in table {
            let sample = tasks(&[TaskState::Running; 3]).offering(NODE, cores);
            assert_eq!(sample.ask(reconcile, 1), expected, "{cores} cores");
        }
    }
}
