//! Quarantined services: those on which the reconcilers did not converge. That is a bug in the reconcilers, and must not stop
//! this manager and then the next; the service is left unchanged, and is retried with increasing delays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use events::{ServiceId, Timestamp};
use projections::Touched;
use reconcilers::{Settled, TimerKey};

/// How long a service is quarantined the first time; doubled each further time.
const FIRST: Duration = Duration::from_secs(60);
/// The maximum.
const LONGEST: Duration = Duration::from_secs(3_600);

/// Consecutive cut turns in which the reconcilers repeated a correction: after these, size is not the cause.
const UNSETTLED_TURNS_MAX: u32 = 8;

/// The quarantined services.
#[derive(Debug, Clone, Default)]
pub(super) struct Quarantine {
    services: BTreeMap<ServiceId, Entry>,
    /// A copy for readers: rebuilt only when it changes.
    shown: Arc<BTreeMap<ServiceId, Timestamp>>,
    /// For each service, the number of consecutive turns without convergence.
    unsettled: BTreeMap<ServiceId, u32>,
    /// For each key, the number of consecutive cut turns with the same correction.
    corrected: BTreeMap<TimerKey, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    until: Timestamp,
    length: Duration,
}

impl Quarantine {
    /// Those that must not be reconciled now.
    pub(super) fn at(&self, now: Timestamp) -> BTreeSet<ServiceId> {
        self.services.iter().filter(|(_, quarantine)| now < quarantine.until).map(|(service, _)| *service).collect()
    }

    /// The quarantined services, and the time at which each is retried.
    pub(super) fn shown(&self) -> Arc<BTreeMap<ServiceId, Timestamp>> {
        Arc::clone(&self.shown)
    }

    /// Quarantines the services on which one turn, or several in a row, did not converge, except those that commands concern
    /// (`asked`); a service that converged when it was retried is released. Every quarantined service has a timer, whatever
    /// became of its other timers in this turn.
    pub(super) fn note(&mut self, settled: &mut Settled, asked: &Touched, now: Timestamp) {
        self.count_restless(settled);
        self.count_corrected(settled, asked);
        for service in &settled.disputed {
            let length = self.services.get(service).map_or(FIRST, |before| (before.length * 2).min(LONGEST));
            let until = now + length;
            self.services.insert(*service, Entry { until, length });
        }
        let left = &settled.left;
        self.services.retain(|service, quarantine| {
            let unreached = left.everything
                || left.services.contains(service)
                || left.sweeps.iter().any(|(unseen, _)| unseen == service)
                || self.unsettled.contains_key(service);
            now < quarantine.until || unreached || !settled.touched.services.contains(service)
        });
        let ahead = self.services.iter().filter(|(_, quarantine)| now < quarantine.until);
        settled.wakes.extend(ahead.map(|(service, quarantine)| (TimerKey::Service(*service), Some(quarantine.until))));
        if self.shown.len() != self.services.len() || !settled.disputed.is_empty() {
            self.shown =
                Arc::new(self.services.iter().map(|(service, quarantine)| (*service, quarantine.until)).collect());
        }
    }

    fn count_restless(&mut self, settled: &mut Settled) {
        let before = std::mem::take(&mut self.unsettled);
        for service in std::mem::take(&mut settled.unsettled) {
            let turns = before.get(&service).map_or(1, |turns| turns + 1);
            if turns < UNSETTLED_TURNS_MAX {
                self.unsettled.insert(service, turns);
            } else {
                settled.disputed.insert(service);
            }
        }
    }

    fn count_corrected(&mut self, settled: &mut Settled, asked: &Touched) {
        let before = std::mem::take(&mut self.corrected);
        for subject in std::mem::take(&mut settled.corrected) {
            let (service, is_asked) = match subject {
                TimerKey::Node(_) | TimerKey::Scaling(_) => continue,
                TimerKey::Service(id) | TimerKey::Rollout(id) | TimerKey::Balance(id) => {
                    (id, asked.services.contains(&id))
                }
                TimerKey::Place(id, instance) => (id, asked.places.contains(&(id, instance))),
            };
            let turns = before.get(&subject).filter(|_| !is_asked).map_or(1, |turns| turns + 1);
            if turns < UNSETTLED_TURNS_MAX {
                self.corrected.insert(subject, turns);
            } else {
                settled.disputed.insert(service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Id;
    use projections::Instance;

    fn service() -> ServiceId {
        ServiceId::from_bits(1)
    }

    fn second(second: u64) -> Timestamp {
        Timestamp::from_unix_ns(0) + Duration::from_secs(second)
    }

    fn settled(disputed: bool) -> Settled {
        let touched = Touched { services: [service()].into(), ..Touched::default() };
        Settled { touched, disputed: disputed.then(service).into_iter().collect(), ..Settled::default() }
    }

    #[test]
    fn a_service_is_tried_again_ever_more_rarely_until_it_comes_to_rest() {
        let (mut quarantine, mut now) = (Quarantine::default(), 0);
        for length in [60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            let mut turn = settled(true);
            quarantine.note(&mut turn, &Touched::default(), second(now));
            assert_eq!(turn.wakes, [(TimerKey::Service(service()), Some(second(now + length)))].into());
            assert_eq!(quarantine.at(second(now + length - 1)), [service()].into());
            assert_eq!(*quarantine.shown(), [(service(), second(now + length))].into());
            now += length;
            assert_eq!(quarantine.at(second(now)), [].into(), "it is tried again");
        }
        quarantine.note(&mut settled(false), &Touched::default(), second(now));
        assert!(quarantine.services.is_empty() && quarantine.shown().is_empty());
        quarantine.note(&mut settled(true), &Touched::default(), second(now));
        assert_eq!(quarantine.at(second(now + 59)), [service()].into());
        assert_eq!(quarantine.at(second(now + 60)), [].into(), "which counts from the beginning again");
    }

    #[test]
    fn a_timer_that_a_turn_forgot_is_set_again() {
        let mut quarantine = Quarantine::default();
        quarantine.note(&mut settled(true), &Touched::default(), second(0));
        let mut turn = Settled { wakes: [(TimerKey::Service(service()), None)].into(), ..Settled::default() };
        quarantine.note(&mut turn, &Touched::default(), second(1));
        assert_eq!(turn.wakes, [(TimerKey::Service(service()), Some(second(60)))].into());
    }

    #[test]
    fn a_service_that_does_not_settle_in_many_turns_in_a_row_is_quarantined() {
        let unsettled = || Settled { unsettled: [service()].into(), ..Settled::default() };
        let mut quarantine = Quarantine::default();
        for second in [0, 50].map(second) {
            for _ in 1..UNSETTLED_TURNS_MAX {
                quarantine.note(&mut unsettled(), &Touched::default(), second);
                assert!(quarantine.services.is_empty(), "it may still come to rest");
            }
            quarantine.note(&mut Settled::default(), &Touched::default(), second);
        }
        for _ in 0..UNSETTLED_TURNS_MAX {
            quarantine.note(&mut unsettled(), &Touched::default(), second(100));
        }
        assert_eq!(quarantine.at(second(100)), [service()].into());
    }

    #[test]
    fn a_service_corrected_at_the_same_place_in_many_cut_turns_in_a_row_is_quarantined() {
        let place = |number| TimerKey::Place(service(), Instance::Slot(number));
        let asked = || Touched { places: [(service(), Instance::Slot(7))].into(), ..Touched::default() };
        // What each turn corrects, what commands concern, and whether that counts as a dispute.
        type Case = (&'static str, fn(u64) -> u64, Touched, bool);
        let table: [Case; 4] = [
            ("the same place", |_| 7, Touched::default(), true),
            ("other places", |turn| turn, Touched::default(), false),
            ("the same place, each time because somebody asked", |_| 7, asked(), false),
            ("not in a row", |turn| if turn % 3 == 0 { turn } else { 7 }, Touched::default(), false),
        ];
        for (case, slot, asked, expected) in table {
            let mut quarantine = Quarantine::default();
            for turn in 0..2 * u64::from(UNSETTLED_TURNS_MAX) {
                let corrected = [place(slot(turn))].into();
                quarantine.note(&mut Settled { corrected, ..Settled::default() }, &asked, second(0));
            }
            assert_eq!(!quarantine.services.is_empty(), expected, "{case}");
        }
    }
}
