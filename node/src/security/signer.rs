//! What signs the certificates of nodes at this moment: the present root, or during a rotation the one that takes its place.

use events::{Duration, Timestamp};
use projections::{Keyring, Settings};

use super::subject::Holder;
use super::{
    Authority, AuthorityError, ExternalAuthority, ExternalClient, ExternalError, Issued, RequestedKey, RootCertificate,
    authority,
};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The cluster's own authority does not sign.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A server outside the cluster does not.
    #[error(transparent)]
    External(#[from] ExternalError),
}

/// The authority that signs, and what goes with each certificate.
#[derive(Debug)]
pub struct Signer {
    by: By,
    /// What follows a node's own certificate: the new root signed by the old one.
    intermediate: String,
    roots_pem: String,
}

/// Who has the key of the root.
#[derive(Debug)]
enum By {
    /// The managers.
    Key(Authority),
    /// Servers outside the cluster.
    External(ExternalAuthority),
}

impl Signer {
    /// The signer of a cluster at this moment.
    ///
    /// # Errors
    /// When the root's key is not there, or does not fit.
    pub fn of(settings: &Settings, keyring: &Keyring) -> Result<Self, String> {
        let (cert_pem, intermediate) = match &settings.rotation {
            Some(rotation) => (&rotation.cert_pem, rotation.cross_cert_pem.clone()),
            None => (&settings.root_cert_pem, String::new()),
        };
        let root = RootCertificate::from_pem(cert_pem).map_err(|error| error.to_string())?;
        let by = match ExternalAuthority::of(&root, &settings.spec.external_cas) {
            Some(external) => By::External(external),
            None => {
                let key = keyring.text(&settings.signing_key());
                let key = key.ok_or_else(|| {
                    "this manager does not have the root's key, and no external certificate authority is named that has it"
                        .to_owned()
                })?;
                By::Key(Authority::from_pem(cert_pem, key).map_err(|error| error.to_string())?)
            }
        };
        Ok(Self { by, intermediate, roots_pem: settings.trusted_pem() })
    }

    /// The roots that whoever gets a certificate has to trust.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// Whether a request would be signed now; see [`Authority::judge`].
    ///
    /// # Errors
    /// As there.
    pub fn judge(&self, csr_pem: &str, now: Timestamp) -> Result<RequestedKey, AuthorityError> {
        match &self.by {
            By::Key(authority) => authority.judge(csr_pem, now),
            By::External(external) => authority::judge(external.root(), csr_pem, now),
        }
    }

    /// Signs a request; see [`Authority::sign`]. Whatever a node needs so that others trust it follows its certificate. Servers
    /// outside the cluster are called by this client, and decide themselves how long what they sign is valid.
    ///
    /// # Errors
    /// As there; or when no server has signed.
    pub async fn sign(
        &self,
        client: &ExternalClient,
        csr_pem: &str,
        holder: impl Into<Holder>,
        now: Timestamp,
        expiry: Duration,
    ) -> Result<Issued, SignError> {
        let mut issued = match &self.by {
            By::Key(authority) => authority.sign(csr_pem, holder, now, expiry)?,
            By::External(external) => {
                let key = self.judge(csr_pem, now)?;
                external.sign(client, csr_pem, &key, holder.into(), now).await?
            }
        };
        issued.cert_pem.push_str(&self.intermediate);
        Ok(issued)
    }
}
