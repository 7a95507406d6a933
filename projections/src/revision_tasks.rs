//! How many tasks run each revision of a service, and how many of these are wanted and running: derived from the tasks and
//! updated with each change of one, so that counting them does not require visiting them.

use events::{ServiceId, TaskState};
use imbl::OrdMap;

use crate::Task;

/// Numbers of tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskCounts {
    /// All of them.
    pub all: u64,
    /// Those that have not ended, wanted or not.
    pub open: u64,
    /// Those among them that are wanted.
    pub wanted: u64,
    /// Those that are wanted and have not ended.
    pub live: u64,
    /// Those that are wanted and running.
    pub running: u64,
}

/// The tasks of each revision that any task runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RevisionTasks {
    counts: OrdMap<(ServiceId, u64), TaskCounts>,
}

impl RevisionTasks {
    /// The revisions of a service that any task runs, by template version, with the number of tasks.
    pub fn of_service(&self, service: ServiceId) -> impl Iterator<Item = (u64, TaskCounts)> {
        self.counts.range((service, 0)..=(service, u64::MAX)).map(|((_, version), counts)| (*version, *counts))
    }

    /// All tasks of a service.
    pub fn total(&self, service: ServiceId) -> TaskCounts {
        self.of_service(service).fold(TaskCounts::default(), |total, (_, counts)| total.with(counts))
    }

    /// Whether any task runs a revision.
    pub fn is_run(&self, service: ServiceId, version: u64) -> bool {
        self.counts.contains_key(&(service, version))
    }

    /// Whether some task of a revision has not ended.
    pub fn is_open(&self, service: ServiceId, version: u64) -> bool {
        self.counts.get(&(service, version)).is_some_and(|counts| counts.open > 0)
    }

    pub(crate) fn enter(&mut self, task: &Task) {
        let key = (task.service, task.spec_version);
        let counts = self.counts.get(&key).copied().unwrap_or_default();
        self.counts.insert(key, counts.with(TaskCounts::of(task)));
    }

    pub(crate) fn leave(&mut self, task: &Task) {
        let key = (task.service, task.spec_version);
        let counts =
            self.counts.get(&key).expect("what goes away was counted when it came").without(TaskCounts::of(task));
        if counts.all == 0 {
            self.counts.remove(&key);
        } else {
            self.counts.insert(key, counts);
        }
    }

    pub(crate) fn change(&mut self, before: &Task, after: &Task) {
        let (from, to) = (TaskCounts::of(before), TaskCounts::of(after));
        if from != to
            && let Some(counts) = self.counts.get_mut(&(after.service, after.spec_version))
        {
            *counts = counts.without(from).with(to);
        }
    }
}

impl TaskCounts {
    fn of(task: &Task) -> Self {
        let (wanted, open) = (task.is_wanted(), !task.state.is_terminal());
        let running = wanted && task.state == TaskState::Running;
        let live = wanted && open;
        Self { all: 1, open: open.into(), wanted: wanted.into(), live: live.into(), running: running.into() }
    }

    fn with(self, other: Self) -> Self {
        Self {
            all: self.all + other.all,
            open: self.open + other.open,
            wanted: self.wanted + other.wanted,
            live: self.live + other.live,
            running: self.running + other.running,
        }
    }

    fn without(self, other: Self) -> Self {
        Self {
            all: self.all - other.all,
            open: self.open - other.open,
            wanted: self.wanted - other.wanted,
            live: self.live - other.live,
            running: self.running - other.running,
        }
    }
}
