//! Secrets that travel with frames and are kept nowhere but here: never in history, never in the state hash.

use std::collections::BTreeMap;
use std::fmt;

use events::VolatilePayload;
use serde::{Deserialize, Serialize};

/// A secret; prints as nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Secrets by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    secrets: BTreeMap<String, Secret>,
}

impl Keyring {
    /// Keeps or destroys what the volatile section of an entry says.
    pub fn apply(&mut self, payload: VolatilePayload) {
        match payload.value {
            Some(value) => self.secrets.insert(payload.key, Secret(value)),
            None => self.secrets.remove(&payload.key),
        };
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
