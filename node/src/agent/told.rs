//! What a node's sessions, and its own manager where it has one, tell the rest of it: who the managers are, and which role the
//! node is to have.

use std::sync::{Mutex, PoisonError};

use events::Role;
use tokio::sync::watch;

/// What was told last.
#[derive(Debug)]
pub struct Told {
    managers: Mutex<Vec<String>>,
    role: watch::Sender<Option<Role>>,
}

impl Default for Told {
    fn default() -> Self {
        Self { managers: Mutex::default(), role: watch::Sender::new(None) }
    }
}

impl Told {
    /// These are the managers' addresses, to be asked in this order. Who says that there are none knows none.
    pub fn hear_managers(&self, managers: Vec<String>) {
        if !managers.is_empty() {
            *self.managers.lock().unwrap_or_else(PoisonError::into_inner) = managers;
        }
    }

    /// The managers' addresses.
    pub fn managers(&self) -> Vec<String> {
        self.managers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This is the role that operators want the node to have.
    pub fn hear_role(&self, role: Role) {
        self.role.send_if_modified(|told| told.replace(role) != Some(role));
    }

    /// The role that operators want the node to have, and each other one after it.
    pub fn role(&self) -> watch::Receiver<Option<Role>> {
        self.role.subscribe()
    }
}
