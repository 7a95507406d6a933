//! Each node's last sign of life: the leader's memory of heartbeats, which never enter the log.

use commands::{Command, Rejection, RejectionKind};
use events::{NodeId, SessionId, Timestamp};
use projections::{Cluster, Liveness};
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
        self.hear(tip, node, now);
        Ok((known.liveness != Liveness::Ready).then_some(Command::HearNode { node, session }))
    }

    /// A node that registers is heard of as well.
    pub(super) fn registered(&mut self, tip: &Cluster, node: NodeId, now: Timestamp) {
        self.hear(tip, node, now);
    }

    fn hear(&mut self, tip: &Cluster, node: NodeId, now: Timestamp) {
        self.presence.insert(node, Sign { at: now, timeout: tip.spec().heartbeat_timeout() });
    }

    pub(super) fn presence(&self) -> &Presence {
        &self.presence
    }
}
