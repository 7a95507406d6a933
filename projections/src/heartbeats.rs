//! The heartbeat period of nodes: as short as their number allows, so that the loss of a node is detected soon.

use std::time::Duration;

use crate::Cluster;

/// Maximum of heartbeats per second from all nodes together: a few per cent of one CPU.
const HEARTBEATS_PER_SECOND: u64 = 2_000;

impl Cluster {
    /// Time between two heartbeats of a node: 1 s up to 2,000 nodes and one second more for each further 2,000, but never more
    /// than the configured period.
    pub fn heartbeat_period(&self) -> Duration {
        let seconds = (self.nodes.len() as u64).div_ceil(HEARTBEATS_PER_SECOND).max(1);
        Duration::from_secs(seconds).min(self.spec().heartbeat_period())
    }

    /// Time without a heartbeat after which a node is down.
    pub fn heartbeat_timeout(&self) -> Duration {
        self.heartbeat_period() * self.spec().heartbeats_missed()
    }
}

#[cfg(test)]
mod tests {
    use events::{ClusterSpec, ClusterSpecUpdated, Event, Id, Kind, NodeId, NodeJoined, Reconciler};

    use super::*;
    use crate::Stamp;

    #[test]
    fn heartbeats_are_as_frequent_as_the_number_of_nodes_allows() {
        // Nodes, the configured period and grace, the period, and the timeout after which a node is down; all in milliseconds.
        let table = [
            (1, None, None, 1_000, 3_000),
            (2_000, None, None, 1_000, 3_000),
            (2_001, None, None, 2_000, 6_000),
            (4_001, Some(2_500), None, 2_500, 7_500),
            (1, Some(500), Some(4), 500, 2_000),
            (1, Some(60_000), None, 1_000, 3_000),
        ];
        let mut cluster = Cluster::default();
        let apply = |cluster: &mut Cluster, kind| {
            cluster.apply(&Event::by_reconciler(Reconciler::Liveness, kind), &Stamp::default());
        };
        for (nodes, period, grace, expected, down_after) in table {
            for number in cluster.nodes.len() + 1..=nodes {
                let node = NodeId::from_bits(number as u128);
                apply(&mut cluster, Kind::NodeJoined(NodeJoined { node, ..NodeJoined::default() }));
            }
            let mut one = if nodes == 1 { Cluster::default() } else { cluster.clone() };
            let heartbeat_period_ns = period.map(|ms: u64| ms * 1_000_000);
            let spec = ClusterSpec { heartbeat_period_ns, heartbeat_grace: grace, ..ClusterSpec::default() };
            apply(&mut one, Kind::ClusterSpecUpdated(ClusterSpecUpdated { spec }));
            let case = format!("{nodes} nodes, {period:?}, {grace:?}");
            assert_eq!(one.heartbeat_period(), Duration::from_millis(expected), "{case}");
            assert_eq!(one.heartbeat_timeout(), Duration::from_millis(down_after), "{case}");
        }
    }
}
