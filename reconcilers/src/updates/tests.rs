//! The next step of a rollout, depending on its tasks.

use events::{
    Id, ServiceSpecUpdated, TaskCreated, TaskDesiredStateSet, TaskId, TaskReported, TaskStatus, UpdateConfig,
    UpdateResumed,
};

use super::*;
use crate::samples::{Sample, replicated, service};

/// An event for a service of three slots, whose tasks 1 to 3 are running.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// What tasks run changes.
    Update,
    /// The places to replace are counted.
    Count,
    /// The rollout creates task 11 in slot 1, and so on, replacing the old one, which stops if that is the order.
    Take(u64),
    /// The new task of a slot is running.
    Run(u64),
    /// It fails.
    Fail(u64),
    /// The old task of a slot fails.
    FailOld(u64),
    /// The new task of a slot did not run in time.
    Overdue(u64),
    /// The rollout is paused.
    Pause,
    /// It is resumed.
    Resume,
}

use Act::{Count, Fail, FailOld, Overdue, Pause, Resume, Run, Take, Update};

fn sample(config: UpdateConfig, acts: &[(u64, Act)]) -> Sample {
    let sample = Sample::default().with_service(replicated(3), &[]);
    let sample = (1..=3).fold(sample, |sample, slot| sample.with_task(slot.into(), slot, None, TaskState::Running));
    acts.iter().fold(sample, |mut sample, (second, act)| {
        happen(&mut sample, config, *second, *act);
        sample
    })
}

fn happen(sample: &mut Sample, config: UpdateConfig, second: u64, act: Act) {
    let report = |number: u64, state: TaskState| {
        let status = TaskStatus { state: state.into(), ..TaskStatus::default() };
        Kind::TaskReported(TaskReported { task: TaskId::from_bits(number.into()), status })
    };
    let kind = match act {
        Update => update(sample, config),
        Count => Kind::UpdateStarted(UpdateStarted { service: service(), slots: 3, rollback: None }),
        Take(slot) => {
            let desired = TaskState::Running.into();
            let (task, replaces) = (TaskId::from_bits((10 + slot).into()), Some(TaskId::from_bits(slot.into())));
            let spec_version = sample.cluster.services.get(service()).map_or(0, |service| service.template_version);
            let (service, cause) = (service(), TaskCause::Update.into());
            let new = TaskCreated { task, service, spec_version, slot, desired, replaces, cause, ..Default::default() };
            sample.apply(second, Kind::TaskCreated(new));
            if config.order() == UpdateOrder::StartFirst {
                return;
            }
            let (tasks, desired) = (vec![TaskId::from_bits(slot.into())], TaskState::Shutdown.into());
            Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, desired, cause: DesiredCause::Update.into() })
        }
        Run(slot) => report(10 + slot, TaskState::Running),
        Fail(slot) => report(10 + slot, TaskState::Failed),
        FailOld(slot) => report(slot, TaskState::Failed),
        Overdue(slot) => {
            let tasks = vec![TaskId::from_bits((10 + slot).into())];
            Kind::UpdateTasksOverdue(UpdateTasksOverdue { service: service(), tasks })
        }
        Pause => Kind::UpdatePaused(UpdatePaused { service: service(), reason: "why".to_owned(), rollback: None }),
        Resume => Kind::UpdateResumed(UpdateResumed { service: service(), rollback: None }),
    };
    sample.apply(second, kind);
}

fn update(sample: &Sample, config: UpdateConfig) -> Kind {
    let known = sample.cluster.services.get(service()).expect("the service is there");
    let mut spec = (*known.spec).clone();
    spec.task.get_or_insert_default().container.get_or_insert_default().image = "new".to_owned();
    spec.update = Some(config);
    Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated {
        service: service(),
        spec,
        change: SpecChange::Update.into(),
        credentials: None,
        destroyed_secrets: Vec::new(),
        restored: None,
    }))
}

/// A row: the events with their times, the current time, and the rollout's actions.
type Row<'a> = (&'a [(u64, Act)], u64, &'a [&'a str]);

fn check(config: UpdateConfig, table: &[Row<'_>]) {
    for (acts, second, expected) in table {
        assert_eq!(sample(config, acts).ask(reconcile, *second), *expected, "{acts:?}, at {second}");
    }
}

#[test]
fn places_are_replaced_one_after_the_other_and_the_last_is_watched() {
    check(
        UpdateConfig::default(),
        &[
            (&[], 1, &[]),
            (&[(1, Update)], 1, &["3 places to replace", "make in 1", "shutdown 1"]),
            (&[(1, Update), (1, Count), (1, Take(1))], 2, &[]),
            (&[(1, Update), (1, Count), (1, Take(1)), (2, Run(1))], 2, &["make in 2", "shutdown 2"]),
            // First where least is lost.
            (&[(1, Update), (1, Count), (1, FailOld(3))], 2, &["make in 3", "shutdown 3"]),
            (&[(1, Update), (1, Count), (1, Take(1)), (2, Fail(1))], 2, &["pause"]),
            (&[(1, Update), (1, Count), (1, Take(1)), (2, Run(1)), (2, Pause)], 2, &[]),
            (&[(1, Update), (1, Count), (1, Take(1)), (1, Take(2)), (1, Take(3)), (2, Run(1)), (3, Run(2))], 9, &[]),
        ],
    );
    let all =
        [(1, Update), (1, Count), (1, Take(1)), (1, Take(2)), (1, Take(3)), (2, Run(1)), (3, Run(2)), (4, Run(3))];
    check(UpdateConfig::default(), &[(&all, 4, &["look at 9"]), (&all, 8, &["look at 9"]), (&all, 9, &["complete"])]);
}

#[test]
fn as_many_places_are_in_flight_as_may_be_and_for_as_long_as_the_delay() {
    let two = UpdateConfig { parallelism: Some(2), ..UpdateConfig::default() };
    let first = ["3 places to replace", "make in 1", "shutdown 1", "make in 2", "shutdown 2"];
    check(
        two,
        &[
            (&[(1, Update)], 1, &first),
            (&[(1, Update), (1, Count), (1, Take(1)), (1, Take(2)), (2, Run(2))], 2, &["make in 3", "shutdown 3"]),
        ],
    );
    let all = UpdateConfig { parallelism: Some(0), ..UpdateConfig::default() };
    let every =
        ["3 places to replace", "make in 1", "shutdown 1", "make in 2", "shutdown 2", "make in 3", "shutdown 3"];
    check(all, &[(&[(1, Update)], 1, &every)]);
    let slow = UpdateConfig { delay_ns: 30_000_000_000, ..UpdateConfig::default() };
    let taken = [(1, Update), (1, Count), (1, Take(1)), (2, Run(1))];
    check(
        slow,
        &[
            (&taken, 2, &["look at 32"]),
            (&taken, 31, &["look at 32"]),
            (&taken, 32, &["make in 2", "shutdown 2"]),
            // An early failure does not free a place sooner; the rollout still stops at once.
            (&[(1, Update), (1, Count), (1, Take(1)), (2, Fail(1))], 2, &["pause"]),
        ],
    );
}

#[test]
fn a_task_that_is_started_first_lets_the_old_one_serve_until_it_runs() {
    let start_first = UpdateConfig { order: UpdateOrder::StartFirst.into(), ..UpdateConfig::default() };
    check(
        start_first,
        &[
            (&[(1, Update)], 1, &["3 places to replace", "make in 1"]),
            (&[(1, Update), (1, Count), (1, Take(1))], 1, &[]),
            (&[(1, Update), (1, Count), (1, Take(1)), (2, Run(1))], 2, &["shutdown 1", "make in 2"]),
            (&[(1, Update), (1, Count), (1, Take(1)), (2, Fail(1))], 2, &["pause"]),
            // If none serves, none is kept.
            (&[(1, Update), (1, Count), (1, FailOld(2))], 2, &["make in 2", "shutdown 2"]),
        ],
    );
}

#[test]
fn too_many_failures_stop_a_rollout_as_was_asked() {
    let failed = [(1, Update), (1, Count), (1, Take(1)), (2, Fail(1))];
    let of = |action: FailureAction, max_failure_ppm: u32| UpdateConfig {
        failure_action: action.into(),
        max_failure_ppm,
        ..UpdateConfig::default()
    };
    let next = ["make in 2", "shutdown 2"];
    let table: [(_, &[&str]); 6] = [
        (of(FailureAction::Pause, 0), &["pause"]),
        (of(FailureAction::Continue, 0), &next),
        (of(FailureAction::Rollback, 0), &["spec of AutomaticRollback", "roll back"]),
        // One of three is more than 0.333333, and not more than 0.333334.
        (of(FailureAction::Pause, 333_333), &["pause"]),
        (of(FailureAction::Pause, 333_334), &next),
        (of(FailureAction::Rollback, 333_334), &next),
    ];
    for (config, expected) in table {
        assert_eq!(sample(config, &failed).ask(reconcile, 2), expected, "{config:?}");
    }
}

#[test]
fn a_task_that_does_not_run_in_time_counts_as_failed() {
    let of = |action: FailureAction| UpdateConfig {
        failure_action: action.into(),
        progress_deadline_ns: Some(60_000_000_000),
        ..UpdateConfig::default()
    };
    let taken = [(1, Update), (1, Count), (1, Take(1))];
    let overdue = [(1, Update), (1, Count), (1, Take(1)), (61, Overdue(1))];
    check(
        of(FailureAction::Pause),
        &[
            (&taken, 1, &["look at 61"]),
            (&taken, 60, &["look at 61"]),
            (&taken, 61, &["overdue 11"]),
            (&[(1, Update), (1, Count), (1, Take(1)), (2, Run(1)), (2, Take(2))], 61, &["look at 62"]),
            (&overdue, 61, &["pause"]),
        ],
    );
    check(of(FailureAction::Continue), &[(&overdue, 61, &["make in 2", "shutdown 2"])]);
    check(of(FailureAction::Rollback), &[(&overdue, 61, &["spec of AutomaticRollback", "roll back"])]);
}

#[test]
fn what_failed_before_a_pause_does_not_stop_a_rollout_that_is_resumed() {
    let failed = [(1, Update), (1, Count), (1, Take(1)), (2, Fail(1)), (2, Pause), (9, Resume)];
    let again = [&failed[..], &[(9, Take(2)), (10, Fail(2))]].concat();
    check(UpdateConfig::default(), &[(&failed, 9, &["make in 2", "shutdown 2"]), (&again, 10, &["pause"])]);
}
