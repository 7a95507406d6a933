//! The root certificates that a node trusts.

use std::fmt;

use events::Timestamp;
use rustls_pki_types::CertificateDer;

use super::certificate::{self, CertificateError};
use super::{key, tokens};

/// The certificate of the cluster's authority. Different PEM texts of one certificate are the same root.
#[derive(Clone, PartialEq, Eq)]
pub struct RootCertificate {
    der: CertificateDer<'static>,
    not_after: Timestamp,
}

impl RootCertificate {
    /// Parses a PEM text with exactly one root certificate.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let mut certificates = certificate::all_in(text)?;
        match (certificates.pop(), certificates.len()) {
            (Some(der), 0) => Self::from_der(der),
            (_, others) => Err(CertificateError::Count(others + 1)),
        }
    }

    /// Parses a root certificate in DER.
    pub(super) fn from_der(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let parsed = certificate::parse(&der)?;
        if !parsed.is_ca() {
            return Err(CertificateError::NotAuthority);
        }
        let (_, not_after) = certificate::validity(&parsed);
        Ok(Self { der, not_after })
    }

    /// The certificate as canonical PEM, the form that is stored, sent and digested.
    pub fn to_pem(&self) -> String {
        key::pem("CERTIFICATE", &self.der)
    }

    /// The digest that join tokens contain.
    pub fn digest(&self) -> String {
        tokens::digest_of(self)
    }

    /// The end of the root's validity.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The certificate as rustls expects it.
    pub(super) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

/// The roots that a node trusts: one, or during a rotation the old one followed by the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoots(Vec<RootCertificate>);

impl TrustedRoots {
    /// Parses a PEM text with one or two root certificates.
    pub fn from_pem(text: &str) -> Result<Self, CertificateError> {
        let certificates = certificate::all_in(text)?;
        if certificates.len() > 2 {
            return Err(CertificateError::Count(certificates.len()));
        }
        certificates.into_iter().map(RootCertificate::from_der).collect::<Result<_, _>>().map(Self)
    }

    /// The certificates as concatenated canonical PEM.
    pub fn to_pem(&self) -> String {
        self.0.iter().map(RootCertificate::to_pem).collect()
    }

    /// The root that currently signs certificates.
    pub fn newest(&self) -> &RootCertificate {
        self.0.last().expect("none is made without a root")
    }

    /// Whether this root is among them.
    pub fn contains(&self, root: &RootCertificate) -> bool {
        self.0.contains(root)
    }

    /// A hash that identifies this set of roots.
    pub fn mark(&self) -> u64 {
        events::certificate::trust(&self.to_pem())
    }

    /// Iterates over the roots.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RootCertificate> {
        self.0.iter()
    }
}

impl From<RootCertificate> for TrustedRoots {
    fn from(root: RootCertificate) -> Self {
        Self(vec![root])
    }
}

impl fmt::Debug for RootCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootCertificate({})", self.digest())
    }
}
