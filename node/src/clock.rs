//! The only place that reads the wall clock, and a reading of it that goes on evenly.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use events::{Duration, Timestamp};

/// Now, by this machine's clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ns(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// The wall clock as somebody reads it again and again: it never goes back, and a jump is seen as such.
#[derive(Debug)]
pub struct SteadyClock {
    last: Timestamp,
    read_at: Instant,
}

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Now.
    pub now: Timestamp,
    /// How long it is since the reading before, by whichever clock says more.
    pub passed: Duration,
}

impl SteadyClock {
    /// A clock that starts now, but not before `earliest`.
    pub fn starting_at(earliest: Timestamp) -> Self {
        Self { last: now().max(earliest), read_at: Instant::now() }
    }

    /// Reads the clock. Set back, it goes on evenly until the wall clock has caught up.
    pub fn read(&mut self) -> Reading {
        self.advance(now(), Instant::now())
    }

    fn advance(&mut self, wall: Timestamp, instant: Instant) -> Reading {
        let evenly = self.last + instant.saturating_duration_since(self.read_at);
        let now = wall.max(evenly);
        let passed = now.since(self.last);
        (self.last, self.read_at) = (now, instant);
        Reading { now, passed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_read_evenly_or_as_a_jump() {
        let second = Duration::from_secs(1);
        let (start, instant) = (Timestamp::from_unix_ns(0) + second * 100, Instant::now());
        let mut clock = SteadyClock { last: start, read_at: instant };
        let even = clock.advance(start + second, instant + second);
        assert_eq!(even, Reading { now: start + second, passed: second });
        let set_back = clock.advance(start - second * 50, instant + second * 2);
        assert_eq!(set_back, Reading { now: start + second * 2, passed: second });
        let set_forward = clock.advance(start + second * 60, instant + second * 3);
        assert_eq!(set_forward, Reading { now: start + second * 60, passed: second * 58 });
    }
}
