//! What the verbs that change a node have in common: read it, edit its spec, ask for the edited one.

use std::time::Duration;

use events::{Availability, NodeSpec, Role};
use wire::v1::UpdateNode;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{NodeGoal, WaitFlags, for_nodes};

/// Edits the spec of one node. The version that was read goes along, so that nobody's change in between is lost.
pub(super) async fn change<M: Manager>(
    session: &mut Session<'_, M>,
    reference: &str,
    edit: impl FnOnce(&mut NodeSpec),
) -> Result<u64, Failure> {
    let node = session.node(reference).await?;
    let mut spec = node.spec.clone();
    edit(&mut spec);
    let update = UpdateNode { node: node.id.to_string(), spec, version: Some(node.meta.version) };
    session.execute_and_tell(Command::UpdateNode(update), reference).await.map(|reply| reply.index)
}

/// Which tasks a node is to take.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted {
    /// All.
    Active,
    /// No new ones.
    Paused,
    /// None, and those that are there leave within this time.
    Drained(Option<Duration>),
}

impl Wanted {
    /// Makes it what is wanted of a node.
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

/// Sets the availability of several nodes; the index from which on history says what came of it.
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

/// Gives several nodes a role, waits until they have it, and warns of a number of managers that is not a good one.
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
    // Whoever is asked can ask for the others only as long as it is a manager itself.
    ordered.sort_by_key(|(id, _)| role == Role::Worker && *id == asked);
    for (id, node) in ordered {
        let since = change(session, node, |spec| spec.set_role(role)).await?;
        if role == Role::Worker && id == asked && !session.is_trial() {
            return session.note(&format!(
                "{node} is the manager that was asked, and becomes a worker now; `swarmctl raft` at another manager shows the others"
            ));
        }
        // One at a time: each takes or gives a vote, and the next is judged by the managers that there are then.
        let goal = if role == Role::Manager { NodeGoal::Promoted } else { NodeGoal::Demoted };
        for_nodes(session, wait, std::slice::from_ref(node), goal, since).await?;
    }
    for warning in session.manager.raft().await?.warnings {
        session.note(&format!("warning: {warning}"))?;
    }
    Ok(())
}
