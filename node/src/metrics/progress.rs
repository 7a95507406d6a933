//! Whether the loop goes on that a node lives by: that of turns in a manager, that of the session in a worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often a loop has gone round: what stands still does not count on. A loop goes round every few seconds, at least.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Rounds so far.
    pub fn rounds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// One more.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Looks at a loop from time to time, and knows since when it stands still.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    progress: Progress,
    /// The rounds of the last look that saw others than the one before, and when that was.
    seen: Arc<Mutex<(u64, Instant)>>,
}

impl Pulse {
    pub(super) fn of(progress: Progress, now: Instant) -> Self {
        let seen = Arc::new(Mutex::new((progress.rounds(), now)));
        Self { progress, seen }
    }

    /// How long the loop has stood still at least, as far as looks have shown.
    pub(super) fn standstill(&self, now: Instant) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let rounds = self.progress.rounds();
        if seen.0 != rounds {
            *seen = (rounds, now);
        }
        now.saturating_duration_since(seen.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_stands_still_from_the_first_look_that_sees_no_new_round() {
        let (progress, begin) = (Progress::default(), Instant::now());
        let pulse = Pulse::of(progress.clone(), begin);
        // When it is looked at, whether the loop went round before, and for how many seconds it stands still.
        for (second, moves, expected) in
            [(10, true, 0), (20, false, 10), (80, false, 70), (500, true, 0), (510, false, 10)]
        {
            if moves {
                progress.note();
            }
            assert_eq!(pulse.standstill(begin + Duration::from_secs(second)).as_secs(), expected, "at {second} s");
        }
    }
}
