//! How many connections are open, and how many found no place, by class.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is known of the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionClass {
    /// It has said nothing yet.
    Silent,
    /// Its TLS handshake is in progress.
    Handshake,
    /// It has no certificate of a member.
    Anonymous,
    /// It has a member's certificate.
    Member,
    /// It came over the control socket.
    Operator,
}

impl ConnectionClass {
    pub(super) const ALL: [Self; 5] = [Self::Silent, Self::Handshake, Self::Anonymous, Self::Member, Self::Operator];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Handshake => "handshake",
            Self::Anonymous => "anonymous",
            Self::Member => "member",
            Self::Operator => "operator",
        }
    }
}

/// The connections of one process.
#[derive(Debug, Default)]
pub struct Connections([Counts; ConnectionClass::ALL.len()]);

/// Those of one class.
#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    refused: AtomicU64,
    replaced: AtomicU64,
}

impl Connections {
    /// Counts one that is open for as long as the answer lives.
    pub(crate) fn open(self: &Arc<Self>, class: ConnectionClass) -> OpenConnection {
        self.of(class).open.fetch_add(1, Ordering::Relaxed);
        OpenConnection { connections: Arc::clone(self), class }
    }

    /// Counts one for which there was no place.
    pub(crate) fn refuse(&self, class: ConnectionClass) {
        self.of(class).refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one whose place another took.
    pub(crate) fn replace(&self, class: ConnectionClass) {
        self.of(class).replaced.fetch_add(1, Ordering::Relaxed);
    }

    /// How many of a class are open, were refused, and were replaced.
    pub(crate) fn read(&self, class: ConnectionClass) -> [u64; 3] {
        let counts = self.of(class);
        [&counts.open, &counts.refused, &counts.replaced].map(|count| count.load(Ordering::Relaxed))
    }

    fn of(&self, class: ConnectionClass) -> &Counts {
        &self.0[class as usize]
    }
}

/// A connection that is counted as open.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    connections: Arc<Connections>,
    class: ConnectionClass,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.of(self.class).open.fetch_sub(1, Ordering::Relaxed);
    }
}
