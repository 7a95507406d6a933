//! The part of the state that a pass of the reconcilers covers.

use std::collections::BTreeSet;

use events::{NodeId, ServiceId};
use projections::{Cluster, Instance, Task, Touched};

use crate::slices::all_services;

projections::concerns! {
    /// Services, places in services, and nodes to reconcile.
    pub struct Scope
    sets {
        /// Services of which any task may be wrong, including removed ones with remaining tasks.
        services: ServiceId,
        /// Places of other services with a task that may be wrong.
        places: (ServiceId, Instance),
        /// Nodes whose own rows changed.
        nodes: NodeId,
        /// Other nodes that started or stopped accepting tasks.
        contacts: NodeId,
        /// Nodes that may have more room than before.
        roomier: NodeId,
        /// Nodes whose liveness to check: those that changed, and those whose heartbeat timeout may have expired.
        overdue: NodeId,
        /// Services that lack tasks which the last turn had no room to create.
        unfilled: ServiceId,
        /// Services whose unplaceable tasks should be retried.
        waiting: ServiceId,
        /// Other services whose rollout may continue.
        rollouts: ServiceId,
        /// Other services whose tasks may be moved to other nodes now.
        balances: ServiceId,
        /// Other services whose tasks' resource use may have changed.
        scalings: ServiceId,
        /// Other nodes that may no longer be suitable for their tasks.
        unjudged: NodeId,
        /// Quarantined services: whatever else is reconciled, their tasks stay unchanged.
        quarantined: ServiceId,
    }
    flags {
        /// New tasks wait to be placed, for which the last turn had no room.
        placement,
    }
}

impl Scope {
    /// What must be reconciled after a change: what was touched, the places of services on touched nodes, and, since a node may
    /// have become suitable, the place of each global service there. A change in one place of a service that rolls out determines
    /// when the next is due, and so affects its rollout.
    pub fn of(cluster: &Cluster, touched: &Touched) -> Self {
        if touched.everything {
            return Self::everything(cluster);
        }
        let mut places = touched.places.clone();
        for &node in &touched.nodes {
            places.extend(cluster.tasks_of_node(node).map(|task| (task.service, task.instance())));
        }
        for &node in touched.nodes.union(&touched.contacts) {
            places.extend(cluster.global_services().map(|service| (service.id, Instance::Node(node))));
        }
        let services = touched.services.clone();
        let rolls = |service: &ServiceId| cluster.services.get(*service).is_some_and(projections::Service::is_rolling);
        let mut rollouts = services_of(&places);
        rollouts.extend(&touched.rollouts);
        rollouts.retain(|service| !services.contains(service) && rolls(service));
        places.retain(|(service, _)| !services.contains(service));
        let contacts = touched.contacts.difference(&touched.nodes).copied().collect();
        let roomier = touched.nodes.union(&touched.tasks_of_nodes).chain(&contacts).copied().collect();
        let overdue = touched.nodes.union(&touched.overdue).chain(&contacts).copied().collect();
        let (nodes, unfilled, waiting) = (touched.nodes.clone(), touched.unfilled.clone(), touched.waiting.clone());
        let (placement, unjudged) = (touched.placement, touched.unjudged.difference(&nodes).copied().collect());
        let (balances, scalings, quarantined) = (touched.balances.clone(), touched.scalings.clone(), BTreeSet::new());
        Self {
            services,
            places,
            nodes,
            contacts,
            roomier,
            overdue,
            unfilled,
            waiting,
            placement,
            rollouts,
            balances,
            scalings,
            unjudged,
            quarantined,
        }
    }

    /// The same, without quarantined services.
    pub(crate) fn without(mut self, quarantined: &BTreeSet<ServiceId>) -> Self {
        if !quarantined.is_empty() {
            self.services.retain(|service| !quarantined.contains(service));
            self.places.retain(|(service, _)| !quarantined.contains(service));
            self.unfilled.retain(|service| !quarantined.contains(service));
            self.waiting.retain(|service| !quarantined.contains(service));
            self.rollouts.retain(|service| !quarantined.contains(service));
            self.balances.retain(|service| !quarantined.contains(service));
            self.scalings.retain(|service| !quarantined.contains(service));
            self.quarantined = quarantined.clone();
        }
        self
    }

    /// The services with anything to reconcile.
    pub fn concerned(&self) -> BTreeSet<ServiceId> {
        let mut services = services_of(&self.places);
        services.extend(&self.services);
        services
    }

    /// How many places it covers, including those of whole services.
    pub fn places_in(&self, cluster: &Cluster) -> usize {
        let wanted = self.services.iter().map(|service| cluster.places().wanted(*service));
        self.places.len() + usize::try_from(wanted.sum::<u64>()).unwrap_or(usize::MAX)
    }

    /// The tasks of a service to reconcile, in the order of their places.
    pub fn tasks_of<'a>(&self, cluster: &'a Cluster, service: ServiceId) -> impl Iterator<Item = &'a Task> {
        let whole = self.services.contains(&service).then(|| cluster.tasks_of_service(service));
        let places = self.places.range((service, Instance::FIRST)..=(service, Instance::LAST));
        let in_places = places.flat_map(move |(_, instance)| cluster.tasks_of_instance(service, *instance));
        whole.into_iter().flatten().chain(in_places)
    }

    /// Everything. Removed services are found by the specs that their remaining tasks run.
    pub fn everything(cluster: &Cluster) -> Self {
        let services = all_services(cluster);
        let nodes: BTreeSet<NodeId> = cluster.nodes.iter().map(|(id, _)| id).collect();
        let (roomier, overdue) = (nodes.clone(), nodes.clone());
        Self { services, roomier, overdue, nodes, placement: true, ..Self::default() }
    }
}

fn services_of(places: &BTreeSet<(ServiceId, Instance)>) -> BTreeSet<ServiceId> {
    places.iter().map(|(service, _)| *service).collect()
}

#[cfg(test)]
mod tests {
    use events::{
        Availability, Id, Kind, NodeBecameReady, NodeDeclaredDown, NodeDisconnected, NodeRegistered, NodeSpec,
        NodeSpecUpdated, SessionId, TaskState,
    };

    use super::*;
    use crate::samples::{Sample, replicated, service};

    #[test]
    fn tasks_of_a_node_are_looked_at_when_something_changed_for_them() {
        let node = NodeId::from_bits(1);
        let down = || Kind::NodeDeclaredDown(NodeDeclaredDown { node, ..NodeDeclaredDown::default() });
        let ready = || Kind::NodeBecameReady(NodeBecameReady { node });
        let disconnected = || Kind::NodeDisconnected(NodeDisconnected { node, ..NodeDisconnected::default() });
        let registered = |addr: &str| {
            let (session, addr) = (SessionId::from_bits(9), addr.to_owned());
            Kind::NodeRegistered(NodeRegistered { node, session, addr })
        };
        let drain = || {
            let spec = NodeSpec { availability: Availability::Drain.into(), ..NodeSpec::default() };
            Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec })
        };
        // Earlier events, the event, and whether it affects the existing tasks.
        let table = [
            (vec![], disconnected(), false),
            (vec![disconnected()], registered(""), false),
            (vec![disconnected()], ready(), false),
            (vec![], down(), true),
            (vec![down()], ready(), true),
            // Replacements no longer wait for tasks that are still stopping there.
            (vec![drain()], down(), true),
            // Constraints may refer to the address.
            (vec![], registered("10.0.0.9"), true),
            (vec![], drain(), true),
        ];
        for (before, now, expected) in table {
            let case = format!("{now:?} after {before:?}");
            let mut sample = Sample::default().with_node(1, NodeSpec::default()).with_service(replicated(1), &[]);
            sample = sample.with_task(1, 1, None, TaskState::Pending).assigned(1, 1).reported(1, TaskState::Running);
            before.into_iter().for_each(|kind| sample.apply(1, kind));
            let touched = sample.touched_by(now);
            let scope = Scope::of(&sample.cluster, &touched);
            assert_eq!(scope.places.contains(&(service(), Instance::Slot(1))), expected, "{case}");
            assert!(scope.overdue.contains(&node) && scope.roomier.contains(&node), "{case}");
        }
    }
}
