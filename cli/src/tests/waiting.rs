//! Waiting: how it ends, and with which exit code.

use events::TaskState;
use wire::v1::{ServiceView, TaskView, UpdateState, UpdateStatus};

use super::fake::{Fake, event};
use super::{TestEnv, run};
use crate::format::samples;

const CREATE: &str = "service create --name web --image nginx:1.27 --replicas 2 --detach=false";

/// Successive states in which the second task starts to run.
fn readings() -> Vec<(ServiceView, Vec<TaskView>)> {
    let first = samples::task(1, 1, TaskState::Running, TaskState::Running, 1);
    let second = |state| samples::task(2, 2, TaskState::Running, state, 1);
    [TaskState::Preparing, TaskState::Starting, TaskState::Running]
        .map(|state| (samples::service(), vec![first.clone(), second(state)]))
        .into()
}

fn with_update(state: UpdateState) -> ServiceView {
    let started_at = samples::NOW;
    let update = UpdateStatus {
        state: state.into(),
        started_at,
        completed_at: None,
        message: "2 failed".to_owned(),
        requested: false,
    };
    ServiceView { update: Some(update), ..samples::service() }
}

#[tokio::test]
async fn the_wait_ends_when_every_task_runs() {
    let mut manager = Fake::new();
    manager.readings = readings().into();
    // The states are read at 11, 12 and 13: events up to that index are included already and trigger no further read.
    manager.history = [10, 11, 12, 12, 13, 14, 15].map(|index| (index, event())).into();
    manager.endless = true;
    let ran = run(CREATE, &mut manager, TestEnv { skip_sleeps: true, ..TestEnv::default() }).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, "web: 1 of 2 tasks running\nweb: 2 of 2 tasks running\n"));
    assert_eq!(ran.out, "0000000000000000000000009\n");
    // One more read for events during the time that the tasks must keep running.
    assert_eq!(manager.listed.len(), 5);
    let watched = &manager.watched[0];
    let service = samples::service().id.to_string();
    assert_eq!((watched.from, watched.follow, watched.object.as_deref()), (Some(10), true, Some(service.as_str())));
}

#[tokio::test]
async fn tasks_that_do_not_last_are_no_success() {
    let running = |slot: u64| samples::task(slot.into(), slot, TaskState::Running, TaskState::Running, 1);
    let all = (samples::service(), vec![running(1), running(2)]);
    let mut manager = Fake { history: vec![(20, event())], endless: true, ..Fake::new() };
    manager.readings = [all.clone(), (samples::service(), samples::tasks())].into();
    let ran = run(CREATE, &mut manager, TestEnv { skip_sleeps: true, ..TestEnv::default() }).await;
    assert_eq!(ran.code, 6, "{}", ran.err);
    assert!(ran.err.starts_with("web: 2 of 2 tasks running\nweb: 1 of 2 tasks running\n"), "{}", ran.err);
}

#[tokio::test]
async fn many_tasks_are_not_read_again_at_once() {
    for (tasks, readings) in [(100, 4), (101, 1)] {
        let starting = |slot: u64| samples::task(slot.into(), slot, TaskState::Running, TaskState::Starting, 1);
        let history = [20, 21, 22].map(|index| (index, event())).into();
        let mut manager = Fake { history, endless: true, ..Fake::new() };
        manager.readings = [(samples::service(), (1..=tasks).map(starting).collect())].into();
        // Sleeps never end, and the user interrupts the first one.
        let ran = run(CREATE, &mut manager, TestEnv { interrupt: true, ..TestEnv::default() }).await;
        assert_eq!((ran.code, manager.listed.len()), (130, readings), "{tasks} tasks");
    }
}

#[test]
fn every_command_that_waits_can_be_told_not_to() {
    for command in super::WAITING {
        let rest = if command.ends_with("create") { "--name web --image x" } else { "web=1" };
        super::parsed_as_given(&format!("{command} --detach --timeout 1m {rest}"));
    }
}

#[tokio::test]
async fn what_holds_a_task_up_is_told_and_a_lost_manager_ends_the_wait() {
    let mut manager = Fake::new();
    let ran = run(CREATE, &mut manager, TestEnv::default()).await;
    assert_eq!(ran.code, 7);
    assert!(ran.err.contains("web.2: pending: no suitable node (2 of 3 nodes lack 2 GiB)\n"), "{}", ran.err);
    assert!(ran.err.contains("hint: the operation continues"), "{}", ran.err);
}

#[tokio::test]
async fn an_update_that_stops_is_a_failure() {
    for state in [UpdateState::Paused, UpdateState::RollbackPaused, UpdateState::RollbackCompleted] {
        let mut manager = Fake::new();
        manager.readings = [(samples::service(), samples::tasks()), (with_update(state), samples::tasks())].into();
        manager.history = vec![(20, event())];
        let ran = run("service update web --image nginx:2 -d=false", &mut manager, TestEnv::default()).await;
        assert_eq!(ran.code, 5, "{state:?}");
        assert!(ran.err.contains(": 2 failed\nhint: "), "{}", ran.err);
    }
}

#[tokio::test]
async fn a_limit_and_the_user_end_it_with_their_own_codes() {
    let table = [
        (TestEnv { skip_sleeps: true, ..TestEnv::default() }, 6),
        (TestEnv { interrupt: true, ..TestEnv::default() }, 130),
    ];
    for (world, code) in table {
        let mut manager = Fake { endless: true, ..Fake::new() };
        let ran = run(CREATE, &mut manager, world).await;
        assert_eq!(ran.code, code, "{world:?}");
        let trouble = "; last problem: web.2 (nginx:1.27): no suitable node (2 of 3 nodes lack 2 GiB)\n";
        assert_eq!(ran.err.contains(trouble), code == 6, "{}", ran.err);
        assert!(ran.err.contains("`swarmctl service inspect web` shows its progress"), "{}", ran.err);
    }
}
