//! Watchers of single nodes: the sessions of agents, woken only by changes that concern their own node, so that the cost of a
//! commit depends on what it changed and not on the number of connections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use events::{Id, NodeId};
use projections::Touched;
use tokio::sync::Notify;

/// The watchers of all nodes.
#[derive(Clone, Default)]
pub struct NodeWatch {
    nodes: Arc<Mutex<Nodes>>,
}

/// The notifiers of those that follow a node.
#[derive(Default)]
struct Nodes {
    notifiers: BTreeMap<NodeId, Vec<Weak<Notify>>>,
    /// Number of watched nodes at which those without watchers are removed.
    forget_at: usize,
}

/// Minimum of watched nodes before any are removed.
const NODES_MIN: usize = 1_024;

impl NodeWatch {
    /// Starts to watch a node: the notifier is notified of each change that concerns it, once for several in a row. Dropping the
    /// notifier ends the watch.
    pub fn watch(&self, node: NodeId) -> Arc<Notify> {
        let notifier = Arc::new(Notify::new());
        let mut nodes = self.nodes();
        if nodes.notifiers.len() >= nodes.forget_at {
            nodes.notifiers.retain(|_, watchers| watchers.iter().any(|watcher| watcher.strong_count() > 0));
            nodes.forget_at = NODES_MIN.max(nodes.notifiers.len() * 2);
        }
        let watchers = nodes.notifiers.entry(node).or_default();
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(&notifier));
        notifier
    }

    /// Wakes the watchers of the nodes that a change concerns.
    pub(crate) fn wake(&self, touched: &Touched) {
        let mut nodes = self.nodes();
        // Agents are sent the addresses of the managers.
        if touched.everything || touched.members {
            nodes.notifiers.retain(|_, watchers| notify(watchers));
            return;
        }
        // Connections of operators are watched under the node ids that equal their ids.
        let operators: Vec<NodeId> = touched.operators.iter().map(|id| NodeId::from_bits(id.bits())).collect();
        let nodes_of = touched.nodes.union(&touched.tasks_of_nodes).chain(touched.contacts.difference(&touched.nodes));
        for node in nodes_of.chain(&operators) {
            if nodes.notifiers.get_mut(node).is_some_and(|watchers| !notify(watchers)) {
                nodes.notifiers.remove(node);
            }
        }
    }

    /// Wakes all watchers.
    pub(crate) fn wake_all(&self) {
        self.wake(&Touched { everything: true, ..Touched::default() });
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notifies the watchers that still exist; returns whether there are any.
fn notify(watchers: &mut Vec<Weak<Notify>>) -> bool {
    watchers.retain(|watcher| watcher.upgrade().map(|notifier| notifier.notify_one()).is_some());
    !watchers.is_empty()
}

#[cfg(test)]
mod tests {
    use events::Id;
    use futures_util::FutureExt;

    use super::*;

    fn touched(node: NodeId) -> Touched {
        Touched { tasks_of_nodes: [node].into(), ..Touched::default() }
    }

    #[test]
    fn only_what_concerns_its_node_wakes_a_follower_and_nothing_in_between_is_missed() {
        let (watchers, one, two) = (NodeWatch::default(), NodeId::from_bits(1), NodeId::from_bits(2));
        let notifier = watchers.watch(one);
        watchers.wake(&touched(two));
        assert!(notifier.notified().now_or_never().is_none());
        watchers.wake(&touched(one));
        watchers.wake(&touched(one));
        assert!(notifier.notified().now_or_never().is_some());
        assert!(notifier.notified().now_or_never().is_none());
        watchers.wake_all();
        assert!(notifier.notified().now_or_never().is_some());
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let (watchers, one) = (NodeWatch::default(), NodeId::from_bits(1));
        let (gone, stays) = (watchers.watch(one), watchers.watch(one));
        drop(gone);
        watchers.wake(&touched(one));
        assert_eq!(watchers.nodes().notifiers[&one].len(), 1);
        drop(stays);
        watchers.wake(&touched(one));
        assert!(watchers.nodes().notifiers.is_empty());
    }

    #[test]
    fn nodes_that_never_change_are_forgotten_with_their_followers() {
        let watchers = NodeWatch::default();
        let stays = watchers.watch(NodeId::from_bits(0));
        for node in 1..=3 * NODES_MIN as u128 {
            drop(watchers.watch(NodeId::from_bits(node)));
        }
        assert!(watchers.nodes().notifiers.len() <= NODES_MIN);
        watchers.wake(&touched(NodeId::from_bits(0)));
        assert!(stays.notified().now_or_never().is_some());
    }
}
