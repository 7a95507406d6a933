//! Backoff between attempts to reach a manager.

use std::time::Duration;

use rand::Rng;

const STEP: Duration = Duration::from_millis(100);
/// A node that is reachable again must stop its replaced tasks within seconds.
const MAX: Duration = Duration::from_secs(4);

/// Delays that grow with each failure: a uniform share of min(100 ms + 2 x previous, 4 s), so that thousands of agents that
/// lose the same manager do not reconnect at the same instant.
#[derive(Debug, Default)]
pub struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    /// The delay before the next attempt.
    pub fn pause(&mut self, random: &mut impl Rng) -> Duration {
        self.grow();
        random.random_range(Duration::ZERO..self.ceiling)
    }

    /// The same, for a share drawn by the caller, from 0 to 1.
    pub(crate) fn share_of_pause(&mut self, share: f64) -> Duration {
        self.grow();
        self.ceiling.mul_f64(share)
    }

    fn grow(&mut self) {
        self.ceiling = MAX.min(STEP + self.ceiling * 2);
    }

    /// Resets the delay after a successful attempt.
    pub fn reset(&mut self) {
        self.ceiling = Duration::ZERO;
    }
}

/// A pause as logs have it: in the JSON form, 128 bits would not be a number.
pub fn ms(pause: Duration) -> u64 {
    u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always draws the highest number, so that each pause equals its ceiling.
    struct Highest;

    impl rand::RngCore for Highest {
        fn next_u32(&mut self) -> u32 {
            u32::MAX
        }
        fn next_u64(&mut self) -> u64 {
            u64::MAX
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill(u8::MAX);
        }
    }

    #[test]
    fn ceilings_grow_to_four_seconds_and_start_over() {
        let mut backoff = Backoff::default();
        let mut ceilings_ms = || (backoff.pause(&mut Highest) + Duration::from_millis(1)).as_millis();
        let seen: Vec<_> = std::iter::repeat_with(&mut ceilings_ms).take(9).collect();
        assert_eq!(seen, [100, 300, 700, 1500, 3100, 4000, 4000, 4000, 4000]);
        backoff.reset();
        assert!(backoff.pause(&mut Highest) < STEP);
    }

    #[test]
    fn pauses_are_spread() {
        let mut random = rand::rng();
        let pauses = std::iter::repeat_with(|| Backoff::default().pause(&mut random)).take(1000);
        assert!(pauses.collect::<std::collections::BTreeSet<_>>().len() > 500);
    }
}
