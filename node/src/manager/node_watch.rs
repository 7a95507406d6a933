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
    nodes: Arc<Mutex<BTreeMap<NodeId, Vec<Weak<Notify>>>>>,
}

impl Followers {
    /// Follows a node from now on: the bell rings at each change that concerns it, once for several in a row. Dropping the
    /// bell ends it.
    pub fn follow(&self, node: NodeId) -> Arc<Notify> {
        let bell = Arc::new(Notify::new());
        let mut nodes = self.nodes();
        let followers = nodes.entry(node).or_default();
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(&bell));
        bell
    }

    /// How many nodes are followed.
    pub(crate) fn count(&self) -> usize {
        self.nodes().len()
    }

    /// Wakes the followers of the nodes that a change concerns.
    pub(crate) fn wake(&self, touched: &Touched) {
        let mut nodes = self.nodes();
        if touched.everything {
            nodes.retain(|_, followers| ring(followers));
            return;
        }
        for node in touched.nodes.union(&touched.tasks_of_nodes) {
            if nodes.get_mut(node).is_some_and(|followers| !ring(followers)) {
                nodes.remove(node);
            }
        }
    }

    /// Wakes all of them.
    pub(crate) fn wake_all(&self) {
        self.wake(&Touched { everything: true, ..Touched::default() });
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeId, Vec<Weak<Notify>>>> {
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
        assert_eq!(followers.nodes()[&one].len(), 1);
        drop(stays);
        followers.wake(&touched(one));
        assert!(followers.nodes().is_empty());
    }
}
