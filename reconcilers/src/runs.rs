//! Starts the runs of scheduled jobs. Of several missed runs only the last one counts: it starts late, if it still may.

use events::spec::Timetable;
use events::spec::limits::REPLICAS_MAX;
use events::{Duration, JobSchedule, Kind, Overlap, RunScheduled, RunSkipped, RunStarted, SkipCause, Timestamp};
use projections::{Cluster, Run, Service};

use crate::{Correction, Ctx, Scope, TimerKey};

/// Maximum of concurrent runs. A job that is slower than its schedule would otherwise accumulate them.
const CONCURRENT_RUNS_MAX: u64 = 100;

pub(crate) fn reconcile(cluster: &Cluster, scope: &Scope, ctx: &mut Ctx<'_>, out: &mut Correction) {
    for service in scope.services.iter().filter_map(|id| cluster.services.get(*id)) {
        let Some(schedule) = &service.spec.schedule else { continue };
        match service.next_run {
            Some(due) if due > ctx.now => out.wake(due, TimerKey::Service(service.id)),
            Some(_) | None if out.is_full() => return,
            due => {
                // The manager that accepted it could parse it.
                let Ok(times) = Timetable::of(schedule) else { continue };
                if let Some(due) = due {
                    let due = times.last_until(ctx.now).map_or(due, |last| last.max(due));
                    out.push(begin(cluster, service, schedule, due, ctx.now));
                }
                if let Some(due) = times.next_after(ctx.now) {
                    out.push(Kind::RunScheduled(RunScheduled { service: service.id, due }));
                    out.wake(due, TimerKey::Service(service.id));
                }
            }
        }
    }
}

/// Starts or skips a run that is due.
fn begin(cluster: &Cluster, service: &Service, schedule: &JobSchedule, due: Timestamp, now: Timestamp) -> Kind {
    let id = service.id;
    let skipped = |cause: SkipCause| Kind::RunSkipped(RunSkipped { service: id, due, cause: cause.into() });
    let started = |beside| Kind::RunStarted(RunStarted { service: id, due, beside });
    if schedule.start_deadline_ns.is_some_and(|deadline| now.since(due) > Duration::from_nanos(deadline)) {
        return skipped(SkipCause::Late);
    }
    match (schedule.overlap(), service.run.filter(|_| goes_on(cluster, service))) {
        (_, None) | (Overlap::Replace, Some(_)) => started(false),
        (Overlap::Forbid, Some(_)) => skipped(SkipCause::Overlap),
        (Overlap::Allow, Some(run)) if has_room(service, run) => started(true),
        (Overlap::Allow, Some(_)) => skipped(SkipCause::Overlap),
    }
}

/// Whether one more concurrent run is allowed.
fn has_room(service: &Service, run: Run) -> bool {
    let total = service.spec.completions().map_or(0, |of| of.total);
    run.concurrent_runs < CONCURRENT_RUNS_MAX && total.saturating_mul(run.concurrent_runs + 1) <= REPLICAS_MAX
}

/// Whether the current run is still in progress: tasks are wanted, or still to be created.
fn goes_on(cluster: &Cluster, service: &Service) -> bool {
    let places = cluster.places();
    let (active, ended) = (places.wanted(service.id), places.all_ended(service.id));
    active > 0 || service.completions().is_some_and(|of| ended < of.total)
}

#[cfg(test)]
mod tests {
    use events::service_spec::Mode;
    use events::{GlobalJobMode, NodeSpec, ReplicatedJobMode, ServiceSpec, TaskState};

    use super::*;
    use crate::samples::{Sample, at, service};

    const MINUTE: u64 = 60;

    /// A job, its overlap policy, its deadline, the states of its tasks, the time, and the result.
    type Case = (Mode, Overlap, Option<u64>, &'static [TaskState], u64, &'static [&'static str]);

    /// A job that is due each hour, its current run with these tasks of one node, and its next one due after an hour.
    fn sample(mode: Mode, overlap: Overlap, deadline_secs: Option<u64>, tasks: &[TaskState]) -> Sample {
        let schedule = JobSchedule {
            cron: "@hourly".to_owned(),
            overlap: overlap.into(),
            start_deadline_ns: deadline_secs.map(|seconds| seconds * 1_000_000_000),
            ..JobSchedule::default()
        };
        let spec = ServiceSpec { mode: Some(mode), schedule: Some(schedule), ..ServiceSpec::default() };
        let mut sample = Sample::default().with_node(1, NodeSpec::default()).with_spec(spec, &[]);
        if !tasks.is_empty() {
            sample.apply(0, Kind::RunStarted(RunStarted { service: service(), due: at(0), beside: false }));
        }
        for (number, state) in (1..).zip(tasks) {
            let node = matches!(mode, Mode::GlobalJob(_)).then_some(1);
            sample = sample.with_task(number, 0, node, TaskState::Pending).assigned(number, 1).reported(number, *state);
        }
        sample.apply(0, Kind::RunScheduled(RunScheduled { service: service(), due: at(3_600) }));
        sample
    }

    #[test]
    fn a_run_that_is_due_begins_is_skipped_or_takes_the_place_of_the_one_before() {
        use Overlap::{Allow, Forbid, Replace};
        let one = Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 0, total_completions: 1 });
        let two = Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 1, total_completions: 2 });
        let global = Mode::GlobalJob(GlobalJobMode {});
        const RUNNING: &[TaskState] = &[TaskState::Running];
        let table: [Case; 12] = [
            (one, Forbid, None, &[], 59 * MINUTE, &["look at 3600"]),
            (one, Forbid, None, &[], 60 * MINUTE, &["run of 3600", "next at 7200", "look at 7200"]),
            (one, Forbid, None, RUNNING, 60 * MINUTE, &["skip 3600 Overlap", "next at 7200", "look at 7200"]),
            (one, Replace, None, RUNNING, 60 * MINUTE, &["run of 3600", "next at 7200", "look at 7200"]),
            (one, Allow, None, RUNNING, 60 * MINUTE, &["run of 3600 beside", "next at 7200", "look at 7200"]),
            // A run whose tasks are still to be created is in progress as well.
            (two, Forbid, None, RUNNING, 60 * MINUTE, &["skip 3600 Overlap", "next at 7200", "look at 7200"]),
            (global, Forbid, None, RUNNING, 60 * MINUTE, &["skip 3600 Overlap", "next at 7200", "look at 7200"]),
            // Of the missed runs, the last one starts late.
            (one, Forbid, None, &[], 250 * MINUTE, &["run of 14400", "next at 18000", "look at 18000"]),
            (one, Forbid, Some(600), &[], 250 * MINUTE, &["run of 14400", "next at 18000", "look at 18000"]),
            (one, Forbid, Some(599), &[], 250 * MINUTE, &["skip 14400 Late", "next at 18000", "look at 18000"]),
            (one, Forbid, Some(0), &[], 240 * MINUTE, &["run of 14400", "next at 18000", "look at 18000"]),
            (one, Replace, Some(60), RUNNING, 62 * MINUTE, &["skip 3600 Late", "next at 7200", "look at 7200"]),
        ];
        for (mode, overlap, deadline, tasks, now, expected) in table {
            let case = format!("{mode:?} {overlap:?} {deadline:?} {tasks:?} after {now} s");
            assert_eq!(sample(mode, overlap, deadline, tasks).ask(reconcile, now), expected, "{case}");
        }
    }

    #[test]
    fn only_so_many_runs_go_on_at_once() {
        let job = |total_completions| Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 0, total_completions });
        let table = [
            (job(1), 1, "beside"),
            (job(1), 99, "beside"),
            (job(1), 100, "Overlap"),
            (job(REPLICAS_MAX), 1, "Overlap"),
        ];
        for (mode, concurrent_runs, expected) in table {
            let mut sample = sample(mode, Overlap::Allow, None, &[TaskState::Running]);
            for _ in 1..concurrent_runs {
                let due = at(0);
                sample.apply(0, Kind::RunStarted(RunStarted { service: service(), due, beside: true }));
            }
            let due = at(3_600);
            sample.apply(0, Kind::RunScheduled(RunScheduled { service: service(), due }));
            let output = sample.ask(reconcile, 60 * MINUTE);
            assert!(
                output.first().is_some_and(|first| first.ends_with(expected)),
                "{concurrent_runs} of {mode:?}: {output:?}"
            );
        }
    }
}
