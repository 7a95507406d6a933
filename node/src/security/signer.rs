//! What signs the certificates of nodes at this moment: the present root, or during a rotation the one that takes its place.

use events::{Duration, Timestamp};
use projections::{Keyring, Settings};

use super::subject::Holder;
use super::{Authority, AuthorityError, Issued, RequestedKey};

/// The authority that signs, and what goes with each certificate.
#[derive(Debug)]
pub struct Signer {
    authority: Authority,
    /// What follows a node's own certificate: the new root signed by the old one.
    intermediate: String,
    roots_pem: String,
}

impl Signer {
    /// The signer of a cluster at this moment.
    ///
    /// # Errors
    /// When the root's key is not there, or does not fit.
    pub fn of(settings: &Settings, keyring: &Keyring) -> Result<Self, String> {
        let key = keyring.text(&settings.signing_key());
        let key = key.ok_or_else(|| "this manager does not have the root's key".to_owned())?;
        let (cert_pem, intermediate) = match &settings.rotation {
            Some(rotation) => (&rotation.cert_pem, rotation.cross_cert_pem.clone()),
            None => (&settings.root_cert_pem, String::new()),
        };
        let authority = Authority::from_pem(cert_pem, key).map_err(|error| error.to_string())?;
        Ok(Self { authority, intermediate, roots_pem: settings.trusted_pem() })
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
        self.authority.judge(csr_pem, now)
    }

    /// Signs a request; see [`Authority::sign`]. Whatever a node needs so that others trust it follows its certificate.
    ///
    /// # Errors
    /// As there.
    pub fn sign(
        &self,
        csr_pem: &str,
        holder: impl Into<Holder>,
        now: Timestamp,
        expiry: Duration,
    ) -> Result<Issued, AuthorityError> {
        let mut issued = self.authority.sign(csr_pem, holder, now, expiry)?;
        issued.cert_pem.push_str(&self.intermediate);
        Ok(issued)
    }
}
