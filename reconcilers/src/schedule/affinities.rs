//! Required and preferred affinities of tasks: to services, images, and properties of nodes.
//!
//! Properties of a node are part of a layout. The locations of a service's or an image's tasks change with every task: the nodes
//! that have them are visited one by one for each group, and all others are equal.

use std::collections::BTreeSet;

use events::spec::Constraint;
use events::spec::affinity::{Affinity, Presence, plain_image};
use events::{ServiceId, ServiceSpec};
use projections::{Cluster, Node};

use super::run::Run;

/// The affinities of one spec.
#[derive(Debug, Default)]
pub(super) struct Affinities {
    own: ServiceId,
    /// Required properties of the node itself.
    suited: Vec<Constraint>,
    /// What must be on the node.
    near: Vec<AffinityTarget>,
    /// What must not be on the node.
    apart: Vec<AffinityTarget>,
    /// Preferred properties of the node, with their weights.
    preferred_properties: Vec<(Constraint, u64)>,
    /// What is preferably on the node, or not, with the weights.
    preferred: Vec<(AffinityTarget, Presence, u64)>,
    /// One that does not parse is rejected when the service is created; if there is one anyway, no node is suitable.
    malformed: bool,
}

/// Something that is on some nodes and not on others.
#[derive(Debug, PartialEq, Eq)]
enum AffinityTarget {
    /// Tasks of a service; none of a service that does not exist.
    Tasks(Option<ServiceId>),
    Image(String),
}

impl AffinityTarget {
    fn is_on(&self, number: usize, run: &mut Run<'_>) -> bool {
        match self {
            AffinityTarget::Tasks(service) => service.is_some_and(|service| run.nodes_of(service).contains(&number)),
            AffinityTarget::Image(image) => run.nodes_with(image).contains(&number),
        }
    }

    fn nodes(&self, run: &mut Run<'_>) -> BTreeSet<usize> {
        match self {
            AffinityTarget::Tasks(Some(service)) => run.nodes_of(*service).clone(),
            AffinityTarget::Tasks(None) => BTreeSet::new(),
            AffinityTarget::Image(image) => run.nodes_with(image).clone(),
        }
    }
}

impl Affinities {
    /// The affinities in a service's spec, and the anti-affinities that other services have to it.
    pub(super) fn of(cluster: &Cluster, own: ServiceId, spec: &ServiceSpec) -> Self {
        let mut all = Self { own, ..Self::default() };
        for affinity in &spec.template().placement().affinities {
            let target = match Affinity::parse(&affinity.expression) {
                Ok(Affinity::Service(name, presence)) => {
                    (AffinityTarget::Tasks(cluster.service_named(&name).map(|service| service.id)), presence)
                }
                Ok(Affinity::Image(reference, presence)) => (AffinityTarget::Image(plain_image(&reference)), presence),
                Ok(Affinity::Node(constraint)) => {
                    match affinity.weight {
                        Some(weight) => all.preferred_properties.push((constraint, weight.into())),
                        None => all.suited.push(constraint),
                    }
                    continue;
                }
                Err(_) => {
                    all.malformed = true;
                    continue;
                }
            };
            match (affinity.weight, target) {
                (Some(weight), (target, presence)) => all.preferred.push((target, presence, weight.into())),
                (None, (target, Presence::Near)) => all.near.push(target),
                (None, (target, Presence::Apart)) => all.apart.push(target),
            }
        }
        let others = cluster.kept_apart_from(spec.name()).filter(|other| *other != own);
        all.apart.extend(others.map(|other| AffinityTarget::Tasks(Some(other))));
        all
    }

    /// Whether a node has the required properties.
    pub(super) fn suit(&self, node: &Node) -> bool {
        if self.suited.is_empty() {
            return !self.malformed;
        }
        let facts = node.facts();
        !self.malformed && self.suited.iter().all(|constraint| constraint.matches(&facts))
    }

    /// Weight of the preferred properties that a node lacks.
    pub(super) fn penalty(&self, node: &Node) -> u64 {
        if self.preferred_properties.is_empty() {
            return 0;
        }
        let facts = node.facts();
        self.preferred_properties
            .iter()
            .filter(|(constraint, _)| !constraint.matches(&facts))
            .map(|(_, weight)| weight)
            .sum()
    }

    /// Whether a node has everything that it must have, and nothing that it must not have.
    pub(super) fn hold(&self, number: usize, run: &mut Run<'_>) -> bool {
        let is_first = self.is_first(run);
        self.near.iter().all(|target| (is_first && self.is_own(target)) || target.is_on(number, run))
            && !self.apart.iter().any(|target| target.is_on(number, run))
    }

    /// Whether the tasks must be near each other, and there is none yet: the first may go anywhere.
    pub(super) fn is_first(&self, run: &mut Run<'_>) -> bool {
        self.near.iter().any(|target| self.is_own(target)) && run.nodes_of(self.own).is_empty()
    }

    /// Whether only nodes with certain tasks or images are suitable: then only those are visited.
    pub(super) fn is_limited(&self, run: &mut Run<'_>) -> bool {
        let is_first = self.is_first(run);
        self.near.iter().any(|target| !(is_first && self.is_own(target)))
    }

    fn is_own(&self, target: &AffinityTarget) -> bool {
        *target == AffinityTarget::Tasks(Some(self.own))
    }

    /// The nodes that are affected by an affinity; if something is required, those that have it.
    pub(super) fn nodes(&self, run: &mut Run<'_>) -> BTreeSet<usize> {
        let is_first = self.is_first(run);
        let near = self.near.iter().filter(|target| !(is_first && self.is_own(target)));
        if let Some(fewest) = near.map(|target| target.nodes(run)).min_by_key(BTreeSet::len) {
            return fewest;
        }
        self.preferred.iter().flat_map(|(target, _, _)| target.nodes(run)).collect()
    }

    /// Whether a node is affected by a preferred affinity.
    pub(super) fn concern(&self, number: usize, run: &mut Run<'_>) -> bool {
        self.preferred.iter().any(|(target, _, _)| target.is_on(number, run))
    }

    /// Weight of the preferences that a node does not meet.
    pub(super) fn unmet_weight(&self, number: usize, run: &mut Run<'_>) -> u64 {
        let unmet = |(target, presence, _): &&(AffinityTarget, Presence, u64)| match presence {
            Presence::Near => !target.is_on(number, run),
            Presence::Apart => target.is_on(number, run),
        };
        self.preferred.iter().filter(unmet).map(|(_, _, weight)| weight).sum()
    }

    /// Weight of the unmet preferences of a node that no affinity affects.
    pub(super) fn unmet_weight_of_ordinary(&self) -> u64 {
        let near = self.preferred.iter().filter(|(_, presence, _)| *presence == Presence::Near);
        near.map(|(_, _, weight)| weight).sum()
    }
}
