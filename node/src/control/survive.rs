//! Checks whether everything still fits if a node fails, or all nodes with the same value of a label: one copy of the state for
//! each.

use std::collections::BTreeMap;

use commands::Rejection;
use events::NodeId;
use projections::{Cluster, Liveness};
use wire::v1::{Loss, SurviveReply, SurviveRequest};

use crate::manager::driver::stopping;
use crate::sandbox::{Ending, Sandbox};

use super::preview::{newly_unplaced, node_failures};
use super::{Control, views};

impl Control {
    /// Tries the loss of each node, or of each value of a label. May take long; only the caller waits for it.
    ///
    /// # Errors
    /// When the caller has cancelled.
    pub fn survive(&self, request: &SurviveRequest, is_stopped: &dyn Fn() -> bool) -> Result<SurviveReply, Rejection> {
        let mut sandbox = self.sandbox();
        let mut rest = sandbox.run_until_settled(is_stopped);
        let mut losses = Vec::new();
        for (lost, nodes) in groups(sandbox.cluster(), request.label.as_deref()) {
            if is_stopped() {
                rest = Ending::Stopped;
            }
            if rest == Ending::Stopped {
                return Err(stopping());
            }
            losses.push(loss(&sandbox, lost, &nodes));
        }
        let position = self.state.cluster.position;
        Ok(SurviveReply { index: position.index, log_time: position.time, losses })
    }
}

/// The groups of nodes that fail together, by name.
fn groups(cluster: &Cluster, label: Option<&str>) -> BTreeMap<String, Vec<NodeId>> {
    let mut groups: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
    for node in cluster.nodes.values().filter(|node| node.liveness != Liveness::Down) {
        let labels = node.spec.annotations.as_ref().map(|annotations| &annotations.labels);
        let name = match label {
            Some(key) => labels.and_then(|labels| labels.get(key)).cloned(),
            None => Some(views::node_name(node).to_owned()),
        };
        if let Some(name) = name {
            groups.entry(name).or_default().push(node.id);
        }
    }
    groups
}

/// Placement is decided immediately, so no time has to pass: starting the tasks does not change what fits.
fn loss(before: &Sandbox, lost: String, nodes: &[NodeId]) -> Loss {
    let mut after = before.clone();
    after.apply(node_failures(before.cluster(), nodes.iter().copied(), before.began()));
    Loss {
        lost,
        nodes: nodes.len() as u64,
        tasks: nodes.iter().map(|node| before.cluster().usage.of(*node).active).sum(),
        unplaced: newly_unplaced(before.cluster(), after.cluster()),
    }
}
