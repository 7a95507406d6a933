//! How often a node may open a session.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use events::NodeId;
use tokio::time::Instant;

/// Most registrations of one node within [`PERIOD`], and that period; SwarmKit's. Each is an entry of the log, and an agent
/// that is well registers once in days.
const REGISTRATIONS_MAX: usize = 3;
const PERIOD: Duration = Duration::from_secs(8);
/// Nodes remembered before those that were quiet for a period are forgotten.
const NODES_MIN: usize = 1_024;

/// The last registrations of each node, as this manager saw them.
pub(super) struct Registrations {
    recent: Mutex<Recent>,
}

struct Recent {
    by_node: BTreeMap<NodeId, VecDeque<Instant>>,
    /// How many nodes are remembered before the quiet ones are forgotten: so that costs nothing per registration.
    forget_at: usize,
}

impl Registrations {
    pub(super) fn new() -> Self {
        Self { recent: Mutex::new(Recent { by_node: BTreeMap::new(), forget_at: NODES_MIN }) }
    }

    /// Counts a registration, unless the node had too many of late.
    pub(super) fn admit(&self, node: NodeId, now: Instant) -> Result<(), Rejection> {
        // No code panics while it holds the lock, so a poisoned one still holds whole data.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.forget_quiet_nodes(now);
        let times = recent.by_node.entry(node).or_default();
        while times.front().is_some_and(|at| now.duration_since(*at) >= PERIOD) {
            times.pop_front();
        }
        if times.len() >= REGISTRATIONS_MAX {
            let sentence = format!("node {node} registered {REGISTRATIONS_MAX} times within {} s", PERIOD.as_secs());
            let hint =
                "the agent tries again by itself; if this goes on, see whether two machines use the same certificate";
            return Err(Rejection::new(RejectionKind::Unavailable, format!("node {node}"), sentence, hint));
        }
        times.push_back(now);
        Ok(())
    }
}

impl Recent {
    fn forget_quiet_nodes(&mut self, now: Instant) {
        if self.by_node.len() < self.forget_at {
            return;
        }
        self.by_node.retain(|_, times| times.back().is_some_and(|at| now.duration_since(*at) < PERIOD));
        self.forget_at = NODES_MIN.max(self.by_node.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    #[test]
    fn a_node_that_hammers_is_told_to_wait_and_others_are_not() {
        let (registrations, begin) = (Registrations::new(), Instant::now());
        let (one, two) = (NodeId::from_bits(1), NodeId::from_bits(2));
        for second in 0..3 {
            assert_eq!(registrations.admit(one, begin + Duration::from_secs(second)), Ok(()));
        }
        let refused = registrations.admit(one, begin + Duration::from_secs(7)).expect_err("too often");
        assert_eq!(refused.kind, RejectionKind::Unavailable);
        assert!(refused.sentence.ends_with("registered 3 times within 8 s"), "{}", refused.sentence);
        assert_eq!(registrations.admit(two, begin + Duration::from_secs(7)), Ok(()));
        assert_eq!(registrations.admit(one, begin + PERIOD), Ok(()), "the first one was a period ago");
        assert!(registrations.admit(one, begin + PERIOD).is_err());
    }

    #[test]
    fn nodes_that_are_quiet_are_forgotten() {
        let (registrations, begin) = (Registrations::new(), Instant::now());
        for node in 0..NODES_MIN as u128 {
            registrations.admit(NodeId::from_bits(node), begin).expect("a first registration");
        }
        registrations.admit(NodeId::from_bits(0), begin + PERIOD).expect("a second one, after a period");
        assert_eq!(registrations.recent.lock().expect("a lock").by_node.len(), 1);
    }
}
