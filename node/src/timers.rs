//! When to look again at what, although nothing happens.

use std::collections::{BTreeMap, BTreeSet};

use events::Timestamp;
use projections::Touched;
use reconcilers::TimerKey;

/// Timers that a turn looks at; those due later are the next turn's, which follows at once. A turn looks at more places than
/// this, so that timers alone do not hold up large services.
const DUE_MAX: usize = 4_000;

/// One timer for each subject that has one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    times: BTreeMap<TimerKey, Timestamp>,
    queue: BTreeSet<(Timestamp, TimerKey)>,
}

impl Timers {
    /// The earliest time.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(time, _)| *time)
    }

    /// The earliest time of a subject of this sort.
    pub(crate) fn next_of(&self, is_such: impl Fn(&TimerKey) -> bool) -> Option<Timestamp> {
        self.queue.iter().find(|(_, subject)| is_such(subject)).map(|(time, _)| *time)
    }

    /// Sets or clears the timers of the subjects that were looked at.
    pub(crate) fn set(&mut self, wakes: &BTreeMap<TimerKey, Option<Timestamp>>) {
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

    /// What is due, the longest overdue first, and no more than one turn looks at. It stays set until a turn that looked at it sets it again, so that a turn that fails loses nothing.
    pub(crate) fn due(&self, now: Timestamp) -> Touched {
        let mut touched = Touched::default();
        for (_, subject) in self.queue.iter().take_while(|(time, _)| *time <= now).take(DUE_MAX) {
            match *subject {
                TimerKey::Node(node) => touched.overdue.insert(node),
                TimerKey::Service(service) => touched.services.insert(service),
                TimerKey::Rollout(service) => touched.rollouts.insert(service),
                TimerKey::Balance(service) => touched.balances.insert(service),
                TimerKey::Scaling(service) => touched.scalings.insert(service),
                TimerKey::Place(service, instance) => touched.places.insert((service, instance)),
            };
        }
        touched
    }
}

#[cfg(test)]
mod tests {
    use events::{Id, NodeId};

    use super::*;

    #[test]
    fn what_is_due_at_once_is_looked_at_in_several_turns() {
        let (mut timers, now) = (Timers::default(), Timestamp::from_unix_ns(7));
        let nodes = (1..=2 * DUE_MAX as u128 + 1).map(NodeId::from_bits);
        timers.set(&nodes.map(|node| (TimerKey::Node(node), Some(now))).collect());
        let mut turns = Vec::new();
        while timers.next().is_some() {
            let due = timers.due(now);
            turns.push(due.overdue.len());
            timers.set(&due.overdue.into_iter().map(|node| (TimerKey::Node(node), None)).collect());
        }
        assert_eq!(turns, [DUE_MAX, DUE_MAX, 1]);
    }
}
