//! One task of a global service on every suitable node.

use events::{Availability, ServiceId, TaskState};
use projections::{Cluster, Instance, Liveness, Node, Service, Task};

use crate::schedule::filters::{Filters, meets_constraints};
use crate::slots::{NewTask, ended_for_good};
use crate::{Correction, Ctx, Scope, slots};

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    let global = |id: &ServiceId| cluster.services.get(*id).filter(|service| service.spec.is_global());
    for service in scope.services.iter().filter_map(global) {
        leave_nodes(cluster, cluster.tasks_of_service(service.id), service, out);
        for node in cluster.nodes.values() {
            fill(cluster, service, node, ctx, out);
        }
    }
    for (id, instance) in &scope.places {
        let (Some(service), Instance::Node(node)) = (global(id), *instance) else { continue };
        leave_nodes(cluster, cluster.tasks_of_instance(*id, *instance), service, out);
        if let Some(node) = cluster.nodes.get(node) {
            fill(cluster, service, node, ctx, out);
        }
    }
}

/// Creates the node's task, if it should have one.
fn fill(cluster: &Cluster, service: &Service, node: &Node, ctx: &mut Ctx<'_>, out: &mut Correction) {
    if !out.is_full()
        && service.has_started()
        && takes_task(cluster, service, node)
        && !is_filled(cluster, service, node)
    {
        out.push(NewTask::first(cluster, service, Instance::Node(node.id), ctx.now).event(service, ctx));
    }
}

/// Tasks on nodes that are not (or no longer) suitable for the service stop; those of removed nodes are removed.
fn leave_nodes<'a>(cluster: &Cluster, tasks: impl Iterator<Item = &'a Task>, service: &Service, out: &mut Correction) {
    for task in tasks {
        let Some(node) = task.node else { continue };
        if out.is_full() {
            return;
        }
        match cluster.nodes.get(node) {
            Some(node) if suits(cluster, service, node) => {}
            Some(_) => out.want([task], TaskState::Shutdown, slots::why_left(cluster, task)),
            None => out.want([task], TaskState::Remove, slots::why_left(cluster, task)),
        }
    }
}

/// Whether the service should have a task on the node at all.
pub(crate) fn suits(cluster: &Cluster, service: &Service, node: &Node) -> bool {
    let placement = cluster.spec_in_force(service).template().placement();
    let platform = node.description.is_none() || Filters::platform_fits(&placement.platforms, node);
    !node.must_be_vacated() && meets_constraints(&placement.constraints, node) && platform
}

/// Whether a new task may be created for the node now.
fn takes_task(cluster: &Cluster, service: &Service, node: &Node) -> bool {
    let open = node.spec.availability() == Availability::Active && node.liveness == Liveness::Ready;
    open && suits(cluster, service, node)
}

/// A node is filled by a wanted task, and by one that ended there permanently. One that had to leave the node does not count.
fn is_filled(cluster: &Cluster, service: &Service, node: &Node) -> bool {
    let tasks = slots::at(cluster, service.id, Instance::Node(node.id));
    let wanted = tasks.iter().any(|task| task.is_wanted());
    let stays = |task: &Task| !task.had_to_leave() || cluster.has_completed((service.id, task.instance()));
    let newest_ended = tasks.last().is_some_and(|newest| stays(newest) && ended_for_good(cluster, service, newest));
    // A predecessor that is still stopping keeps its ports and volumes.
    let stopping = tasks.iter().any(|task| task.occupies_node());
    wanted || newest_ended || stopping
}

#[cfg(test)]
mod tests {
    use events::{Id, Kind, NodeDeclaredDown, NodeId, NodeRemoved, NodeSpec, Timestamp};

    use super::*;
    use crate::samples::{Sample, global};

    const NODE: u128 = 3;

    /// The service on a node of this availability, with a task there in this state if there is one.
    fn sample(availability: Availability, is_down: bool, task: Option<TaskState>) -> Sample {
        let spec = NodeSpec { availability: availability.into(), ..NodeSpec::default() };
        let mut sample = Sample::default().with_node(NODE, spec).with_service(global(), &["node.hostname==node-3"]);
        if let Some(state) = task {
            sample = sample.with_task(7, 0, Some(NODE), state);
        }
        if is_down {
            let (node, last_heard) = (NodeId::from_bits(NODE), Timestamp::default());
            sample.apply(1, Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard, unheard: None }));
        }
        sample
    }

    #[test]
    fn each_node_that_suits_has_one_task_and_no_other_has_any() {
        use Availability::{Active, Drain, Pause};
        let running = Some(TaskState::Running);
        // The node's availability, whether it is down, its task, and the result.
        let table: [(_, _, _, &[&str]); 9] = [
            (Active, false, None, &["make on 3"]),
            (Active, false, running, &[]),
            // Tasks that ended by themselves are handled by `restarts`.
            (Active, false, Some(TaskState::Failed), &[]),
            (Active, true, None, &[]),
            (Active, true, running, &["shutdown 7"]),
            // A paused node keeps its tasks and gets no new ones.
            (Pause, false, None, &[]),
            (Pause, false, running, &[]),
            (Drain, false, None, &[]),
            (Drain, false, running, &["shutdown 7"]),
        ];
        for (availability, is_down, task, expected) in table {
            let said = sample(availability, is_down, task).ask(reconcile, 1);
            assert_eq!(said, expected, "{availability:?}, down: {is_down}, task: {task:?}");
        }
    }

    #[test]
    fn a_node_that_does_not_meet_the_constraints_or_is_gone_has_no_task() {
        let elsewhere = Sample::default().with_node(4, NodeSpec::default());
        let elsewhere = elsewhere.with_service(global(), &["node.hostname==node-3"]);
        assert_eq!(elsewhere.ask(reconcile, 1), [""; 0]);
        let misplaced = elsewhere.with_task(7, 0, Some(4), TaskState::Running);
        assert_eq!(misplaced.ask(reconcile, 1), ["shutdown 7"]);
        let mut gone = sample(Availability::Active, false, Some(TaskState::Running));
        let node = NodeId::from_bits(NODE);
        gone.apply(1, Kind::NodeRemoved(NodeRemoved { node, forced: true, forgotten: false }));
        assert_eq!(gone.ask(reconcile, 1), ["remove 7"]);
    }
}
