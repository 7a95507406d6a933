//! Counters that are updated as events happen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::Timestamp;

use super::connections::Connections;
use super::progress::Progress;

/// Upper bounds of the buckets of a histogram, in microseconds: from half a millisecond to ten seconds.
pub(super) const BOUNDS_MICROS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// A duration histogram.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than there are bounds: the last is for longer durations.
    buckets: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// Records a duration.
    pub fn observe(&self, length: Duration) {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_MICROS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Cumulative counts for each bound, with the total at the end; and the sum of all durations, in nanoseconds.
    pub(super) fn read(&self) -> (Vec<u64>, u64) {
        let mut total = 0;
        let cumulative = self.buckets.iter().map(|bucket| {
            total += bucket.load(Ordering::Relaxed);
            total
        });
        (cumulative.collect(), self.sum_ns.load(Ordering::Relaxed))
    }
}

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum CommandResult {
    Committed,
    Rejected,
    Unknown,
}

impl CommandResult {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
        }
    }
}

/// Counters of messages to one other manager.
#[derive(Debug, Default)]
pub struct PeerCounts {
    /// Messages that were sent.
    pub sent: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Messages dropped because the queue was full or there was no connection.
    pub dropped: AtomicU64,
}

/// The counters of one process.
#[derive(Debug, Default)]
pub struct Measures {
    /// Durations of turns with work.
    pub turns: Histogram,
    /// Durations of writes of the log, each with its sync.
    pub writes: Histogram,
    /// Commands that wait for the turn thread.
    pub inbox: AtomicU64,
    /// Whether the agent has a session.
    pub session: AtomicBool,
    /// Sessions of nodes that are open at this manager.
    pub sessions: AtomicU64,
    /// Connections to this manager.
    pub connections: Arc<Connections>,
    /// Index of the newest checkpoint; 0 before the first.
    pub checkpoint: AtomicU64,
    /// Index up to which this manager has fetched the history of a state that it was offered.
    pub catching_up_at: AtomicU64,
    /// Index of that state; 0 without an offer.
    pub catching_up_of: AtomicU64,
    /// How often history could not be archived.
    pub archive_failures: AtomicU64,
    /// When that last happened, in seconds of Unix time; 0 if never.
    pub archive_failed_at: AtomicU64,
    /// Progress of the node's main loop: that of turns in a manager, that of the session in a worker.
    pub progress: Progress,
    commands: Mutex<BTreeMap<(&'static str, CommandResult), u64>>,
    /// Counters of peers, by node.
    peers: Mutex<BTreeMap<String, Arc<PeerCounts>>>,
}

impl Measures {
    /// The counters of another manager, by its node.
    pub(crate) fn peer(&self, node: &str) -> Arc<PeerCounts> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(peers.entry(node.to_owned()).or_default())
    }

    /// The counters of all peers.
    pub(super) fn peers(&self) -> BTreeMap<String, Arc<PeerCounts>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records that history could not be archived.
    pub(crate) fn note_archive_failure(&self, at: Timestamp) {
        self.archive_failures.fetch_add(1, Ordering::Relaxed);
        let seconds = u64::try_from(at.unix_ns() / 1_000_000_000).unwrap_or_default();
        self.archive_failed_at.store(seconds, Ordering::Relaxed);
    }

    /// Counts a command.
    pub(crate) fn count(&self, command: &'static str, outcome: CommandResult) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        *commands.entry((command, outcome)).or_default() += 1;
    }

    /// The commands so far.
    pub(super) fn commands(&self) -> BTreeMap<(&'static str, CommandResult), u64> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_counted_below_every_bound_that_it_keeps() {
        let histogram = Histogram::default();
        for millis in [0, 1, 3, 20_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let (cumulative, sum_ns) = histogram.read();
        assert_eq!(cumulative[..4], [1, 2, 2, 3]);
        assert_eq!(cumulative[13..], [3, 4], "the last is all of them");
        assert_eq!(sum_ns, 20_004_000_000);
    }
}
