//! Signs certificates and roots. This may call an external authority, so it is asynchronous and separate from [`Control`].

use commands::{Actor, CertifyNode, Command, Rejection, RejectionKind};
use events::{Named, NodeId, OperatorId, Role};
use wire::v1::{CertificateReply, CommandReply, OperatorCertificate};

use crate::control::Control;
use crate::control::enrolment::{broken, unsigned};
use crate::control::root::{SUBJECT, no_key, unusable};
use crate::manager::replica::Request;
use crate::security::{Authority, ExternalAuthority, ExternalClient, Holder, RootCertificate, Subject};

impl Control {
    /// Issues a certificate for a node, with the command that records it in the log; must be delivered only after the command
    /// is committed.
    ///
    /// # Errors
    /// When the request is invalid, or this manager cannot sign.
    pub async fn certify(
        &self,
        external: &ExternalClient,
        node: NodeId,
        role: Role,
        csr_pem: &str,
    ) -> Result<(Request, CertificateReply), Rejection> {
        let (subject, expiry) = (Subject { node, role, cluster: self.state.cluster.id() }, self.state.cluster.spec());
        let signer = self.signer()?;
        let issued = signer.sign(external, csr_pem, subject, self.now, expiry.cert_expiry()).await.map_err(unsigned)?;
        let (cert_pem, not_after) = (issued.cert_pem, issued.not_after);
        let command = Command::CertifyNode(CertifyNode { node, role, cert_pem: cert_pem.clone(), not_after });
        tracing::debug!(%node, role = role.name(), "a certificate is issued");
        let reply = CertificateReply { node, cert_pem, roots_pem: signer.roots_pem().to_owned() };
        Ok((Request::unnamed(Actor::Manager(self.manager.node), command), reply))
    }

    /// Issues the certificate of an operator that the core created or renewed.
    ///
    /// # Errors
    /// When it has been revoked since, or this manager cannot sign.
    pub async fn operator_certificate(
        &self,
        external: &ExternalClient,
        reply: &CommandReply,
        csr_pem: &str,
    ) -> Result<OperatorCertificate, Rejection> {
        let operator = reply.subject.as_ref().and_then(|id| id.parse::<OperatorId>().ok());
        let operator = operator.ok_or_else(|| broken("the new operator has no id".to_owned()))?;
        let known = self.state.cluster.operators.get(operator);
        let known = known.ok_or_else(|| Rejection::not_found("operator", operator))?;
        let signer = self.signer()?;
        let holder = Holder::Operator { operator, cluster: self.state.cluster.id() };
        let validity = known.not_after.since(self.now);
        let issued = signer.sign(external, csr_pem, holder, self.now, validity).await.map_err(unsigned)?;
        let (cert_pem, roots_pem) = (issued.cert_pem, signer.roots_pem().to_owned());
        Ok(OperatorCertificate { operator, cert_pem, roots_pem, not_after: issued.not_after })
    }

    /// Has the new root cross-signed by the external authority, if that has the current root's key: this manager cannot do it
    /// itself.
    ///
    /// # Errors
    /// When no server signs it.
    pub async fn cross_sign(&self, external: &ExternalClient, command: &mut Command) -> Result<(), Rejection> {
        let Command::RotateRoot(rotate) = command else { return Ok(()) };
        if !rotate.cross_cert_pem.is_empty() {
            return Ok(());
        }
        let settings = &self.state.cluster.settings;
        let next = Authority::from_pem(&rotate.cert_pem, &rotate.key_pem.0).map_err(unusable)?;
        let present = RootCertificate::from_pem(&settings.root_cert_pem).map_err(|error| broken(error.to_string()))?;
        let servers = ExternalAuthority::of(&present, &settings.spec.external_cas).ok_or_else(no_key)?;
        let signed = servers.cross_sign(external, &next, self.now).await;
        rotate.cross_cert_pem = signed.map_err(|error| {
            let hint =
                "the server has to have a profile \"CA\" that signs authorities; check it, and repeat the command";
            Rejection::new(RejectionKind::Unavailable, SUBJECT, error.to_string(), hint)
        })?;
        Ok(())
    }
}
