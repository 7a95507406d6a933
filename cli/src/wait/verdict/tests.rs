//! When a wait ends, and what it shows until then.

use super::*;
use crate::format::samples;
use events::Id as _;
use wire::v1::UpdateStatus;

fn running(slot: u64) -> TaskView {
    samples::task(u128::from(slot), slot, TaskState::Running, TaskState::Running, 1)
}

fn update(state: UpdateState) -> Option<UpdateStatus> {
    Some(UpdateStatus {
        state: state.into(),
        started_at: samples::NOW,
        completed_at: None,
        message: "why".to_owned(),
        requested: false,
    })
}

/// Judges a service with exactly these tasks.
fn judge(service: &ServiceView, tasks: &[TaskView], goal: Goal) -> Verdict {
    super::judge(&samples::counted(service.clone(), tasks), tasks, goal)
}

fn is_converged(service: &ServiceView, tasks: &[TaskView], goal: Goal) -> bool {
    matches!(judge(service, tasks, goal), Verdict::Converged(_))
}

#[test]
fn every_slot_must_run() {
    let service = samples::service();
    assert!(is_converged(&service, &[running(1), running(2)], Goal::Spec));
    let waiting = samples::tasks();
    let Verdict::Underway(progress_view) = judge(&service, &waiting, Goal::Spec) else { panic!("one task waits") };
    assert_eq!(progress_view.headline, "web: 1 of 2 tasks running");
    assert_eq!(progress_view.tasks[1].detail(), "pending: no suitable node (2 of 3 nodes lack 2 GiB)");
}

#[test]
fn many_tasks_are_judged_by_looking_each_up_and_only_troubles_have_lines() {
    // With quadratic time, this would take hours.
    let count = 100_000;
    let mut service = samples::service();
    service.desired_tasks = count;
    let image = String::new();
    let small = |task: TaskView| TaskView { spec: None, image: image.clone(), ..task };
    let failed =
        (1..=count).map(|slot| small(samples::task(u128::from(slot), slot, TaskState::Shutdown, TaskState::Failed, 9)));
    let next = (1..=count).map(|slot| {
        let task = samples::task(u128::from(count + slot), slot, TaskState::Running, TaskState::Running, 1);
        TaskView { replaces: Some(TaskId::from_bits(u128::from(slot))), ..small(task) }
    });
    let mut tasks: Vec<TaskView> = failed.chain(next).collect();
    let Verdict::Converged(progress_view) = judge(&service, &tasks, Goal::Count) else { panic!("all run") };
    assert_eq!((progress_view.count, progress_view.tasks), (100_000, vec![]));

    tasks[6].status.error = "exit status 1".to_owned();
    tasks[100_006].status.state = TaskState::Ready.into();
    let Verdict::Underway(progress_view) = judge(&service, &tasks, Goal::Count) else { panic!("one does not run yet") };
    assert_eq!(progress_view.count, 100_000);
    let lines: Vec<String> =
        progress_view.tasks.iter().map(|task| format!("{} {}", task.place, task.detail())).collect();
    assert_eq!(lines, ["web.7 ready: last attempt failed: exit status 1"]);
}

#[test]
fn the_counts_of_a_large_service_stand_for_tasks_that_were_not_read() {
    let mut service = samples::service();
    (service.desired_tasks, service.live_tasks) = (100_000, 100_000);
    (service.current_tasks, service.running_tasks, service.current_running_tasks) = (100_000, 99_999, 99_998);
    let progress_view = |service: &ServiceView, goal| match super::judge(service, &[], goal) {
        Verdict::Converged(progress_view) => (true, progress_view.headline, progress_view.count),
        Verdict::Underway(progress_view) | Verdict::Failed { progress_view, .. } => {
            (false, progress_view.headline, progress_view.count)
        }
    };
    let running = |number: u64| format!("web: {number} of 100000 tasks running");
    assert_eq!(progress_view(&service, Goal::Count), (false, running(99_999), 100_000));
    assert_eq!(progress_view(&service, Goal::New), (false, running(99_998), 100_000));
    (service.running_tasks, service.current_running_tasks) = (100_000, 100_000);
    assert_eq!(progress_view(&service, Goal::New), (true, running(100_000), 100_000));
    service.current_tasks = 99_999;
    assert_eq!(progress_view(&service, Goal::New), (false, running(100_000), 100_000));
    assert_eq!(progress_view(&service, Goal::Count), (true, running(100_000), 100_000));
}

#[test]
fn a_completed_update_of_a_global_service_spares_the_nodes_that_take_no_tasks() {
    let mut service = samples::service();
    let mut stale = running(2);
    stale.current = false;
    let tasks = [running(1), stale];
    service.update = update(UpdateState::Completed);
    assert!(!is_converged(&service, &tasks, Goal::Spec), "a replicated service has no such nodes");
    service.spec.mode = Some(events::service_spec::Mode::Global(events::GlobalMode {}));
    assert!(is_converged(&service, &tasks, Goal::Spec));
    service.update = update(UpdateState::Updating);
    assert!(!is_converged(&service, &tasks, Goal::Spec));
}

#[test]
fn a_place_tells_how_its_last_attempt_ended_until_the_next_one_runs() {
    let service = samples::service();
    let mut tasks = samples::tasks();
    tasks[1].waiting = None;
    tasks[1].replaces = Some(tasks[2].id);
    for (state, detail, trouble) in [
        (
            TaskState::Ready,
            "ready: last attempt failed: exit status 1",
            Some("web.2 (nginx:1.27 on worker-2): exit status 1"),
        ),
        (TaskState::Running, "running", None),
    ] {
        tasks[1].status.state = state.into();
        let (Verdict::Underway(progress_view) | Verdict::Converged(progress_view)) =
            judge(&service, &tasks, Goal::Count)
        else {
            panic!("nothing is lost")
        };
        assert_eq!(progress_view.tasks[1].detail(), detail);
        assert_eq!(progress_view.trouble().as_deref(), trouble);
    }
}

#[test]
fn a_place_that_is_given_up_is_shown_while_tasks_are_missing() {
    let mut service = samples::service();
    let mut tasks = [running(1), samples::tasks().remove(2)];
    tasks[1].desired = TaskState::Running.into();
    let Verdict::Underway(progress_view) = judge(&service, &tasks, Goal::Count) else { panic!("a task is missing") };
    assert_eq!(progress_view.tasks[1].detail(), "failed on worker-2: exit status 1");
    tasks[1].desired = TaskState::Shutdown.into();
    let Verdict::Failed { why, .. } = judge(&service, &tasks, Goal::Count) else { panic!("it has no more attempts") };
    assert_eq!(why, "web.2 (nginx:1.27 on worker-2) ended and is not restarted again: exit status 1");
    service.desired_tasks = 1;
    let Verdict::Converged(progress_view) = judge(&service, &tasks, Goal::Count) else { panic!("one is enough") };
    assert_eq!(progress_view.trouble(), None);
}

#[test]
fn tasks_of_an_older_spec_do_not_count_unless_only_numbers_matter() {
    let service = samples::service();
    let tasks = [running(1), running(2)].map(|task| TaskView { current: false, ..task });
    assert!(!is_converged(&service, &tasks, Goal::Spec));
    assert!(is_converged(&service, &tasks, Goal::Count));
}

#[test]
fn an_update_counts_what_is_updated_and_what_runs() {
    let mut service = samples::service();
    service.update = update(UpdateState::Updating);
    let tasks = [running(1), TaskView { current: false, ..running(2) }];
    let Verdict::Underway(progress_view) = judge(&service, &tasks, Goal::Spec) else { panic!("one is not updated") };
    assert_eq!(progress_view.headline, "web: updating, 1 of 2 tasks updated, 2 running");
    assert_eq!(progress_view.tasks[1].detail(), "running, not updated yet");
}

#[test]
fn only_an_update_helps_where_tasks_fail_while_it_is_paused() {
    let mut service = samples::service();
    service.update = update(UpdateState::Paused);
    assert!(is_converged(&service, &[running(1), running(2)], Goal::Count));
    let preparing = samples::task(2, 2, TaskState::Running, TaskState::Preparing, 1);
    assert!(matches!(judge(&service, &[running(1), preparing], Goal::Count), Verdict::Underway(_)));
    let Verdict::Failed { why, .. } = judge(&service, &samples::tasks(), Goal::Count) else { panic!("it is stuck") };
    assert_eq!(why, "web: the update is paused: why");
}

#[test]
fn a_place_that_ends_again_and_again_fails_the_wait_unless_it_runs_or_an_update_judges_it() {
    let looping = |failures, exits, last: &str, running_again| {
        let last_failure = last.to_owned();
        let known = Restarting { tasks: 1, failures, exits, last_failure, next_attempt: None, running_again };
        let waits = samples::task(2, 2, TaskState::Ready, TaskState::Assigned, 1);
        TaskView { restarting: Some(known), ..waits }
    };
    let stale = |task: TaskView| TaskView { current: false, ..task };
    let (exit, again) = ("exit status 1", "web.2 (nginx:1.27) failed 5 times in a row: exit status 1");
    // The task, the state of the update, the condition, and why the wait fails, if it does.
    let table = [
        (looping(4, 0, exit, false), None, Goal::New, ""),
        (looping(5, 0, exit, false), None, Goal::New, again),
        (looping(5, 0, exit, true), None, Goal::New, ""),
        (looping(0, 7, "", false), None, Goal::New, "web.2 (nginx:1.27) ended 7 times in a row: exited with code 0"),
        (looping(2, 3, exit, false), None, Goal::Count, "web.2 (nginx:1.27) ended 5 times in a row: exit status 1"),
        (looping(5, 0, exit, false), Some(UpdateState::Updating), Goal::Spec, ""),
        (looping(5, 0, exit, false), Some(UpdateState::Completed), Goal::Spec, again),
        (stale(looping(5, 0, exit, false)), Some(UpdateState::Completed), Goal::Spec, ""),
        (stale(looping(5, 0, exit, false)), Some(UpdateState::Updating), Goal::Count, again),
    ];
    for (number, (task, state, goal, expected)) in table.into_iter().enumerate() {
        let mut service = samples::service();
        service.update = state.and_then(update);
        let why = match judge(&service, &[running(1), task], goal) {
            Verdict::Failed { why, restarts, .. } => {
                assert!(restarts, "row {number}");
                why
            }
            Verdict::Underway(_) => String::new(),
            Verdict::Converged(_) => panic!("row {number}: one task does not run"),
        };
        assert_eq!(why, expected, "row {number}");
    }
    let mut many: Vec<TaskView> =
        (2..5).map(|slot| TaskView { slot: Some(slot), ..looping(5, 0, exit, false) }).collect();
    many.push(running(1));
    let Verdict::Failed { why, .. } = judge(&samples::service(), &many, Goal::New) else { panic!("none will run") };
    assert_eq!(why, format!("{again}; so did 2 more tasks"));
}

#[test]
fn a_surplus_task_and_a_running_update_are_waited_for() {
    let mut service = samples::service();
    assert!(!is_converged(&service, &[running(1), running(2), running(3)], Goal::Count));
    service.update = update(UpdateState::Updating);
    assert!(!is_converged(&service, &[running(1), running(2)], Goal::Spec));
    assert!(is_converged(&service, &[running(1), running(2)], Goal::Count));
    service.update = update(UpdateState::Completed);
    assert!(is_converged(&service, &[running(1), running(2)], Goal::Spec));
}

#[test]
fn an_update_that_stopped_is_a_failure_with_its_reason() {
    let mut service = samples::service();
    for state in [UpdateState::Paused, UpdateState::RollbackPaused, UpdateState::RollbackCompleted] {
        service.update = update(state);
        let Verdict::Failed { why, .. } = judge(&service, &[], Goal::Spec) else { panic!("{state:?} is an end") };
        assert!(why.ends_with(": why"), "{why}");
        let mut culprit = samples::tasks().remove(2);
        service.update.as_mut().expect("it was set").message = format!("failure of task {}", culprit.id);
        culprit.status.error = "no such image".to_owned();
        let Verdict::Failed { why, .. } = judge(&service, std::slice::from_ref(&culprit), Goal::Spec) else {
            panic!("{state:?} is an end")
        };
        assert!(why.ends_with(": no such image"), "{why}");
        // A failure under the rolled back spec is the cause, although the message does not name it.
        culprit.current = false;
        service.update.as_mut().expect("it was set").message = "why".to_owned();
        let Verdict::Failed { why, .. } = judge(&service, &[culprit], Goal::Spec) else {
            panic!("{state:?} is an end")
        };
        let cause = if state == UpdateState::RollbackCompleted { ": no such image" } else { ": why" };
        assert!(why.ends_with(cause), "{why}");
        assert!(
            !matches!(judge(&service, &[], Goal::Count), Verdict::Failed { .. }),
            "{state:?} is no concern of a scaling"
        );
    }
}

#[test]
fn a_task_that_ends_by_itself_but_should_not_is_a_trouble() {
    let service = samples::service();
    let (mut tasks, code) = (samples::tasks(), "exited with code 0");
    tasks[1].waiting = None;
    tasks[1].replaces = Some(tasks[2].id);
    tasks[1].status.state = TaskState::Ready.into();
    tasks[2].status.state = TaskState::Complete.into();
    tasks[2].status.error.clear();
    let Verdict::Underway(progress_view) = judge(&service, &tasks, Goal::Count) else { panic!("it is started again") };
    assert_eq!(progress_view.trouble(), Some(format!("web.2 (nginx:1.27 on worker-2): {code}")));
    assert_eq!(progress_view.tasks[1].detail(), format!("ready: last attempt complete: {code}"));
}

#[test]
fn one_shots_that_are_done_count_and_failed_ones_end_the_wait() {
    let mut service = samples::service();
    let policy = events::RestartPolicy { condition: Some(RestartCondition::None.into()), ..Default::default() };
    service.spec.task.get_or_insert_default().restart = Some(policy);
    let ended = |slot, end| samples::task(slot, slot as u64, TaskState::Shutdown, end, 1);
    assert!(is_converged(&service, &[ended(1, TaskState::Complete), ended(2, TaskState::Complete)], Goal::Spec));
    let tasks = [ended(1, TaskState::Complete), ended(2, TaskState::Failed)];
    let Verdict::Failed { why, .. } = judge(&service, &tasks, Goal::Spec) else { panic!("web.2 failed for good") };
    assert!(why.starts_with("web.2 (nginx:1.27) ended and is never restarted"), "{why}");
}
