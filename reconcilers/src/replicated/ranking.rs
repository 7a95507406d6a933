//! Which place of a service is given up next when it has too many.
//!
//! First go those without a single node, then those of the node that holds most; among them those that do not run, then the
//! highest. What is given up changes the rank of no other place, so that several turns give up the same places as one would.

use std::collections::{BTreeMap, BTreeSet};

use events::{NodeId, TaskState};
use projections::{Instance, Task};

/// The order within a node: whether nothing runs there, and the place.
type Order = (bool, Instance);

/// The filled places of a service, by how soon they are given up.
#[derive(Debug, Default)]
pub(super) struct Ranking {
    places: BTreeMap<Instance, (Option<NodeId>, bool)>,
    /// Places that have no single node.
    elsewhere: BTreeSet<Order>,
    /// The other places, by their node.
    on_node: BTreeMap<NodeId, BTreeSet<Order>>,
    /// Of each node the place that goes first, after the number of its places.
    last_of_nodes: BTreeSet<(usize, Order, NodeId)>,
}

impl Ranking {
    /// Puts a place with these tasks where it belongs.
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

    /// Takes a place out.
    pub(super) fn remove(&mut self, instance: Instance) {
        let Some((node, idles)) = self.places.remove(&instance) else { return };
        match node {
            None => {
                self.elsewhere.remove(&(idles, instance));
            }
            Some(node) => self.change(node, |places| places.remove(&(idles, instance))),
        }
    }

    /// Takes the place out that is given up next.
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
