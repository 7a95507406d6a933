//! What a node shows of its certificate before a connection proves it.

use sha2::{Digest, Sha256};

/// The beginning of the SHA-256 of a certificate's text.
pub type CertificateDigest = [u8; 16];

/// What a node that trusts these roots says of them in few bytes: to tell whether two nodes trust the same, not to prove it.
pub fn trust(roots_pem: &str) -> u64 {
    let mut mark = [0; 8];
    mark.copy_from_slice(&Sha256::digest(roots_pem.trim())[..8]);
    u64::from_be_bytes(mark)
}

/// The digest of a certificate, whatever white space is around its text.
pub fn digest(cert_pem: &str) -> CertificateDigest {
    let mut digest = CertificateDigest::default();
    digest.copy_from_slice(&Sha256::digest(cert_pem.trim())[..size_of::<CertificateDigest>()]);
    digest
}
