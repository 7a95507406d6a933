//! Tasks that wait for a node, in groups of the same service and spec: derived from the tasks and updated with each change of
//! one. Those that were never tried are separate from those that could not be placed, so that a turn in which no room became free
//! visits only the former.

use std::collections::BTreeSet;
use std::sync::Arc;

use events::{ServiceId, TaskId};
use imbl::{OrdMap, OrdSet};

use crate::instance::Instance;
use crate::tasks::Task;

/// A service and the version of its spec.
pub type Group = (ServiceId, u64);

/// Ordered by group, then by place, the order that users see.
type Key = (ServiceId, u64, Instance, TaskId);

/// The tasks that the scheduler has to place or confirm.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Unplaced {
    /// Never tried.
    fresh: OrdSet<Key>,
    /// Tried without success.
    tried: OrdSet<Key>,
    /// The reasons for which these wait, and how many of a group have each reason.
    reasons: OrdMap<(ServiceId, u64, Arc<str>), usize>,
}

impl Unplaced {
    /// Whether no task waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of waiting tasks.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.tried.len()
    }

    /// Groups with tasks that were never tried.
    pub fn fresh_groups(&self) -> impl Iterator<Item = Group> {
        groups(&self.fresh, (ServiceId::default(), 0), (ServiceId::MAX, u64::MAX))
    }

    /// Groups with tasks that could not be placed.
    pub fn tried_groups(&self) -> impl Iterator<Item = Group> {
        groups(&self.tried, (ServiceId::default(), 0), (ServiceId::MAX, u64::MAX))
    }

    /// Groups of one service with tasks that could not be placed.
    pub fn tried_groups_of(&self, service: ServiceId) -> impl Iterator<Item = Group> {
        groups(&self.tried, (service, 0), (service, u64::MAX))
    }

    /// The first task of a service that could not be placed.
    pub fn first_tried_of(&self, service: ServiceId) -> Option<TaskId> {
        let group = self.tried_groups_of(service).next()?;
        keys_of(&self.tried, group).next().map(|(_, _, _, task)| task)
    }

    /// How many tasks of a service wait.
    pub fn count_of(&self, service: ServiceId) -> u64 {
        let groups: BTreeSet<Group> =
            groups(&self.fresh, (service, 0), (service, u64::MAX)).chain(self.tried_groups_of(service)).collect();
        groups.into_iter().map(|group| self.tasks_of(group, true).count() as u64).sum()
    }

    /// Whether all tasks of a group that could not be placed wait for this reason, without visiting them.
    pub fn all_wait_for(&self, (service, version): Group, reason: &str) -> bool {
        let first = (service, version, Arc::from(""));
        let of_group = self.reasons.range(first..).take_while(|((of, at, _), _)| (*of, *at) == (service, version));
        of_group.take(2).all(|((_, _, known), _)| **known == *reason)
    }

    /// The new tasks of a group with their places, and with `all` also those that could not be placed, in the order of their
    /// places.
    pub fn tasks_of(&self, group: Group, all: bool) -> impl Iterator<Item = (Instance, TaskId)> {
        let mut fresh = keys_of(&self.fresh, group).peekable();
        let mut tried = keys_of(&self.tried, group).take(if all { usize::MAX } else { 0 }).peekable();
        let keys = std::iter::from_fn(move || match (fresh.peek(), tried.peek()) {
            (Some(one), Some(other)) if other < one => tried.next(),
            (Some(_), _) => fresh.next(),
            (None, _) => tried.next(),
        });
        keys.map(|(_, _, instance, task)| (instance, task))
    }

    /// The tasks of a group in one place that could not be placed.
    pub fn tried_at(&self, (service, version): Group, instance: Instance) -> impl Iterator<Item = (Instance, TaskId)> {
        let first = (service, version, instance, TaskId::default());
        self.tried.range(first..=(service, version, instance, TaskId::MAX)).map(|(_, _, place, task)| (*place, *task))
    }

    pub(crate) fn enter(&mut self, task: &Task) {
        if task.awaits_placement() {
            self.set_of(task).insert(key(task));
            if let Some(reason) = reason_key(task) {
                *self.reasons.entry(reason).or_default() += 1;
            }
        }
    }

    pub(crate) fn leave(&mut self, task: &Task) {
        if task.awaits_placement() {
            self.set_of(task).remove(&key(task));
            if let Some(reason) = reason_key(task) {
                self.reasons =
                    self.reasons.alter(|count| count.map(|count| count - 1).filter(|left| *left > 0), reason);
            }
        }
    }

    fn set_of(&mut self, task: &Task) -> &mut OrdSet<Key> {
        if task.waiting.is_none() { &mut self.fresh } else { &mut self.tried }
    }
}

fn key(task: &Task) -> Key {
    (task.service, task.spec_version, task.instance(), task.id)
}

fn reason_key(task: &Task) -> Option<(ServiceId, u64, Arc<str>)> {
    task.waiting.clone().map(|reason| (task.service, task.spec_version, reason))
}

fn keys_of(keys: &OrdSet<Key>, (service, version): Group) -> impl Iterator<Item = Key> {
    let first = (service, version, Instance::FIRST, TaskId::default());
    keys.range(first..=(service, version, Instance::LAST, TaskId::MAX)).copied()
}

/// The groups from `first` to `last` that have keys: one lookup for each group, however many tasks are in it.
fn groups(keys: &OrdSet<Key>, first: Group, last: Group) -> impl Iterator<Item = Group> {
    let end = (last.0, last.1, Instance::LAST, TaskId::MAX);
    let mut next = Some((first.0, first.1, Instance::FIRST, TaskId::default()));
    std::iter::from_fn(move || {
        let (service, version, ..) = *keys.range(next?..=end).next()?;
        // Versions are frame indexes, so they have no maximum in practice.
        next = version.checked_add(1).map(|version| (service, version, Instance::FIRST, TaskId::default()));
        next = next.filter(|next| *next <= end);
        Some((service, version))
    })
}
