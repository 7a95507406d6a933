//! Operators with a certificate: listing, creating and renewing. The core decides; `api/signing` signs.

use commands::{Actor, Command, CreateOperator, ReadSecrets, Rejection, RenewOperator};
use events::{OperatorId, Role};
use projections::{Cluster, Operator};
use wire::v1::{CreateOperatorRequest, Meta, OperatorList, OperatorView, RenewOperatorRequest};

use super::Control;
use super::enrolment::unfit;
use crate::manager::replica::Request;

impl Control {
    /// All operators with a certificate, sorted by name.
    pub fn operators(&self) -> OperatorList {
        let mut operators: Vec<OperatorView> =
            self.state.cluster.operators.values().map(|operator| view(&self.state.cluster, operator)).collect();
        operators.sort_by(|one, other| one.name.cmp(&other.name));
        OperatorList { operators }
    }

    /// The core request to create an operator. An operator whose certificate cannot be signed must not be created.
    ///
    /// # Errors
    /// When the certificate request is invalid, or this manager cannot sign.
    pub fn create_operator(&self, actor: Actor, asked: CreateOperatorRequest) -> Result<Request, Rejection> {
        self.signer()?.judge(&asked.csr_pem, self.now).map_err(unfit)?;
        let not_after = self.now + self.state.cluster.spec().cert_expiry();
        let (role, CreateOperatorRequest { id, reason, name, .. }) = (asked.role(), asked);
        let command = Command::CreateOperator(CreateOperator { name, role, not_after });
        Ok(Request {
            id,
            actor,
            command,
            reason,
            correlation: None,
            causation: None,
            unchanged: Vec::new(),
            joined: Vec::new(),
        })
    }

    /// The core request to renew an operator's certificate.
    ///
    /// # Errors
    /// When the certificate request is invalid, or this manager cannot sign.
    pub fn renew_operator(
        &self,
        actor: Actor,
        operator: OperatorId,
        asked: RenewOperatorRequest,
    ) -> Result<Request, Rejection> {
        self.signer()?.judge(&asked.csr_pem, self.now).map_err(unfit)?;
        let not_after = self.now + self.state.cluster.spec().cert_expiry();
        let command = Command::RenewOperator(RenewOperator { operator, not_after });
        Ok(Request {
            id: asked.id,
            actor,
            command,
            reason: asked.reason,
            correlation: None,
            causation: None,
            unchanged: Vec::new(),
            joined: Vec::new(),
        })
    }

    /// The core request that records that the join tokens are read.
    pub fn read_tokens(&self, actor: Actor) -> Request {
        let settings = &self.state.cluster.settings;
        let names = [Role::Worker, Role::Manager].map(|role| settings.token_key(role)).into();
        Request::unnamed(actor, Command::ReadSecrets(ReadSecrets { names }))
    }
}

fn view(cluster: &Cluster, operator: &Operator) -> OperatorView {
    OperatorView {
        id: operator.id,
        meta: Meta { version: operator.version, created_at: operator.created_at, updated_at: operator.created_at },
        name: operator.name.clone(),
        role: operator.role.into(),
        not_after: operator.not_after,
        root_replaced: cluster.has_lost_root(operator),
    }
}
