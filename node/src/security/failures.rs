//! Failed authentications in the log: who tried, from where, and why not. A flood of them fills no log: a few lines a while,
//! and then how many there were besides.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use events::{Duration, Timestamp};

use crate::clock;

/// Lines in one window.
const LINES_MAX: u32 = 10;
/// Length of a window: with ten lines each, a day of attacks is at most 14,400 lines.
const WINDOW: Duration = Duration::from_secs(60);

static LIMIT: Mutex<Limit> = Mutex::new(Limit::new());

/// Logs a failed authentication, unless there were many just now.
pub fn note(from: &dyn Display, why: &dyn Display) {
    let admitted = LIMIT.lock().unwrap_or_else(PoisonError::into_inner).admit(clock::now());
    let Some(unlogged) = admitted else { return };
    if unlogged > 0 {
        tracing::warn!(lines = unlogged, "more failed authentications were not logged");
    }
    tracing::warn!(addr = %from, error = %why, "authentication failed");
}

/// How many lines were written in this window, and how many were not.
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

    /// Whether one more may be logged, and if so, how many were not since the last line.
    fn admit(&mut self, now: Timestamp) -> Option<u64> {
        // A clock that was set back begins a window too.
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
