//! How fast handshakes begin: bookkeeping without sockets or clocks.
//!
//! A handshake costs a manager a signature before anybody has proven anything, so whoever opens connections decides how much
//! of a processor goes there. Each handshake therefore takes a token of its applicant's own and one that applicants of its
//! kind share, and waits for them where they are spent. Members get theirs back once their certificate is verified, and all
//! who wait behind them are earlier by one: a cluster that comes back at once is held up by nothing but its own handshakes in
//! progress.
//!
//! Nodes, joiners and strangers share tokens with their like only, so that strangers keep neither of the others out, however
//! many addresses they have, and wherever the others call from. Whoever repeats the introduction of a node spends that
//! node's own turns: to keep all nodes out, somebody has to repeat those of about a hundred. With the introduction of a
//! joiner one can keep joiners out from twenty addresses; rotating the join token ends that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::admission::Applicant;
use crate::bucket::{Bucket, Rate};

/// How fast handshakes begin, for one applicant and for several together, and how long they wait for their turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// For the strangers, or the joiners, of one source.
    pub(super) source: Rate,
    /// For one node.
    pub(super) node: Rate,
    /// For all strangers together.
    pub(super) strangers: Rate,
    /// For all joiners together.
    pub(super) joiners: Rate,
    /// For all nodes together.
    pub(super) members: Rate,
    /// Who would wait longer is refused: a client gives up after a few seconds.
    pub(super) wait_max: Duration,
    /// The same for nodes, who wait less than it seems when they come: those before them give their tokens back.
    pub(super) members_wait_max: Duration,
}

/// So many handshakes may be in progress at once, and so many more begin each second that turn out to be nobody's: each takes
/// half a millisecond of a processor at most. Were all that come begun at once, as after a restart, each would be done later
/// than its client waits for, and none would be of use. One source may begin 100 a second, twice as many as one join token
/// lets in; one node 2, as it opens two connections and pauses before it tries again. Strangers together, and joiners, and
/// nodes, may begin 200 a second, each of which is a tenth of a processor.
pub(super) const RATES: Rates = Rates {
    source: Rate { capacity: 64, interval: Duration::from_millis(10) },
    node: Rate { capacity: 8, interval: Duration::from_millis(500) },
    strangers: Rate { capacity: 128, interval: Duration::from_millis(5) },
    joiners: Rate { capacity: 128, interval: Duration::from_millis(5) },
    members: Rate { capacity: 128, interval: Duration::from_millis(5) },
    wait_max: Duration::from_secs(2),
    members_wait_max: Duration::from_secs(5),
};

/// Tokens of its own that a source pays for a handshake that came to nothing, besides the one it took: a source of nothing
/// else begins 10 a second.
const FAILURE_TOKENS: u32 = 9;

/// Applicants remembered before those that were quiet are forgotten.
const APPLICANTS_MIN: usize = 1_024;

/// What was spent of the handshakes that may begin.
#[derive(Debug)]
pub(super) struct Pace {
    rates: Rates,
    strangers: Queue,
    joiners: Queue,
    members: Queue,
    own: BTreeMap<Applicant, Bucket>,
    /// How many applicants are remembered before the quiet ones are forgotten.
    forget_at: usize,
}

/// Those of one kind. Who waits does so in the order in which they came.
#[derive(Debug, Default)]
struct Queue {
    bucket: Bucket,
    /// By how much all who wait are earlier for the tokens that were ever given back.
    earlier: Duration,
    /// The last number that was drawn.
    last: u64,
    /// By when their turn were if no token had ever been given back, and by number.
    waiting: BTreeMap<(Instant, u64), Arc<Notify>>,
}

/// A handshake that took its tokens: it begins when they are there.
#[derive(Debug)]
pub(super) struct Begun {
    applicant: Applicant,
    /// When its own token is there.
    own_turn: Instant,
    /// Its place among those of its kind.
    place: (Instant, u64),
    /// Told when it may begin sooner than it would have to wait.
    pub(super) sooner: Arc<Notify>,
}

impl Queue {
    /// Takes a token that is there after `wait`.
    fn enter(&mut self, rate: Rate, wait: Duration, now: Instant) -> ((Instant, u64), Arc<Notify>) {
        self.bucket.take(rate, now);
        self.last += 1;
        let (place, sooner) = ((now + wait + self.earlier, self.last), Arc::default());
        if !wait.is_zero() {
            self.waiting.insert(place, Arc::clone(&sooner));
        }
        (place, sooner)
    }

    fn wait(&self, (turn, _): (Instant, u64), now: Instant) -> Duration {
        turn.saturating_duration_since(now).saturating_sub(self.earlier)
    }

    /// Puts a token back, and tells those whose turn it is by that.
    fn give_back(&mut self, rate: Rate, now: Instant) {
        self.bucket.give_back(rate);
        self.earlier += rate.interval;
        while let Some((place, sooner)) = self.waiting.pop_first() {
            if !self.wait(place, now).is_zero() {
                self.waiting.insert(place, sooner);
                break;
            }
            sooner.notify_one();
        }
    }
}

impl Pace {
    pub(super) fn new(rates: Rates) -> Self {
        let (strangers, joiners, members) = (Queue::default(), Queue::default(), Queue::default());
        Self { rates, strangers, joiners, members, own: BTreeMap::new(), forget_at: APPLICANTS_MIN }
    }

    /// Begins a handshake; nothing if it would have to wait too long, and must not begin.
    pub(super) fn begin(&mut self, applicant: Applicant, now: Instant) -> Option<Begun> {
        if self.own.len() >= self.forget_at {
            self.own.retain(|_, bucket| !bucket.is_full(now));
            self.forget_at = APPLICANTS_MIN.max(self.own.len() * 2);
        }
        let (own_rate, wait_max) = (self.own_rate(applicant), self.wait_max(applicant));
        let own = self.own.get(&applicant).copied().unwrap_or_default();
        let (queue, rate) = self.shared(applicant);
        let (own_wait, wait) = (own.wait(own_rate, now), queue.bucket.wait(rate, now));
        if own_wait.max(wait) > wait_max {
            return None;
        }
        let (place, sooner) = queue.enter(rate, wait, now);
        self.own.entry(applicant).or_default().take(own_rate, now);
        Some(Begun { applicant, own_turn: now + own_wait, place, sooner })
    }

    /// How long a handshake still waits for its turn; once that has come, nobody has to be told.
    pub(super) fn wait(&mut self, begun: &Begun, now: Instant) -> Duration {
        let (queue, _) = self.shared(begun.applicant);
        let wait = queue.wait(begun.place, now).max(begun.own_turn.saturating_duration_since(now));
        if wait.is_zero() {
            queue.waiting.remove(&begun.place);
        }
        wait
    }

    /// The handshake was a member's.
    pub(super) fn proven(&mut self, begun: &Begun, now: Instant) {
        let own_rate = self.own_rate(begun.applicant);
        // Whoever was forgotten has all its tokens.
        if let Some(own) = self.own.get_mut(&begun.applicant) {
            own.give_back(own_rate);
        }
        self.give_back(begun, now);
    }

    /// The other end has gone before its turn came: it cost the others nothing.
    pub(super) fn left(&mut self, begun: &Begun, now: Instant) {
        self.give_back(begun, now);
    }

    /// Puts back the token that it shares with its kind.
    fn give_back(&mut self, begun: &Begun, now: Instant) {
        let (queue, rate) = self.shared(begun.applicant);
        queue.waiting.remove(&begun.place);
        queue.give_back(rate, now);
    }

    /// The handshake came to nothing.
    pub(super) fn failed(&mut self, begun: &Begun, now: Instant) {
        match begun.applicant {
            // Nothing but its own turns is spent there.
            Applicant::Node(_) => {}
            Applicant::Joiner(_) | Applicant::Stranger(_) => {
                let (own, rate) = (self.own.entry(begun.applicant).or_default(), self.rates.source);
                (0..FAILURE_TOKENS).for_each(|_| own.take(rate, now));
            }
        }
    }

    fn own_rate(&self, applicant: Applicant) -> Rate {
        match applicant {
            Applicant::Node(_) => self.rates.node,
            Applicant::Joiner(_) | Applicant::Stranger(_) => self.rates.source,
        }
    }

    fn wait_max(&self, applicant: Applicant) -> Duration {
        match applicant {
            Applicant::Node(_) => self.rates.members_wait_max,
            Applicant::Joiner(_) | Applicant::Stranger(_) => self.rates.wait_max,
        }
    }

    fn shared(&mut self, applicant: Applicant) -> (&mut Queue, Rate) {
        match applicant {
            Applicant::Node(_) => (&mut self.members, self.rates.members),
            Applicant::Joiner(_) => (&mut self.joiners, self.rates.joiners),
            Applicant::Stranger(_) => (&mut self.strangers, self.rates.strangers),
        }
    }
}

#[cfg(test)]
mod tests {
    use events::{Id, NodeId};
    use futures_util::FutureExt;

    use super::super::admission::Source;
    use super::*;

    /// Two at once and one a second for each source; five at once and ten a second for several together.
    const RATES: Rates = Rates {
        source: Rate { capacity: 2, interval: Duration::from_secs(1) },
        node: Rate { capacity: 2, interval: Duration::from_secs(1) },
        strangers: Rate { capacity: 5, interval: Duration::from_millis(100) },
        joiners: Rate { capacity: 5, interval: Duration::from_millis(100) },
        members: Rate { capacity: 5, interval: Duration::from_millis(100) },
        wait_max: Duration::from_secs(2),
        members_wait_max: Duration::from_secs(3),
    };

    fn source(host: u8) -> Source {
        Source::of([10, 0, 0, host].into())
    }

    fn stranger(host: u8) -> Applicant {
        Applicant::Stranger(source(host))
    }

    fn node(number: u128) -> Applicant {
        Applicant::Node(NodeId::from_bits(number))
    }

    /// How long whoever comes now waits, if it may.
    fn waits(pace: &mut Pace, applicant: Applicant, now: Instant) -> Option<Duration> {
        pace.begin(applicant, now).map(|begun| pace.wait(&begun, now))
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
                let now = begin + Duration::from_millis(*at);
                let begun = pace.begin(stranger(*host), now);
                assert_eq!(
                    begun.as_ref().map(|begun| pace.wait(begun, now).as_millis()),
                    expected.map(u128::from),
                    "{what}: {host} at {at} ms"
                );
                if let Some(begun) = begun.filter(|_| *member) {
                    pace.proven(&begun, now);
                }
            }
        }
    }

    /// What whoever comes waits after ten seconds of an attack: strangers begin handshakes from these addresses as fast as
    /// they may, and come to nothing.
    fn under_attack(addresses: u8, pace: &mut Pace, last: &[Applicant]) -> Vec<Option<Duration>> {
        let begin = Instant::now();
        for millisecond in 0..10_000 {
            let now = begin + Duration::from_millis(millisecond);
            for host in 1..=addresses {
                if let Some(begun) = pace.begin(stranger(host), now) {
                    pace.failed(&begun, now);
                }
            }
        }
        let now = begin + Duration::from_secs(10);
        last.iter().map(|applicant| waits(pace, *applicant, now)).collect()
    }

    #[test]
    fn strangers_at_many_addresses_hold_up_neither_nodes_nor_joiners_wherever_these_are() {
        let at_an_attackers = [Applicant::Node(NodeId::from_bits(1)), Applicant::Joiner(source(1))];
        for addresses in [3, 20, 250] {
            let mut pace = Pace::new(super::RATES);
            assert_eq!(under_attack(addresses, &mut pace, &at_an_attackers), [Some(Duration::ZERO); 2], "{addresses}");
        }
        let (mut few, mut many) = (Pace::new(super::RATES), Pace::new(super::RATES));
        assert_eq!(under_attack(3, &mut few, &[stranger(201)]), [Some(Duration::ZERO)], "a stranger elsewhere");
        assert_ne!(under_attack(250, &mut many, &[stranger(251)]), [Some(Duration::ZERO)], "the attack is one");
    }

    #[test]
    fn whoever_repeats_the_introduction_of_a_node_holds_up_that_node_alone() {
        let (mut pace, begin) = (Pace::new(super::RATES), Instant::now());
        for millisecond in 0..10_000 {
            let now = begin + Duration::from_millis(millisecond);
            for node in 1..=50 {
                if let Some(begun) = pace.begin(Applicant::Node(NodeId::from_bits(node)), now) {
                    pace.failed(&begun, now);
                }
            }
        }
        let now = begin + Duration::from_secs(10);
        assert_ne!(waits(&mut pace, node(1), now), Some(Duration::ZERO));
        assert_eq!(waits(&mut pace, node(51), now), Some(Duration::ZERO));
    }

    #[test]
    fn who_waits_is_earlier_by_each_before_it_that_is_a_member_or_gone() {
        let (mut pace, now) = (Pace::new(RATES), Instant::now());
        let begun: Vec<Begun> = (1..=8).filter_map(|number| pace.begin(node(number), now)).collect();
        let waits =
            |pace: &mut Pace, at| begun.iter().map(|begun| pace.wait(begun, at).as_millis()).collect::<Vec<_>>();
        assert_eq!(waits(&mut pace, now), [0, 0, 0, 0, 0, 100, 200, 300]);
        pace.proven(&begun[0], now);
        pace.left(&begun[5], now);
        assert_eq!(waits(&mut pace, now), [0, 0, 0, 0, 0, 0, 0, 100]);
        let told: Vec<bool> = begun.iter().map(|begun| begun.sooner.notified().now_or_never().is_some()).collect();
        assert_eq!(told, [false, false, false, false, false, true, true, false]);
        assert_eq!(waits(&mut pace, now + Duration::from_millis(40)).last(), Some(&60));
        // Who comes to nothing gives nothing back, and neither do those of another kind.
        pace.failed(&begun[2], now);
        let other = pace.begin(stranger(1), now).expect("a stranger may come");
        pace.proven(&other, now);
        assert_eq!(waits(&mut pace, now).last(), Some(&100));
        assert_eq!(pace.members.waiting.len(), 1);
        assert_eq!(waits(&mut pace, now + Duration::from_secs(1)), [0; 8]);
        assert!(pace.members.waiting.is_empty(), "nobody who has begun is remembered");
    }

    #[test]
    fn sources_that_are_quiet_are_forgotten() {
        let (mut pace, begin) = (Pace::new(super::RATES), Instant::now());
        for number in 0..APPLICANTS_MIN as u32 {
            let source = Source::of(std::net::Ipv4Addr::from_bits(number).into());
            // As fast as strangers may; whoever is refused is not remembered.
            let now = begin + super::RATES.strangers.interval * number;
            assert!(pace.begin(Applicant::Stranger(source), now).is_some());
        }
        pace.begin(stranger(1), begin + Duration::from_secs(60));
        assert_eq!(pace.own.len(), 1);
    }
}
