//! Commands about nodes: their sessions, their specs, and their removal.

use std::collections::BTreeSet;

use events::{
    Kind, NodeBecameReady, NodeDescribed, NodeDescription, NodeDisconnected, NodeId, NodeRegistered, NodeRemoved,
    NodeSpec, NodeSpecUpdated, OperatorRole, Role, SessionId, TaskId, TaskOrphaned, frame,
};
use projections::views::quorum;
use projections::{Cluster, Liveness, Node};

use crate::verb::{AllowedActor, Verb};
use crate::version::require_version;
use crate::{Ctx, Decision, Rejection, RejectionKind, validate};

/// Maximum number of tasks of a node to remove: their ids are in one event, and half a frame has room for this many.
const ORPHANS_MAX: usize = frame::BYTES_SOFT_MAX / 2 / TASK_ID_BYTES;
/// Bytes that a task's id takes in an event.
const TASK_ID_BYTES: usize = 20;

/// The member with this id, for requests from nodes themselves.
///
/// # Errors
/// Forbidden, with a hint how to join again, for a node that was removed or never was a member.
pub(crate) fn member(state: &Cluster, id: NodeId) -> Result<&Node, Rejection> {
    state.nodes.get(id).ok_or_else(|| {
        let sentence = match state.banned.contains(id) {
            true => format!("node {id} was removed from the cluster"),
            false => format!("node {id} is not a member of this cluster"),
        };
        let hint = "to join again, stop swarmd, run `swarmd leave` and start swarmd with a join token";
        Rejection::new(RejectionKind::Forbidden, subject(id), sentence, hint)
    })
}

/// The member with this id, if this is its open session.
///
/// # Errors
/// Forbidden for a non-member; Conflict if the session ended, so that the agent registers again.
pub(crate) fn in_session(state: &Cluster, id: NodeId, session: SessionId) -> Result<&Node, Rejection> {
    let node = member(state, id)?;
    if node.session != Some(session) {
        let sentence = format!("session ended: {session} is not the open session of node {id}");
        return Err(Rejection::conflict(subject(id), sentence, "the agent registers again by itself"));
    }
    Ok(node)
}

/// Opens a session, replacing an open one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RegisterNode {
    /// The node.
    pub node: NodeId,
    /// The new session.
    pub session: SessionId,
    /// What it reports about itself.
    pub description: Box<NodeDescription>,
    /// Its address.
    pub addr: String,
}

/// A heartbeat of a node that did not count as ready. The session outlives a change of leader, so the node need not register with
/// the new one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct HearNode {
    /// The node.
    pub node: NodeId,
    /// Its session.
    pub session: SessionId,
}

/// The end of a session's connection, which has no effect on a later session.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DisconnectNode {
    /// The node.
    pub node: NodeId,
    /// The session.
    pub session: SessionId,
}

/// Replaces a node's spec.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct UpdateNode {
    /// The node.
    pub node: NodeId,
    /// The new spec.
    pub spec: NodeSpec,
    /// The version that was read; `None`: any.
    pub version: Option<u64>,
}

/// Removes a node from the cluster, and orphans its tasks: they will not be reported again.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RemoveNode {
    /// The node.
    pub node: NodeId,
    /// Even if it is ready.
    pub force: bool,
}

impl Verb for RegisterNode {
    fn name(&self) -> &'static str {
        "node.register"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Node(self.node)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { node: id, session, description, addr } = self;
        let (id, session) = (*id, *session);
        let node = member(state, id)?;
        validate::node_description(description).map_err(|fault| fault.about(&subject(id)))?;
        validate::addr(addr).map_err(|fault| fault.about(&subject(id)))?;
        let mut decision = Decision::nothing(id);
        let open = node.session == Some(session) && node.liveness == Liveness::Ready && node.addr == *addr;
        if !open {
            let registered = NodeRegistered { node: id, session, addr: addr.clone() };
            decision.events.push(Kind::NodeRegistered(registered));
        }
        if node.description.as_deref() != Some(description) {
            let described = NodeDescribed { node: id, description: (**description).clone() };
            decision.events.push(Kind::NodeDescribed(Box::new(described)));
        }
        Ok(decision)
    }
}

impl Verb for HearNode {
    fn name(&self) -> &'static str {
        "node.hear"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Node(self.node)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let node = in_session(state, self.node, self.session)?;
        Ok(match node.liveness {
            Liveness::Ready => Decision::nothing(node.id),
            // It is flapping, and has to stay connected for a while first.
            Liveness::Down if node.held_until.is_some_and(|until| ctx.now < until) => Decision::nothing(node.id),
            Liveness::Unknown | Liveness::Disconnected | Liveness::Down => {
                Decision::one(node.id, Kind::NodeBecameReady(NodeBecameReady { node: node.id }))
            }
        })
    }
}

impl Verb for DisconnectNode {
    fn name(&self) -> &'static str {
        "node.disconnect"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::ThisManager
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let (id, session) = (self.node, self.session);
        let open = state.nodes.get(id).filter(|node| node.session == Some(session)).map(|node| node.liveness);
        Ok(match open {
            Some(Liveness::Ready | Liveness::Unknown) => {
                Decision::one(id, Kind::NodeDisconnected(NodeDisconnected { node: id, session }))
            }
            Some(Liveness::Disconnected | Liveness::Down) | None => Decision::nothing(id),
        })
    }
}

impl Verb for UpdateNode {
    fn name(&self) -> &'static str {
        "node.update"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        // It may free resources: by a drain.
        false
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let (id, spec) = (self.node, &self.spec);
        let node = existing(state, id)?;
        let subject = subject(id);
        require_version(&subject, node.version, self.version)?;
        validate::node_spec(spec).map_err(|fault| fault.about(&subject))?;
        if spec.role() == Role::Worker && is_only_manager(state, node) {
            let sentence = "the manager cannot be demoted: it is the only one";
            let hint = "promote another node first";
            return Err(Rejection::conflict(subject, sentence, hint));
        }
        if spec.role() == Role::Worker && node.spec.role() == Role::Manager {
            require_quorum(state, node, &ctx.reached)?;
        }
        if *spec == *node.spec {
            return Ok(Decision::nothing(id));
        }
        Ok(Decision::one(id, Kind::NodeSpecUpdated(NodeSpecUpdated { node: id, spec: spec.clone() })))
    }
}

impl Verb for RemoveNode {
    fn name(&self) -> &'static str {
        "node.remove"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let (id, forced) = (self.node, self.force);
        let node = existing(state, id)?;
        require_removable(state, node, forced)?;
        removal(state, id, forced)
    }
}

/// Removes a node and its tasks.
///
/// # Errors
/// When it has more tasks than fit into one frame.
pub(crate) fn removal(state: &Cluster, id: NodeId, forced: bool) -> Result<Decision, Rejection> {
    let tasks: Vec<TaskId> =
        state.tasks_of_node(id).filter(|task| !task.state.is_terminal()).map(|task| task.id).collect();
    if tasks.len() > ORPHANS_MAX {
        let held = tasks.len();
        let sentence = format!("node {id} has {held} tasks, more than one frame can give up: {ORPHANS_MAX}");
        return Err(Rejection::new(RejectionKind::Exhausted, subject(id), sentence, "drain the node first"));
    }
    let mut decision = Decision::nothing(id);
    if !tasks.is_empty() {
        let message = "Task belonged to a node that has been deleted".to_owned();
        decision.events.push(Kind::TaskOrphaned(TaskOrphaned { tasks, message }));
    }
    decision.events.push(Kind::NodeRemoved(NodeRemoved { node: id, forced, forgotten: false }));
    Ok(decision)
}

/// Refuses to remove a manager's vote if the other reachable ones would not be a majority.
fn require_quorum(state: &Cluster, node: &Node, reached: &BTreeSet<u64>) -> Result<(), Rejection> {
    let Some(member) = state.members.get(node.id) else { return Ok(()) };
    let Some(loss) = quorum::loss(state, member, |voter| reached.contains(&voter.raft_id)) else { return Ok(()) };
    let sentence = format!("{} cannot be demoted: {loss}", node.hostname());
    let hint = "start the managers that are down, or add one first; `swarmctl raft` shows all of them";
    Err(Rejection::conflict(subject(node.id), sentence, hint))
}

/// Whether no other node should be a manager.
pub(crate) fn is_only_manager(state: &Cluster, node: &Node) -> bool {
    let is_manager = |node: &&Node| node.spec.role() == Role::Manager;
    is_manager(&node) && !state.nodes.values().filter(is_manager).any(|other| other.id != node.id)
}

/// Refuses to remove a manager, and a node that is ready.
fn require_removable(state: &Cluster, node: &Node, force: bool) -> Result<(), Rejection> {
    let id = node.id;
    let managers = state.members.len();
    if is_only_manager(state, node) {
        let sentence = format!("node {id} is the manager of this cluster");
        let hint = "to end the cluster, use `swarmctl node leave --force` on the manager";
        return Err(Rejection::conflict(subject(id), sentence, hint));
    }
    if node.spec.role() == Role::Manager || state.members.contains(id) {
        let sentence = format!("node {id} is one of the {managers} managers of this cluster");
        let hint = "demote it first, and wait until it no longer replicates the log";
        return Err(Rejection::conflict(subject(id), sentence, hint));
    }
    if node.liveness == Liveness::Ready && !force {
        let sentence = format!("node {id} ({}) is ready: its tasks would be lost", node.hostname());
        let hint = "drain it and stop its swarmd first, or remove it with --force";
        return Err(Rejection::conflict(subject(id), sentence, hint));
    }
    Ok(())
}

fn existing(state: &Cluster, id: NodeId) -> Result<&Node, Rejection> {
    state.nodes.get(id).ok_or_else(|| Rejection::not_found("node", id))
}

pub(crate) fn subject(id: NodeId) -> String {
    format!("node {id}")
}

#[cfg(test)]
mod tests;
