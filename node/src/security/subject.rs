//! The holder of a certificate.

use std::fmt;

use events::{ClusterId, Named, NodeId, OperatorId, Role};
use rustls_pki_types::CertificateDer;
use x509_parser::x509::AttributeTypeAndValue;

use super::certificate::{self, CertificateError};

/// A member of a cluster, as the subject of its certificate identifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The node: the subject's common name.
    pub node: NodeId,
    /// The node's role: the subject's organisational unit.
    pub role: Role,
    /// Its cluster: the subject's organisation.
    pub cluster: ClusterId,
}

impl Subject {
    /// Parses the subject of a node's certificate. Only its form is checked; the chain must be verified elsewhere.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let parsed = certificate::parse(certificate)?;
        let name = parsed.subject();
        let node = only(name.iter_common_name()).and_then(|text| text.parse().ok());
        let role = only(name.iter_organizational_unit()).and_then(role_named);
        let cluster = only(name.iter_organization()).and_then(|text| text.parse().ok());
        Ok(Self {
            node: node.ok_or(CertificateError::Subject("node id (CN)"))?,
            role: role.ok_or(CertificateError::Subject("role (OU)"))?,
            cluster: cluster.ok_or(CertificateError::Subject("cluster id (O)"))?,
        })
    }
}

/// The holder of a certificate: a node or an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// A node.
    Node(Subject),
    /// An operator; its role is part of the cluster's state.
    Operator {
        /// The operator: the subject's common name.
        operator: OperatorId,
        /// The cluster: the subject's organisation.
        cluster: ClusterId,
    },
}

impl Holder {
    /// Parses the holder of a certificate. Only its form is checked.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let parsed = certificate::parse(certificate)?;
        let name = parsed.subject();
        if only(name.iter_organizational_unit()) != Some(OPERATOR_UNIT) {
            return Subject::of(certificate).map(Self::Node);
        }
        let operator = only(name.iter_common_name()).and_then(|text| text.parse().ok());
        let cluster = only(name.iter_organization()).and_then(|text| text.parse().ok());
        Ok(Self::Operator {
            operator: operator.ok_or(CertificateError::Subject("operator id (CN)"))?,
            cluster: cluster.ok_or(CertificateError::Subject("cluster id (O)"))?,
        })
    }

    /// The subject's common name, organisational unit and organisation.
    pub(super) fn names(self) -> [String; 3] {
        match self {
            Self::Node(subject) => {
                [subject.node.to_string(), unit_of(subject.role).to_owned(), subject.cluster.to_string()]
            }
            Self::Operator { operator, cluster } => {
                [operator.to_string(), OPERATOR_UNIT.to_owned(), cluster.to_string()]
            }
        }
    }
}

impl From<Subject> for Holder {
    fn from(subject: Subject) -> Self {
        Self::Node(subject)
    }
}

/// The organisational unit of operators' certificates, in place of a node's role. No server is accepted with this name.
pub(super) const OPERATOR_UNIT: &str = "swarm-operator";

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role.name(), self.node)
    }
}

/// The organisational unit of a role in certificates; for managers also the server name that clients expect.
pub(super) fn unit_of(role: Role) -> &'static str {
    match role {
        Role::Manager => "swarm-manager",
        Role::Worker => "swarm-worker",
    }
}

fn role_named(unit: &str) -> Option<Role> {
    [Role::Manager, Role::Worker].into_iter().find(|role| unit_of(*role) == unit)
}

/// The attribute's text if there is exactly one: an ambiguous subject is invalid.
fn only<'a>(mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Option<&'a str> {
    match (attributes.next(), attributes.next()) {
        (Some(attribute), None) => attribute.as_str().ok(),
        _ => None,
    }
}
