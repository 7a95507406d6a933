//! Who follows which node: the sessions of agents, woken only by what concerns their own node, so that a commit costs what
//! it changed and not what is connected.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use events::NodeId;
use projections::Touched;
use tokio::sync::Notify;

/// The followers of all nodes.
#[derive(Clone, Default)]
pub struct Followers {
    nodes: Arc<Mutex<Nodes>>,
}

/// The bells of those that follow a node.
#[derive(Default)]
struct Nodes {
    bells: BTreeMap<NodeId, Vec<Weak<Notify>>>,
    /// How many nodes are followed before those are forgotten whose followers are gone.
    forget_at: usize,
}

/// Nodes that are followed before any is forgotten.
const NODES_MIN: usize = 1_024;

impl Followers {
    /// Follows a node from now on: the bell rings at each change that concerns it, once for several in a row. Dropping the
    /// bell ends it.
    pub fn follow(&self, node: NodeId) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        let mut nodes = self.nodes();
        if nodes.bells.len() >= nodes.forget_at {
            nodes.bells.retain(|_, followers| followers.iter().any(|follower| follower.strong_count() > 0));
            nodes.forget_at = NODES_MIN.max(nodes.bells.len() * 2);
        }
        let followers = nodes.bells.entry(node).or_default();
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(&bell));
        bell
    }

    /// Wakes the followers of the nodes that a change concerns.
    pub(crate) fn wake(&self, touched: &Touched) {
        let mut nodes = self.nodes();
        if touched.everything {
            nodes.bells.retain(|_, followers| ring(followers));
            return;
        }
        for node in touched.nodes.union(&touched.tasks_of_nodes) {
            if nodes.bells.get_mut(node).is_some_and(|followers| !ring(followers)) {
                nodes.bells.remove(node);
            }
        }
    }

    /// Wakes all of them.
    pub(crate) fn wake_all(&self) {
        self.wake(&Touched { everything: true, ..Touched::default() });
    }

    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rings for those that still listen; whether there are any.
fn ring(followers: &mut Vec<Weak<Notify>>) -> bool {
    followers.retain(|follower| follower.upgrade().map(|bell| bell.notify_one()).is_some());
    !followers.is_empty()
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
        let (followers, one, two) = (Followers::default(), NodeId::from_bits(1), NodeId::from_bits(2));
        let bell = followers.follow(one);
        followers.wake(&touched(two));
        assert!(bell.notified().now_or_never().is_none());
        followers.wake(&touched(one));
        followers.wake(&touched(one));
        assert!(bell.notified().now_or_never().is_some());
        assert!(bell.notified().now_or_never().is_none());
        followers.wake_all();
        assert!(bell.notified().now_or_never().is_some());
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let (followers, one) = (Followers::default(), NodeId::from_bits(1));
        let (gone, stays) = (followers.follow(one), followers.follow(one));
        drop(gone);
        followers.wake(&touched(one));
        assert_eq!(followers.nodes().bells[&one].len(), 1);
        drop(stays);
        followers.wake(&touched(one));
        assert!(followers.nodes().bells.is_empty());
    }

    #[test]
    fn nodes_that_never_change_are_forgotten_with_their_followers() {
        let followers = Followers::default();
        let stays = followers.follow(NodeId::from_bits(0));
        for node in 1..=3 * NODES_MIN as u128 {
            drop(followers.follow(NodeId::from_bits(node)));
        }
        assert!(followers.nodes().bells.len() <= NODES_MIN);
        followers.wake(&touched(NodeId::from_bits(0)));
        assert!(stays.notified().now_or_never().is_some());
    }
}
