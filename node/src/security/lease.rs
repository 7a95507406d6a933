//! The place that a connection holds: assigned by [`Admission`], released when the connection is dropped, and lost when another
//! connection takes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::Duration;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::{debug, warn};

use super::admission::{Admission, Class, ConnectionId, Limits, Verdict};
use crate::metrics::{Connections, OpenConnection};

/// Minimum time between two log lines about connections without a place.
const WARN_PERIOD: Duration = Duration::from_secs(60);

/// The places of a manager's connections.
#[derive(Clone)]
pub(super) struct Places(Arc<Mutex<Table>>);

struct Table {
    admission: Admission,
    /// The cancellation token of every connection that has a place.
    ends: BTreeMap<ConnectionId, CancellationToken>,
    last: ConnectionId,
    /// Connections that were refused or replaced since the last log line.
    rejected: u64,
    warned_at: Option<Instant>,
    counts: Arc<Connections>,
}

impl Places {
    /// Places within limits, counted in `counts`.
    pub(super) fn new(limits: Limits, counts: Arc<Connections>) -> Self {
        let admission = Admission::new(limits);
        let ends = BTreeMap::new();
        Self(Arc::new(Mutex::new(Table { admission, ends, last: 0, rejected: 0, warned_at: None, counts })))
    }

    /// Takes a place for a connection, if one is available.
    pub(super) fn enter(&self, class: Class, address: SocketAddr) -> Option<Lease> {
        let mut table = self.table();
        table.last += 1;
        let id = table.last;
        match table.admission.enter(id, class) {
            Verdict::Admit => {}
            Verdict::Replace(other) => {
                debug!(%address, ?class, "a connection replaces an older one");
                if let Some(end) = table.ends.remove(&other) {
                    end.cancel();
                }
                // A connection is only ever replaced by one of its own class.
                table.counts.replace(class.counted_as());
                table.rejected(address);
            }
            Verdict::Refuse => {
                debug!(%address, ?class, "no slot is free for a connection");
                table.counts.refuse(class.counted_as());
                table.rejected(address);
                return None;
            }
        }
        let end = CancellationToken::new();
        table.ends.insert(id, end.clone());
        let open = table.counts.open(class.counted_as());
        Some(Lease { places: self.clone(), id, class, end, _open: open })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code panics while it holds the lock, so a poisoned one still guards valid data.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Counts a connection that got no place, and logs this with a limited rate.
    fn rejected(&mut self, address: SocketAddr) {
        self.rejected += 1;
        let now = Instant::now();
        if self.warned_at.is_none_or(|at| now.duration_since(at) >= WARN_PERIOD) {
            let connections = self.rejected;
            warn!(connections, addr = %address.ip(), "too many connections; some were refused or closed");
            self.warned_at = Some(now);
            self.rejected = 0;
        }
    }
}

/// One place. Its connection ends when the lease is cancelled.
pub(super) struct Lease {
    places: Places,
    id: ConnectionId,
    class: Class,
    end: CancellationToken,
    _open: OpenConnection,
}

impl Lease {
    /// Completes when the place is lost.
    pub(super) fn ended(&self) -> WaitForCancellationFutureOwned {
        self.end.clone().cancelled_owned()
    }

    /// The token that ends the connection of this place.
    pub(super) fn end(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Exchanges it for a place of the same connection in another class, if one is available.
    pub(super) fn promote(self, class: Class, address: SocketAddr) -> Option<Self> {
        self.places.enter(class, address)
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("id", &self.id).field("class", &self.class).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut table = self.places.table();
        table.admission.leave(self.id, self.class);
        table.ends.remove(&self.id);
    }
}
