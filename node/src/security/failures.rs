//! Logs failed authentications: who tried, from where, and why it failed. The rate is limited, so that a flood does not fill
//! the log: a few lines per window, and then the number of suppressed ones.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use events::{Duration, Timestamp};

use crate::clock;

/// Maximum lines per window.
const LINES_MAX: u32 = 10;
/// Length of a window: with ten lines each, a day of attacks produces at most 14,400 lines.
const WINDOW: Duration = Duration::from_secs(60);

static LIMIT: Mutex<Limit> = Mutex::new(Limit::new());

/// Logs a failed authentication, unless there were too many recently.
pub fn note(from: &dyn Display, why: &dyn Display) {
    let admitted = LIMIT.lock().unwrap_or_else(PoisonError::into_inner).admit(clock::now());
    let Some(unlogged) = admitted else { return };
    if unlogged > 0 {
        tracing::warn!(lines = unlogged, "more failed authentications were not logged");
    }
    tracing::warn!(addr = %from, error = %why, "authentication failed");
}

/// How many lines were logged and how many suppressed in this window.
#[derive(Debug)]
struct Limit {
    since: Timestamp,
    lines: u32,
    unlogged: u64,
}

impl Limit {
    const fn new() -> Self {
        Self { since: Timestamp::from_unix_ns(0), lines: 0, unlogged: 0 }
    }

    /// Whether another line may be logged; if so, how many were suppressed since the last one.
    fn admit(&mut self, now: Timestamp) -> Option<u64> {
        // A clock that was set back also starts a new window.
        if now < self.since || now.since(self.since) >= WINDOW {
            (self.since, self.lines) = (now, 0);
        }
        if self.lines >= LINES_MAX {
            self.unlogged += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let start = Timestamp::from_unix_ns(0) + WINDOW * 10;
        let mut limit = Limit::new();
        for _ in 0..LINES_MAX {
            assert_eq!(limit.admit(start), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(limit.admit(start + WINDOW / 2), None);
        }
        assert_eq!(limit.admit(start + WINDOW), Some(5), "the next window tells of them");
        assert_eq!(limit.admit(start + WINDOW), Some(0));
        assert_eq!(limit.admit(start - WINDOW), Some(0), "a clock that was set back stops nothing");
    }
}
