//! Liveness of a node's main loop: that of turns in a manager, that of the session in a worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Counts the iterations of a loop, which stops counting when it hangs. A loop iterates at least every few seconds.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Iterations so far.
    pub fn rounds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts an iteration.
    pub(crate) fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Observes a loop from time to time, and determines since when it hangs.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    progress: Progress,
    /// The count when it was last seen to change, and the time of that.
    seen: Arc<Mutex<(u64, Instant)>>,
}

impl Pulse {
    pub(super) fn of(progress: Progress, now: Instant) -> Self {
        let seen = Arc::new(Mutex::new((progress.rounds(), now)));
        Self { progress, seen }
    }

    /// How long the loop has been hanging at least, according to the observations.
    pub(super) fn stalled_for(&self, now: Instant) -> Duration {
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
        // When it is observed, whether the loop has progressed before, and for how many seconds it hangs.
        for (second, moves, expected) in
            [(10, true, 0), (20, false, 10), (80, false, 70), (500, true, 0), (510, false, 10)]
        {
            if moves {
                progress.note();
            }
            assert_eq!(pulse.stalled_for(begin + Duration::from_secs(second)).as_secs(), expected, "at {second} s");
        }
    }
}
