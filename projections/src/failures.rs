//! Failures of services on nodes, which the scheduler counts against the nodes for a while.
//!
//! Expired failures are dropped as new ones arrive, a few at a time. Nothing else is needed: a failure counts only for the spec
//! that failed, and a removed service or node is no longer scheduled.

use std::time::Duration;

use events::{NodeId, ServiceId, TaskState, Timestamp};
use imbl::OrdSet;

use crate::{Cluster, Stamp, Task};

/// Number of failures of a service on a node from which they count against the node; SwarmKit's `maxFailures`.
pub const COUNT_FROM: usize = 5;
/// Maximum of failures recorded for a service on a node: nodes that have more are equally bad.
pub const KEPT: usize = 64;
/// How long a failure counts against a node; SwarmKit's `monitorFailures`.
pub const WINDOW: Duration = Duration::from_secs(300);
/// Expired rows that are dropped for each new failure: more than one, so that their number decreases.
const DROPPED: usize = 2;

/// The rows by the time of their last failure.
pub(crate) type ByAge = OrdSet<(Timestamp, ServiceId, NodeId)>;

/// Records that a task failed on its node. Failures of global services do not count, since the scheduler does not choose their
/// nodes.
pub(crate) fn remember(cluster: &mut Cluster, task: &Task, at: &Stamp) {
    let failed = matches!(task.state, TaskState::Failed | TaskState::Rejected);
    let Some(node) = task.node.filter(|node| failed && !task.is_bound() && cluster.nodes.contains(*node)) else {
        return;
    };
    if !cluster.services.contains(task.service) {
        return;
    }
    drop_oldest(cluster, at.time);
    let key = (task.service, node);
    let mut failures = cluster.failures.get(key).cloned().unwrap_or_default();
    if let Some((_, last)) = failures.last() {
        cluster.failures_by_age.remove(&(*last, task.service, node));
    }
    failures.retain(|(version, failed_at)| *version == task.spec_version && counts(*failed_at, at.time));
    failures.push((task.spec_version, at.time));
    failures.drain(..failures.len().saturating_sub(KEPT));
    cluster.failures.insert(key, failures);
    cluster.failures_by_age.insert((at.time, task.service, node));
}

fn counts(failed_at: Timestamp, now: Timestamp) -> bool {
    now.since(failed_at) < WINDOW
}

fn drop_oldest(cluster: &mut Cluster, now: Timestamp) {
    for _ in 0..DROPPED {
        let Some(oldest) = cluster.failures_by_age.get_min().filter(|(last, ..)| !counts(*last, now)).copied() else {
            return;
        };
        cluster.failures_by_age.remove(&oldest);
        cluster.failures.remove((oldest.1, oldest.2));
    }
}

/// Builds the index of failures.
pub(crate) fn derive(cluster: &mut Cluster) {
    let rows = cluster.failures.iter();
    let last = rows.filter_map(|((service, node), failures)| Some((failures.last()?.1, service, node)));
    cluster.failures_by_age = last.collect();
}

#[cfg(test)]
mod tests;
