//! How fast handshakes begin: bookkeeping without sockets or clocks.
//!
//! A handshake costs a manager a signature before anybody has proven anything, so whoever opens connections decides how much
//! of a processor goes there. Each handshake therefore takes a token of its source and one of all sources together, and
//! waits for them where they are spent. Members get theirs back once their certificate is verified: a cluster that comes
//! back at once is held up by nothing but its own handshakes in progress.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::admission::Source;
use crate::bucket::{Bucket, Rate};

/// How fast handshakes begin, for one source and for all together, and how long they wait for their turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) each: Rate,
    pub(super) all: Rate,
    /// Who would wait longer is refused: a client gives up after a few seconds.
    pub(super) wait_max: Duration,
}

/// So many handshakes may be in progress at once, and so many more begin each second that turn out to be nobody's: each takes
/// half a millisecond of a processor at most. Were all that come begun at once, as after a restart, each would be done later
/// than its client waits for, and none would be of use. One source may begin 100 a second, twice as many as one join token
/// lets in; all together 200 a second, which is a tenth of a processor.
pub(super) const RATES: Rates = Rates {
    each: Rate { capacity: 64, interval: Duration::from_millis(10) },
    all: Rate { capacity: 128, interval: Duration::from_millis(5) },
    wait_max: Duration::from_secs(2),
};

/// Sources remembered before those that were quiet are forgotten.
const SOURCES_MIN: usize = 1_024;

/// What was spent of the handshakes that may begin.
#[derive(Debug)]
pub(super) struct Pace {
    rates: Rates,
    all: Bucket,
    by_source: BTreeMap<Source, Bucket>,
    /// How many sources are remembered before the quiet ones are forgotten.
    forget_at: usize,
}

impl Pace {
    pub(super) fn new(rates: Rates) -> Self {
        Self { rates, all: Bucket::default(), by_source: BTreeMap::new(), forget_at: SOURCES_MIN }
    }

    /// How long a handshake has to wait until it begins; nothing if that is too long, and it must not begin.
    pub(super) fn begin(&mut self, source: Source, now: Instant) -> Option<Duration> {
        if self.by_source.len() >= self.forget_at {
            self.by_source.retain(|_, bucket| !bucket.is_full(now));
            self.forget_at = SOURCES_MIN.max(self.by_source.len() * 2);
        }
        let own = self.by_source.entry(source).or_default();
        let wait = own.wait(self.rates.each, now).max(self.all.wait(self.rates.all, now));
        if wait > self.rates.wait_max {
            return None;
        }
        own.take(self.rates.each, now);
        self.all.take(self.rates.all, now);
        Some(wait)
    }

    /// The handshake was a member's.
    pub(super) fn proven(&mut self, source: Source) {
        self.all.give_back(self.rates.all);
        // A source that was forgotten has all its tokens.
        if let Some(own) = self.by_source.get_mut(&source) {
            own.give_back(self.rates.each);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two at once and one a second for each source; five at once and ten a second for all.
    const RATES: Rates = Rates {
        each: Rate { capacity: 2, interval: Duration::from_secs(1) },
        all: Rate { capacity: 5, interval: Duration::from_millis(100) },
        wait_max: Duration::from_secs(2),
    };

    fn source(host: u8) -> Source {
        Source::of([10, 0, 0, host].into())
    }

    /// What the case is about, who begins a handshake at which millisecond and whether it proves to be a member's, and how
    /// many milliseconds it waits.
    type Case<'a> = (&'a str, &'a [(u64, u8, bool, Option<u64>)]);

    #[test]
    fn handshakes_wait_for_their_turn_and_members_do_not() {
        let cases: &[Case<'_>] = &[
            (
                "a source that spends its tokens waits, and is refused when it would wait too long",
                &[
                    (0, 1, false, Some(0)),
                    (0, 1, false, Some(0)),
                    (0, 1, false, Some(1_000)),
                    (0, 1, false, Some(2_000)),
                    (0, 1, false, None),
                    (0, 2, false, Some(0)),
                    (500, 1, false, None),
                    (1_000, 1, false, Some(2_000)),
                ],
            ),
            (
                "many sources wait for each other",
                &[
                    (0, 1, false, Some(0)),
                    (0, 2, false, Some(0)),
                    (0, 3, false, Some(0)),
                    (0, 4, false, Some(0)),
                    (0, 5, false, Some(0)),
                    (0, 6, false, Some(100)),
                    (0, 7, false, Some(200)),
                    (200, 8, false, Some(100)),
                    (900, 9, false, Some(0)),
                ],
            ),
            (
                "members that come one after the other wait for nobody, also behind one address",
                &[
                    (0, 1, true, Some(0)),
                    (0, 1, true, Some(0)),
                    (0, 1, true, Some(0)),
                    (0, 1, true, Some(0)),
                    (0, 1, true, Some(0)),
                    (0, 1, true, Some(0)),
                ],
            ),
            (
                "who is refused has spent nothing",
                &[
                    (0, 1, false, Some(0)),
                    (0, 1, false, Some(0)),
                    (0, 1, false, Some(1_000)),
                    (0, 1, false, Some(2_000)),
                    (0, 1, false, None),
                    (0, 1, false, None),
                    (4_000, 1, false, Some(0)),
                    (4_000, 1, false, Some(0)),
                ],
            ),
        ];
        for (what, handshakes) in cases {
            let (mut pace, begin) = (Pace::new(RATES), Instant::now());
            for (at, host, member, expected) in *handshakes {
                let wait = pace.begin(source(*host), begin + Duration::from_millis(*at));
                assert_eq!(wait.map(|wait| wait.as_millis()), expected.map(u128::from), "{what}: {host} at {at} ms");
                if *member {
                    pace.proven(source(*host));
                }
            }
        }
    }

    #[test]
    fn sources_that_are_quiet_are_forgotten() {
        let (mut pace, begin) = (Pace::new(super::RATES), Instant::now());
        for number in 0..SOURCES_MIN as u32 {
            pace.begin(Source::of(std::net::Ipv4Addr::from_bits(number).into()), begin);
        }
        pace.begin(source(1), begin + Duration::from_secs(60));
        assert_eq!(pace.by_source.len(), 1);
    }
}
