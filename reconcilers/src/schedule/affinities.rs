//! What tasks have to be near or apart from, or would rather be: services, images, and what nodes are like.
//!
//! What a node is like is part of a layout. Where tasks of a service or an image are changes with every task: the nodes that have
//! them are looked at one by one for each group, and all others are alike.

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
    /// What must hold of the node itself.
    suited: Vec<Constraint>,
    /// What the node has to have.
    near: Vec<Thing>,
    /// What it must not have.
    apart: Vec<Thing>,
    /// What it had better be like, and how much so.
    liked: Vec<(Constraint, u64)>,
    /// What it had better have, or not, and how much so.
    wishes: Vec<(Thing, Presence, u64)>,
    /// One that does not parse is refused when the service is made; should one be there, no node will do.
    malformed: bool,
}

/// What is on some nodes and not on others.
#[derive(Debug, PartialEq, Eq)]
enum Thing {
    /// Tasks of a service; of one that does not exist, there are none.
    Tasks(Option<ServiceId>),
    Image(String),
}

impl Thing {
    fn is_on(&self, number: usize, run: &mut Run<'_>) -> bool {
        match self {
            Thing::Tasks(service) => service.is_some_and(|service| run.nodes_of(service).contains(&number)),
            Thing::Image(image) => run.nodes_with(image).contains(&number),
        }
    }

    fn nodes(&self, run: &mut Run<'_>) -> BTreeSet<usize> {
        match self {
            Thing::Tasks(Some(service)) => run.nodes_of(*service).clone(),
            Thing::Tasks(None) => BTreeSet::new(),
            Thing::Image(image) => run.nodes_with(image).clone(),
        }
    }
}

impl Affinities {
    /// The affinities of a service's spec, and those that other services have to it.
    pub(super) fn of(cluster: &Cluster, own: ServiceId, spec: &ServiceSpec) -> Self {
        let mut all = Self { own, ..Self::default() };
        for affinity in &spec.template().placement().affinities {
            let thing = match Affinity::parse(&affinity.expression) {
                Ok(Affinity::Service(name, presence)) => {
                    (Thing::Tasks(cluster.service_named(&name).map(|service| service.id)), presence)
                }
                Ok(Affinity::Image(reference, presence)) => (Thing::Image(plain_image(&reference)), presence),
                Ok(Affinity::Node(constraint)) => {
                    match affinity.weight {
                        Some(weight) => all.liked.push((constraint, weight.into())),
                        None => all.suited.push(constraint),
                    }
                    continue;
                }
                Err(_) => {
                    all.malformed = true;
                    continue;
                }
            };
            match (affinity.weight, thing) {
                (Some(weight), (thing, presence)) => all.wishes.push((thing, presence, weight.into())),
                (None, (thing, Presence::Near)) => all.near.push(thing),
                (None, (thing, Presence::Apart)) => all.apart.push(thing),
            }
        }
        let others = cluster.kept_apart_from(spec.name()).filter(|other| *other != own);
        all.apart.extend(others.map(|other| Thing::Tasks(Some(other))));
        all
    }

    /// Whether a node is what it has to be.
    pub(super) fn suit(&self, node: &Node) -> bool {
        if self.suited.is_empty() {
            return !self.malformed;
        }
        let facts = node.facts();
        !self.malformed && self.suited.iter().all(|constraint| constraint.matches(&facts))
    }

    /// How much of what is preferred a node is not.
    pub(super) fn dislike(&self, node: &Node) -> u64 {
        if self.liked.is_empty() {
            return 0;
        }
        let facts = node.facts();
        self.liked.iter().filter(|(constraint, _)| !constraint.matches(&facts)).map(|(_, weight)| weight).sum()
    }

    /// Whether a node has what it has to have, and nothing that it must not have.
    pub(super) fn hold(&self, number: usize, run: &mut Run<'_>) -> bool {
        let is_first = self.is_first(run);
        self.near.iter().all(|thing| (is_first && self.is_own(thing)) || thing.is_on(number, run))
            && !self.apart.iter().any(|thing| thing.is_on(number, run))
    }

    /// Whether the tasks have to be near each other, and there is none yet: the first goes anywhere.
    pub(super) fn is_first(&self, run: &mut Run<'_>) -> bool {
        self.near.iter().any(|thing| self.is_own(thing)) && run.nodes_of(self.own).is_empty()
    }

    /// Whether only nodes will do that have something: then only those are looked at.
    pub(super) fn is_limited(&self, run: &mut Run<'_>) -> bool {
        let is_first = self.is_first(run);
        self.near.iter().any(|thing| !(is_first && self.is_own(thing)))
    }

    fn is_own(&self, thing: &Thing) -> bool {
        *thing == Thing::Tasks(Some(self.own))
    }

    /// The nodes that have something of which an affinity speaks; where they have to have something, those that have it.
    pub(super) fn nodes(&self, run: &mut Run<'_>) -> BTreeSet<usize> {
        let is_first = self.is_first(run);
        let near = self.near.iter().filter(|thing| !(is_first && self.is_own(thing)));
        if let Some(fewest) = near.map(|thing| thing.nodes(run)).min_by_key(BTreeSet::len) {
            return fewest;
        }
        self.wishes.iter().flat_map(|(thing, _, _)| thing.nodes(run)).collect()
    }

    /// Whether a node has something of which a preferred affinity speaks.
    pub(super) fn concern(&self, number: usize, run: &mut Run<'_>) -> bool {
        self.wishes.iter().any(|(thing, _, _)| thing.is_on(number, run))
    }

    /// How much of what is preferred a node does not have.
    pub(super) fn lack(&self, number: usize, run: &mut Run<'_>) -> u64 {
        let unmet = |(thing, presence, _): &&(Thing, Presence, u64)| match presence {
            Presence::Near => !thing.is_on(number, run),
            Presence::Apart => thing.is_on(number, run),
        };
        self.wishes.iter().filter(unmet).map(|(_, _, weight)| weight).sum()
    }

    /// How much of what is preferred a node lacks that has nothing of it.
    pub(super) fn lack_of_others(&self) -> u64 {
        let near = self.wishes.iter().filter(|(_, presence, _)| *presence == Presence::Near);
        near.map(|(_, _, weight)| weight).sum()
    }
}
