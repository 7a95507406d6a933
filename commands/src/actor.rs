//! Who acts, and what each may ask.

use events::{ActorKind, ActorRecord, NodeId, Role};

use crate::{Command, Rejection, RejectionKind};

/// Who a command comes from: computed by the server from the connection, never taken from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A person or a tool at a manager's control API, by local user name.
    Operator(String),
    /// A node, by its certificate.
    Node {
        /// The node's id.
        id: NodeId,
        /// The role in its certificate.
        role: Role,
    },
    /// Somebody without a certificate, who may hold a join token; by network address.
    Joiner(String),
    /// The manager itself.
    Manager(NodeId),
}

impl Actor {
    /// How the log names this actor.
    pub fn record(&self, via: Option<NodeId>) -> ActorRecord {
        let (kind, subject) = match self {
            Actor::Operator(name) => (ActorKind::Operator, name.clone()),
            Actor::Node { id, .. } => (ActorKind::Node, id.to_string()),
            Actor::Joiner(addr) => (ActorKind::Joiner, addr.clone()),
            Actor::Manager(id) => (ActorKind::Manager, id.to_string()),
        };
        ActorRecord { kind: kind.into(), subject, via }
    }

    /// Refuses what this actor may not ask: the one table of roles.
    ///
    /// # Errors
    /// Forbidden, in words.
    pub fn may(&self, command: &Command) -> Result<(), Rejection> {
        let allowed = match command {
            Command::InitialiseCluster { .. } | Command::AssumeLeadership { .. } | Command::RecordStateHash { .. } => {
                matches!(self, Actor::Manager(_))
            }
            Command::UpdateCluster { .. }
            | Command::RotateJoinToken { .. }
            | Command::UpdateNode { .. }
            | Command::RemoveNode { .. }
            | Command::CreateService { .. }
            | Command::UpdateService { .. }
            | Command::ScaleService { .. }
            | Command::RemoveService { .. }
            | Command::RemoveTask { .. } => matches!(self, Actor::Operator(_) | Actor::Node { role: Role::Manager, .. }),
            Command::JoinNode { .. } => matches!(self, Actor::Joiner(_)),
            Command::CertifyNode { node, .. } => self.is(*node) || matches!(self, Actor::Manager(_)),
            Command::RegisterNode { node, .. } | Command::HearNode { node, .. } | Command::ReportTasks { node, .. } => {
                self.is(*node)
            }
            Command::DisconnectNode { .. } => matches!(self, Actor::Manager(_)),
        };
        if allowed { Ok(()) } else { Err(self.forbidden(command)) }
    }

    fn is(&self, node: NodeId) -> bool {
        matches!(self, Actor::Node { id, .. } if *id == node)
    }

    fn forbidden(&self, command: &Command) -> Rejection {
        let who = match self {
            Actor::Operator(name) => format!("operator {name}"),
            Actor::Node { id, role: Role::Worker } => format!("worker {id}"),
            Actor::Node { id, role: Role::Manager } => format!("manager {id}"),
            Actor::Joiner(addr) => format!("a caller without a certificate at {addr}"),
            Actor::Manager(id) => format!("this manager ({id})"),
        };
        let hint = "ask on a manager's control socket, or with the certificate of the node that it is about";
        Rejection::new(RejectionKind::Forbidden, command.name(), format!("{who} may not ask for {}", command.name()), hint)
    }
}
