//! Shared by the tests of this directory: a cluster's authority and identities of its nodes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use events::{ClusterId, Duration, Id, NodeId, Role, Timestamp};
use tokio::sync::Notify;

use super::{Authority, CertificateRequest, Holder, Identity, Introduction, Members, NODE_EXPIRY_DEFAULT, Subject};

/// A fixed time, for tests without connections.
pub const NOW: Timestamp = Timestamp::from_unix_ns(1_767_225_600_000_000_000);

pub const DAY: Duration = Duration::from_secs(86_400);

/// The time that rustls uses to verify certificates.
pub fn wall_clock() -> Timestamp {
    Timestamp::from_unix_ns(0) + SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

pub fn subject(node: u128, role: Role) -> Subject {
    Subject { node: NodeId::from_bits(node), role, cluster: ClusterId::from_bits(7) }
}

/// The identity that `authority` issues to `subject` at `now`, valid for 90 days.
pub fn identity(authority: &Authority, subject: Subject, now: Timestamp) -> Identity {
    let request = CertificateRequest::new().expect("a request");
    let issued = authority.sign(&request.csr_pem, subject, now, NODE_EXPIRY_DEFAULT).expect("a certificate");
    Identity::new(authority.root().clone(), &issued.cert_pem, &request.key, now).expect("an identity")
}

/// A cluster in which every node is a member until it is removed.
#[derive(Default)]
pub struct KnownMembers {
    removed: Mutex<BTreeSet<NodeId>>,
    changed: Arc<Notify>,
}

impl KnownMembers {
    pub fn everybody() -> Arc<Self> {
        Arc::default()
    }

    pub fn but(node: NodeId) -> Arc<Self> {
        let members = Self::default();
        members.remove(node);
        Arc::new(members)
    }

    pub fn remove(&self, node: NodeId) {
        self.removed.lock().expect("a lock").insert(node);
        self.notify();
    }

    fn is_removed(&self, node: NodeId) -> bool {
        self.removed.lock().expect("a lock").contains(&node)
    }

    /// Notifies of a change of any node.
    pub fn notify(&self) {
        self.changed.notify_one();
    }
}

impl Members for KnownMembers {
    fn is_member(&self, holder: Holder) -> bool {
        match holder {
            Holder::Node(subject) => !self.is_removed(subject.node),
            Holder::Operator { .. } => false,
        }
    }

    fn changes(&self, _: NodeId) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    fn knows(&self, introduction: &Introduction) -> bool {
        match introduction {
            Introduction::Node { node, .. } => !self.is_removed(*node),
            Introduction::Joiner { .. } => true,
        }
    }
}
