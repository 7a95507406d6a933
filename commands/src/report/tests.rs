//! Given events, when a node reports, then events or a rejection.

use super::*;
use crate::Command;
use crate::testing::{Fixture, manager, node, registered, removed, session, status, web, worker};
use events::{Id, PortConfig, TaskCause, TaskCreated, Timestamp};

/// A cluster whose worker has an open session and one task in this state.
fn given(state: TaskState) -> (Fixture, TaskId) {
    let mut fixture = Fixture::with_worker();
    fixture.given([registered(worker(), 1)]);
    let service = fixture.service(&web());
    let task = fixture.task(1, service, Some((worker(), state)));
    (fixture, task)
}

fn report(number: u128, reports: Vec<(TaskId, TaskStatus)>) -> Command {
    Command::ReportTasks(crate::ReportTasks { node: worker(), session: session(number), reports })
}

/// The states that the cluster records for these reports, in order.
fn noted(fixture: &mut Fixture, reports: Vec<(TaskId, TaskStatus)>) -> Vec<TaskState> {
    recorded(fixture, reports).iter().map(TaskStatus::state).collect()
}

/// The reports that are recorded in history.
fn recorded(fixture: &mut Fixture, reports: Vec<(TaskId, TaskStatus)>) -> Vec<TaskStatus> {
    let decision = fixture.accept(&node(worker()), report(1, reports));
    let statuses = decision.events.iter().map(|kind| match kind {
        Kind::TaskReported(reported) => reported.status.clone(),
        other => panic!("{}", other.name()),
    });
    statuses.collect()
}

#[test]
fn a_state_only_rises_and_only_in_words_that_are_a_nodes() {
    let (mut fixture, task) = given(TaskState::Assigned);
    let silent = [0, 64, 192, 800, 832, 513];
    for number in silent {
        assert_eq!(
            noted(&mut fixture, vec![(task, TaskStatus { state: number, ..Default::default() })]),
            [],
            "{number}"
        );
    }
    for state in [TaskState::Accepted, TaskState::Preparing, TaskState::Running] {
        assert_eq!(noted(&mut fixture, vec![(task, status(state))]), [state]);
    }
    assert_eq!(noted(&mut fixture, vec![(task, status(TaskState::Starting))]), []);
    assert_eq!(noted(&mut fixture, vec![(task, status(TaskState::Failed))]), [TaskState::Failed]);
    assert_eq!(noted(&mut fixture, vec![(task, status(TaskState::Rejected))]), []);
    assert_eq!(fixture.state.tasks.get(task).map(|task| task.state), Some(TaskState::Failed));
}

#[test]
fn reports_of_one_command_are_judged_one_after_the_other() {
    let (mut fixture, task) = given(TaskState::Assigned);
    let states =
        [TaskState::Accepted, TaskState::Running, TaskState::Preparing, TaskState::Running, TaskState::Complete];
    let reports = states.map(|state| (task, status(state))).to_vec();
    assert_eq!(noted(&mut fixture, reports), [TaskState::Accepted, TaskState::Running, TaskState::Complete]);
}

#[test]
fn only_new_details_of_the_same_state_are_noted() {
    let (mut fixture, task) = given(TaskState::Running);
    let running = status(TaskState::Running);
    let later = TaskStatus { at: Some(Timestamp::from_unix_ns(9)), ..running.clone() };
    assert_eq!(noted(&mut fixture, vec![(task, running.clone()), (task, later)]), []);
    let unhealthy = TaskStatus { message: "unhealthy".into(), ..running.clone() };
    let port = PortConfig { target_port: 80, published_port: 32_768, ..Default::default() };
    let container = Some(ContainerStatus { ports: vec![port], ..Default::default() });
    let bound = TaskStatus { container, ..unhealthy.clone() };
    for news in [unhealthy, bound] {
        assert_eq!(noted(&mut fixture, vec![(task, news.clone()), (task, news.clone())]), [TaskState::Running]);
        assert_eq!(noted(&mut fixture, vec![(task, news)]), []);
    }
}

#[test]
fn a_node_speaks_for_its_own_tasks() {
    let (mut fixture, task) = given(TaskState::Running);
    let service = fixture.service(&crate::testing::replicated("other", 1));
    let foreign = fixture.task(5, service, Some((manager(), TaskState::Running)));
    let reports = vec![(task, status(TaskState::Complete)), (foreign, status(TaskState::Complete))];
    let refused = fixture.refuse(&node(worker()), report(1, reports));
    assert_eq!(refused.kind, RejectionKind::Forbidden);
    assert!(refused.sentence.contains(&foreign.to_string()), "{}", refused.sentence);
    let reaped = TaskId::from_bits(99);
    assert_eq!(noted(&mut fixture, vec![(reaped, status(TaskState::Complete))]), []);
}

#[test]
fn a_task_bound_to_a_node_is_not_yet_given_to_it() {
    let (mut fixture, _) = given(TaskState::Running);
    let service = fixture.service(&crate::testing::replicated("other", 1));
    let task = TaskId::from_bits(6);
    let created = TaskCreated {
        task,
        service,
        spec_version: fixture.state.services.get(service).expect("the service").template_version,
        slot: 0,
        node: Some(worker()),
        desired: TaskState::Running.into(),
        replaces: None,
        reaped: Vec::new(),
        start_after: None,
        cause: TaskCause::Scale.into(),
    };
    fixture.given([Kind::TaskCreated(created)]);
    assert_eq!(noted(&mut fixture, vec![(task, status(TaskState::Running))]), []);
}

#[test]
fn only_the_open_session_of_a_member_counts() {
    let (mut fixture, task) = given(TaskState::Running);
    let reports = vec![(task, status(TaskState::Complete))];
    assert_eq!(fixture.refuse(&node(worker()), report(2, reports.clone())).kind, RejectionKind::Conflict);
    let mut gone = Fixture::with_worker();
    gone.given([removed(worker())]);
    assert_eq!(gone.refuse(&node(worker()), report(1, reports.clone())).kind, RejectionKind::Forbidden);
    fixture.given([registered(worker(), 2)]);
    assert_eq!(fixture.refuse(&node(worker()), report(1, reports)).kind, RejectionKind::Conflict);
}

#[test]
fn a_report_is_cut_to_its_bounds() {
    let (mut fixture, task) = given(TaskState::Assigned);
    let long = "é".repeat(TEXT_BYTES_MAX);
    let container = ContainerStatus {
        container_id: "c".repeat(9_999),
        exit_code: Some(3),
        oom_killed: true,
        pid: 7,
        ports: vec![PortConfig { name: long.clone(), ..Default::default() }; PORTS_MAX + 1],
        warnings: vec![long.clone(); WARNINGS_MAX + 1],
    };
    let failed = TaskStatus {
        message: format!("a{long}"),
        error: long,
        container: Some(container),
        phases: vec![events::TaskPhase::default(); 1_000],
        ..status(TaskState::Failed)
    };
    let kept = recorded(&mut fixture, vec![(task, failed)]).remove(0);
    assert_eq!((kept.message.len(), kept.error.len()), (TEXT_BYTES_MAX - 1, TEXT_BYTES_MAX));
    assert_eq!(kept.phases.len(), PHASES_MAX);
    let container = kept.container.as_ref().expect("a container");
    assert_eq!((container.container_id.len(), container.ports.len()), (NAME_BYTES_MAX, PORTS_MAX));
    assert_eq!((container.exit_code, container.oom_killed, container.pid), (Some(3), true, 7));
    assert!(container.ports.iter().all(|port| port.name.len() <= NAME_BYTES_MAX));
    assert_eq!(container.warnings.len(), WARNINGS_MAX);
    assert!(container.warnings.iter().all(|text| text.len() <= TEXT_BYTES_MAX));
}

#[test]
fn too_many_reports_are_refused_whole() {
    let (mut fixture, task) = given(TaskState::Assigned);
    let many = |count| vec![(task, status(TaskState::Running)); count];
    assert_eq!(fixture.refuse(&node(worker()), report(1, many(REPORTS_MAX + 1))).kind, RejectionKind::Exhausted);
    assert_eq!(noted(&mut fixture, many(REPORTS_MAX)), [TaskState::Running]);
    let wordy = (0..=frame::BYTES_SOFT_MAX / TEXT_BYTES_MAX).map(|number| {
        let message = format!("{number:0>TEXT_BYTES_MAX$}");
        (task, TaskStatus { message, ..status(TaskState::Running) })
    });
    assert_eq!(fixture.refuse(&node(worker()), report(1, wordy.collect())).kind, RejectionKind::Exhausted);
}
