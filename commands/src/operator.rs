//! Commands about operators with a certificate, and the record of accesses to secrets.

use events::{
    Kind, OperatorCreated, OperatorId, OperatorRenewed, OperatorRevoked, OperatorRole, SecretsRead, Timestamp,
};
use projections::Cluster;

use crate::text::quote;
use crate::verb::{AllowedActor, Verb};
use crate::{Ctx, Decision, Rejection, RejectionKind, validate};

/// Maximum number of operators: people and tools, which are few. Each of their calls searches through all.
const OPERATORS_MAX: usize = 1_000;

/// Admits an operator with remote access; the subject is the new operator's id. The certificate follows once the id is known.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct CreateOperator {
    /// The name that the audit log shows.
    pub name: String,
    /// Their permissions.
    pub role: OperatorRole,
    /// The last instant at which the certificate is valid.
    pub not_after: Timestamp,
}

/// Refuses an operator's certificate from now on.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RevokeOperator {
    /// The operator.
    pub operator: OperatorId,
}

/// Issues another certificate to an operator, with the same role. Only the operator's own connection may request it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RenewOperator {
    /// The operator.
    pub operator: OperatorId,
    /// The last instant at which the new certificate is valid.
    pub not_after: Timestamp,
}

/// Records that secrets are shown to the actor.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReadSecrets {
    /// Their names in the keyring.
    pub names: Vec<String>,
}

impl Verb for CreateOperator {
    fn name(&self) -> &'static str {
        "operator.create"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        true
    }

    fn decide(&self, state: &Cluster, ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let subject = format!("operator {}", quote(&self.name));
        validate::operator(&self.name).map_err(|fault| fault.about(&subject))?;
        if let Some(taken) = state.operator_named(&self.name) {
            let sentence = format!("the name {} is taken by operator {}", taken.name, taken.id);
            let hint = "choose another name, or revoke that operator first with `swarmctl operator revoke`";
            return Err(Rejection::new(RejectionKind::Exists, subject, sentence, hint));
        }
        if state.operators.len() >= OPERATORS_MAX {
            let sentence = format!("the cluster has {OPERATORS_MAX} operators, which is the maximum");
            let hint = "revoke those that are not needed with `swarmctl operator revoke`";
            return Err(Rejection::new(RejectionKind::Exhausted, subject, sentence, hint));
        }
        let operator: OperatorId = ctx.ids.next();
        let (name, role, not_after) = (self.name.clone(), self.role.into(), self.not_after);
        Ok(Decision::one(operator, Kind::OperatorCreated(OperatorCreated { operator, name, role, not_after })))
    }
}

impl Verb for RevokeOperator {
    fn name(&self) -> &'static str {
        "operator.revoke"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let operator = self.operator;
        if !state.operators.contains(operator) {
            return Err(Rejection::not_found("operator", operator));
        }
        Ok(Decision::one(operator, Kind::OperatorRevoked(OperatorRevoked { operator })))
    }
}

impl Verb for RenewOperator {
    fn name(&self) -> &'static str {
        "operator.renew"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Viewer)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let Self { operator, not_after } = *self;
        if !state.operators.contains(operator) {
            return Err(Rejection::not_found("operator", operator));
        }
        Ok(Decision::one(operator, Kind::OperatorRenewed(OperatorRenewed { operator, not_after })))
    }
}

impl Verb for ReadSecrets {
    fn name(&self) -> &'static str {
        "secrets.read"
    }

    fn allowed_actor(&self) -> AllowedActor {
        AllowedActor::Operator(OperatorRole::Admin)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, _state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let read = SecretsRead { names: self.names.clone() };
        Ok(Decision::one("secrets", Kind::SecretsRead(read)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;
    use crate::testing::{Fixture, operator};

    fn create(name: &str) -> Command {
        let (role, not_after) = (OperatorRole::Operator, Timestamp::default());
        Command::CreateOperator(CreateOperator { name: name.to_owned(), role, not_after })
    }

    #[test]
    fn a_name_is_given_once_until_its_operator_is_revoked() {
        let mut fixture = Fixture::initialised();
        let ada = fixture.accept(&operator(), create("ada")).subject.expect("an id").parse().expect("an operator's");
        assert_eq!(fixture.refuse(&operator(), create("ADA")).kind, RejectionKind::Exists);
        let revoke = |operator| Command::RevokeOperator(RevokeOperator { operator });
        let not_after = Timestamp::from_unix_ns(7);
        let renew = |operator| Command::RenewOperator(RenewOperator { operator, not_after });
        assert_eq!(fixture.accept(&operator(), renew(ada)).events.len(), 1);
        assert_eq!(fixture.state.operators.get(ada).map(|known| known.not_after), Some(not_after));
        fixture.accept(&operator(), revoke(ada));
        assert_eq!(fixture.refuse(&operator(), revoke(ada)).kind, RejectionKind::NotFound);
        assert_eq!(fixture.refuse(&operator(), renew(ada)).kind, RejectionKind::NotFound);
        let again = fixture.accept(&operator(), create("ada")).subject.expect("an id");
        assert_ne!(again, ada.to_string(), "the old certificate is not the new operator's");
    }

    #[test]
    fn names_are_words() {
        let fixture = Fixture::initialised();
        for name in ["", "-ada", "a da", "ada\n", &"a".repeat(64), &"0".repeat(25)] {
            assert_eq!(fixture.refuse(&operator(), create(name)).kind, RejectionKind::Invalid, "{name}");
        }
    }
}
