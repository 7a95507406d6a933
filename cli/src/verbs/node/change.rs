//! The common part of verbs that change a node: read it, edit its spec, and send the new spec.

use std::time::Duration;

use events::{Availability, NodeSpec, Role};
use wire::v1::UpdateNode;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{NodeGoal, WaitFlags, for_nodes};

/// Edits the spec of one node. The version that was read is sent with it, so that no concurrent change is lost.
pub(super) async fn change<M: Manager>(
    session: &mut Session<'_, M>,
    reference: &str,
    edit: impl FnOnce(&mut NodeSpec),
) -> Result<u64, Failure> {
    let node = session.node(reference).await?;
    let mut spec = node.spec.clone();
    edit(&mut spec);
    let update = UpdateNode { node: node.id.to_string(), spec, version: Some(node.meta.version) };
    session.execute_and_print(Command::UpdateNode(update), reference).await.map(|reply| reply.index)
}

/// Which tasks a node accepts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// All tasks.
    Active,
    /// No new tasks.
    Paused,
    /// No tasks; its present tasks move away within this time.
    Drained(Option<Duration>),
}

impl Wanted {
    /// Applies it to a node's spec.
    pub(super) fn apply(self, spec: &mut NodeSpec) {
        let (availability, deadline) = match self {
            Self::Active => (Availability::Active, None),
            Self::Paused => (Availability::Pause, None),
            Self::Drained(deadline) => (Availability::Drain, deadline),
        };
        spec.set_availability(availability);
        spec.drain_deadline_ns = deadline.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Sets the availability of several nodes; returns the index from which on history shows the consequences.
pub(super) async fn set_availability<M: Manager>(
    session: &mut Session<'_, M>,
    nodes: &[String],
    wanted: Wanted,
) -> Result<u64, Failure> {
    session.require_nodes(nodes).await?;
    let mut index = 0;
    for node in nodes {
        index = change(session, node, |spec| wanted.apply(spec)).await?;
    }
    Ok(index)
}

/// Sets the role of several nodes, waits until they have it, and warns about an unfavourable number of managers.
pub(super) async fn set_role<M: Manager>(
    session: &mut Session<'_, M>,
    nodes: &[String],
    role: Role,
    wait: &WaitFlags,
) -> Result<(), Failure> {
    session.require_nodes(nodes).await?;
    let asked = session.manager.raft().await?.node;
    let mut ordered = Vec::with_capacity(nodes.len());
    for node in nodes {
        ordered.push((session.node(node).await?.id, node));
    }
    // The manager that answers is demoted last: it can only handle requests while it is a manager.
    ordered.sort_by_key(|(id, _)| role == Role::Worker && *id == asked);
    for (id, node) in ordered {
        let since = change(session, node, |spec| spec.set_role(role)).await?;
        if role == Role::Worker && id == asked && !session.is_trial() {
            return session.note(&format!(
                "{node} is the manager that answers, and is being demoted; `swarmctl raft` at another manager shows the others"
            ));
        }
        // One at a time: each change adds or removes a vote, and the next one is judged with the new set of managers.
        let goal = if role == Role::Manager { NodeGoal::Promoted } else { NodeGoal::Demoted };
        for_nodes(session, wait, std::slice::from_ref(node), goal, since).await?;
    }
    for warning in session.manager.raft().await?.warnings {
        session.note(&format!("warning: {warning}"))?;
    }
    Ok(())
}
