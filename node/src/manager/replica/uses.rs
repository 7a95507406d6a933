//! Resource use of the tasks of autoscaled services: the leader's record of the last reports of their nodes, which never enters
//! the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::{NodeId, SessionId, Timestamp};
use projections::Cluster;
use reconcilers::{NodeUse, TaskUse, Uses};
use wire::v1;

/// Resource use of tasks, by node, shared with readers. Each node has one row, with at most as many tasks as it may report.
#[derive(Debug, Clone, Default)]
pub(super) struct UseTracker(Arc<Uses>);

impl UseTracker {
    /// Records a report from a node's current session. A node can report its own tasks only.
    pub(super) fn note(
        &mut self,
        tip: &Cluster,
        node: NodeId,
        session: SessionId,
        uses: Vec<v1::TaskUse>,
        at: Timestamp,
    ) {
        if tip.nodes.get(node).is_none_or(|known| known.session != Some(session)) {
            return;
        }
        let is_own = |of: &v1::TaskUse| tip.tasks.get(of.task).is_some_and(|task| task.node == Some(node));
        let own = uses.into_iter().filter(is_own);
        let tasks: BTreeMap<_, _> = own
            .map(|v1::TaskUse { task, cpu_permille, memory_permille }| {
                (task, TaskUse { cpu_permille, memory_permille })
            })
            .collect();
        Arc::make_mut(&mut self.0).insert(node, Arc::new(NodeUse { at, tasks }));
    }

    /// Drops nodes that were removed.
    pub(super) fn keep_nodes(&mut self, tip: &Cluster) {
        if self.0.keys().any(|node| !tip.nodes.contains(*node)) {
            Arc::make_mut(&mut self.0).retain(|node, _| tip.nodes.contains(*node));
        }
    }

    pub(super) fn uses(&self) -> &Arc<Uses> {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use events::{
        Event, Id, Kind, NodeJoined, NodeRegistered, Reconciler, ServiceCreated, ServiceId, ServiceSpec, TaskAssigned,
        TaskCreated, TaskId, TaskState,
    };
    use projections::Stamp;

    use super::*;

    #[test]
    fn a_node_speaks_of_its_own_tasks_in_its_present_session() {
        let [node, other] = [1, 2].map(NodeId::from_bits);
        let (task, service) = (TaskId::from_bits(3), ServiceId::from_bits(4));
        let session = SessionId::from_bits(5);
        let created = TaskCreated { task, service, slot: 1, desired: TaskState::Running.into(), ..Default::default() };
        let mut kinds = vec![
            Kind::ServiceCreated(Box::new(ServiceCreated { service, spec: ServiceSpec::default() })),
            Kind::TaskCreated(created),
        ];
        for node in [node, other] {
            kinds.push(Kind::NodeJoined(NodeJoined { node, ..NodeJoined::default() }));
            kinds.push(Kind::NodeRegistered(NodeRegistered { node, session, ..NodeRegistered::default() }));
        }
        kinds.push(Kind::TaskAssigned(TaskAssigned { task, node, ..TaskAssigned::default() }));
        let mut cluster = Cluster::default();
        for kind in kinds {
            cluster.apply(&Event::by_reconciler(Reconciler::Schedule, kind), &Stamp::default());
        }
        let said = || vec![v1::TaskUse { task, cpu_permille: Some(900), memory_permille: None }];
        let (mut uses, at) = (UseTracker::default(), Timestamp::default());
        uses.note(&cluster, node, SessionId::from_bits(6), said(), at);
        assert!(uses.uses().is_empty(), "a session that is over");
        uses.note(&cluster, other, session, said(), at);
        assert!(uses.uses()[&other].tasks.is_empty(), "a task of another node");
        uses.note(&cluster, node, session, said(), at);
        assert_eq!(uses.uses()[&node].tasks[&task].cpu_permille, Some(900));
        uses.keep_nodes(&Cluster::default());
        assert!(uses.uses().is_empty());
    }
}
