//! Each node's last sign of life: the leader's memory of heartbeats, which never enter the log.

use commands::{Command, Rejection, RejectionKind};
use events::{Duration, NodeId, SessionId, Timestamp};
use projections::{Cluster, Liveness};
use reconcilers::liveness::first_sign;
use reconcilers::{Presence, Sign};

/// Signs of life, by node.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    presence: Presence,
}

impl Heard {
    /// Notes a heartbeat; returns the command that makes the node ready, if it was not.
    ///
    /// # Errors
    /// When the node is not a member, or the session is not its present one.
    pub(super) fn note(
        &mut self,
        tip: &Cluster,
        node: NodeId,
        session: SessionId,
        now: Timestamp,
    ) -> Result<Option<Command>, Rejection> {
        let Some(known) = tip.nodes.get(node) else {
            self.presence.remove(&node);
            return Err(Rejection::not_found("node", node));
        };
        if known.session != Some(session) {
            let sentence = format!("the session of node {node} is over");
            return Err(Rejection::new(RejectionKind::Conflict, format!("node {node}"), sentence, "register again"));
        }
        self.heard(tip, node, now);
        Ok((known.liveness != Liveness::Ready).then_some(Command::HearNode { node, session }))
    }

    /// A sign of life, after which the node has as long as the settings of this moment grant it.
    pub(super) fn heard(&mut self, tip: &Cluster, node: NodeId, now: Timestamp) {
        self.presence.insert(node, Sign { at: now, patience: tip.spec().heartbeat_timeout() });
    }

    /// Gives every node this much more time: so long nobody could be heard, because this manager itself stood still or its
    /// clock was set.
    pub(super) fn grant(&mut self, tip: &Cluster, extra: Duration) {
        for node in tip.nodes.values() {
            let sign = self.presence.entry(node.id).or_insert_with(|| first_sign(tip, node));
            sign.patience += extra;
        }
        self.presence.retain(|node, _| tip.nodes.contains(*node));
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }
}
