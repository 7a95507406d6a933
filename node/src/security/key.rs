//! Private keys: ECDSA P-256, never printed, zeroed in our memory when dropped.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use events::wiped;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::certificate::{self, CertificateError};

/// Bytes encoded by one 64-character line of PEM.
const BYTES_PER_LINE: usize = 48;

/// The private key of a node or of the cluster's authority.
pub struct PrivateKey(KeyPair);

/// Why a key cannot be created or read; contains nothing of the key itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The system generated no key.
    #[error("a new key cannot be made: {0}")]
    Generation(rcgen::Error),
    /// The text is not a private key in PEM.
    #[error("it is not a private key in PEM")]
    Malformed,
    /// A key for another algorithm.
    #[error("it is not an ECDSA P-256 key")]
    Algorithm,
}

impl PrivateKey {
    /// A new random key.
    pub fn generate() -> Result<Self, KeyError> {
        KeyPair::generate().map(Self).map_err(KeyError::Generation)
    }

    /// The key in a PEM text (PKCS#8 or SEC 1, not encrypted).
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let key = Self(KeyPair::from_pem(text).map_err(|_| KeyError::Malformed)?);
        if key.0.algorithm() == &PKCS_ECDSA_P256_SHA256 { Ok(key) } else { Err(KeyError::Algorithm) }
    }

    /// The key as PEM (PKCS#8), in memory that is zeroed when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(pem("PRIVATE KEY", self.0.serialized_der()))
    }

    /// Whether `certificate` was issued for this key.
    pub fn fits(&self, certificate: &CertificateDer<'_>) -> Result<bool, CertificateError> {
        Ok(certificate::parse(certificate)?.public_key().raw == self.0.subject_public_key_info())
    }

    /// The key pair for signing.
    pub(super) fn pair(&self) -> &KeyPair {
        &self.0
    }

    /// The key as rustls expects it, in our own memory.
    pub(super) fn der(&self) -> PrivateKeyDer<'_> {
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.0.serialized_der()))
    }
}

wiped! { PrivateKey [0] }

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// PEM in canonical form: lines of 64 characters, line feeds, no headers. Written in place, without copies that could not be
/// zeroed.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let frame = 2 * (label.len() + "-----BEGIN -----\n".len());
    let mut text = String::with_capacity(frame + der.len().div_ceil(BYTES_PER_LINE) * 65);
    text.extend(["-----BEGIN ", label, "-----\n"]);
    for line in der.chunks(BYTES_PER_LINE) {
        STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.extend(["-----END ", label, "-----\n"]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_debug_hides_it() {
        let key = PrivateKey::generate().expect("a key");
        let text = key.to_pem();
        let again = PrivateKey::from_pem(&text).expect("the same key");
        assert_eq!(again.pair().public_key_raw(), key.pair().public_key_raw());
        assert_eq!(*text, key.pair().serialize_pem().replace('\r', ""), "the canonical form");
        assert_eq!(format!("{key:?}"), "PrivateKey(..)");
    }

    #[test]
    fn other_keys_are_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key").serialize_pem();
        assert_eq!(PrivateKey::from_pem(&other).err(), Some(KeyError::Algorithm));
        let whole = PrivateKey::generate().expect("a key").to_pem();
        assert_eq!(PrivateKey::from_pem(&whole[..whole.len() / 2]).err(), Some(KeyError::Malformed));
        assert_eq!(PrivateKey::from_pem("").err(), Some(KeyError::Malformed));
    }
}
