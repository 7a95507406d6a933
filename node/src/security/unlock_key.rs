//! The unlock key: managers wrap their keys with it, so that a stolen disk reveals nothing. It is in the keyring, in the memory
//! of managers, and known to operators, but never on a disk that it protects.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use events::wiped;
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::seal::{Seal, SealError};

/// The prefix of every unlock key, as in SwarmKit.
const PREFIX: &str = "SWMKEY-1-";
const KEY_BYTES: usize = 32;

/// A key that wraps other keys.
#[derive(Clone, PartialEq, Eq)]
pub struct UnlockKey([u8; KEY_BYTES]);

wiped! { UnlockKey [0] }

/// Why a text is not an unlock key; contains nothing of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not an unlock key: it has to be SWMKEY-1- and 43 characters")]
pub struct ParseUnlockKeyError;

impl UnlockKey {
    /// A new random key; `None` if the system provides no random bytes.
    pub fn generate() -> Option<Self> {
        let mut key = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut key).ok()?;
        Some(Self(key))
    }

    /// The key as shown to operators.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", *Zeroizing::new(STANDARD_NO_PAD.encode(self.0))))
    }

    /// Wraps another key, bound to its place.
    ///
    /// # Errors
    /// When the operating system provides no random bytes.
    pub fn wrap(&self, place: &[u8], key: &[u8]) -> Result<Vec<u8>, SealError> {
        Seal::new(&self.0)?.seal(place, &[], key)
    }

    /// Unwraps the key for this place; `None` if another key wrapped it or it is damaged.
    ///
    /// # Errors
    /// When the cipher cannot be set up.
    pub fn unwrap(&self, place: &[u8], wrapped: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, SealError> {
        let opened = Seal::new(&self.0)?.open(place, wrapped.to_vec());
        Ok(opened.map(|opened| {
            let key = Zeroizing::new(opened.to_vec());
            super::seal::wipe(opened);
            key
        }))
    }
}

impl FromStr for UnlockKey {
    type Err = ParseUnlockKeyError;

    /// Parses a key; surrounding white space is ignored.
    fn from_str(text: &str) -> Result<Self, ParseUnlockKeyError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(ParseUnlockKeyError)?;
        let bytes = Zeroizing::new(STANDARD_NO_PAD.decode(digits).map_err(|_| ParseUnlockKeyError)?);
        bytes.as_slice().try_into().map(Self).map_err(|_| ParseUnlockKeyError)
    }
}

impl fmt::Debug for UnlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnlockKey(..)")
    }
}

/// The current unlock key that wraps the key files of a manager, or `None`.
#[derive(Debug)]
pub struct KeyLock(watch::Sender<Option<UnlockKey>>);

impl Default for KeyLock {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl KeyLock {
    /// The current key, if any.
    pub fn key(&self) -> Option<UnlockKey> {
        self.0.borrow().clone()
    }

    /// Wraps with this key from now on.
    pub fn set(&self, key: Option<UnlockKey>) {
        self.0.send_replace(key);
    }

    /// Watches the key.
    pub fn follow(&self) -> watch::Receiver<Option<UnlockKey>> {
        self.0.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_shown_and_debug_hides_it() {
        let key = UnlockKey::generate().expect("random bytes");
        let text = key.reveal();
        assert_eq!((text.len(), text.parse()), (52, Ok(key.clone())));
        assert_eq!(format!(" {} ", *text).parse(), Ok(key.clone()));
        assert_eq!(format!("{key:?}"), "UnlockKey(..)");
        for wrong in ["", "SWMKEY-1-", &text[..51], &text[1..], "SWMKEY-2-AAAA"] {
            assert_eq!(wrong.parse::<UnlockKey>(), Err(ParseUnlockKeyError));
        }
    }

    #[test]
    fn a_wrapped_key_opens_with_the_same_key_at_the_same_place() {
        let (one, other) = (UnlockKey::generate().expect("a key"), UnlockKey::generate().expect("a key"));
        let wrapped = one.wrap(b"log.key", b"a data key").expect("wrapped");
        let opened =
            |key: &UnlockKey, place: &[u8]| key.unwrap(place, &wrapped).expect("a cipher").map(|key| key.to_vec());
        assert_eq!(opened(&one, b"log.key"), Some(b"a data key".to_vec()));
        assert_eq!((opened(&other, b"log.key"), opened(&one, b"node.key")), (None, None));
    }
}
