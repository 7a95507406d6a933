//! How long tasks take, as the tasks that are there show it.

use std::collections::BTreeMap;

use events::{Duration, ServiceId, TaskState, Timestamp};
use projections::tasks::End;
use projections::{Cluster, Task};

/// Tasks of a service that are looked at: as many say as much as all.
const TASKS_MAX: usize = 200;
/// How long a task takes to be prepared and to start if no task of its service ever did: for a small image that is there.
const PREPARE: Duration = Duration::from_millis(500);
const START: Duration = Duration::from_millis(500);
/// How long a task of a job runs if none of its service ever did.
const RUN: Duration = Duration::from_secs(10);
/// Attempts that a start is taken to need at most, however many failed.
const ATTEMPTS_MAX: u32 = 10;

/// What tasks of one service take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// From the assignment until it could start.
    pub(super) prepare: Duration,
    /// From there until it runs, with the attempts that fail before one that does not.
    pub(super) start: Duration,
    /// From there until it completes.
    pub(super) run: Duration,
}

/// What is known of each service, made when it is first asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Starts {
    known: BTreeMap<ServiceId, Times>,
}

impl Starts {
    /// What tasks of this service take.
    pub(super) fn of(&mut self, cluster: &Cluster, service: ServiceId) -> Times {
        *self.known.entry(service).or_insert_with(|| measure(cluster, service))
    }
}

fn measure(cluster: &Cluster, service: ServiceId) -> Times {
    let tasks: Vec<&Task> = cluster.tasks_of_service(service).take(TASKS_MAX).collect();
    let between = |from, to| median(tasks.iter().filter_map(|task| phases(task, from, to)));
    let prepare = between(TaskState::Accepted, TaskState::Ready).unwrap_or(PREPARE);
    let start = between(TaskState::Ready, TaskState::Running).unwrap_or(START);
    let lasted = tasks.iter().filter(|task| task.state == TaskState::Complete);
    let run = median(lasted.filter_map(|task| Some(task.ended_at?.since(task.running_at?))));
    let failed = tasks.iter().filter(|task| task.end() == End::Failed).count();
    let ran = tasks.iter().filter(|task| task.running_at.is_some() && task.end() != End::Failed).count();
    Times { prepare, start: start * attempts(failed, ran), run: run.unwrap_or(RUN) }
}

/// How many attempts one start takes, of so many that failed for so many that did not.
fn attempts(failed: usize, ran: usize) -> u32 {
    let each = (failed + ran).div_ceil(ran.max(1));
    u32::try_from(each).unwrap_or(ATTEMPTS_MAX).clamp(1, ATTEMPTS_MAX)
}

/// How long the last report says that a task was between two states.
fn phases(task: &Task, from: TaskState, to: TaskState) -> Option<Duration> {
    let status = task.status.as_ref()?;
    let entered = |state: TaskState| -> Option<Timestamp> {
        let own = (status.state() == state).then_some(status.at).flatten();
        own.or_else(|| status.phases.iter().find(|phase| phase.state() == state)?.at)
    };
    Some(entered(to)?.since(entered(from)?))
}

fn median(times: impl Iterator<Item = Duration>) -> Option<Duration> {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_takes_the_attempts_that_fail_before_it() {
        let table = [((0, 0), 1), ((0, 9), 1), ((1, 1), 2), ((3, 1), 4), ((5, 0), 5), ((99, 1), 10)];
        for ((failed, ran), expected) in table {
            assert_eq!(attempts(failed, ran), expected, "{failed} failed, {ran} ran");
        }
    }

    #[test]
    fn the_middle_of_several_times_counts() {
        let seconds = |all: &[u64]| median(all.iter().map(|seconds| Duration::from_secs(*seconds)));
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[9, 1, 2]), Some(Duration::from_secs(2)));
    }
}
