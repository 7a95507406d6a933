//! Operators with a certificate: who may operate the cluster remotely, and with which role.

use events::{OperatorId, OperatorRole, Timestamp};
use serde::{Deserialize, Serialize};

use crate::services::name_key;
use crate::{Cluster, Stamp, Touched};

/// A person or tool with an operator certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    /// The operator's id, which is in the certificate.
    pub id: OperatorId,
    /// The name that the audit log shows.
    pub name: String,
    /// Their permissions.
    pub role: OperatorRole,
    /// When the certificate expires.
    pub not_after: Timestamp,
    /// How many roots the cluster had before the one that signed the certificate.
    pub root_generation: u32,
    /// Index of the frame that created it.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Cluster {
    /// Whether an operator's certificate was signed by a root that is no longer trusted.
    pub fn has_lost_root(&self, operator: &Operator) -> bool {
        operator.root_generation < self.settings.root_generation
    }

    /// The operator with this name, ignoring case. There are few, so a linear search is enough.
    pub fn operator_named(&self, name: &str) -> Option<&Operator> {
        let key = name_key(name);
        self.operators.values().find(|operator| name_key(&operator.name) == key)
    }
}

pub(crate) fn created(cluster: &mut Cluster, event: &events::OperatorCreated, at: &Stamp) {
    assert!(!cluster.operators.contains(event.operator), "operator {} was created twice", event.operator);
    assert!(cluster.operator_named(&event.name).is_none(), "the name {} was given to two operators", event.name);
    let operator = Operator {
        id: event.operator,
        name: event.name.clone(),
        role: event.role(),
        not_after: event.not_after,
        root_generation: cluster.settings.signing_generation(),
        version: at.index,
        created_at: at.time,
    };
    cluster.operators.insert(event.operator, operator);
}

pub(crate) fn revoked(cluster: &mut Cluster, id: OperatorId, touched: &mut Touched) {
    assert!(cluster.operators.remove(id).is_some(), "operator {id} is not there to be revoked");
    touched.operators.insert(id);
}

pub(crate) fn renewed(cluster: &mut Cluster, event: &events::OperatorRenewed) {
    let known = cluster.operators.get(event.operator).cloned();
    let operator = known.unwrap_or_else(|| panic!("operator {} is not there to be renewed", event.operator));
    let (not_after, root_generation) = (event.not_after, cluster.settings.signing_generation());
    cluster.operators.insert(event.operator, Operator { not_after, root_generation, ..operator });
}

#[cfg(test)]
mod tests {
    use events::{
        Event, Id, Kind, OperatorCreated, OperatorRenewed, OperatorRevoked, RootRotationCompleted, RootRotationStarted,
    };

    use super::*;
    use crate::{check, snapshot};

    #[test]
    fn a_certificate_not_renewed_during_a_rotation_is_untrusted_afterwards() {
        let mut cluster = Cluster::default();
        let mut apply = |kind| {
            cluster.apply(&Event::by_command(0, kind), &Stamp::default());
            let lost: Vec<bool> = cluster.operators.values().map(|operator| cluster.has_lost_root(operator)).collect();
            lost
        };
        let created = |bits: u128| {
            let (operator, name) = (OperatorId::from_bits(bits), format!("o{bits}"));
            Kind::OperatorCreated(OperatorCreated { operator, name, ..OperatorCreated::default() })
        };
        let renewed = OperatorRenewed { operator: OperatorId::from_bits(2), ..OperatorRenewed::default() };
        let steps = [
            (created(1), &[false][..]),
            (created(2), &[false, false]),
            (Kind::RootRotationStarted(RootRotationStarted::default()), &[false, false]),
            (Kind::OperatorRenewed(renewed), &[false, false]),
            (created(3), &[false, false, false]),
            (Kind::RootRotationCompleted(RootRotationCompleted::default()), &[true, false, false]),
        ];
        for (kind, expected) in steps {
            let described = format!("{kind:?}");
            assert_eq!(apply(kind), expected, "{described}");
        }
    }

    #[test]
    fn an_operator_is_known_by_name_until_revoked_and_is_in_every_snapshot() {
        let (mut cluster, at) = (Cluster::default(), Stamp { index: 5, ..Stamp::default() });
        let apply = |cluster: &mut Cluster, kind| cluster.apply(&Event::by_command(0, kind), &at);
        for (bits, name) in [(1, "Ada"), (2, "bob")] {
            let (operator, role) = (OperatorId::from_bits(bits), OperatorRole::Viewer.into());
            let created = OperatorCreated { operator, name: name.to_owned(), role, ..OperatorCreated::default() };
            apply(&mut cluster, Kind::OperatorCreated(created));
        }
        let bob = OperatorId::from_bits(2);
        let touched = apply(&mut cluster, Kind::OperatorRevoked(OperatorRevoked { operator: bob }));
        assert!(touched.operators.contains(&bob));
        let not_after = Timestamp::from_unix_ns(7);
        apply(&mut cluster, Kind::OperatorRenewed(OperatorRenewed { operator: OperatorId::from_bits(1), not_after }));
        assert_eq!(cluster.operator_named("ada").map(|operator| operator.not_after), Some(not_after));
        assert_eq!(check::check(&cluster), Vec::<String>::new());
        let read = snapshot::read(snapshot::chunks(&cluster)).expect("it was just written");
        assert_eq!(read.operator_named("ada").map(|operator| operator.role), Some(OperatorRole::Viewer));
        assert!(read.operator_named("bob").is_none());
    }
}
