//! What the tests of this folder share: a cluster's authority and identities of its nodes.

use std::time::{SystemTime, UNIX_EPOCH};

use events::{ClusterId, Duration, Id, NodeId, Role, Timestamp};

use super::{Authority, CertificateRequest, Identity, NODE_EXPIRY_DEFAULT, Subject};

/// Some instant, for tests without connections.
pub const NOW: Timestamp = Timestamp::from_unix_ns(1_767_225_600_000_000_000);

pub const DAY: Duration = Duration::from_secs(86_400);

/// The instant by which rustls judges certificates.
pub fn wall_clock() -> Timestamp {
    Timestamp::from_unix_ns(0) + SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}

pub fn subject(node: u128, role: Role) -> Subject {
    Subject { node: NodeId::from_bits(node), role, cluster: ClusterId::from_bits(7) }
}

/// The identity that `authority` gives to `subject` at `now`, valid for 90 days.
pub fn identity(authority: &Authority, subject: Subject, now: Timestamp) -> Identity {
    let request = CertificateRequest::new().expect("a request");
    let issued = authority.sign(&request.csr_pem, subject, now, NODE_EXPIRY_DEFAULT).expect("a certificate");
    Identity::new(authority.root().clone(), &issued.cert_pem, &request.key, now).expect("an identity")
}
