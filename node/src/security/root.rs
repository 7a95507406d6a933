//! The root certificate: what a node trusts.

use std::fmt;

use events::Timestamp;
use rustls_pki_types::CertificateDer;

use super::certificate::{self, CertificateError};
use super::{key, tokens};

/// The certificate of the cluster's authority. Two texts of the same certificate are the same root.
#[derive(Clone, PartialEq, Eq)]
pub struct RootCertificate {
    der: CertificateDer<'static>,
    not_after: Timestamp,
}

impl RootCertificate {
    /// The one root certificate in a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let mut certificates = certificate::all_in(text)?;
        match (certificates.pop(), certificates.len()) {
            (Some(der), 0) => Self::from_der(der),
            (_, others) => Err(CertificateError::Count(others + 1)),
        }
    }

    /// The root certificate behind `der`.
    pub(super) fn from_der(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let parsed = certificate::parse(&der)?;
        if !parsed.is_ca() {
            return Err(CertificateError::NotAuthority);
        }
        let (_, not_after) = certificate::validity(&parsed);
        Ok(Self { der, not_after })
    }

    /// The certificate as PEM in canonical form, the form that is stored, sent and digested.
    pub fn to_pem(&self) -> String {
        key::pem("CERTIFICATE", &self.der)
    }

    /// What join tokens carry of this certificate.
    pub fn digest(&self) -> String {
        tokens::digest_of(self)
    }

    /// The last instant at which the root is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The certificate in the form that rustls takes.
    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

impl fmt::Debug for RootCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootCertificate({})", self.digest())
    }
}
