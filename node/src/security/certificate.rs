//! Parses X.509 certificates in PEM.

use events::{Duration, Timestamp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// Why a text is not a usable certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The PEM text is damaged or truncated.
    #[error("its PEM text is damaged: {0}")]
    Pem(String),
    /// The text contains no certificate, or more than one.
    #[error("it holds {0} certificates instead of one")]
    Count(usize),
    /// The content is not X.509.
    #[error("it is not an X.509 certificate")]
    Malformed,
    /// A root must be marked as a certificate authority.
    #[error("it is not the certificate of a certificate authority")]
    NotAuthority,
    /// The subject does not identify a node of a cluster.
    #[error("its subject has no valid {0}")]
    Subject(&'static str),
}

/// The certificates in `text`, in order; other content is skipped.
pub(super) fn all_in(text: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| CertificateError::Pem(describe(&error).to_owned()))?;
    if certificates.is_empty() { Err(CertificateError::Count(0)) } else { Ok(certificates) }
}

/// Messages without any bytes of the input: the text may be a key that was passed by mistake.
fn describe(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its end is missing",
        pem::Error::IllegalSectionStart { .. } => "its first line is wrong",
        pem::Error::Base64Decode(_) => "it is not base 64",
        pem::Error::SectionTooLarge => "it is too large",
        _ => "it cannot be read",
    }
}

/// Parses a certificate in DER.
pub(super) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
    if rest.is_empty() { Ok(certificate) } else { Err(CertificateError::Malformed) }
}

/// The start and end of the certificate's validity, in whole seconds.
pub(super) fn validity(certificate: &X509Certificate<'_>) -> (Timestamp, Timestamp) {
    let validity = certificate.validity();
    (from_unix_seconds(validity.not_before.timestamp()), from_unix_seconds(validity.not_after.timestamp()))
}

fn from_unix_seconds(seconds: i64) -> Timestamp {
    let epoch = Timestamp::from_unix_ns(0);
    let length = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { epoch - length } else { epoch + length }
}
