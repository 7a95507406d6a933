//! Commands about nodes: their sessions, what operators want of them, and their end.

use events::{
    Kind, NodeBecameReady, NodeDescribed, NodeDescription, NodeDisconnected, NodeId, NodeRegistered, NodeRemoved,
    NodeSpec, NodeSpecUpdated, Role, SessionId, TaskId, TaskOrphaned, frame,
};
use projections::{Cluster, Liveness, Node};

use crate::version::in_sequence;
use crate::{Decision, Rejection, RejectionKind, validate};

/// Most tasks that a node may take with it: their ids are one event, and half a frame has room for that many.
const ORPHANS_MAX: usize = frame::BYTES_SOFT_MAX / 2 / TASK_ID_BYTES;
/// Bytes that a task's id takes in an event.
const TASK_ID_BYTES: usize = 20;

/// The member with this id, for what nodes ask themselves.
///
/// # Errors
/// Forbidden, with the way back in, for a node that was removed or never was a member.
pub(crate) fn member(state: &Cluster, id: NodeId) -> Result<&Node, Rejection> {
    state.nodes.get(id).ok_or_else(|| {
        let sentence = match state.banned.contains(id) {
            true => format!("node {id} was removed from the cluster"),
            false => format!("node {id} is not a member of this cluster"),
        };
        let hint = "to join again, stop swarmd, empty its state directory and start it with a join token";
        Rejection::new(RejectionKind::Forbidden, subject(id), sentence, hint)
    })
}

/// The member with this id, if this is its open session.
///
/// # Errors
/// Forbidden for who is no member; Conflict when the session ended, so that the agent registers anew.
pub(crate) fn in_session(state: &Cluster, id: NodeId, session: SessionId) -> Result<&Node, Rejection> {
    let node = member(state, id)?;
    if node.session != Some(session) {
        let sentence = format!("session ended: {session} is not the open session of node {id}");
        return Err(Rejection::conflict(subject(id), sentence, "the agent registers anew by itself"));
    }
    Ok(node)
}

/// Opens a session, in place of the one that may be open.
pub(crate) fn register(
    state: &Cluster,
    id: NodeId,
    session: SessionId,
    description: &NodeDescription,
    addr: &str,
) -> Result<Decision, Rejection> {
    let node = member(state, id)?;
    validate::node_description(description).map_err(|fault| fault.about(&subject(id)))?;
    validate::addr(addr).map_err(|fault| fault.about(&subject(id)))?;
    let mut decision = Decision::nothing(id);
    let open = node.session == Some(session) && node.liveness == Liveness::Ready && node.addr == addr;
    if !open {
        let registered = NodeRegistered { node: id, session, addr: addr.to_owned() };
        decision.events.push(Kind::NodeRegistered(registered));
    }
    if node.description.as_deref() != Some(description) {
        let described = NodeDescribed { node: id, description: description.clone() };
        decision.events.push(Kind::NodeDescribed(described));
    }
    Ok(decision)
}

/// A sign of life. The session outlives a change of leader, so the node need not register for the new one.
pub(crate) fn hear(state: &Cluster, id: NodeId, session: SessionId) -> Result<Decision, Rejection> {
    let node = in_session(state, id, session)?;
    Ok(match node.liveness {
        Liveness::Ready => Decision::nothing(id),
        Liveness::Unknown | Liveness::Disconnected | Liveness::Down => {
            Decision::one(id, Kind::NodeBecameReady(NodeBecameReady { node: id }))
        }
    })
}

/// The end of a connection, which says nothing about a session that followed it.
pub(crate) fn disconnect(state: &Cluster, id: NodeId, session: SessionId) -> Decision {
    let open = state.nodes.get(id).filter(|node| node.session == Some(session)).map(|node| node.liveness);
    match open {
        Some(Liveness::Ready | Liveness::Unknown) => {
            Decision::one(id, Kind::NodeDisconnected(NodeDisconnected { node: id, session }))
        }
        Some(Liveness::Disconnected | Liveness::Down) | None => Decision::nothing(id),
    }
}

/// Replaces what is wanted of a node.
pub(crate) fn update(
    state: &Cluster,
    id: NodeId,
    spec: &NodeSpec,
    version: Option<u64>,
) -> Result<Decision, Rejection> {
    let node = existing(state, id)?;
    let subject = subject(id);
    in_sequence(&subject, node.version, version)?;
    validate::node_spec(spec).map_err(|fault| fault.about(&subject))?;
    if spec.role() != node.spec.role() {
        let sentence = match spec.role() {
            Role::Manager => "a worker cannot be promoted: this version runs one manager, more managers come later",
            Role::Worker => "the manager cannot be demoted: it is the only one, more managers come later",
        };
        let hint = "leave the role as it is";
        return Err(Rejection::new(RejectionKind::Unavailable, subject, sentence, hint));
    }
    if *spec == *node.spec {
        return Ok(Decision::nothing(id));
    }
    Ok(Decision::one(id, Kind::NodeSpecUpdated(NodeSpecUpdated { node: id, spec: spec.clone() })))
}

/// Takes a node out, and gives up its tasks: nobody will hear of them again.
pub(crate) fn remove(state: &Cluster, id: NodeId, force: bool) -> Result<Decision, Rejection> {
    let node = existing(state, id)?;
    if node.spec.role() == Role::Manager {
        let sentence = format!("node {id} is the manager of this cluster");
        let hint = "to end the cluster, stop swarmd on the manager and remove its state directory";
        return Err(Rejection::conflict(subject(id), sentence, hint));
    }
    if node.liveness == Liveness::Ready && !force {
        let sentence = format!("node {id} ({}) is ready: its tasks would be lost", node.hostname());
        let hint = "drain it and stop its swarmd first, or remove it with --force";
        return Err(Rejection::conflict(subject(id), sentence, hint));
    }
    let tasks: Vec<TaskId> =
        state.tasks_of_node(id).filter(|task| !task.state.is_terminal()).map(|task| task.id).collect();
    if tasks.len() > ORPHANS_MAX {
        let sentence = format!("node {id} has {} tasks, more than one frame can give up: {ORPHANS_MAX}", tasks.len());
        return Err(Rejection::new(RejectionKind::Exhausted, subject(id), sentence, "drain the node first"));
    }
    let mut decision = Decision::nothing(id);
    if !tasks.is_empty() {
        let message = "Task belonged to a node that has been deleted".to_owned();
        decision.events.push(Kind::TaskOrphaned(TaskOrphaned { tasks, message }));
    }
    decision.events.push(Kind::NodeRemoved(NodeRemoved { node: id, forced: force, forgotten: false }));
    Ok(decision)
}

fn existing(state: &Cluster, id: NodeId) -> Result<&Node, Rejection> {
    state.nodes.get(id).ok_or_else(|| Rejection::not_found("node", id))
}

fn subject(id: NodeId) -> String {
    format!("node {id}")
}

#[cfg(test)]
mod tests;
