//! When to look again at what, although nothing happens.

use std::collections::{BTreeMap, BTreeSet};

use events::Timestamp;
use projections::Touched;
use reconcilers::TimerKey;

/// One timer for each subject that has one.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    times: BTreeMap<TimerKey, Timestamp>,
    queue: BTreeSet<(Timestamp, TimerKey)>,
}

impl Timers {
    /// The earliest time.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(time, _)| *time)
    }

    /// Sets or clears the timers of the subjects that were looked at.
    pub(super) fn set(&mut self, wakes: &BTreeMap<TimerKey, Option<Timestamp>>) {
        for (&subject, &time) in wakes {
            if let Some(old) = self.times.remove(&subject) {
                self.queue.remove(&(old, subject));
            }
            if let Some(time) = time {
                self.times.insert(subject, time);
                self.queue.insert((time, subject));
            }
        }
    }

    /// What is due. It stays set until a turn that looked at it sets it anew, so that a turn that fails loses nothing.
    pub(super) fn due(&self, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        for (_, subject) in self.queue.iter().take_while(|(time, _)| *time <= now) {
            match *subject {
                TimerKey::Node(node) => touched.overdue.insert(node),
                TimerKey::Service(service) => touched.services.insert(service),
                TimerKey::Rollout(service) => touched.rollouts.insert(service),
                TimerKey::Place(service, instance) => touched.places.insert((service, instance)),
            };
        }
        touched
    }
}
