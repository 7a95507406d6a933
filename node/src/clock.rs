//! The only place that reads the wall clock, and a reading of it that advances evenly.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use events::{Duration, Timestamp};

use crate::daemon::failure::Failure;

/// Now, by this machine's clock.
#[allow(clippy::disallowed_methods)]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ns(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// No time after this is one: instants are kept as nanoseconds since 1970, which end in April 2262.
const LATEST: Timestamp = Timestamp::from_unix_ns(9_214_646_400_000_000_000);
/// So much slower than time goes a clock that is ahead, until the wall clock has caught up: half as fast.
const SLOWER: u32 = 2;

/// Refuses to begin with a clock that cannot be right.
///
/// # Errors
/// When it says a time that cannot be kept.
pub fn require_sane() -> Result<(), Failure> {
    judge(now())
}

fn judge(now: Timestamp) -> Result<(), Failure> {
    if now <= LATEST {
        return Ok(());
    }
    Err(Failure::new("this machine's clock says a time after the year 2261, which cannot be kept", "set the clock"))
}

/// The wall clock as somebody reads it again and again: it never goes back, and a jump is seen as such. A reading that cannot
/// be right is passed over.
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

    /// Continues from this time at the earliest: it is in the log, by the clock of another manager that is ahead. What is measured from
    /// there would otherwise stand still, and heartbeats would be as old as that clock is ahead.
    pub fn not_before(&mut self, earliest: Timestamp) {
        self.last = self.last.max(earliest);
    }

    /// Reads the clock. Set back, or started ahead of the wall clock, it continues more slowly until that has caught up: so an error
    /// of the clock does not last.
    pub fn read(&mut self) -> Reading {
        self.advance(now(), Instant::now())
    }

    fn advance(&mut self, wall: Timestamp, instant: Instant) -> Reading {
        let passed = instant.saturating_duration_since(self.read_at);
        let (evenly, slowly) = (self.last + passed, self.last + passed / SLOWER);
        let now = if wall > LATEST { evenly } else { wall.max(slowly) };
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
        assert_eq!(set_back, reading(second * 3 / 2, second * 2, Duration::ZERO));
        let set_forward = clock.advance(start + second * 60, instant + second * 3);
        assert_eq!(set_forward, reading(second * 60, second * 3, second * 115 / 2));
        let stood_still = clock.advance(start + second * 90, instant + second * 33);
        assert_eq!(stood_still, reading(second * 90, second * 33, Duration::ZERO));
    }

    #[test]
    fn a_clock_that_was_wrong_by_a_year_is_right_again_some_day_and_never_goes_back() {
        let (hour, year) = (Duration::from_secs(3_600), Duration::from_secs(365 * 86_400));
        let (right, instant) = (Timestamp::from_unix_ns(0) + year, Instant::now());
        let mut clock = SteadyClock { last: right + year, read_at: instant };
        let mut last = clock.last;
        for hours in 1..=2 * 365 * 24 {
            let reading = clock.advance(right + hour * hours, instant + hour * hours);
            assert!(reading.now > last && reading.jumped.is_zero());
            last = reading.now;
        }
        assert_eq!(last, right + year * 2, "the wall clock has caught up");
    }

    #[test]
    fn a_clock_goes_on_from_what_another_managers_clock_has_said() {
        let (right, instant, second) = (Timestamp::from_unix_ns(0), Instant::now(), Duration::from_secs(1));
        let mut clock = SteadyClock { last: right, read_at: instant };
        let ahead = right + Duration::from_secs(3_600);
        clock.not_before(ahead);
        let reading = clock.advance(right + second * 2, instant + second * 2);
        assert_eq!(reading, Reading { now: ahead + second, at: instant + second * 2, jumped: Duration::ZERO });
        clock.not_before(right);
        assert_eq!(clock.advance(right + second * 4, instant + second * 4).now, ahead + second * 2);
    }

    #[test]
    fn a_time_that_cannot_be_kept_is_refused_and_passed_over() {
        let (start, instant, second) = (Timestamp::from_unix_ns(0), Instant::now(), Duration::from_secs(1));
        let never = Timestamp::from_unix_ns(i64::MAX);
        assert!(judge(never).is_err_and(|failure| failure.sentence.contains("2261")));
        assert!(judge(LATEST).is_ok() && judge(start).is_ok());
        assert_eq!(LATEST.to_string(), "2262-01-01T00:00:00.000000000Z");
        let mut clock = SteadyClock { last: start, read_at: instant };
        assert_eq!(clock.advance(never, instant + second).now, start + second);
    }
}
