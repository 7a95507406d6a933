//! Settings of the whole cluster.

use std::time::Duration;

use events::ClusterSpec;
use events::spec::limits::{HEARTBEAT_GRACES, NODES_MAX};

use super::{Fault, Verdict, duration, placement};

/// Shortest life of a certificate: shorter ones would be renewed all the time.
const CERT_EXPIRY_MIN: Duration = Duration::from_secs(3_600);
/// Shortest time between heartbeats: with shorter ones a busy machine is taken for a dead one.
const HEARTBEAT_PERIOD_MIN: Duration = Duration::from_millis(100);
/// Longest: a node's loss would go unnoticed for days.
const HEARTBEAT_PERIOD_MAX: Duration = Duration::from_secs(24 * 3_600);

/// Judges the cluster's settings.
pub(crate) fn cluster(spec: &ClusterSpec) -> Verdict {
    duration(spec.node_cert_expiry_ns.unwrap_or(0), "life of certificates")?;
    if spec.cert_expiry() < CERT_EXPIRY_MIN {
        let sentence = format!("a certificate validity of {:?} is too short", spec.cert_expiry());
        return Err(Fault::invalid(sentence, "give at least 1h"));
    }
    let period = spec.heartbeat_period();
    if !(HEARTBEAT_PERIOD_MIN..=HEARTBEAT_PERIOD_MAX).contains(&period) {
        let sentence = format!("a heartbeat period of {period:?} is out of range");
        return Err(Fault::invalid(sentence, "give 100ms to 24h"));
    }
    if let Some(grace) = spec.heartbeat_grace
        && !HEARTBEAT_GRACES.contains(&grace)
    {
        let sentence = format!("the grace period must be at least 1 missed heartbeat and at most 1000, not {grace}");
        return Err(Fault::invalid(sentence, "give a number from 1 to 1000"));
    }
    if let Some(count) = spec.nodes_max
        && !NODES_MAX.contains(&count)
    {
        let sentence = format!("a cluster cannot be limited to {count} nodes");
        return Err(Fault::invalid(sentence, "give a limit from 1 to 1000000"));
    }
    placement::strategy(spec.placement_strategy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_bounds() {
        assert_eq!(cluster(&ClusterSpec::default()), Ok(()));
        let expiry = |ns| cluster(&ClusterSpec { node_cert_expiry_ns: Some(ns), ..Default::default() }).is_ok();
        assert!(expiry(3_600_000_000_000) && !expiry(3_599_999_999_999) && !expiry(0) && !expiry(u64::MAX));
        let period = |ns| cluster(&ClusterSpec { heartbeat_period_ns: Some(ns), ..Default::default() }).is_ok();
        assert!(period(100_000_000) && !period(99_999_999) && !period(0) && !period(u64::MAX));
        let grace = |count| cluster(&ClusterSpec { heartbeat_grace: Some(count), ..Default::default() }).is_ok();
        assert!(grace(1) && grace(1_000) && !grace(0) && !grace(u32::MAX));
        let nodes = |count| cluster(&ClusterSpec { nodes_max: Some(count), ..Default::default() }).is_ok();
        assert!(nodes(1) && nodes(1_000_000) && !nodes(0) && !nodes(u32::MAX));
    }
}
