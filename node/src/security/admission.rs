//! Which connections a manager keeps, which it refuses, and which it ends to make room: bookkeeping without sockets or
//! clocks.
//!
//! A connection is *unproven* until its handshake is done. Then it belongs to a *member*, known by its certificate, or it
//! is *anonymous*. Each class has its own places, so that no crowd in one takes those of another; and within a class each
//! source (an address, or a node for members) has a bound of its own. Many members may share one address: only those
//! that have proven nothing are counted by address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use events::NodeId;

/// Names a connection; a later one has a greater number.
pub(super) type ConnectionId = u64;

/// The bounds of one class of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Connections of the class.
    pub(super) total: usize,
    /// Connections of one source.
    pub(super) each: usize,
}

/// How many connections a manager keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub(super) unproven: Bounds,
    pub(super) anonymous: Bounds,
    pub(super) members: Bounds,
    /// Connections of operators to the control socket.
    pub(super) operators: usize,
}

/// File descriptors that connections of nodes never take: the log holds up to 128 tables open besides its journals, an
/// operator at the control socket needs one, and so do the engine's connections and each task's pipes.
const RESERVE: usize = 2_048;
/// Handshakes in progress: each costs up to some 20 KiB, so that these cost at most 80 MiB.
const UNPROVEN_MAX: usize = 4_096;
/// Handshakes in progress of one address: of ten thousand honest ones a second, each done within 50 ms.
const UNPROVEN_EACH_MAX: usize = 512;
/// Connections without a certificate. Each is there for one call, which takes some milliseconds.
const ANONYMOUS_MAX: usize = 1_024;
/// Connections without a certificate of one address: that many joiners behind one gateway are served at a time.
const ANONYMOUS_EACH_MAX: usize = 128;
/// Connections of one node: one for its session, one for a renewal, and as many again that are lost and not timed out.
const MEMBER_EACH_MAX: usize = 8;

impl Limits {
    /// The limits of a process that may have this many file descriptors open.
    pub fn of_descriptors(descriptors: usize) -> Self {
        let reserve = RESERVE.min(descriptors / 2);
        let free = descriptors - reserve;
        let share = |part: usize, total_max: usize, each_max: usize| {
            let total = (free / part).clamp(1, total_max);
            Bounds { total, each: (total / 4).clamp(1, each_max) }
        };
        let unproven = share(4, UNPROVEN_MAX, UNPROVEN_EACH_MAX);
        let anonymous = share(8, ANONYMOUS_MAX, ANONYMOUS_EACH_MAX);
        let members = free.saturating_sub(unproven.total + anonymous.total).max(1);
        let members = Bounds { total: members, each: MEMBER_EACH_MAX };
        Self { unproven, anonymous, members, operators: (reserve / 2).max(1) }
    }

    /// Connections of members that are kept at a time.
    pub fn members_max(&self) -> usize {
        self.members.total
    }
}

/// Where a connection comes from, as far as unproven callers can be told apart: an IPv4 address, or the network of an IPv6
/// address, since one machine commands 2^64 of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        })
    }
}

/// What is known of the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Its handshake is not done.
    Unproven(Source),
    /// It has no certificate.
    Anonymous(Source),
    /// It has this node's certificate.
    Member(NodeId),
}

/// What becomes of a connection that asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has one.
    Admit,
    /// It takes that of another, which has to end.
    Replace(ConnectionId),
    /// There is none for it.
    Refuse,
}

/// The connections that have a place.
#[derive(Debug)]
pub(super) struct Admission {
    unproven: Places<Source>,
    anonymous: Places<Source>,
    members: Places<NodeId>,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            // Of those that prove nothing, the newest is the likeliest to be honest: who is, does not stay for long.
            unproven: Places::new(limits.unproven, 1),
            anonymous: Places::new(limits.anonymous, 1),
            // The only connection of a node is its session, which nobody else's replaces.
            members: Places::new(limits.members, 2),
        }
    }

    /// Gives a connection a place, if it can; a connection that is replaced has lost its own.
    pub(super) fn enter(&mut self, id: ConnectionId, class: Class) -> Verdict {
        match class {
            Class::Unproven(source) => self.unproven.enter(id, source),
            Class::Anonymous(source) => self.anonymous.enter(id, source),
            Class::Member(node) => self.members.enter(id, node),
        }
    }

    /// Takes back the place of a connection, if it still has one.
    pub(super) fn leave(&mut self, id: ConnectionId, class: Class) {
        match class {
            Class::Unproven(source) => self.unproven.leave(id, source),
            Class::Anonymous(source) => self.anonymous.leave(id, source),
            Class::Member(node) => self.members.leave(id, node),
        }
    }
}

/// The places of one class, by source.
#[derive(Debug)]
struct Places<K> {
    bounds: Bounds,
    /// Connections from which on a source has to give one up for another source's.
    yields_from: usize,
    held: BTreeMap<K, BTreeSet<ConnectionId>>,
    /// Every source with its number of connections and its oldest: last is the one that gives one up first.
    ranks: BTreeSet<(usize, Reverse<ConnectionId>, K)>,
    total: usize,
}

impl<K: Ord + Copy> Places<K> {
    fn new(bounds: Bounds, yields_from: usize) -> Self {
        Self { bounds, yields_from, held: BTreeMap::new(), ranks: BTreeSet::new(), total: 0 }
    }

    /// A source that has all its places replaces its own oldest connection; when all places are taken, the source with the
    /// most connections gives up its oldest.
    fn enter(&mut self, id: ConnectionId, source: K) -> Verdict {
        let own = self.held.get(&source).filter(|own| own.len() >= self.bounds.each);
        let victim = if let Some(own) = own {
            own.first().map(|oldest| (source, *oldest))
        } else if self.total >= self.bounds.total {
            match self.ranks.last() {
                Some((held, Reverse(oldest), source)) if *held >= self.yields_from => Some((*source, *oldest)),
                Some(_) | None => return Verdict::Refuse,
            }
        } else {
            None
        };
        if let Some((source, oldest)) = victim {
            self.leave(oldest, source);
        }
        self.change(source, |own| own.insert(id));
        self.total += 1;
        victim.map_or(Verdict::Admit, |(_, oldest)| Verdict::Replace(oldest))
    }

    fn leave(&mut self, id: ConnectionId, source: K) {
        if self.change(source, |own| own.remove(&id)) {
            self.total -= 1;
        }
    }

    /// Changes the connections of a source, and its rank with them.
    fn change(&mut self, source: K, change: impl FnOnce(&mut BTreeSet<ConnectionId>) -> bool) -> bool {
        let own = self.held.entry(source).or_default();
        let rank = |own: &BTreeSet<ConnectionId>| own.first().map(|oldest| (own.len(), Reverse(*oldest), source));
        let before = rank(own);
        let changed = change(own);
        let after = rank(own);
        if let Some(before) = before {
            self.ranks.remove(&before);
        }
        match after {
            Some(after) => drop(self.ranks.insert(after)),
            None => drop(self.held.remove(&source)),
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Admit, Refuse, Replace};
    use super::*;
    use events::Id;

    /// Six places for handshakes, three of each address; four for callers without certificate, two of each address; four
    /// for members, two of each.
    fn admission() -> Admission {
        let bounds = |total, each| Bounds { total, each };
        Admission::new(Limits { unproven: bounds(6, 3), anonymous: bounds(4, 2), members: bounds(4, 2), operators: 1 })
    }

    fn source(host: u8) -> Source {
        Source::of([10, 0, 0, host].into())
    }

    fn unproven(host: u8) -> Class {
        Class::Unproven(source(host))
    }

    fn anonymous(host: u8) -> Class {
        Class::Anonymous(source(host))
    }

    fn member(node: u128) -> Class {
        Class::Member(NodeId::from_bits(node))
    }

    #[test]
    fn who_comes_is_admitted_refused_or_replaces_another() {
        /// The class of each connection that comes, numbered from 1, and what becomes of it.
        type Case<'a> = (&'a str, &'a [(Class, Verdict)]);
        let cases: [Case<'_>; 8] = [
            (
                "an address has its places, and then its newest replaces its oldest",
                &[
                    (unproven(1), Admit),
                    (unproven(1), Admit),
                    (unproven(1), Admit),
                    (unproven(1), Replace(1)),
                    (unproven(1), Replace(2)),
                ],
            ),
            (
                "a crowd at one address does not touch another's",
                &[
                    (unproven(1), Admit),
                    (unproven(1), Admit),
                    (unproven(2), Admit),
                    (unproven(1), Admit),
                    (unproven(1), Replace(1)),
                    (unproven(2), Admit),
                ],
            ),
            (
                "where all places are taken, the address with the most gives one up",
                &[
                    (unproven(1), Admit),
                    (unproven(2), Admit),
                    (unproven(2), Admit),
                    (unproven(3), Admit),
                    (unproven(2), Admit),
                    (unproven(3), Admit),
                    (unproven(4), Replace(2)),
                    // Now the second and the third have two each; the second's are older.
                    (unproven(5), Replace(3)),
                    (unproven(6), Replace(4)),
                ],
            ),
            (
                "of many addresses with one each, the oldest yields: it has proven nothing for longest",
                &[
                    (anonymous(1), Admit),
                    (anonymous(2), Admit),
                    (anonymous(3), Admit),
                    (anonymous(4), Admit),
                    (anonymous(5), Replace(1)),
                ],
            ),
            (
                "the only connection of a member is not taken from it",
                &[(member(1), Admit), (member(2), Admit), (member(3), Admit), (member(4), Admit), (member(5), Refuse)],
            ),
            (
                "a member's second connection is, when another has none",
                &[
                    (member(1), Admit),
                    (member(2), Admit),
                    (member(2), Admit),
                    (member(4), Admit),
                    (member(5), Replace(2)),
                    (member(6), Refuse),
                ],
            ),
            (
                "a member's newest connection replaces its oldest",
                &[(member(1), Admit), (member(1), Admit), (member(1), Replace(1))],
            ),
            (
                "no class takes the places of another",
                &[
                    (unproven(1), Admit),
                    (unproven(1), Admit),
                    (unproven(1), Admit),
                    (anonymous(1), Admit),
                    (anonymous(1), Admit),
                    (member(1), Admit),
                    (anonymous(1), Replace(4)),
                ],
            ),
        ];
        for (what, arrivals) in cases {
            let mut admission = admission();
            for (id, (class, expected)) in (1..).zip(arrivals) {
                assert_eq!(admission.enter(id, *class), *expected, "{what}: connection {id}");
            }
        }
    }

    #[test]
    fn a_place_that_is_left_is_free() {
        let mut admission = admission();
        for id in 1..=3 {
            assert_eq!(admission.enter(id, unproven(1)), Admit);
        }
        admission.leave(1, unproven(1));
        // Twice is once: who is replaced has left already.
        admission.leave(1, unproven(1));
        assert_eq!(admission.enter(4, unproven(1)), Admit);
        assert_eq!(admission.enter(5, unproven(1)), Replace(2));
        for id in 1..=5 {
            admission.leave(id, unproven(1));
        }
        assert_eq!(admission.unproven.total, 0);
        assert!(admission.unproven.held.is_empty() && admission.unproven.ranks.is_empty());
    }

    #[test]
    fn addresses_that_one_machine_commands_are_one_source() {
        let of = |address: &str| Source::of(address.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn limits_leave_the_log_its_descriptors() {
        for descriptors in [1, 64, 1_024, 4_096, 20_000, 1_048_576] {
            let limits = Limits::of_descriptors(descriptors);
            let nodes = limits.unproven.total + limits.anonymous.total + limits.members.total;
            let left = descriptors.saturating_sub(nodes);
            assert!(descriptors < 64 || left >= RESERVE.min(descriptors / 2), "{descriptors}: {limits:?}");
            assert!(limits.unproven.each <= limits.unproven.total && limits.members.total > 0, "{limits:?}");
            assert!(limits.operators > 0, "{limits:?}");
        }
        let usual = Limits::of_descriptors(1_048_576);
        assert_eq!(usual.unproven, Bounds { total: 4_096, each: 512 });
        assert_eq!(usual.anonymous, Bounds { total: 1_024, each: 128 });
        assert_eq!(usual.members, Bounds { total: 1_041_408, each: 8 });
    }
}
