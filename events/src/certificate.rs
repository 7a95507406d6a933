//! What a node shows of its certificate before a connection proves it.

use sha2::{Digest, Sha256};

/// The beginning of the SHA-256 of a certificate's text.
pub type CertificateDigest = [u8; 16];

/// The digest of a certificate, whatever white space is around its text.
pub fn digest(cert_pem: &str) -> CertificateDigest {
    let mut digest = CertificateDigest::default();
    digest.copy_from_slice(&Sha256::digest(cert_pem.trim())[..size_of::<CertificateDigest>()]);
    digest
}
