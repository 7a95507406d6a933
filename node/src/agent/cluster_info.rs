//! What a node's sessions, its own manager if it has one, and a leave request report to the rest of the node: the managers'
//! addresses, the desired role of the node, and that it is leaving.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use events::Role;
use tokio::sync::watch;

/// The latest reports.
#[derive(Debug)]
pub struct ClusterInfo {
    managers: Mutex<Vec<String>>,
    role: watch::Sender<Option<Role>>,
    leaves: AtomicBool,
}

impl Default for ClusterInfo {
    fn default() -> Self {
        Self { managers: Mutex::default(), role: watch::Sender::new(None), leaves: AtomicBool::default() }
    }
}

impl ClusterInfo {
    /// Sets the managers' addresses, in the order to try them. An empty list is ignored: the sender has none.
    pub fn set_managers(&self, managers: Vec<String>) {
        if !managers.is_empty() {
            *self.managers.lock().unwrap_or_else(PoisonError::into_inner) = managers;
        }
    }

    /// The managers' addresses.
    pub fn managers(&self) -> Vec<String> {
        self.managers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the role that operators want the node to have.
    pub fn set_role(&self, role: Role) {
        self.role.send_if_modified(|current| current.replace(role) != Some(role));
    }

    /// Sets whether the node was asked to leave its cluster, which then removes it.
    pub fn set_leaving(&self, leaves: bool) {
        self.leaves.store(leaves, Ordering::Relaxed);
    }

    /// Whether the node is leaving its cluster: its removal is then expected.
    pub fn is_leaving(&self) -> bool {
        self.leaves.load(Ordering::Relaxed)
    }

    /// Watches the role that operators want the node to have.
    pub fn role(&self) -> watch::Receiver<Option<Role>> {
        self.role.subscribe()
    }
}
