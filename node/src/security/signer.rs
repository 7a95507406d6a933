//! Signs the certificates of nodes with the current root, or during a rotation with the next one.

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
    /// The cluster's own authority failed.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The external authority failed.
    #[error(transparent)]
    External(#[from] ExternalError),
}

/// The signing authority, and what accompanies each certificate.
#[derive(Debug)]
pub struct Signer {
    by: By,
    /// Appended to a node's own certificate: the new root signed by the old one.
    intermediate: String,
    roots_pem: String,
}

/// The holder of the root's key.
#[derive(Debug)]
enum By {
    /// The managers.
    Key(Authority),
    /// External servers.
    External(ExternalAuthority),
}

impl Signer {
    /// The current signer of a cluster.
    ///
    /// # Errors
    /// When the root's key is missing or does not match.
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

    /// The roots that the receiver of a certificate must trust.
    pub fn roots_pem(&self) -> &str {
        &self.roots_pem
    }

    /// Whether a request would be signed now; see [`Authority::judge`].
    ///
    /// # Errors
    /// As for [`Authority::judge`].
    pub fn judge(&self, csr_pem: &str, now: Timestamp) -> Result<RequestedKey, AuthorityError> {
        match &self.by {
            By::Key(authority) => authority.judge(csr_pem, now),
            By::External(external) => authority::judge(external.root(), csr_pem, now),
        }
    }

    /// Signs a request; see [`Authority::sign`]. The intermediates that other nodes need to trust it are appended. External
    /// servers are called through `client`, and decide themselves how long the certificate is valid.
    ///
    /// # Errors
    /// As for [`Authority::sign`]; or when no external server has signed.
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
