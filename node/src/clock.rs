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
    /// The instant of the reading.
    pub at: Instant,
    /// By how much the clock went on since the reading before while no time passed: it was set, or the machine slept.
    pub jumped: Duration,
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
        (self.last, self.read_at) = (now, instant);
        Reading { now, at: instant, jumped: now.since(evenly) }
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
        let reading = |now, passed, jumped| Reading { now: start + now, at: instant + passed, jumped };
        let even = clock.advance(start + second, instant + second);
        assert_eq!(even, reading(second, second, Duration::ZERO));
        let set_back = clock.advance(start - second * 50, instant + second * 2);
        assert_eq!(set_back, reading(second * 2, second * 2, Duration::ZERO));
        let set_forward = clock.advance(start + second * 60, instant + second * 3);
        assert_eq!(set_forward, reading(second * 60, second * 3, second * 57));
        let stood_still = clock.advance(start + second * 90, instant + second * 33);
        assert_eq!(stood_still, reading(second * 90, second * 33, Duration::ZERO));
    }
}
