//! A task's life cycle, as inputs and the resulting actions.

use super::*;

const ZERO: Timestamp = Timestamp::from_unix_ns(0);

fn ms(ms: u64) -> Timestamp {
    ZERO + Duration::from_millis(ms)
}

fn container(id: &str) -> ContainerStatus {
    ContainerStatus { container_id: id.into(), ..ContainerStatus::default() }
}

fn exited(code: i32) -> StepOutcome {
    StepOutcome::Ended { container: ContainerStatus { exit_code: Some(code), ..container("c") }, reason: None }
}

fn assigned(desired: TaskState) -> TaskMachine {
    TaskMachine::assigned(desired, TaskState::Assigned, ZERO)
}

/// Takes actions until the machine waits; returns the calls, the reports and the wake-up time.
fn drive(machine: &mut TaskMachine, now: Timestamp) -> (Vec<Call>, Vec<TaskStatus>, Option<Timestamp>) {
    let (mut calls, mut reports) = (Vec::new(), Vec::new());
    loop {
        match machine.next(now) {
            Action::Call(call) => calls.push(call),
            Action::Report(status) => reports.push(status),
            Action::Sleep(wake_at) => return (calls, reports, wake_at),
            Action::Forget => panic!("not to be forgotten"),
        }
    }
}

/// A machine that reached `state` in the ordinary way, with everything reported.
fn at(state: TaskState, now: Timestamp) -> TaskMachine {
    let mut machine = assigned(TaskState::Running);
    drive(&mut machine, now);
    let outcomes = [
        (TaskState::Preparing, StepOutcome::Prepared(container("c"))),
        (TaskState::Starting, StepOutcome::Started(container("c"))),
        (TaskState::Running, exited(0)),
    ];
    for (before, outcome) in outcomes {
        if machine.status().state() == state {
            break;
        }
        assert_eq!(machine.status().state(), before);
        machine.finished(outcome, now);
        drive(&mut machine, now);
    }
    machine.reported = true;
    assert_eq!(machine.status().state(), state);
    machine
}

fn phases(status: &TaskStatus) -> Vec<(TaskState, Timestamp)> {
    status.phases.iter().map(|phase| (phase.state(), phase.at.expect("a time"))).collect()
}

#[test]
fn a_quick_start_is_one_report_at_running() {
    let mut machine = assigned(TaskState::Running);
    assert_eq!(drive(&mut machine, ms(0)), (vec![Call::Prepare], vec![], Some(ms(1000))));
    machine.finished(StepOutcome::Prepared(container("c")), ms(10));
    assert_eq!(drive(&mut machine, ms(10)), (vec![Call::Start], vec![], Some(ms(1010))));
    machine.finished(StepOutcome::Started(ContainerStatus { pid: 7, ..container("c") }), ms(30));
    let (calls, reports, wake_at) = drive(&mut machine, ms(30));
    assert_eq!((calls, wake_at), (vec![Call::Wait], None));
    let [report] = &reports[..] else { panic!("one report, not {reports:?}") };
    assert_eq!((report.state(), report.at, report.message.as_str()), (TaskState::Running, Some(ms(30)), "started"));
    assert_eq!(report.container.as_ref().expect("a container").pid, 7);
    let expected =
        [(TaskState::Accepted, 0), (TaskState::Preparing, 0), (TaskState::Ready, 10), (TaskState::Starting, 10)];
    assert_eq!(phases(report), expected.map(|(state, at)| (state, ms(at))));
}

#[test]
fn what_was_warned_of_at_the_making_is_still_known_at_the_end() {
    let mut machine = assigned(TaskState::Running);
    drive(&mut machine, ms(0));
    machine.finished(
        StepOutcome::Prepared(ContainerStatus { warnings: vec!["no swap".into()], ..container("c") }),
        ms(10),
    );
    drive(&mut machine, ms(10));
    machine.finished(StepOutcome::Started(ContainerStatus { pid: 7, ..container("c") }), ms(20));
    drive(&mut machine, ms(20));
    machine.finished(exited(1), ms(30));
    let known = machine.status().container.expect("a container");
    assert_eq!((known.warnings, known.exit_code), (vec!["no swap".to_owned()], Some(1)));
}

#[test]
fn a_slow_pull_is_reported_after_a_second() {
    let mut machine = assigned(TaskState::Running);
    let (_, reports, wake_at) = drive(&mut machine, ms(0));
    assert_eq!((reports, wake_at), (vec![], Some(ms(1000))));
    assert_eq!(drive(&mut machine, ms(999)), (vec![], vec![], Some(ms(1000))));
    let (_, reports, wake_at) = drive(&mut machine, ms(1000));
    assert_eq!(wake_at, None);
    assert_eq!((reports[0].state(), reports[0].at), (TaskState::Preparing, Some(ms(0))));
    assert_eq!(phases(&reports[0]), [(TaskState::Accepted, ms(0))]);
    machine.finished(StepOutcome::Prepared(container("c")), ms(5000));
    drive(&mut machine, ms(5000));
    machine.finished(StepOutcome::Started(container("c")), ms(5001));
    let (_, reports, _) = drive(&mut machine, ms(5001));
    assert_eq!(
        phases(&reports[0]),
        [(TaskState::Ready, ms(5000)), (TaskState::Starting, ms(5000))],
        "what was reported is not reported again"
    );
}

#[test]
fn a_delayed_start_pauses_at_ready_until_it_is_raised() {
    let mut machine = assigned(TaskState::Ready);
    drive(&mut machine, ms(0));
    machine.finished(StepOutcome::Prepared(container("c")), ms(10));
    assert_eq!(drive(&mut machine, ms(10)), (vec![], vec![], None), "that it is ready ahead of its start is no news");
    machine.assign(TaskState::Running, TaskState::Assigned);
    assert_eq!(drive(&mut machine, ms(900)).0, [Call::Start]);
    machine.assign(TaskState::Ready, TaskState::Assigned);
    assert_eq!(machine.desired(), TaskState::Running, "desired states only rise");
    machine.finished(StepOutcome::Started(container("c")), ms(950));
    let (_, reports, _) = drive(&mut machine, ms(950));
    let passed = [TaskState::Accepted, TaskState::Preparing, TaskState::Ready, TaskState::Starting];
    assert_eq!(phases(&reports[0]).iter().map(|(state, _)| *state).collect::<Vec<_>>(), passed);
}

#[test]
fn trouble_ahead_of_a_start_is_reported_and_taken_back() {
    let mut machine = assigned(TaskState::Ready);
    drive(&mut machine, ms(0));
    machine.finished(StepOutcome::Failed(Call::Prepare, CallError::Temporary("registry away".into())), ms(10));
    let (_, reports, _) = drive(&mut machine, ms(1010));
    assert_eq!(reports.iter().map(|report| report.error.as_str()).collect::<Vec<_>>(), ["registry away"]);
    machine.finished(StepOutcome::Prepared(container("c")), ms(1020));
    let (_, reports, _) = drive(&mut machine, ms(1020));
    assert_eq!(
        reports.iter().map(|report| (report.state(), report.error.as_str())).collect::<Vec<_>>(),
        [(TaskState::Ready, "")]
    );
}

#[test]
fn every_state_and_call_has_its_outcome() {
    let fatal = |call| StepOutcome::Failed(call, CallError::Fatal("no such thing".into()));
    let unhealthy = StepOutcome::Ended { container: container("c"), reason: Some("unhealthy container".into()) };
    let oom = StepOutcome::Ended {
        container: ContainerStatus { exit_code: Some(137), oom_killed: true, ..container("c") },
        reason: None,
    };
    let starved = ContainerStatus { exit_code: Some(137), oom_killed: true, ..container("c") };
    let starved = StepOutcome::Ended { container: starved, reason: Some("unhealthy container".into()) };
    let unknown = StepOutcome::Ended { container: container("c"), reason: None };
    let cases = [
        (TaskState::Preparing, fatal(Call::Prepare), TaskState::Rejected, "rejected", "no such thing"),
        (TaskState::Running, exited(0), TaskState::Complete, "finished", ""),
        (TaskState::Running, exited(3), TaskState::Failed, "failed", "task: non-zero exit (3)"),
        (TaskState::Running, oom, TaskState::Failed, "failed", "task: non-zero exit (137): out of memory"),
        (TaskState::Running, unhealthy, TaskState::Failed, "failed", "unhealthy container"),
        (TaskState::Running, starved, TaskState::Failed, "failed", "unhealthy container: out of memory"),
        (TaskState::Running, unknown, TaskState::Failed, "failed", "task: ended with an unknown exit code"),
    ];
    for (before, outcome, after, message, error) in cases {
        let mut machine = at(before, ms(0));
        let exit = match &outcome {
            StepOutcome::Ended { container, .. } => container.exit_code,
            _ => None,
        };
        machine.finished(outcome, ms(50));
        let (calls, reports, wake_at) = drive(&mut machine, ms(50));
        assert_eq!((calls, wake_at), (vec![], None));
        let [report] = &reports[..] else { panic!("one report, not {reports:?}") };
        assert_eq!((report.state(), report.message.as_str(), report.error.as_str()), (after, message, error));
        assert_eq!(report.container.as_ref().and_then(|container| container.exit_code), exit);
    }
}

#[test]
fn a_stop_gives_up_what_is_under_way() {
    for (state, given_up) in [
        (TaskState::Preparing, StepOutcome::Prepared(container("c"))),
        (TaskState::Starting, StepOutcome::Started(container("c"))),
        (TaskState::Running, exited(1)),
    ] {
        for desired in [TaskState::Shutdown, TaskState::Remove] {
            let mut machine = at(state, ms(0));
            machine.assign(desired, state);
            assert_eq!(drive(&mut machine, ms(10)).0, [Call::Shutdown]);
            machine.finished(given_up.clone(), ms(11));
            assert_eq!(machine.status().state(), state, "the result of a call that was given up is ignored");
            machine.finished(StepOutcome::Stopped(Some(container("d"))), ms(20));
            let (calls, reports, _) = drive(&mut machine, ms(20));
            assert_eq!(calls, []);
            assert_eq!((reports[0].state(), reports[0].message.as_str()), (TaskState::Shutdown, "shutdown"));
            assert_eq!(reports[0].container.as_ref().expect("a container").container_id, "d");
        }
    }
}

#[test]
fn a_stop_that_the_engine_refuses_is_tried_again_and_its_words_are_shown() {
    for state in [TaskState::Preparing, TaskState::Starting, TaskState::Running] {
        let mut machine = at(state, ms(0));
        machine.assign(TaskState::Shutdown, state);
        assert_eq!(drive(&mut machine, ms(0)).0, [Call::Shutdown]);
        let mut now = ms(2_000);
        for (pause_s, reported) in [(1, 1), (2, 0), (4, 0), (8, 0), (16, 0), (30, 0), (30, 0)] {
            machine.finished(StepOutcome::Failed(Call::Shutdown, CallError::Fatal("cannot kill it".into())), now);
            let again = now + Duration::from_secs(pause_s);
            let (calls, reports, wake_at) = drive(&mut machine, now);
            assert_eq!((calls, wake_at), (vec![], Some(again)), "{state:?}");
            assert_eq!(reports.len(), reported, "{state:?}: the same words are no news");
            for report in reports {
                assert_eq!((report.state(), report.error.as_str()), (state, "cannot kill it"), "it has not ended");
            }
            assert_eq!(drive(&mut machine, again).0, [Call::Shutdown]);
            now = again;
        }
        machine.finished(StepOutcome::Stopped(Some(container("c"))), now);
        let (_, reports, _) = drive(&mut machine, now);
        assert_eq!((reports[0].state(), reports[0].error.as_str()), (TaskState::Shutdown, ""));
    }
}

#[test]
fn a_task_that_cannot_be_watched_fails_only_once_its_container_has_stopped() {
    let mut machine = at(TaskState::Running, ms(0));
    machine.finished(StepOutcome::Failed(Call::Wait, CallError::Fatal("no such thing".into())), ms(10));
    assert_eq!(drive(&mut machine, ms(10)), (vec![Call::Shutdown], vec![], None));
    machine.finished(StepOutcome::Failed(Call::Shutdown, CallError::Fatal("cannot kill it".into())), ms(20));
    let (calls, reports, wake_at) = drive(&mut machine, ms(20));
    assert_eq!((calls, wake_at), (vec![], Some(ms(1020))));
    assert_eq!((reports[0].state(), reports[0].error.as_str()), (TaskState::Running, "cannot kill it"));
    assert_eq!(drive(&mut machine, ms(1020)).0, [Call::Shutdown]);
    let end = ContainerStatus { exit_code: Some(137), ..container("c") };
    machine.finished(StepOutcome::Stopped(Some(end.clone())), ms(1030));
    let (calls, reports, wake_at) = drive(&mut machine, ms(1030));
    assert_eq!((calls, wake_at), (vec![], None));
    assert_eq!((reports[0].state(), reports[0].error.as_str()), (TaskState::Failed, "no such thing"));
    assert_eq!(reports[0].container, Some(end));
}

#[test]
fn a_task_whose_start_failed_has_failed_only_once_its_container_stands() {
    for end in [None, Some(ContainerStatus { exit_code: Some(137), ..container("c") })] {
        let mut machine = at(TaskState::Starting, ms(0));
        machine.finished(StepOutcome::Failed(Call::Start, CallError::Fatal("port in use".into())), ms(10));
        assert_eq!(drive(&mut machine, ms(10)), (vec![Call::Shutdown], vec![], None));
        machine.finished(StepOutcome::Failed(Call::Shutdown, CallError::Temporary("engine away".into())), ms(20));
        let (calls, reports, _) = drive(&mut machine, ms(20));
        assert_eq!((calls, reports), (vec![], vec![]), "it may run: nobody puts another in its place yet");
        assert_eq!(drive(&mut machine, ms(1020)).0, [Call::Shutdown]);
        machine.finished(StepOutcome::Stopped(end), ms(1030));
        let (calls, reports, wake_at) = drive(&mut machine, ms(1030));
        assert_eq!((calls, wake_at), (vec![], None));
        assert_eq!((reports[0].state(), reports[0].error.as_str()), (TaskState::Failed, "port in use"));
    }
}

#[test]
fn a_task_that_cannot_be_watched_and_is_to_stop_has_just_stopped() {
    let mut machine = at(TaskState::Running, ms(0));
    machine.finished(StepOutcome::Failed(Call::Wait, CallError::Fatal("no such thing".into())), ms(10));
    drive(&mut machine, ms(10));
    machine.assign(TaskState::Shutdown, TaskState::Running);
    assert_eq!(drive(&mut machine, ms(11)).0, [], "the stop under way will do");
    machine.finished(StepOutcome::Stopped(None), ms(20));
    let (_, reports, _) = drive(&mut machine, ms(20));
    assert_eq!((reports[0].state(), reports[0].error.as_str()), (TaskState::Shutdown, ""));
}

#[test]
fn a_task_that_the_cluster_wrote_off_is_stopped() {
    for known in [TaskState::Rejected, TaskState::Orphaned] {
        let mut machine = at(TaskState::Running, ms(0));
        machine.assign(TaskState::Running, known);
        assert_eq!(drive(&mut machine, ms(1)).0, [Call::Shutdown]);
    }
}

#[test]
fn a_call_that_may_succeed_later_is_repeated_with_growing_pauses() {
    let mut machine = assigned(TaskState::Running);
    drive(&mut machine, ms(0));
    let mut now = ms(0);
    for pause_s in [1, 2, 4, 8, 16] {
        machine.finished(StepOutcome::Failed(Call::Prepare, CallError::Temporary("engine away".into())), now);
        let again = now + Duration::from_secs(pause_s);
        assert_eq!(drive(&mut machine, again - Duration::from_nanos(1)).0, []);
        assert_eq!(drive(&mut machine, again).0, [Call::Prepare]);
        assert_eq!(machine.status().state(), TaskState::Preparing);
        now = again;
    }
    machine.finished(StepOutcome::Prepared(container("c")), now);
    drive(&mut machine, now);
    machine.finished(StepOutcome::Failed(Call::Start, CallError::Temporary("engine away".into())), now);
    let again = drive(&mut machine, now + Duration::from_secs(1)).0;
    assert_eq!(again, [Call::Start], "another call starts with a short pause again");
}

#[test]
fn an_engine_that_stays_away_costs_the_task_its_place() {
    for (reached, call, ends) in [
        (TaskState::Preparing, Call::Prepare, TaskState::Rejected),
        (TaskState::Starting, Call::Start, TaskState::Failed),
    ] {
        let mut machine = at(reached, ms(0));
        let mut now = ms(0);
        for pause_s in [1, 2, 4, 8, 16, 0] {
            machine.finished(StepOutcome::Failed(call, CallError::Temporary("engine away".into())), now);
            now = now + Duration::from_secs(pause_s);
            drive(&mut machine, now);
        }
        if call == Call::Start {
            assert_eq!(machine.status().state(), reached, "a start may have been heard");
            machine.finished(StepOutcome::Stopped(None), now);
        }
        let status = machine.status();
        assert_eq!((status.state(), status.error.as_str()), (ends, "engine away"));
    }
}

#[test]
fn a_long_wait_that_breaks_off_is_taken_up_soon() {
    let mut machine = at(TaskState::Running, ms(0));
    for broken_off in [ms(0), ms(1_000), ms(3_000), ms(3_600_000)] {
        assert_eq!(drive(&mut machine, broken_off).0.len(), usize::from(broken_off > ms(0)));
        machine.finished(StepOutcome::Failed(Call::Wait, CallError::Temporary("engine away".into())), broken_off);
    }
    assert_eq!(drive(&mut machine, ms(3_600_000)).2, Some(ms(3_601_000)));
}

#[test]
fn the_reason_for_waiting_is_recorded_once_and_cleared() {
    let mut machine = assigned(TaskState::Running);
    drive(&mut machine, ms(0));
    let away = || StepOutcome::Failed(Call::Prepare, CallError::Temporary("engine away".into()));
    machine.finished(away(), ms(100));
    assert_eq!(drive(&mut machine, ms(100)).1, [], "it may be over within the second");
    let (_, reports, _) = drive(&mut machine, ms(1000));
    assert_eq!((reports[0].state(), reports[0].error.as_str()), (TaskState::Preparing, "engine away"));
    drive(&mut machine, ms(1100));
    machine.finished(away(), ms(1200));
    assert_eq!(drive(&mut machine, ms(3200)).1, [], "the same reason is no news");
    machine.finished(StepOutcome::Prepared(container("c")), ms(3300));
    assert_eq!(machine.status().error, "");
}

#[test]
fn an_absent_engine_does_not_change_a_running_task() {
    let mut machine = at(TaskState::Running, ms(0));
    machine.finished(StepOutcome::Failed(Call::Wait, CallError::Temporary("engine away".into())), ms(10));
    assert_eq!(drive(&mut machine, ms(10)), (vec![], vec![], Some(ms(1010))));
    assert_eq!(drive(&mut machine, ms(1010)), (vec![Call::Wait], vec![], None));
}

#[test]
fn a_withdrawn_task_is_stopped_removed_and_forgotten_in_silence() {
    let mut machine = at(TaskState::Running, ms(0));
    machine.withdraw();
    assert_eq!(drive(&mut machine, ms(1)), (vec![Call::Shutdown], vec![], None));
    machine.finished(StepOutcome::Stopped(None), ms(2));
    assert_eq!(drive(&mut machine, ms(2)), (vec![Call::Remove], vec![], None));
    machine.finished(StepOutcome::Failed(Call::Remove, CallError::Fatal("device busy".into())), ms(3));
    assert_eq!(
        drive(&mut machine, ms(3)),
        (vec![], vec![], Some(ms(1003))),
        "a container must go, so it is tried again"
    );
    assert_eq!(drive(&mut machine, ms(1003)).0, [Call::Remove]);
    machine.finished(StepOutcome::Removed, ms(1004));
    assert_eq!(machine.next(ms(1004)), Action::Forget);
}

#[test]
fn a_resumed_task_continues_and_reports_it() {
    for (state, call, at_once) in [
        (TaskState::Preparing, vec![Call::Prepare], false),
        (TaskState::Starting, vec![Call::Start], false),
        (TaskState::Running, vec![Call::Wait], true),
        (TaskState::Failed, vec![], true),
    ] {
        let status = TaskStatus { state: state.into(), at: Some(ms(0)), ..TaskStatus::default() };
        let mut machine = TaskMachine::resumed(TaskState::Running, status.clone());
        let (calls, reports, _) = drive(&mut machine, ms(1));
        assert_eq!(calls, call);
        assert_eq!(reports, if at_once { vec![status.clone()] } else { vec![] });
        let (_, later, _) = drive(&mut machine, ms(1000));
        assert_eq!(later, if at_once { vec![] } else { vec![status] });
    }
}

#[test]
fn a_task_known_to_run_is_adopted_and_not_started() {
    let mut machine = TaskMachine::assigned(TaskState::Running, TaskState::Running, ms(0));
    assert_eq!(drive(&mut machine, ms(0)), (vec![Call::Wait], vec![], None));
}

#[test]
fn long_words_of_an_engine_are_cut_between_characters() {
    let words = "ä".repeat(ERROR_BYTES_MAX);
    let cut = shortened(format!("x{words}"));
    assert_eq!(cut.len(), ERROR_BYTES_MAX - 1);
    assert_eq!(shortened("short".into()), "short");
}
