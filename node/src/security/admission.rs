//! Decides which connections a manager keeps, which it refuses, and which it closes to make room: pure accounting without
//! sockets or clocks.
//!
//! A connection is *silent* until its ClientHello has arrived, and then *handshaking* until its handshake is complete. After that
//! it belongs to a *member*, identified by its certificate, or it is *anonymous*. Each class has its own places, so that a
//! flood in one class does not take those of another; and within a class each source (an address, or a node for members) has
//! its own limit. Many members may share one address: only unauthenticated connections are counted by address, separately for
//! those that introduced themselves with a join token. A handshake of a node that introduced itself is counted for that node,
//! so that no other client behind the same address delays it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use events::NodeId;

use crate::metrics::ConnectionClass;

/// Identifies a connection; ids are ascending.
pub(super) type ConnectionId = u64;

/// The limits of one class of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Maximum connections of the class.
    pub(super) total: usize,
    /// Maximum connections of one source.
    pub(super) each: usize,
}

/// The limits of a manager's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub(super) silent: Bounds,
    pub(super) handshaking: Bounds,
    pub(super) anonymous: Bounds,
    pub(super) members: Bounds,
    /// Maximum connections of operators to the control socket.
    pub(super) operators: usize,
}

/// File descriptors that connections of nodes never use: the log keeps up to 128 tables open in addition to its journals, and
/// an operator at the control socket, the engine's connections and each task's pipes need some too. One sixteenth of all
/// descriptors, within these limits.
const RESERVE_MIN: usize = 512;
const RESERVE_MAX: usize = 2_048;
/// Connections that have sent nothing yet: an honest client's data has arrived when it is accepted, or shortly after.
const SILENT_MAX: usize = 1_024;
/// Silent connections of one address.
const SILENT_EACH_MAX: usize = 256;
/// Handshakes in progress: each uses up to about 20 KiB, so all together at most 80 MiB.
const HANDSHAKING_MAX: usize = 4_096;
/// Handshakes in progress of one address: enough for ten thousand honest ones per second, each complete within 50 ms.
const HANDSHAKING_EACH_MAX: usize = 512;
/// Connections without a certificate. Each is open for a single call, which takes some milliseconds.
const ANONYMOUS_MAX: usize = 1_024;
/// Connections without a certificate of one address: the number of nodes behind one gateway that can join at a time.
const ANONYMOUS_EACH_MAX: usize = 128;
/// Minimum places of connections without a certificate, which otherwise get an eighth, or for handshakes a quarter, of all: a
/// share that is only sufficient if there are many.
const ANONYMOUS_MIN: usize = 256;
const HANDSHAKING_MIN: usize = 1_024;
/// Connections of one node: one for its session, one for a renewal, and as many again that are broken and not timed out yet.
const MEMBER_EACH_MAX: usize = 8;

impl Limits {
    /// The limits of a process with this maximum of open file descriptors.
    pub fn of_descriptors(descriptors: usize) -> Self {
        let reserve = (descriptors / 16).clamp(RESERVE_MIN, RESERVE_MAX).min(descriptors / 2);
        let free = descriptors - reserve;
        let bounds = |total: usize, each_max: usize| Bounds { total, each: (total / 4).clamp(1, each_max) };
        let unproven = (free / 64).max(ANONYMOUS_MIN.min(free / 8)).max(1);
        let silent = bounds(unproven.min(SILENT_MAX), SILENT_EACH_MAX);
        let anonymous = bounds(unproven.min(ANONYMOUS_MAX), ANONYMOUS_EACH_MAX);
        let handshaking = (free / 16).max(HANDSHAKING_MIN.min(free / 4)).clamp(1, HANDSHAKING_MAX);
        let handshaking = bounds(handshaking, HANDSHAKING_EACH_MAX);
        let members = free.saturating_sub(silent.total + handshaking.total + anonymous.total).max(1);
        let members = Bounds { total: members, each: MEMBER_EACH_MAX };
        Self { silent, handshaking, anonymous, members, operators: (reserve / 2).max(1) }
    }

    /// Maximum open connections of members.
    pub fn members_max(&self) -> usize {
        self.members.total
    }
}

/// The source of a connection, by which unauthenticated clients are distinguished: an IPv4 address, or the network of an IPv6
/// address, since one machine controls 2^64 of those.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source(pub(super) IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        })
    }
}

/// The presumed client of a connection before it is authenticated: by its introduction, or by its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Applicant {
    /// Claims to be this node, which an eavesdropper could claim too.
    Node(NodeId),
    /// Knows a join token, or replays the introduction of a client that does.
    Joiner(Source),
    /// Any other client at this source.
    Unauthenticated(Source),
}

/// What is known of the client of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It has sent nothing yet.
    Silent(Source),
    /// Its handshake is in progress.
    Handshaking(Applicant),
    /// It has no certificate.
    Anonymous(Applicant),
    /// It has this node's certificate.
    Member(NodeId),
}

impl Class {
    /// The class without its source.
    pub(super) fn counted_as(self) -> ConnectionClass {
        match self {
            Self::Silent(_) => ConnectionClass::Silent,
            Self::Handshaking(_) => ConnectionClass::Handshake,
            Self::Anonymous(_) => ConnectionClass::Anonymous,
            Self::Member(_) => ConnectionClass::Member,
        }
    }
}

/// The decision on a connection that requests a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It gets one.
    Admit,
    /// It replaces another connection, which must be closed.
    Replace(ConnectionId),
    /// No place is available.
    Refuse,
}

/// The connections that have a place.
#[derive(Debug)]
pub(super) struct Admission {
    silent: Places<Source>,
    handshaking: Places<Applicant>,
    anonymous: Places<Applicant>,
    members: Places<NodeId>,
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            // Among silent connections, the newest is the most likely to be honest: an honest one does not stay silent for
            // long.
            silent: Places::new(limits.silent, 1, OverLimit::ReplaceOldest),
            // If handshakes replaced each other, none of many clients behind one address would ever complete.
            handshaking: Places::new(limits.handshaking, 1, OverLimit::RefuseNewest),
            anonymous: Places::new(limits.anonymous, 1, OverLimit::ReplaceOldest),
            // The only connection of a node is its session, which another node's connection never replaces.
            members: Places::new(limits.members, 2, OverLimit::ReplaceOldest),
        }
    }

    /// Takes a place for a connection, if possible; a connection that is replaced has lost its own.
    pub(super) fn enter(&mut self, id: ConnectionId, class: Class) -> Verdict {
        match class {
            Class::Silent(source) => self.silent.enter(id, source),
            Class::Handshaking(applicant) => self.handshaking.enter(id, applicant),
            Class::Anonymous(applicant) => self.anonymous.enter(id, applicant),
            Class::Member(node) => self.members.enter(id, node),
        }
    }

    /// Releases the place of a connection, if it still has one.
    pub(super) fn leave(&mut self, id: ConnectionId, class: Class) {
        match class {
            Class::Silent(source) => self.silent.leave(id, source),
            Class::Handshaking(applicant) => self.handshaking.leave(id, applicant),
            Class::Anonymous(applicant) => self.anonymous.leave(id, applicant),
            Class::Member(node) => self.members.leave(id, node),
        }
    }
}

/// What happens when a source exceeds its own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OverLimit {
    /// The newest connection replaces the oldest.
    ReplaceOldest,
    /// The existing connections stay, and the newest is refused.
    RefuseNewest,
}

/// The places of one class, by source.
#[derive(Debug)]
struct Places<K> {
    bounds: Bounds,
    /// From this number of connections, a source has to yield one to another source.
    yields_from: usize,
    over_limit: OverLimit,
    held: BTreeMap<K, BTreeSet<ConnectionId>>,
    /// Every source with its number of connections and its oldest one; the last source yields first.
    ranks: BTreeSet<(usize, Reverse<ConnectionId>, K)>,
    total: usize,
}

impl<K: Ord + Copy> Places<K> {
    fn new(bounds: Bounds, yields_from: usize, over_limit: OverLimit) -> Self {
        Self { bounds, yields_from, over_limit, held: BTreeMap::new(), ranks: BTreeSet::new(), total: 0 }
    }

    /// A source at its limit replaces its own oldest connection, or is refused; when all places are taken, the source with the
    /// most connections yields its oldest.
    fn enter(&mut self, id: ConnectionId, source: K) -> Verdict {
        let own = self.held.get(&source);
        let (held, oldest) = own.map_or((0, None), |own| (own.len(), own.first().copied()));
        let victim = if held >= self.bounds.each {
            if self.over_limit == OverLimit::RefuseNewest {
                return Verdict::Refuse;
            }
            oldest.map(|oldest| (source, oldest))
        } else if self.total >= self.bounds.total {
            match self.ranks.last() {
                Some((most, Reverse(oldest), source)) if *most >= self.yields_to(held) => Some((*source, *oldest)),
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

    /// From this number of connections, a source has to yield one to another that holds `held`.
    fn yields_to(&self, held: usize) -> usize {
        match self.over_limit {
            // Otherwise two sources could replace each other's connections forever, and complete none.
            OverLimit::RefuseNewest if held > 0 => self.yields_from.max(held + 2),
            OverLimit::RefuseNewest | OverLimit::ReplaceOldest => self.yields_from,
        }
    }

    fn leave(&mut self, id: ConnectionId, source: K) {
        if self.change(source, |own| own.remove(&id)) {
            self.total -= 1;
        }
    }

    /// Changes the connections of a source, and its rank accordingly.
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

    /// Six places for silent connections and as many for handshakes, three for each address; four for clients without a
    /// certificate, two for each address; four for members, two for each.
    fn admission() -> Admission {
        let bounds = |total, each| Bounds { total, each };
        Admission::new(Limits {
            silent: bounds(6, 3),
            handshaking: bounds(6, 3),
            anonymous: bounds(4, 2),
            members: bounds(4, 2),
            operators: 1,
        })
    }

    fn source(host: u8) -> Source {
        Source::of([10, 0, 0, host].into())
    }

    fn silent(host: u8) -> Class {
        Class::Silent(source(host))
    }

    fn handshaking(host: u8) -> Class {
        Class::Handshaking(Applicant::Unauthenticated(source(host)))
    }

    fn anonymous(host: u8) -> Class {
        Class::Anonymous(Applicant::Unauthenticated(source(host)))
    }

    fn member(node: u128) -> Class {
        Class::Member(NodeId::from_bits(node))
    }

    /// The name of the case, and the class of each arriving connection, numbered from 1, with its verdict.
    type Case<'a> = (&'a str, &'a [(Class, Verdict)]);

    fn judge(cases: &[Case<'_>]) {
        for (what, arrivals) in cases {
            let mut admission = admission();
            for (id, (class, expected)) in (1..).zip(*arrivals) {
                assert_eq!(admission.enter(id, *class), *expected, "{what}: connection {id}");
            }
        }
    }

    #[test]
    fn who_has_proven_nothing_takes_the_place_of_its_like() {
        judge(&[
            (
                "an address has its places, and then its newest replaces its oldest",
                &[
                    (silent(1), Admit),
                    (silent(1), Admit),
                    (silent(1), Admit),
                    (silent(1), Replace(1)),
                    (silent(1), Replace(2)),
                ],
            ),
            (
                "a crowd at one address does not touch another's",
                &[
                    (silent(1), Admit),
                    (silent(1), Admit),
                    (silent(2), Admit),
                    (silent(1), Admit),
                    (silent(1), Replace(1)),
                    (silent(2), Admit),
                ],
            ),
            (
                "where all places are taken, the address with the most gives one up",
                &[
                    (silent(1), Admit),
                    (silent(2), Admit),
                    (silent(2), Admit),
                    (silent(3), Admit),
                    (silent(2), Admit),
                    (silent(3), Admit),
                    (silent(4), Replace(2)),
                    // Now the second and the third have two each; the second's are older.
                    (silent(5), Replace(3)),
                    (silent(6), Replace(4)),
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
        ]);
    }

    #[test]
    fn who_has_begun_a_handshake_may_end_it() {
        judge(&[
            (
                "an address has its places, and then its newest is refused",
                &[
                    (handshaking(1), Admit),
                    (handshaking(1), Admit),
                    (handshaking(1), Admit),
                    (handshaking(1), Refuse),
                    (handshaking(2), Admit),
                ],
            ),
            (
                "where all places are taken, an address gives one up only to one that has fewer",
                &[
                    (handshaking(1), Admit),
                    (handshaking(1), Admit),
                    (handshaking(1), Admit),
                    (handshaking(2), Admit),
                    (handshaking(2), Admit),
                    (handshaking(3), Admit),
                    (handshaking(2), Refuse),
                    (handshaking(3), Replace(1)),
                    // Now each has two.
                    (handshaking(3), Refuse),
                    (handshaking(1), Refuse),
                    (handshaking(4), Replace(2)),
                ],
            ),
            (
                "whoever introduced itself has places of its own, wherever it comes from",
                &[
                    (handshaking(1), Admit),
                    (handshaking(1), Admit),
                    (handshaking(1), Admit),
                    (handshaking(1), Refuse),
                    (Class::Handshaking(Applicant::Joiner(source(1))), Admit),
                    (Class::Handshaking(Applicant::Node(NodeId::from_bits(1))), Admit),
                    (handshaking(2), Admit),
                    (Class::Handshaking(Applicant::Node(NodeId::from_bits(2))), Replace(1)),
                    (anonymous(1), Admit),
                    (anonymous(1), Admit),
                    (Class::Anonymous(Applicant::Joiner(source(1))), Admit),
                    (anonymous(1), Replace(9)),
                ],
            ),
        ]);
    }

    #[test]
    fn a_member_keeps_one_connection_and_a_class_its_places() {
        judge(&[
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
                    (silent(1), Admit),
                    (silent(1), Admit),
                    (silent(1), Admit),
                    (anonymous(1), Admit),
                    (anonymous(1), Admit),
                    (member(1), Admit),
                    (anonymous(1), Replace(4)),
                ],
            ),
        ]);
    }

    #[test]
    fn a_place_that_is_left_is_free() {
        let mut admission = admission();
        for id in 1..=3 {
            assert_eq!(admission.enter(id, silent(1)), Admit);
        }
        admission.leave(1, silent(1));
        // Releasing twice is harmless: a replaced connection has already been released.
        admission.leave(1, silent(1));
        assert_eq!(admission.enter(4, silent(1)), Admit);
        assert_eq!(admission.enter(5, silent(1)), Replace(2));
        for id in 1..=5 {
            admission.leave(id, silent(1));
        }
        assert_eq!(admission.silent.total, 0);
        assert!(admission.silent.held.is_empty() && admission.silent.ranks.is_empty());
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
            let nodes = limits.silent.total + limits.handshaking.total + limits.anonymous.total + limits.members.total;
            let left = descriptors.saturating_sub(nodes);
            assert!(descriptors < 64 || left >= RESERVE_MIN.min(descriptors / 2), "{descriptors}: {limits:?}");
            assert!(limits.handshaking.each <= limits.handshaking.total && limits.members.total > 0, "{limits:?}");
            assert!(limits.operators > 0, "{limits:?}");
        }
        let few = Limits::of_descriptors(1_024);
        assert_eq!(
            (few.silent.total, few.handshaking.total, few.anonymous.total, few.members.total),
            (64, 128, 64, 256)
        );
        // If descriptors are scarce, members get most of them.
        assert!(Limits::of_descriptors(20_000).members.total > 17_000 - 8);
        let usual = Limits::of_descriptors(1_048_576);
        assert_eq!(usual.silent, Bounds { total: 1_024, each: 256 });
        assert_eq!(usual.handshaking, Bounds { total: 4_096, each: 512 });
        assert_eq!(usual.anonymous, Bounds { total: 1_024, each: 128 });
        assert_eq!(usual.members, Bounds { total: 1_040_384, each: 8 });
    }
}
