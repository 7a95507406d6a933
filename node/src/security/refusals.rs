//! Calls that this manager refused for lack of a certificate or role, counted by caller and call. Memory is bounded, however
//! many there are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use commands::{Actor, CALLERS_MAX};
use events::{AccessRefused, ActorRecord, Named, NodeId, RefusedCalls, Timestamp};
use tokio::sync::Notify;

use super::admission::Source;

/// Maximum callers without a certificate that are listed, so that a client with many addresses leaves room for authenticated
/// callers.
const ANONYMOUS_MAX: usize = CALLERS_MAX / 2;

/// Refused calls that are not recorded in an event yet.
#[derive(Debug, Default)]
pub struct Refusals {
    counted: Mutex<Counted>,
    some: Notify,
}

#[derive(Debug, Default)]
struct Counted {
    refused: BTreeMap<Caller, RefusedCalls>,
    others: u64,
}

/// The key under which calls are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Caller {
    has_certificate: bool,
    kind: i32,
    subject: String,
    role: Option<String>,
    call: String,
}

impl Refusals {
    /// Counts a refused command or RPC of a caller; `has_role` is false if its role no longer exists.
    pub fn note(&self, actor: &Actor, has_role: bool, call: &str, now: Timestamp) {
        let role = match actor {
            Actor::CertifiedOperator { role, .. } => Some(role.name()),
            Actor::Node { role, .. } => Some(role.name()),
            Actor::Operator(_) | Actor::Joiner(_) | Actor::Manager(_) => None,
        };
        let ActorRecord { kind, subject, .. } = actor.record(None);
        let subject = match actor {
            Actor::Joiner(address) => source(address),
            Actor::Operator(_) | Actor::CertifiedOperator { .. } | Actor::Node { .. } | Actor::Manager(_) => subject,
        };
        let actor = ActorRecord { kind, subject, via: None };
        let (role, call) = (role.filter(|_| has_role), call.to_owned());
        self.counted().add(RefusedCalls { actor, role, call, count: 1, first: now, last: now });
        self.some.notify_one();
    }

    /// Returns once there may be some.
    pub async fn some(&self) {
        self.some.notified().await;
    }

    /// Takes all of them.
    pub fn take(&self, manager: NodeId) -> Option<AccessRefused> {
        let Counted { refused, others } = std::mem::take(&mut *self.counted());
        let is_some = !refused.is_empty() || others > 0;
        let others = Some(others).filter(|others| *others > 0);
        is_some.then(|| AccessRefused { manager, refused: refused.into_values().collect(), others })
    }

    /// Puts back calls that could not be recorded.
    pub fn put_back(&self, taken: AccessRefused) {
        let mut counted = self.counted();
        counted.others = counted.others.saturating_add(taken.others());
        taken.refused.into_iter().for_each(|calls| counted.add(calls));
        self.some.notify_one();
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        // No code panics while it holds the lock, so a poisoned one still guards valid data.
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn add(&mut self, calls: RefusedCalls) {
        let has_certificate = calls.actor.kind() != events::ActorKind::Joiner;
        let RefusedCalls { actor, role, call, count, first, last } = &calls;
        let (subject, role, call) = (actor.subject.clone(), role.clone(), call.clone());
        let caller = Caller { has_certificate, kind: actor.kind, subject, role, call };
        if let Some(known) = self.refused.get_mut(&caller) {
            known.count = known.count.saturating_add(*count);
            (known.first, known.last) = (known.first.min(*first), known.last.max(*last));
            return;
        }
        let anonymous = self.refused.keys().filter(|known| !known.has_certificate).count();
        let is_full = self.refused.len() >= CALLERS_MAX || (!has_certificate && anonymous >= ANONYMOUS_MAX);
        if is_full {
            self.others = self.others.saturating_add(*count);
        } else {
            self.refused.insert(caller, calls);
        }
    }
}

/// The source of callers without a certificate: for IPv6 the network, since one machine controls all of its addresses.
fn source(address: &str) -> String {
    match address.parse().map(|address| Source::of(address).0) {
        Ok(IpAddr::V6(network)) => format!("{network}/64"),
        Ok(IpAddr::V4(address)) => address.to_string(),
        // A local user that tries to join.
        Err(_) => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use events::{Id, OperatorRole, Role};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_ns(seconds * 1_000_000_000)
    }

    fn operator(name: &str) -> Actor {
        Actor::CertifiedOperator { name: name.to_owned(), role: OperatorRole::Viewer }
    }

    fn rows(summary: &AccessRefused) -> Vec<String> {
        let calls = |calls: &RefusedCalls| {
            let role = calls.role.as_deref().unwrap_or("-");
            let (first, last) = (calls.first.unix_ns() / 1_000_000_000, calls.last.unix_ns() / 1_000_000_000);
            format!("{} {role} {} {} {first}-{last}", calls.actor.subject, calls.call, calls.count)
        };
        summary.refused.iter().map(calls).collect()
    }

    #[test]
    fn calls_are_counted_by_caller_role_and_call() {
        let (refusals, node) = (Refusals::default(), NodeId::from_bits(1));
        assert_eq!(refusals.take(node), None);
        for second in 1..=1_000 {
            refusals.note(&operator("eve"), true, "service.remove", at(second));
        }
        refusals.note(&operator("eve"), true, "Control/Backup", at(7));
        refusals.note(&operator("eve"), false, "Control/Backup", at(8));
        refusals.note(&Actor::Node { id: NodeId::from_bits(2), role: Role::Worker }, true, "Control/Backup", at(8));
        for address in ["2001:db8::1", "2001:db8::2", "::ffff:10.0.0.9", "10.0.0.9"] {
            refusals.note(&Actor::Joiner(address.to_owned()), true, "Certificates/Join", at(9));
        }
        let taken = refusals.take(node).expect("some");
        let expected = [
            "10.0.0.9 - Certificates/Join 2 9-9",
            "2001:db8::/64 - Certificates/Join 2 9-9",
            "0000000000000000000000002 worker Control/Backup 1 8-8",
            "eve - Control/Backup 1 8-8",
            "eve viewer Control/Backup 1 7-7",
            "eve viewer service.remove 1000 1-1000",
        ];
        assert_eq!((rows(&taken), taken.others), (expected.map(str::to_owned).to_vec(), None));
        assert_eq!(refusals.take(node), None, "nothing is taken twice");
        refusals.note(&operator("eve"), true, "service.remove", at(2_000));
        refusals.put_back(taken.clone());
        let again = refusals.take(node).expect("some");
        assert_eq!(rows(&again).last().map(String::as_str), Some("eve viewer service.remove 1001 1-2000"));
        assert_eq!(again.refused.len(), taken.refused.len());
    }

    #[test]
    fn a_flood_from_many_addresses_hides_nobody_with_a_certificate() {
        let (refusals, node) = (Refusals::default(), NodeId::from_bits(1));
        for number in 0..10_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(number).to_string();
            refusals.note(&Actor::Joiner(address), true, "Control/Backup", at(1));
        }
        for number in 0..20 {
            refusals.note(&operator(&format!("eve-{number}")), true, "service.remove", at(2));
        }
        let taken = refusals.take(node).expect("some");
        let eves = taken.refused.iter().filter(|calls| calls.actor.subject.starts_with("eve")).count();
        assert_eq!((taken.refused.len(), eves), (CALLERS_MAX, CALLERS_MAX - ANONYMOUS_MAX));
        assert_eq!(taken.others(), 10_000 + 20 - CALLERS_MAX as u64);
    }
}
