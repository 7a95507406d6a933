//! For each service that rebalances, the number of its tasks on its fullest node: cached between turns, so that a node with more
//! room than before is compared with one number per service, and not with all nodes that have tasks of it.
//!
//! This is a cache of the state: it is updated from the differences between states. The property tests settle each turn a second
//! time with a cache built from scratch, and require the same events.

use std::collections::BTreeMap;

use events::ServiceId;
use projections::{Cluster, Usage};

/// The numbers of all services that were queried.
#[derive(Debug, Default)]
pub(crate) struct Crowds {
    /// For each service and number of tasks, how many nodes have that many.
    nodes: BTreeMap<ServiceId, BTreeMap<u64, u64>>,
    seen: Usage,
}

impl Crowds {
    /// Updates the numbers; without any, no state is retained.
    pub(super) fn follow(&mut self, cluster: &Cluster) {
        self.nodes.retain(|service, _| cluster.rebalancing().contains(service));
        if self.nodes.is_empty() && cluster.rebalancing().is_empty() {
            self.seen = Usage::default();
            return;
        }
        let seen = std::mem::replace(&mut self.seen, cluster.usage.clone());
        if self.nodes.is_empty() {
            return;
        }
        for (service, then, now) in cluster.usage.active_since(&seen) {
            if let Some(nodes) = self.nodes.get_mut(&service) {
                count(nodes, then, false);
                count(nodes, now, true);
            }
        }
    }

    /// The number of tasks on the service's fullest node.
    pub(super) fn most(&mut self, cluster: &Cluster, service: ServiceId) -> u64 {
        let nodes = self.nodes.entry(service).or_insert_with(|| {
            let mut nodes = BTreeMap::new();
            cluster.usage.active_of(service).for_each(|(_, tasks)| count(&mut nodes, tasks, true));
            nodes
        });
        nodes.keys().next_back().copied().unwrap_or(0)
    }
}

/// Counts one node more, or one fewer, with this many tasks. Those without any are not counted.
fn count(nodes: &mut BTreeMap<u64, u64>, tasks: u64, is_more: bool) {
    if tasks == 0 {
        return;
    }
    let known = nodes.entry(tasks).or_default();
    *known = if is_more { *known + 1 } else { known.saturating_sub(1) };
    if *known == 0 {
        nodes.remove(&tasks);
    }
}
