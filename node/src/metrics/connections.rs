//! Counts open and refused connections, by class.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionClass {
    /// Nothing has been received yet.
    Silent,
    /// Its TLS handshake is in progress.
    Handshake,
    /// The client has no member's certificate.
    Anonymous,
    /// The client has a member's certificate.
    Member,
    /// It uses the control socket.
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
    /// Counts a connection that is open until the result is dropped.
    pub(crate) fn open(self: &Arc<Self>, class: ConnectionClass) -> OpenConnection {
        self.of(class).open.fetch_add(1, Ordering::Relaxed);
        OpenConnection { connections: Arc::clone(self), class }
    }

    /// Counts a connection that was refused at the limit.
    pub(crate) fn refuse(&self, class: ConnectionClass) {
        self.of(class).refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that was replaced by another.
    pub(crate) fn replace(&self, class: ConnectionClass) {
        self.of(class).replaced.fetch_add(1, Ordering::Relaxed);
    }

    /// How many connections of a class are open, were refused, and were replaced.
    pub(crate) fn read(&self, class: ConnectionClass) -> [u64; 3] {
        let counts = self.of(class);
        [&counts.open, &counts.refused, &counts.replaced].map(|count| count.load(Ordering::Relaxed))
    }

    fn of(&self, class: ConnectionClass) -> &Counts {
        &self.0[class as usize]
    }
}

/// A connection counted as open.
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
