//! Rate limiting of TLS handshakes: pure accounting without sockets or clocks.
//!
//! A handshake costs a manager a signature before the client is authenticated, so clients decide how much CPU time is spent on
//! it. Each handshake therefore takes a token of its applicant's own bucket and one of the bucket that applicants of its kind
//! share, and waits until both are available. Members get theirs back once their certificate is verified, and all who wait
//! behind them advance by one: a cluster that reconnects as a whole is only limited by its own handshakes in progress.
//!
//! Nodes, joiners and unauthenticated clients share tokens only within their kind, so that unauthenticated clients cannot lock
//! out the others, however many addresses they use and wherever the others connect from. A client that replays the introduction
//! of a node uses up only that node's turns: to lock out all nodes, it has to replay those of about a hundred. The introduction
//! of a joiner can be used to lock out joiners from twenty addresses; rotating the join token ends that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::admission::Applicant;
use crate::bucket::{Bucket, Rate};

/// How fast handshakes start, per applicant and per kind, and how long they may wait for their turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// For the unauthenticated clients, or the joiners, of one source.
    pub(super) source: Rate,
    /// For one node.
    pub(super) node: Rate,
    /// For all unauthenticated clients together.
    pub(super) unauthenticated: Rate,
    /// For all joiners together.
    pub(super) joiners: Rate,
    /// For all nodes together.
    pub(super) members: Rate,
    /// Applicants that would have to wait longer are refused: a client gives up after a few seconds.
    pub(super) wait_max: Duration,
    /// The same for nodes, whose actual wait is shorter than estimated, because nodes ahead of them give their tokens back.
    pub(super) members_wait_max: Duration,
}

/// `capacity` handshakes may be in progress at once, and one per `interval` may start that turns out not to be a member's: each
/// takes at most half a millisecond of CPU time. If all clients were served at once, as after a restart, every handshake would
/// complete after its client's timeout. One source may start 100 per second, twice as many as one join token admits; one node
/// 2, as it opens two connections and pauses between attempts. Unauthenticated clients, joiners and nodes may each start 200
/// per second in total, which is a tenth of a processor.
pub(super) const RATES: Rates = Rates {
    source: Rate { capacity: 64, interval: Duration::from_millis(10) },
    node: Rate { capacity: 8, interval: Duration::from_millis(500) },
    unauthenticated: Rate { capacity: 128, interval: Duration::from_millis(5) },
    joiners: Rate { capacity: 128, interval: Duration::from_millis(5) },
    members: Rate { capacity: 128, interval: Duration::from_millis(5) },
    wait_max: Duration::from_secs(2),
    members_wait_max: Duration::from_secs(5),
};

/// Extra tokens that a source pays for a failed handshake: a source with only failures starts 10 per second.
const FAILURE_TOKENS: u32 = 9;

/// Minimum number of remembered applicants before idle ones are forgotten.
const APPLICANTS_MIN: usize = 1_024;

/// The tokens spent on handshakes.
#[derive(Debug)]
pub(super) struct HandshakeLimiter {
    rates: Rates,
    unauthenticated: Queue,
    joiners: Queue,
    members: Queue,
    own: BTreeMap<Applicant, Bucket>,
    /// The number of remembered applicants at which idle ones are forgotten.
    forget_at: usize,
}

/// The applicants of one kind, in the order of their arrival.
#[derive(Debug, Default)]
struct Queue {
    bucket: Bucket,
    /// By how much all waiting applicants have advanced because of tokens that were given back.
    earlier: Duration,
    /// The last sequence number.
    last: u64,
    /// The waiting applicants, by the time of their turn if no token had ever been given back, and by sequence number.
    waiting: BTreeMap<(Instant, u64), Arc<Notify>>,
}

/// An admitted handshake with its tokens: it starts when they are available.
#[derive(Debug)]
pub(super) struct Ticket {
    applicant: Applicant,
    /// When its own token is available.
    own_turn: Instant,
    /// Its place in the queue of its kind.
    place: (Instant, u64),
    /// Notified when it may start earlier than estimated.
    pub(super) advanced: Arc<Notify>,
}

impl Queue {
    /// Takes a token that is available after `wait`.
    fn enter(&mut self, rate: Rate, wait: Duration, now: Instant) -> ((Instant, u64), Arc<Notify>) {
        self.bucket.take(rate, now);
        self.last += 1;
        let (place, advanced) = ((now + wait + self.earlier, self.last), Arc::default());
        if !wait.is_zero() {
            self.waiting.insert(place, Arc::clone(&advanced));
        }
        (place, advanced)
    }

    fn wait(&self, (turn, _): (Instant, u64), now: Instant) -> Duration {
        turn.saturating_duration_since(now).saturating_sub(self.earlier)
    }

    /// Returns a token, and notifies those whose turn has come.
    fn give_back(&mut self, rate: Rate, now: Instant) {
        self.bucket.give_back(rate);
        self.earlier += rate.interval;
        while let Some((place, advanced)) = self.waiting.pop_first() {
            if !self.wait(place, now).is_zero() {
                self.waiting.insert(place, advanced);
                break;
            }
            advanced.notify_one();
        }
    }
}

impl HandshakeLimiter {
    pub(super) fn new(rates: Rates) -> Self {
        let (unauthenticated, joiners, members) = (Queue::default(), Queue::default(), Queue::default());
        Self { rates, unauthenticated, joiners, members, own: BTreeMap::new(), forget_at: APPLICANTS_MIN }
    }

    /// Admits a handshake; `None` if it would have to wait too long and must not start.
    pub(super) fn admit(&mut self, applicant: Applicant, now: Instant) -> Option<Ticket> {
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
        let (place, advanced) = queue.enter(rate, wait, now);
        self.own.entry(applicant).or_default().take(own_rate, now);
        Some(Ticket { applicant, own_turn: now + own_wait, place, advanced })
    }

    /// How long a handshake still has to wait; once it is next, it leaves the queue.
    pub(super) fn wait(&mut self, ticket: &Ticket, now: Instant) -> Duration {
        let (queue, _) = self.shared(ticket.applicant);
        let wait = queue.wait(ticket.place, now).max(ticket.own_turn.saturating_duration_since(now));
        if wait.is_zero() {
            queue.waiting.remove(&ticket.place);
        }
        wait
    }

    /// The handshake was a member's: it gets its tokens back.
    pub(super) fn authenticated(&mut self, ticket: &Ticket, now: Instant) {
        let own_rate = self.own_rate(ticket.applicant);
        // A forgotten applicant has a full bucket.
        if let Some(own) = self.own.get_mut(&ticket.applicant) {
            own.give_back(own_rate);
        }
        self.give_back(ticket, now);
    }

    /// The client disconnected before its turn: the others lose nothing.
    pub(super) fn disconnected(&mut self, ticket: &Ticket, now: Instant) {
        self.give_back(ticket, now);
    }

    /// Returns the token of the shared bucket.
    fn give_back(&mut self, ticket: &Ticket, now: Instant) {
        let (queue, rate) = self.shared(ticket.applicant);
        queue.waiting.remove(&ticket.place);
        queue.give_back(rate, now);
    }

    /// The handshake failed.
    pub(super) fn failed(&mut self, ticket: &Ticket, now: Instant) {
        match ticket.applicant {
            // Only the node's own turns are spent.
            Applicant::Node(_) => {}
            Applicant::Joiner(_) | Applicant::Unauthenticated(_) => {
                let (own, rate) = (self.own.entry(ticket.applicant).or_default(), self.rates.source);
                (0..FAILURE_TOKENS).for_each(|_| own.take(rate, now));
            }
        }
    }

    fn own_rate(&self, applicant: Applicant) -> Rate {
        match applicant {
            Applicant::Node(_) => self.rates.node,
            Applicant::Joiner(_) | Applicant::Unauthenticated(_) => self.rates.source,
        }
    }

    fn wait_max(&self, applicant: Applicant) -> Duration {
        match applicant {
            Applicant::Node(_) => self.rates.members_wait_max,
            Applicant::Joiner(_) | Applicant::Unauthenticated(_) => self.rates.wait_max,
        }
    }

    fn shared(&mut self, applicant: Applicant) -> (&mut Queue, Rate) {
        match applicant {
            Applicant::Node(_) => (&mut self.members, self.rates.members),
            Applicant::Joiner(_) => (&mut self.joiners, self.rates.joiners),
            Applicant::Unauthenticated(_) => (&mut self.unauthenticated, self.rates.unauthenticated),
        }
    }
}

#[cfg(test)]
mod tests {
    use events::{Id, NodeId};
    use futures_util::FutureExt;

    use super::super::admission::Source;
    use super::*;

    /// Two at once and one per second for each source; five at once and ten per second for all of a kind.
    const RATES: Rates = Rates {
        source: Rate { capacity: 2, interval: Duration::from_secs(1) },
        node: Rate { capacity: 2, interval: Duration::from_secs(1) },
        unauthenticated: Rate { capacity: 5, interval: Duration::from_millis(100) },
        joiners: Rate { capacity: 5, interval: Duration::from_millis(100) },
        members: Rate { capacity: 5, interval: Duration::from_millis(100) },
        wait_max: Duration::from_secs(2),
        members_wait_max: Duration::from_secs(3),
    };

    fn source(host: u8) -> Source {
        Source::of([10, 0, 0, host].into())
    }

    fn stranger(host: u8) -> Applicant {
        Applicant::Unauthenticated(source(host))
    }

    fn node(number: u128) -> Applicant {
        Applicant::Node(NodeId::from_bits(number))
    }

    /// How long an applicant that arrives now waits; `None` if it is refused.
    fn waits(limiter: &mut HandshakeLimiter, applicant: Applicant, now: Instant) -> Option<Duration> {
        limiter.admit(applicant, now).map(|ticket| limiter.wait(&ticket, now))
    }

    /// The name of the case; then for each handshake the millisecond at which it starts, the host, whether it proves to be a
    /// member's, and the milliseconds that it waits.
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
            let (mut limiter, begin) = (HandshakeLimiter::new(RATES), Instant::now());
            for (at, host, member, expected) in *handshakes {
                let now = begin + Duration::from_millis(*at);
                let ticket = limiter.admit(stranger(*host), now);
                assert_eq!(
                    ticket.as_ref().map(|ticket| limiter.wait(ticket, now).as_millis()),
                    expected.map(u128::from),
                    "{what}: {host} at {at} ms"
                );
                if let Some(ticket) = ticket.filter(|_| *member) {
                    limiter.authenticated(&ticket, now);
                }
            }
        }
    }

    /// The waits after ten seconds of an attack: unauthenticated clients at these addresses start handshakes as fast as they
    /// may, and all of them fail.
    fn under_attack(addresses: u8, limiter: &mut HandshakeLimiter, last: &[Applicant]) -> Vec<Option<Duration>> {
        let begin = Instant::now();
        for millisecond in 0..10_000 {
            let now = begin + Duration::from_millis(millisecond);
            for host in 1..=addresses {
                if let Some(ticket) = limiter.admit(stranger(host), now) {
                    limiter.failed(&ticket, now);
                }
            }
        }
        let now = begin + Duration::from_secs(10);
        last.iter().map(|applicant| waits(limiter, *applicant, now)).collect()
    }

    #[test]
    fn strangers_at_many_addresses_hold_up_neither_nodes_nor_joiners_wherever_these_are() {
        let at_an_attackers = [Applicant::Node(NodeId::from_bits(1)), Applicant::Joiner(source(1))];
        for addresses in [3, 20, 250] {
            let mut limiter = HandshakeLimiter::new(super::RATES);
            assert_eq!(
                under_attack(addresses, &mut limiter, &at_an_attackers),
                [Some(Duration::ZERO); 2],
                "{addresses}"
            );
        }
        let (mut few, mut many) = (HandshakeLimiter::new(super::RATES), HandshakeLimiter::new(super::RATES));
        assert_eq!(under_attack(3, &mut few, &[stranger(201)]), [Some(Duration::ZERO)], "a stranger elsewhere");
        assert_ne!(under_attack(250, &mut many, &[stranger(251)]), [Some(Duration::ZERO)], "the attack is one");
    }

    #[test]
    fn whoever_repeats_the_introduction_of_a_node_holds_up_that_node_alone() {
        let (mut limiter, begin) = (HandshakeLimiter::new(super::RATES), Instant::now());
        for millisecond in 0..10_000 {
            let now = begin + Duration::from_millis(millisecond);
            for node in 1..=50 {
                if let Some(ticket) = limiter.admit(Applicant::Node(NodeId::from_bits(node)), now) {
                    limiter.failed(&ticket, now);
                }
            }
        }
        let now = begin + Duration::from_secs(10);
        assert_ne!(waits(&mut limiter, node(1), now), Some(Duration::ZERO));
        assert_eq!(waits(&mut limiter, node(51), now), Some(Duration::ZERO));
    }

    #[test]
    fn who_waits_is_earlier_by_each_before_it_that_is_a_member_or_gone() {
        let (mut limiter, now) = (HandshakeLimiter::new(RATES), Instant::now());
        let ticket: Vec<Ticket> = (1..=8).filter_map(|number| limiter.admit(node(number), now)).collect();
        let waits = |limiter: &mut HandshakeLimiter, at| {
            ticket.iter().map(|ticket| limiter.wait(ticket, at).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(waits(&mut limiter, now), [0, 0, 0, 0, 0, 100, 200, 300]);
        limiter.authenticated(&ticket[0], now);
        limiter.disconnected(&ticket[5], now);
        assert_eq!(waits(&mut limiter, now), [0, 0, 0, 0, 0, 0, 0, 100]);
        let notified: Vec<bool> =
            ticket.iter().map(|ticket| ticket.advanced.notified().now_or_never().is_some()).collect();
        assert_eq!(notified, [false, false, false, false, false, true, true, false]);
        assert_eq!(waits(&mut limiter, now + Duration::from_millis(40)).last(), Some(&60));
        // A failed handshake gives nothing back, and neither do those of another kind.
        limiter.failed(&ticket[2], now);
        let other = limiter.admit(stranger(1), now).expect("a stranger may come");
        limiter.authenticated(&other, now);
        assert_eq!(waits(&mut limiter, now).last(), Some(&100));
        assert_eq!(limiter.members.waiting.len(), 1);
        assert_eq!(waits(&mut limiter, now + Duration::from_secs(1)), [0; 8]);
        assert!(limiter.members.waiting.is_empty(), "no one who has started is remembered");
    }

    #[test]
    fn sources_that_are_quiet_are_forgotten() {
        let (mut limiter, begin) = (HandshakeLimiter::new(super::RATES), Instant::now());
        for number in 0..APPLICANTS_MIN as u32 {
            let source = Source::of(std::net::Ipv4Addr::from_bits(number).into());
            // As fast as unauthenticated clients may; refused ones are not remembered.
            let now = begin + super::RATES.unauthenticated.interval * number;
            assert!(limiter.admit(Applicant::Unauthenticated(source), now).is_some());
        }
        limiter.admit(stranger(1), begin + Duration::from_secs(60));
        assert_eq!(limiter.own.len(), 1);
    }
}
