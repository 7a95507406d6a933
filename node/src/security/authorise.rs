//! Access control of calls. The caller is the authenticated peer of the connection; messages are not trusted.

use std::fmt;

use events::{ClusterId, Named, NodeId, OperatorId, OperatorRole, Role};
use tonic::Status;
use wire::v1::RefusalKind;

use super::failures;
use super::peer::Peer;
use super::subject::Subject;

/// The callers that an RPC serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed {
    /// Managers, operators at the unix socket, and operators whose certificate has this role or a higher one.
    Operators(OperatorRole),
    /// Managers only.
    Managers,
    /// Managers and workers.
    Nodes,
    /// Other managers, including those not yet in this manager's state: it may be the one that lags behind.
    Peers,
    /// Any caller, even without a certificate: the RPC itself requires a join token, or its response is public.
    Anyone,
}

/// The relation of a node to the cluster that issued its certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// It is a member.
    Member,
    /// It was a member until it was removed.
    Removed,
    /// The cluster has no such node.
    Unknown,
    /// This manager has no such node, but may lag behind the leader.
    NotYetKnown,
}

/// Judges calls to one cluster.
#[derive(Clone)]
pub struct Gate<M, O> {
    cluster: ClusterId,
    membership: M,
    operators: O,
}

/// A call that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// The call needs a certificate.
    #[error("this call is for {allowed}, and the caller has no certificate")]
    Anonymous {
        /// The callers that it serves.
        allowed: Allowed,
    },
    /// The certificate is valid, but its role is not sufficient.
    #[error("this call is for {allowed}, but the certificate of node {} says {}", .subject.node, .subject.role.name())]
    Role {
        /// The callers that it serves.
        allowed: Allowed,
        /// The caller.
        subject: Subject,
    },
    /// The call is only for nodes themselves.
    #[error("this call is for {allowed}, and the caller is no node")]
    NoNode {
        /// The callers that it serves.
        allowed: Allowed,
    },
    /// The operator's role is not sufficient.
    #[error("this call is for {allowed}, and the caller has the role {}", .role.name())]
    OperatorRole {
        /// The callers that it serves.
        allowed: Allowed,
        /// The caller's role.
        role: OperatorRole,
    },
    /// The cluster has no such operator.
    #[error("operator {0} was revoked, or is another cluster's")]
    NotOperator(OperatorId),
    /// The same root, but another cluster.
    #[error("the certificate of node {node} belongs to another cluster: {cluster}")]
    OtherCluster {
        /// The caller.
        node: NodeId,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// The node is no longer a member.
    #[error("node {0} was removed from the cluster")]
    Removed(NodeId),
    /// The cluster has no such node.
    #[error(
        "node {0} is not a member: it joined after the backup that this manager was restored from, or was removed because it never registered"
    )]
    NotMember(NodeId),
    /// This manager has no such node, but cannot conclude that the cluster has none.
    #[error("this manager does not know node {0} yet: it has not caught up with the manager that leads")]
    NotYetKnown(NodeId),
    /// The connection has no authenticated peer: a bug, so the request is not trusted.
    #[error("the connection does not say who is calling")]
    Unknown,
}

impl AccessError {
    /// What the caller can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Anonymous { .. } => "join the cluster first, or call over the unix socket of a manager",
            Self::Role { .. } => "call from a manager, or over the unix socket of one",
            Self::NoNode { .. } => "nodes call over TLS, with their own certificate",
            Self::OperatorRole { .. } => {
                "ask an operator with a higher role, or call over the unix socket of a manager"
            }
            Self::NotOperator(_) => "get a new identity with `swarmctl operator create`",
            Self::OtherCluster { .. } => "check the address: this manager serves another cluster",
            Self::Removed(_) => {
                "to join again, stop the node's swarmd, run `swarmd leave` there and start swarmd with a join token"
            }
            Self::NotMember(_) => {
                "restore the manager from a newer backup; or stop the node's swarmd, delete the certificates directory in its state \
                 directory, and start it with a join token: it joins as another node and removes its old tasks"
            }
            Self::NotYetKnown(_) => "ask another manager, or try again",
            Self::Unknown => "report this as a bug",
        }
    }

    /// Whether the certificate or the role is insufficient; otherwise this manager cannot judge the call.
    pub fn is_denial(&self) -> bool {
        match self {
            Self::Anonymous { .. }
            | Self::Role { .. }
            | Self::NoNode { .. }
            | Self::OperatorRole { .. }
            | Self::NotOperator(_)
            | Self::OtherCluster { .. }
            | Self::Removed(_)
            | Self::NotMember(_) => true,
            Self::NotYetKnown(_) | Self::Unknown => false,
        }
    }
}

impl From<AccessError> for Status {
    fn from(refusal: AccessError) -> Self {
        let hint = Some(refusal.hint().to_owned());
        let kind = match refusal {
            AccessError::Removed(_) => RefusalKind::Removed,
            AccessError::NotMember(_) => RefusalKind::NotMember,
            AccessError::NotYetKnown(_) => RefusalKind::Unavailable,
            AccessError::Anonymous { .. }
            | AccessError::Role { .. }
            | AccessError::NoNode { .. }
            | AccessError::OperatorRole { .. }
            | AccessError::NotOperator(_)
            | AccessError::OtherCluster { .. }
            | AccessError::Unknown => RefusalKind::Forbidden,
        };
        let kind = kind.into();
        wire::v1::Refusal { kind, subject: "caller".to_owned(), sentence: refusal.to_string(), hint }.into()
    }
}

impl<M: Fn(NodeId) -> Membership, O: Fn(OperatorId) -> Option<OperatorRole>> Gate<M, O> {
    /// The gate of `cluster`; `membership` classifies its nodes, and `operators` returns the roles of operators.
    pub fn new(cluster: ClusterId, membership: M, operators: O) -> Self {
        Self { cluster, membership, operators }
    }

    /// Returns the caller, if it is allowed.
    ///
    /// Where anyone may call, a non-member counts as a caller without a certificate: it can join again as a new node.
    pub fn judge(&self, peer: &Peer, allowed: Allowed) -> Result<Peer, AccessError> {
        self.judged(peer, allowed).inspect_err(|refusal| failures::note(peer, refusal))
    }

    fn judged(&self, peer: &Peer, allowed: Allowed) -> Result<Peer, AccessError> {
        match (peer, allowed) {
            (Peer::CertifiedOperator { operator, cluster, address }, _) => {
                self.judge_operator(*operator, *cluster, allowed)?;
                Ok(match allowed {
                    Allowed::Anyone => Peer::Anonymous { address: *address },
                    Allowed::Operators(_) | Allowed::Managers | Allowed::Nodes | Allowed::Peers => peer.clone(),
                })
            }
            (Peer::Operator { .. }, Allowed::Operators(_) | Allowed::Anyone)
            | (Peer::Anonymous { .. }, Allowed::Anyone) => Ok(peer.clone()),
            (Peer::Operator { .. }, Allowed::Managers | Allowed::Nodes | Allowed::Peers) => {
                Err(AccessError::NoNode { allowed })
            }
            (Peer::Anonymous { .. }, Allowed::Operators(_) | Allowed::Managers | Allowed::Nodes | Allowed::Peers) => {
                Err(AccessError::Anonymous { allowed })
            }
            (Peer::Node { subject, .. }, _) if subject.cluster != self.cluster => {
                Err(AccessError::OtherCluster { node: subject.node, cluster: subject.cluster })
            }
            (Peer::Node { subject, address }, _) => match ((self.membership)(subject.node), allowed) {
                (Membership::Member, Allowed::Operators(_) | Allowed::Managers)
                | (Membership::Member | Membership::Unknown | Membership::NotYetKnown, Allowed::Peers) => {
                    match subject.role {
                        Role::Manager => Ok(peer.clone()),
                        Role::Worker => Err(AccessError::Role { allowed, subject: *subject }),
                    }
                }
                (Membership::Member, Allowed::Nodes | Allowed::Anyone) => Ok(peer.clone()),
                (Membership::Removed | Membership::Unknown | Membership::NotYetKnown, Allowed::Anyone) => {
                    Ok(Peer::Anonymous { address: *address })
                }
                (Membership::Removed, Allowed::Operators(_) | Allowed::Managers | Allowed::Nodes | Allowed::Peers) => {
                    Err(AccessError::Removed(subject.node))
                }
                (Membership::Unknown, Allowed::Operators(_) | Allowed::Managers | Allowed::Nodes) => {
                    Err(AccessError::NotMember(subject.node))
                }
                (Membership::NotYetKnown, Allowed::Operators(_) | Allowed::Managers | Allowed::Nodes) => {
                    Err(AccessError::NotYetKnown(subject.node))
                }
            },
        }
    }

    fn judge_operator(&self, operator: OperatorId, cluster: ClusterId, allowed: Allowed) -> Result<(), AccessError> {
        let role = (self.operators)(operator).filter(|_| cluster == self.cluster);
        match (allowed, role) {
            (Allowed::Anyone, _) => Ok(()),
            (_, None) => Err(AccessError::NotOperator(operator)),
            (Allowed::Operators(least), Some(role)) if role >= least => Ok(()),
            (Allowed::Operators(_), Some(role)) => Err(AccessError::OperatorRole { allowed, role }),
            (Allowed::Managers | Allowed::Nodes | Allowed::Peers, Some(_)) => Err(AccessError::NoNode { allowed }),
        }
    }
}

impl<M, O> fmt::Debug for Gate<M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operators(OperatorRole::Viewer) => "operators and managers",
            Self::Operators(OperatorRole::Operator) => "operators with the role operator or admin, and managers",
            Self::Operators(OperatorRole::Admin) => "operators with the role admin, and managers",
            Self::Managers => "managers",
            Self::Peers => "other managers",
            Self::Nodes => "nodes of the cluster",
            Self::Anyone => "anyone",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::subject;
    use super::*;
    use events::Id;

    const REMOVED: u128 = 13;
    const UNKNOWN: u128 = 14;
    const NOT_YET_KNOWN: u128 = 15;

    fn judge(peer: &Peer, allowed: Allowed) -> Result<Peer, AccessError> {
        let membership = |node: NodeId| match node.bits() {
            REMOVED => Membership::Removed,
            UNKNOWN => Membership::Unknown,
            NOT_YET_KNOWN => Membership::NotYetKnown,
            _ => Membership::Member,
        };
        Gate::new(ClusterId::from_bits(7), membership, |_| None).judge(peer, allowed)
    }

    fn node(subject: Subject) -> Peer {
        Peer::Node { subject, address: ([127, 0, 0, 1], 4242).into() }
    }

    fn anonymous() -> Peer {
        Peer::Anonymous { address: ([127, 0, 0, 1], 4242).into() }
    }

    #[test]
    fn nodes_that_are_no_members_may_only_do_what_strangers_may() {
        let refusals = [
            (REMOVED, AccessError::Removed(NodeId::from_bits(REMOVED))),
            (UNKNOWN, AccessError::NotMember(NodeId::from_bits(UNKNOWN))),
            (NOT_YET_KNOWN, AccessError::NotYetKnown(NodeId::from_bits(NOT_YET_KNOWN))),
        ];
        for (number, refusal) in refusals {
            for role in [Role::Manager, Role::Worker] {
                let caller = node(subject(number, role));
                assert_eq!(judge(&caller, Allowed::Anyone), Ok(anonymous()));
                for allowed in [Allowed::Operators(OperatorRole::Viewer), Allowed::Managers, Allowed::Nodes] {
                    assert_eq!(judge(&caller, allowed), Err(refusal.clone()));
                }
            }
        }
    }

    #[test]
    fn another_clusters_nodes_may_do_nothing() {
        let foreign = node(Subject { cluster: ClusterId::from_bits(8), ..subject(1, Role::Manager) });
        for allowed in [Allowed::Managers, Allowed::Nodes, Allowed::Anyone] {
            assert!(matches!(judge(&foreign, allowed), Err(AccessError::OtherCluster { .. })));
        }
    }

    #[test]
    fn refusals_are_sentences_with_a_hint() {
        let status = |peer: Peer| Status::from(judge(&peer, Allowed::Managers).expect_err("a refusal"));
        let worker = status(node(subject(2, Role::Worker)));
        assert_eq!(worker.code(), tonic::Code::PermissionDenied);
        assert_eq!(
            worker.message(),
            "this call is for managers, but the certificate of node 0000000000000000000000002 says worker"
        );
        let refusal = wire::v1::Refusal::from_status(&worker).expect("a refusal in the details");
        assert_eq!(refusal.kind(), RefusalKind::Forbidden);
        assert_eq!(refusal.hint.as_deref(), Some("call from a manager, or over the unix socket of one"));
        for (number, words, kind) in [
            (REMOVED, "node 000000000000000000000000d was removed from the cluster", RefusalKind::Removed),
            (UNKNOWN, "node 000000000000000000000000e is not a member: it joined after", RefusalKind::NotMember),
            (NOT_YET_KNOWN, "this manager does not know node 000000000000000000000000f yet", RefusalKind::Unavailable),
        ] {
            let refused = status(node(subject(number, Role::Worker)));
            assert!(refused.message().starts_with(words), "{refused:?}");
            let refusal = wire::v1::Refusal::from_status(&refused).expect("a refusal in the details");
            assert_eq!(refusal.kind(), kind);
        }
    }
}
