//! Secrets that travel with frames and are stored only here: never in history, in a checkpoint or in the state hash.

use std::fmt;
use std::sync::Arc;

use events::{ClusterId, VolatilePayload};
use imbl::OrdMap;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::Cluster;
use crate::settings::UNLOCK_KEY;

/// A secret; it is redacted in debug output, and wiped from memory when the last of its clones, which share it, is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl ZeroizeOnDrop for Secret {}

impl Secret {
    /// The secret value.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Secrets by name. Clones share their common secrets, so that a change does not copy all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    secrets: OrdMap<Arc<str>, Secret>,
}

impl Keyring {
    /// Stores or destroys the secret in the volatile section of an entry.
    pub fn apply(&mut self, mut payload: VolatilePayload) {
        match payload.value.take() {
            Some(value) => self.secrets.insert(payload.key.as_str().into(), Secret(Arc::new(Zeroizing::new(value)))),
            None => self.secrets.remove(payload.key.as_str()),
        };
    }

    /// The name of a missing secret that a cluster in this state needs.
    pub fn missing(&self, cluster: &Cluster) -> Option<String> {
        if cluster.id() == ClusterId::default() {
            return None;
        }
        let settings = &cluster.settings;
        let next = settings.rotation.iter().flat_map(|rotation| settings.next_root_secrets(rotation.key_outside));
        let unlock = settings.locked.then(|| UNLOCK_KEY.to_owned());
        let mut needed = settings.root_secrets().into_iter().chain(next).chain(unlock);
        needed.find(|name| !self.secrets.contains_key(name.as_str()))
    }

    /// All secrets, as payloads that store them.
    pub fn payloads(&self) -> Vec<VolatilePayload> {
        self.secrets.iter().map(|(name, secret)| VolatilePayload::keep(name.as_ref(), secret.reveal())).collect()
    }

    /// The names of all secrets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(AsRef::as_ref)
    }

    /// The secret with this name.
    pub fn get(&self, key: &str) -> Option<&Secret> {
        self.secrets.get(key)
    }

    /// The secret with this name, as text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(|secret| std::str::from_utf8(secret.reveal()).ok())
    }
}

impl FromIterator<VolatilePayload> for Keyring {
    fn from_iter<I: IntoIterator<Item = VolatilePayload>>(payloads: I) -> Self {
        let mut keyring = Self::default();
        payloads.into_iter().for_each(|payload| keyring.apply(payload));
        keyring
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_clone_shares_the_secrets_that_did_not_change() {
        let before: Keyring = ["a", "b", "c"].map(|name| VolatilePayload::keep(name, name)).into_iter().collect();
        let mut after = before.clone();
        after.apply(VolatilePayload::keep("b", "another"));
        after.apply(VolatilePayload::destroy("c"));
        assert_eq!((before.text("b"), after.text("b")), (Some("b"), Some("another")));
        assert_eq!((before.text("c"), after.text("c")), (Some("c"), None));
        assert!(before.names().eq(["a", "b", "c"]) && after.names().eq(["a", "b"]));
        let place = |keyring: &Keyring| keyring.get("a").map(|secret| secret.reveal().as_ptr());
        assert_eq!(place(&before), place(&after), "it is in memory once");
    }
}
