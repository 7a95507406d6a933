//! What replaces a task that ended or lost its node, and when.

use events::service_spec::Mode;
use events::{
    Id, Kind, NodeDeclaredDown, NodeId, NodeRemoved, NodeSpec, NodeSpecUpdated, ReplicatedJobMode, RestartCondition,
    RestartPolicy, ServiceSpec, ServiceSpecUpdated, TaskCreated, TaskId, UpdateConfig, UpdateOrder, UpdateStarted,
};

use super::*;
use crate::samples::{Sample, replicated, service};

const NODE: u128 = 3;

/// Task 7 in slot 1, on a node, in these states one after the other, under this policy.
fn sample(condition: RestartCondition, attempts: u64, states: &[TaskState]) -> Sample {
    let policy =
        RestartPolicy { condition: Some(condition.into()), max_attempts: attempts, ..RestartPolicy::default() };
    let sample = Sample::default().with_node(NODE, NodeSpec::default());
    let sample = sample.with_policy(policy).with_service(replicated(1), &[]);
    let sample = sample.with_task(7, 1, None, TaskState::Pending).assigned(7, NODE);
    states.iter().fold(sample, |sample, state| sample.reported(7, *state))
}

fn version(sample: &Sample) -> u64 {
    sample.cluster.services.get(service()).map_or(0, |service| service.template_version)
}

#[test]
fn what_ended_is_restarted_as_its_policy_says() {
    use RestartCondition::{Any, None, OnFailure};
    use TaskState::{Assigned, Complete, Failed, Orphaned, Rejected, Running};
    // The policy's condition, the states of the task, and the result.
    let table: [(_, &[TaskState], &[&str]); 13] = [
        (Any, &[], &[]),
        (Any, &[Running], &[]),
        (Any, &[Running, Failed], &["make in 1"]),
        (Any, &[Running, Complete], &["make in 1"]),
        (OnFailure, &[Running, Failed], &["make in 1"]),
        (OnFailure, &[Running, Complete], &["shutdown 7"]),
        (None, &[Running, Failed], &["shutdown 7"]),
        (None, &[Running, Complete], &["shutdown 7"]),
        (Any, &[Running, Orphaned], &["make in 1"]),
        // A task that failed before it ran keeps its place during the delay.
        (Any, &[Failed], &["look at 5"]),
        (Any, &[Rejected], &["look at 5"]),
        (None, &[Failed], &["shutdown 7"]),
        (None, &[Assigned, Running], &[]),
    ];
    for (condition, states, expected) in table {
        assert_eq!(sample(condition, 0, states).ask(reconcile, 1), expected, "{condition:?}, {states:?}");
    }
    assert_eq!(sample(Any, 0, &[Failed]).ask(reconcile, 5), ["make in 1"]);
}

#[test]
fn no_more_attempts_are_made_than_the_policy_allows() {
    for (attempts, restarts, expected) in
        [(0, 9, "make in 1"), (1, 0, "make in 1"), (1, 1, "shutdown 7"), (3, 2, "make in 1"), (3, 3, "shutdown 7")]
    {
        let mut sample = sample(RestartCondition::Any, attempts, &[TaskState::Running]);
        for number in 0..restarts {
            let (task, cause, desired) =
                (TaskId::from_bits(100 + number), TaskCause::Restart.into(), TaskState::Running.into());
            let earlier = TaskCreated {
                task,
                service: service(),
                spec_version: version(&sample),
                slot: 1,
                desired,
                cause,
                ..Default::default()
            };
            sample.apply(0, Kind::TaskCreated(earlier));
            let (tasks, desired) = (vec![task], TaskState::Shutdown.into());
            let cause = DesiredCause::Restart.into();
            let stopped = events::TaskDesiredStateSet { tasks, desired, cause };
            sample.apply(0, Kind::TaskDesiredStateSet(stopped));
        }
        let sample = sample.reported(7, TaskState::Failed);
        assert_eq!(sample.ask(reconcile, 1), [expected], "{attempts} attempts, {restarts} restarts");
    }
}

#[test]
fn a_task_that_loses_its_node_is_replaced_elsewhere() {
    let node = NodeId::from_bits(NODE);
    let with = |availability: Availability| {
        let spec = NodeSpec { availability: availability.into(), ..NodeSpec::default() };
        Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec })
    };
    let table: [(Kind, &[&str]); 5] = [
        (with(Availability::Active), &[]),
        (with(Availability::Pause), &[]),
        (with(Availability::Drain), &["shutdown 7", "make in 1"]),
        (Kind::NodeDeclaredDown(NodeDeclaredDown { node, ..Default::default() }), &["shutdown 7", "make in 1"]),
        (Kind::NodeRemoved(NodeRemoved { node, forced: true, forgotten: false }), &["shutdown 7", "make in 1"]),
    ];
    for (kind, expected) in table {
        let mut sample = sample(RestartCondition::Any, 0, &[TaskState::Running]);
        sample.apply(1, kind.clone());
        assert_eq!(sample.ask(reconcile, 1), expected, "{kind:?}");
    }
}

#[test]
fn a_task_that_is_ready_starts_after_its_delay_once_the_one_before_it_has_stopped_or_had_its_time() {
    let ready = |is_stopped: bool| {
        let sample = sample(RestartCondition::Any, 0, &[TaskState::Running]);
        let mut sample = if is_stopped { sample.reported(7, TaskState::Failed) } else { sample };
        let (desired, start_after) = (TaskState::Ready.into(), Some(crate::samples::at(20)));
        let (task, replaces, cause) = (TaskId::from_bits(8), Some(TaskId::from_bits(7)), TaskCause::Restart.into());
        let new = TaskCreated {
            task,
            service: service(),
            spec_version: version(&sample),
            slot: 1,
            desired,
            replaces,
            start_after,
            cause,
            ..Default::default()
        };
        sample.apply(10, Kind::TaskCreated(new));
        sample
    };
    for (is_stopped, second, expected) in [
        (true, 19, "look at 20"),
        (true, 20, "running 8"),
        (false, 19, "look at 20"),
        (false, 20, "look at 70"),
        (false, 69, "look at 70"),
        (false, 70, "running 8"),
    ] {
        assert_eq!(ready(is_stopped).ask(reconcile, second), [expected], "stopped: {is_stopped}, at {second}");
    }
}

const ELSEWHERE: u128 = 4;

fn start_first() -> ServiceSpec {
    let update = UpdateConfig { order: UpdateOrder::StartFirst.into(), ..UpdateConfig::default() };
    ServiceSpec { mode: Some(replicated(1)), update: Some(update), ..ServiceSpec::default() }
}

fn drain(node: u128, deadline: Option<u64>) -> Kind {
    let (node, drain_deadline_ns) = (NodeId::from_bits(node), deadline.map(|seconds| seconds * 1_000_000_000));
    let spec = NodeSpec { availability: Availability::Drain.into(), drain_deadline_ns, ..NodeSpec::default() };
    Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec })
}

/// Task 7 of a service that updates start-first is running on a drained node.
fn drained(deadline: Option<u64>) -> Sample {
    let policy = RestartPolicy { max_attempts: 1, ..RestartPolicy::default() };
    let sample = Sample::default().with_node(NODE, NodeSpec::default()).with_node(ELSEWHERE, NodeSpec::default());
    let sample = sample.with_policy(policy).with_spec(start_first(), &[]);
    let mut sample = sample.with_task(7, 1, None, TaskState::Pending).assigned(7, NODE).reported(7, TaskState::Running);
    sample.apply(10, drain(NODE, deadline));
    sample
}

/// The same with task 8, which should replace it elsewhere and has gone through these states.
fn replaced(deadline: Option<u64>, states: &[TaskState]) -> Sample {
    let mut sample = drained(deadline);
    let (task, replaces, cause) = (TaskId::from_bits(8), Some(TaskId::from_bits(7)), TaskCause::Moved.into());
    let (desired, spec_version) = (TaskState::Running.into(), version(&sample));
    let new =
        TaskCreated { task, service: service(), spec_version, slot: 1, desired, replaces, cause, ..Default::default() };
    sample.apply(10, Kind::TaskCreated(new));
    states.iter().fold(sample.assigned(8, ELSEWHERE), |sample, state| sample.reported(8, *state))
}

#[test]
fn with_start_first_a_task_leaves_a_drained_node_once_its_replacement_runs() {
    use TaskState::{Failed, Preparing, Running};
    // The sample, the time, and the result.
    let table: [(Sample, u64, &[&str]); 9] = [
        (drained(None), 10, &["make in 1"]),
        (drained(Some(60)), 10, &["make in 1", "look at 70"]),
        (drained(Some(60)), 70, &["shutdown 7", "make in 1"]),
        (replaced(None, &[Preparing]), 20, &[]),
        (replaced(Some(60), &[Preparing]), 20, &["look at 70"]),
        (replaced(Some(60), &[Preparing]), 70, &["shutdown 7"]),
        (replaced(None, &[Running]), 20, &["shutdown 7"]),
        // A failed replacement is retried, as its policy requires, and no other one is created beside it.
        (replaced(None, &[Running, Failed]), 20, &["make in 1"]),
        // The other one is replaced, too.
        (replaced(Some(60), &[Running, Failed]), 70, &["shutdown 7", "make in 1", "shutdown 8"]),
    ];
    for (number, (sample, second, expected)) in table.into_iter().enumerate() {
        assert_eq!(sample.ask(reconcile, second), expected, "case {number}");
    }
}

#[test]
fn a_place_that_is_handed_over_has_two_tasks_at_most() {
    // The replacement has to leave as well: of the two that serve the newer one is enough until the next one does.
    let mut both_leave = replaced(None, &[TaskState::Preparing, TaskState::Running]);
    both_leave.apply(20, drain(ELSEWHERE, None));
    assert_eq!(both_leave.ask(reconcile, 20), ["shutdown 7", "make in 1"]);
    // The replacement is not running yet and has an older spec by now.
    let mut outdated = replaced(None, &[TaskState::Preparing]);
    let mut spec = start_first();
    spec.task.get_or_insert_default().container.get_or_insert_default().image = "web:2".to_owned();
    outdated.apply(
        20,
        Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated { service: service(), spec, ..Default::default() })),
    );
    outdated.apply(20, Kind::UpdateStarted(UpdateStarted { service: service(), slots: 1, rollback: None }));
    assert_eq!(outdated.ask(reconcile, 20), ["shutdown 8", "make in 1"]);
}

#[test]
fn a_job_restarts_nothing_in_a_slot_that_its_run_does_not_fill() {
    let job = Mode::ReplicatedJob(ReplicatedJobMode { max_concurrent: 2, total_completions: 2 });
    for (slot, expected) in [(1, "make in 1"), (2, "shutdown 7")] {
        let sample = Sample::default().with_node(NODE, NodeSpec::default()).with_service(job, &[]);
        let sample = sample.with_task(7, slot, None, TaskState::Pending).assigned(7, NODE);
        let sample = sample.reported(7, TaskState::Running).reported(7, TaskState::Failed);
        assert_eq!(sample.ask(reconcile, 1), [expected], "slot {slot}");
    }
}
