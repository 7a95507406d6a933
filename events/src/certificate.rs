//! Digests by which a node identifies its certificate before a connection proves it.

use sha2::{Digest, Sha256};

/// The first bytes of the SHA-256 of a certificate's text.
pub type CertificateDigest = [u8; 16];

/// A short digest of the roots that a node trusts: to detect whether two nodes trust the same ones, not to prove it.
pub fn trust(roots_pem: &str) -> u64 {
    let mut mark = [0; 8];
    mark.copy_from_slice(&Sha256::digest(roots_pem.trim())[..8]);
    u64::from_be_bytes(mark)
}

/// The digest of a certificate, ignoring surrounding white space.
pub fn digest(cert_pem: &str) -> CertificateDigest {
    let mut digest = CertificateDigest::default();
    digest.copy_from_slice(&Sha256::digest(cert_pem.trim())[..size_of::<CertificateDigest>()]);
    digest
}
