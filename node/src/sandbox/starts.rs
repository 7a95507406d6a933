//! How long tasks take, estimated from the existing tasks.

use std::collections::BTreeMap;

use events::{Duration, ServiceId, TaskState, Timestamp};
use projections::tasks::End;
use projections::{Cluster, Task};

/// Number of tasks of a service that are sampled.
const TASKS_MAX: usize = 200;
/// How long a task takes to be prepared and to start if no task of its service has done so: for a small image that is present.
const PREPARE: Duration = Duration::from_millis(500);
const START: Duration = Duration::from_millis(500);
/// How long a task of a job runs if none of its service has completed.
const RUN: Duration = Duration::from_secs(10);
/// Maximum of attempts assumed for a start, however many failed.
const ATTEMPTS_MAX: u32 = 10;

/// How long tasks of one service take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// From the assignment until it could start.
    pub(super) prepare: Duration,
    /// From there until it is running, including failed attempts.
    pub(super) start: Duration,
    /// From there until it completes.
    pub(super) run: Duration,
}

/// The estimates for each service, computed on first use.
#[derive(Debug, Clone, Default)]
pub(super) struct Starts {
    known: BTreeMap<ServiceId, Times>,
}

impl Starts {
    /// How long tasks of this service take.
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

/// Attempts per start, for this many failed and successful ones.
fn attempts(failed: usize, ran: usize) -> u32 {
    let each = (failed + ran).div_ceil(ran.max(1));
    u32::try_from(each).unwrap_or(ATTEMPTS_MAX).clamp(1, ATTEMPTS_MAX)
}

/// How long a task was between two states, according to its last report.
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
