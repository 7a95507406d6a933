//! A token bucket: how much somebody may spend at once, and how fast it comes back.

use std::time::Duration;

use tokio::time::Instant;

/// What a bucket holds when it is full, and how long one token takes to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) capacity: u32,
    pub(crate) interval: Duration,
}

/// A bucket, full at first. All that it keeps is when it will be full again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes tokens out. More than the bucket can hold at all are lent to who comes to a full one.
    ///
    /// # Errors
    /// When they are not there: how long until they are. Nothing was taken.
    pub(crate) fn spend(&mut self, tokens: u32, rate: Rate, now: Instant) -> Result<(), Duration> {
        let missing = self.missing(now);
        let after = missing.saturating_add(rate.interval.saturating_mul(tokens));
        let whole = rate.interval.saturating_mul(rate.capacity.max(tokens));
        if after > whole {
            return Err(after - whole);
        }
        self.full_at = Some(now + after);
        Ok(())
    }

    /// How long one token that is taken now has to be waited for; nothing is taken yet.
    pub(crate) fn wait(&self, rate: Rate, now: Instant) -> Duration {
        let after = self.missing(now).saturating_add(rate.interval);
        after.saturating_sub(rate.interval.saturating_mul(rate.capacity))
    }

    /// Takes a token that may have to be waited for.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) {
        self.full_at = Some(now + self.missing(now).saturating_add(rate.interval));
    }

    /// Puts back a token that was taken.
    pub(crate) fn give_back(&mut self, rate: Rate) {
        self.full_at = self.full_at.and_then(|full_at| full_at.checked_sub(rate.interval));
    }

    /// Whether nothing is missing, so that there is nothing to remember.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.missing(now).is_zero()
    }

    fn missing(&self, now: Instant) -> Duration {
        self.full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three tokens, one back every two seconds.
    const RATE: Rate = Rate { capacity: 3, interval: Duration::from_secs(2) };

    #[test]
    fn what_was_spent_comes_back_with_time() {
        let begin = Instant::now();
        let mut bucket = Bucket::default();
        // When, how many, and how long to wait if they are not there.
        let cases = [
            (0, 1, None),
            (0, 2, None),
            (0, 1, Some(2)),
            (1, 1, Some(1)),
            (1, 2, Some(3)),
            (2, 1, None),
            (2, 1, Some(2)),
            (100, 3, None),
            (100, 1, Some(2)),
        ];
        for (second, tokens, wait) in cases {
            let now = begin + Duration::from_secs(second);
            let expected = wait.map_or(Ok(()), |wait| Err(Duration::from_secs(wait)));
            assert_eq!(bucket.spend(tokens, RATE, now), expected, "{tokens} at {second} s");
        }
        assert!(!bucket.is_full(begin + Duration::from_secs(105)) && bucket.is_full(begin + Duration::from_secs(106)));
    }

    #[test]
    fn who_takes_more_than_there_is_waits_and_what_is_given_back_shortens_the_wait() {
        let begin = Instant::now();
        let mut bucket = Bucket::default();
        let waits = (0..5).map(|_| {
            let wait = bucket.wait(RATE, begin);
            bucket.take(RATE, begin);
            wait.as_secs()
        });
        assert_eq!(waits.collect::<Vec<_>>(), [0, 0, 0, 2, 4]);
        assert_eq!(bucket.wait(RATE, begin).as_secs(), 6);
        bucket.give_back(RATE);
        assert_eq!(bucket.wait(RATE, begin).as_secs(), 4);
        assert_eq!(bucket.wait(RATE, begin + Duration::from_secs(3)).as_secs(), 1);
    }

    #[test]
    fn more_than_a_bucket_holds_is_lent_by_a_full_one_alone() {
        let begin = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.spend(5, RATE, begin), Ok(()));
        assert_eq!(bucket.spend(1, RATE, begin + Duration::from_secs(4)), Err(Duration::from_secs(2)));
        assert_eq!(bucket.spend(5, RATE, begin + Duration::from_secs(9)), Err(Duration::from_secs(1)));
        assert_eq!(bucket.spend(5, RATE, begin + Duration::from_secs(10)), Ok(()));
    }
}
