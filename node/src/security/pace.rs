//! How fast handshakes begin: bookkeeping without sockets or clocks.
//!
//! A handshake costs a manager a signature before anybody has proven anything, so whoever opens connections decides how much
//! of a processor goes there. Each handshake therefore takes a token of its source and one that sources share, and waits for
//! them where they are spent. Members get theirs back once their certificate is verified: a cluster that comes back at once
//! is held up by nothing but its own handshakes in progress.
//!
//! Sources of members share tokens of their own, so that strangers who spend all of theirs keep no member out. A stranger
//! whose handshake comes to nothing pays for it with more of its own tokens, so that a few of them keep no joiner out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::admission::Source;
use crate::bucket::{Bucket, Rate};

/// How fast handshakes begin, for one source and for several together, and how long they wait for their turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// For one source.
    pub(super) each: Rate,
    /// For all sources together of which no member is known.
    pub(super) strangers: Rate,
    /// For all sources of members together.
    pub(super) members: Rate,
    /// Who would wait longer is refused: a client gives up after a few seconds.
    pub(super) wait_max: Duration,
}

/// So many handshakes may be in progress at once, and so many more begin each second that turn out to be nobody's: each takes
/// half a millisecond of a processor at most. Were all that come begun at once, as after a restart, each would be done later
/// than its client waits for, and none would be of use. One source may begin 100 a second, twice as many as one join token
/// lets in; strangers together 200 a second, and members as many again, each of which is a tenth of a processor.
pub(super) const RATES: Rates = Rates {
    each: Rate { capacity: 64, interval: Duration::from_millis(10) },
    strangers: Rate { capacity: 128, interval: Duration::from_millis(5) },
    members: Rate { capacity: 128, interval: Duration::from_millis(5) },
    wait_max: Duration::from_secs(2),
};

/// Tokens of its own that a stranger pays for a handshake that came to nothing, besides the one it took: a source of nothing
/// else begins 10 a second.
const FAILURE_TOKENS: u32 = 9;
/// Handshakes of a member's source in a row that come to nothing before it counts as a stranger's: as many as begin at once.
const FAILURES_MAX: u32 = 64;
/// Sources of members that are remembered. Each was shown by a member: no more than this, should one come from everywhere.
const MEMBERS_MAX: usize = 65_536;

/// Sources remembered before those that were quiet are forgotten.
const SOURCES_MIN: usize = 1_024;

/// What was spent of the handshakes that may begin.
#[derive(Debug)]
pub(super) struct Pace {
    rates: Rates,
    strangers: Bucket,
    members: Bucket,
    by_source: BTreeMap<Source, Bucket>,
    /// Sources of members, with how many handshakes from there came to nothing since the last one that was a member's.
    failures: BTreeMap<Source, u32>,
    /// How many sources are remembered before the quiet ones are forgotten.
    forget_at: usize,
}

/// A handshake that has begun: which tokens it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    /// How long it waits for its turn.
    pub(super) wait: Duration,
    source: Source,
    is_known: bool,
}

impl Pace {
    /// Begins with the addresses of the members that are known: after a restart they come back before anybody proved anything.
    pub(super) fn new(rates: Rates, members: impl IntoIterator<Item = IpAddr>) -> Self {
        let failures = members.into_iter().take(MEMBERS_MAX).map(|address| (Source::of(address), 0)).collect();
        let (strangers, members) = (Bucket::default(), Bucket::default());
        Self { rates, strangers, members, by_source: BTreeMap::new(), failures, forget_at: SOURCES_MIN }
    }

    /// Begins a handshake; nothing if it would have to wait too long, and must not begin.
    pub(super) fn begin(&mut self, source: Source, now: Instant) -> Option<Begun> {
        if self.by_source.len() >= self.forget_at {
            self.by_source.retain(|_, bucket| !bucket.is_full(now));
            self.forget_at = SOURCES_MIN.max(self.by_source.len() * 2);
        }
        let is_known = self.failures.contains_key(&source);
        let (own_rate, wait_max) = (self.rates.each, self.rates.wait_max);
        let own = self.by_source.entry(source).or_default();
        let (shared, rate) = match is_known {
            true => (&mut self.members, self.rates.members),
            false => (&mut self.strangers, self.rates.strangers),
        };
        let wait = own.wait(own_rate, now).max(shared.wait(rate, now));
        if wait > wait_max {
            return None;
        }
        own.take(own_rate, now);
        shared.take(rate, now);
        Some(Begun { wait, source, is_known })
    }

    /// The handshake was a member's.
    pub(super) fn proven(&mut self, begun: Begun) {
        match begun.is_known {
            true => self.members.give_back(self.rates.members),
            false => self.strangers.give_back(self.rates.strangers),
        }
        // A source that was forgotten has all its tokens.
        if let Some(own) = self.by_source.get_mut(&begun.source) {
            own.give_back(self.rates.each);
        }
        if self.failures.len() < MEMBERS_MAX || self.failures.contains_key(&begun.source) {
            self.failures.insert(begun.source, 0);
        }
    }

    /// The handshake came to nothing.
    pub(super) fn failed(&mut self, begun: Begun, now: Instant) {
        match self.failures.get_mut(&begun.source) {
            Some(failures) => {
                *failures += 1;
                if *failures >= FAILURES_MAX {
                    self.failures.remove(&begun.source);
                }
            }
            None => {
                let own = self.by_source.entry(begun.source).or_default();
                (0..FAILURE_TOKENS).for_each(|_| own.take(self.rates.each, now));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two at once and one a second for each source; five at once and ten a second for several together.
    const RATES: Rates = Rates {
        each: Rate { capacity: 2, interval: Duration::from_secs(1) },
        strangers: Rate { capacity: 5, interval: Duration::from_millis(100) },
        members: Rate { capacity: 5, interval: Duration::from_millis(100) },
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
            let (mut pace, begin) = (Pace::new(RATES, []), Instant::now());
            for (at, host, member, expected) in *handshakes {
                let begun = pace.begin(source(*host), begin + Duration::from_millis(*at));
                assert_eq!(
                    begun.map(|begun| begun.wait.as_millis()),
                    expected.map(u128::from),
                    "{what}: {host} at {at} ms"
                );
                if let Some(begun) = begun.filter(|_| *member) {
                    pace.proven(begun);
                }
            }
        }
    }

    /// Strangers from so many addresses that begin handshakes for ten seconds as fast as they may, and come to nothing; then
    /// how long somebody waits who comes from one of these addresses.
    fn under_attack(strangers: u8, mut pace: Pace, last: &[u8]) -> Vec<Option<Duration>> {
        let begin = Instant::now();
        for millisecond in 0..10_000 {
            let now = begin + Duration::from_millis(millisecond);
            for host in 1..=strangers {
                if let Some(begun) = pace.begin(source(host), now) {
                    pace.failed(begun, now);
                }
            }
        }
        let now = begin + Duration::from_secs(10);
        last.iter().map(|host| pace.begin(source(*host), now).map(|begun| begun.wait)).collect()
    }

    #[test]
    fn strangers_who_come_to_nothing_keep_neither_members_nor_joiners_out() {
        let pace = || Pace::new(super::RATES, [[10, 0, 0, 200].into()]);
        assert_eq!(under_attack(3, pace(), &[200, 201]), [Some(Duration::ZERO); 2], "a known node, and a joiner");
        assert_eq!(under_attack(100, pace(), &[200]), [Some(Duration::ZERO)], "a known node, whoever else comes");
        let mut proven = pace();
        let begun = proven.begin(source(202), Instant::now()).expect("begun");
        proven.proven(begun);
        assert_eq!(under_attack(100, proven, &[202]), [Some(Duration::ZERO)], "a member that came before");
    }

    #[test]
    fn the_source_of_a_member_from_which_nothing_but_failures_comes_is_a_strangers_again() {
        let (mut pace, now) = (Pace::new(super::RATES, [[10, 0, 0, 1].into()]), Instant::now());
        for _ in 0..FAILURES_MAX {
            let begun = pace.begin(source(1), now).expect("begun");
            assert!(begun.is_known);
            pace.failed(begun, now);
        }
        assert!(!pace.begin(source(1), now).expect("begun").is_known);
    }

    #[test]
    fn sources_that_are_quiet_are_forgotten() {
        let (mut pace, begin) = (Pace::new(super::RATES, []), Instant::now());
        for number in 0..SOURCES_MIN as u32 {
            pace.begin(Source::of(std::net::Ipv4Addr::from_bits(number).into()), begin);
        }
        pace.begin(source(1), begin + Duration::from_secs(60));
        assert_eq!(pace.by_source.len(), 1);
    }
}
