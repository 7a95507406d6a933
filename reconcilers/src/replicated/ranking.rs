//! Which place of a service is released next when it has too many.
//!
//! First those without a single node, then those of the node with most places; among them those that are not running, then the
//! highest. Releasing a place does not change the rank of any other, so that several turns release the same places as one would.

use std::collections::{BTreeMap, BTreeSet};

use events::{NodeId, TaskState};
use projections::{Instance, Task};

/// The order within a node: whether nothing is running there, and the place.
type Order = (bool, Instance);

/// The filled places of a service, in the order in which they are released.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    places: BTreeMap<Instance, (Option<NodeId>, bool)>,
    /// Places that have no single node.
    elsewhere: BTreeSet<Order>,
    /// The other places, by their node.
    on_node: BTreeMap<NodeId, BTreeSet<Order>>,
    /// For each node its first place to release, after the number of its places.
    last_of_nodes: BTreeSet<(usize, Order, NodeId)>,
}

impl Ranking {
    /// Adds a place with these tasks.
    pub(super) fn add(&mut self, instance: Instance, tasks: &[&Task]) {
        let runs = tasks.iter().any(|task| task.is_live() && task.state == TaskState::Running);
        let live: Vec<_> = tasks.iter().filter(|task| task.is_live()).collect();
        let node = match live[..] {
            [only] => only.node,
            _ => None,
        };
        self.remove(instance);
        self.places.insert(instance, (node, !runs));
        match node {
            None => {
                self.elsewhere.insert((!runs, instance));
            }
            Some(node) => self.change(node, |places| places.insert((!runs, instance))),
        }
    }

    /// Removes a place.
    pub(super) fn remove(&mut self, instance: Instance) {
        let Some((node, idles)) = self.places.remove(&instance) else { return };
        match node {
            None => {
                self.elsewhere.remove(&(idles, instance));
            }
            Some(node) => self.change(node, |places| places.remove(&(idles, instance))),
        }
    }

    /// Removes and returns the next place to release.
    pub(super) fn pop(&mut self) -> Option<Instance> {
        let on_node = || self.last_of_nodes.last().map(|(_, order, _)| order);
        let (_, instance) = *self.elsewhere.last().or_else(on_node)?;
        self.remove(instance);
        Some(instance)
    }

    fn change(&mut self, node: NodeId, change: impl FnOnce(&mut BTreeSet<Order>) -> bool) {
        let places = self.on_node.entry(node).or_default();
        if let Some(last) = places.last() {
            self.last_of_nodes.remove(&(places.len(), *last, node));
        }
        change(places);
        match places.last() {
            Some(last) => {
                self.last_of_nodes.insert((places.len(), *last, node));
            }
            None => {
                self.on_node.remove(&node);
            }
        }
    }
}
