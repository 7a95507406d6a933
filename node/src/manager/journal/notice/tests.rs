//! Which events of a frame are logged for operators, at which level and with which text.

use events::{
    Annotations, Event, Id, LeadershipAssumed, NodeBecameReady, NodeDeclaredDown, NodeDisconnected, NodeJoined,
    NodeRegistered, NodeSpec, RestartPolicy, RollbackStarted, ServiceCreated, ServiceSpec, ServiceSpecUpdated,
    TaskDesiredStateSet, TaskReported, TaskStatus, Timestamp, UpdateCompleted, UpdatePaused, UpdateResumed,
    UpdateStarted,
};
use projections::Stamp;

use super::*;

fn node() -> NodeId {
    NodeId::from_bits(2)
}

fn service() -> ServiceId {
    ServiceId::from_bits(1)
}

fn task(number: u128) -> TaskId {
    TaskId::from_bits(number)
}

fn apply(cluster: &mut Cluster, index: u64, kinds: impl IntoIterator<Item = Kind>) {
    let at = Stamp { index, time: Timestamp::from_unix_ns(0) };
    for kind in kinds {
        cluster.apply(&Event::by_command(0, kind), &at);
    }
}

fn created(number: u128, slot: u64, replaces: Option<TaskId>) -> Kind {
    let cause = if replaces.is_some() { TaskCause::Restart } else { TaskCause::Scale };
    let desired = TaskState::Running.into();
    let task = task(number);
    let made = TaskCreated {
        task,
        service: service(),
        slot,
        spec_version: 1,
        desired,
        replaces,
        cause: cause.into(),
        ..Default::default()
    };
    Kind::TaskCreated(made)
}

fn ended(number: u128, error: &str) -> Kind {
    match error {
        "" => {
            let status = TaskStatus { state: TaskState::Complete.into(), ..Default::default() };
            Kind::TaskReported(TaskReported { task: task(number), status })
        }
        error => failed(number, error),
    }
}

fn failed(number: u128, error: &str) -> Kind {
    let status = TaskStatus { state: TaskState::Failed.into(), error: error.to_owned(), ..Default::default() };
    Kind::TaskReported(TaskReported { task: task(number), status })
}

fn let_go(numbers: &[u128], cause: DesiredCause) -> Kind {
    let tasks = numbers.iter().map(|number| task(*number)).collect();
    Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, desired: TaskState::Shutdown.into(), cause: cause.into() })
}

/// A node n2 and a service web with a task in each of two slots.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let annotations = Some(Annotations { name: "web".to_owned(), ..Default::default() });
    let spec = ServiceSpec { annotations, ..Default::default() };
    let joined = NodeJoined { node: node(), hostname: "n2".to_owned(), ..Default::default() };
    let service = ServiceCreated { service: service(), spec };
    apply(
        &mut cluster,
        1,
        [Kind::NodeJoined(joined), Kind::ServiceCreated(Box::new(service)), created(3, 1, None), created(4, 2, None)],
    );
    cluster
}

fn logged(before: &Cluster, after: &Cluster, kind: &Kind) -> String {
    logged_with(&mut CrashLoops::default(), before, after, kind)
}

fn logged_with(crash_loops: &mut CrashLoops, before: &Cluster, after: &Cluster, kind: &Kind) -> String {
    let notice = Witness { index: 7, before, after }.notice(kind, crash_loops);
    notice.map_or("-".to_owned(), |Notice { level, topic, sentence, index, .. }| {
        assert_eq!(index, Some(7));
        // The event is found by its number in a frame that is not decoded.
        assert_eq!(topic.name(), kind.name());
        format!("{level:?} {sentence}")
    })
}

#[test]
fn an_event_is_a_line_or_nothing() {
    let (node, service, reason, rollback) = (node(), service(), "2 of 3 tasks failed".to_owned(), Some(true));
    let spec = NodeSpec::default();
    let (hostname, addr) = ("n3".to_owned(), "10.0.0.3".to_owned());
    let joined = NodeJoined { node: NodeId::from_bits(9), spec, hostname, addr: addr.clone() };
    let last_heard = Timestamp::from_unix_ns(0);
    let removed = |forced, forgotten| Kind::NodeRemoved(NodeRemoved { node, forced, forgotten });
    let table = [
        (
            Kind::LeadershipAssumed(LeadershipAssumed { node, term: 4, ..Default::default() }),
            "Info node n2 leads the cluster in term 4",
        ),
        (Kind::NodeJoined(joined), "Info node n3 joined as worker, from 10.0.0.3"),
        (Kind::NodeRegistered(NodeRegistered { node, addr, ..Default::default() }), "Info node n2 is up, at 10.0.0.3"),
        (Kind::NodeBecameReady(NodeBecameReady { node }), "Info node n2 is up again in the same session"),
        (
            Kind::NodeDisconnected(NodeDisconnected { node, ..Default::default() }),
            "Info node n2 ended its session; unless it is back soon, it is down",
        ),
        (
            Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard, unheard: None }),
            "Warn node n2 is down: no heartbeat since 1970-01-01T00:00:00Z",
        ),
        (
            Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard, unheard: Some(true) }),
            "Warn node n2 is down: no heartbeat since 1970-01-01T00:00:00Z, when a manager took over; it may have been down \
             before",
        ),
        (removed(false, false), "Info node n2 was removed"),
        (removed(true, false), "Info node n2 was removed by force"),
        (removed(false, true), "Info node n2 was removed because it never registered"),
        (
            Kind::UpdateStarted(UpdateStarted { service, slots: 3, rollback: None }),
            "Info the update of service web started: 3 tasks to replace",
        ),
        (
            Kind::UpdateStarted(UpdateStarted { service, slots: 1, rollback }),
            "Info the rollback of service web started: 1 task to replace",
        ),
        (
            Kind::UpdatePaused(UpdatePaused { service, reason: reason.clone(), rollback: None }),
            "Warn the update of service web paused: 2 of 3 tasks failed",
        ),
        (
            Kind::UpdatePaused(UpdatePaused { service, reason: reason.clone(), rollback }),
            "Warn the rollback of service web paused: 2 of 3 tasks failed",
        ),
        (Kind::UpdateResumed(UpdateResumed { service, rollback: None }), "Info the update of service web was resumed"),
        (
            Kind::UpdateCompleted(UpdateCompleted { service, rollback: None }),
            "Info the update of service web completed",
        ),
        (Kind::UpdateCompleted(UpdateCompleted { service, rollback }), "Info the rollback of service web completed"),
        (
            Kind::RollbackStarted(RollbackStarted { service, reason }),
            "Warn the update of service web is rolled back: 2 of 3 tasks failed",
        ),
        (created(5, 3, None), "-"),
        (failed(3, "exit status 1"), "-"),
    ];
    let cluster = cluster();
    for (kind, line) in table {
        assert_eq!(logged(&cluster, &cluster, &kind), line);
        if matches!(kind, Kind::NodeRemoved(_)) {
            assert_eq!(logged(&cluster, &Cluster::default(), &kind), line, "the state before knows the name");
        }
    }
}

#[test]
fn a_node_that_flaps_is_not_said_to_be_up() {
    let registered =
        Kind::NodeRegistered(NodeRegistered { node: node(), addr: "10.0.0.3".to_owned(), ..Default::default() });
    let down = Kind::NodeDeclaredDown(NodeDeclaredDown { node: node(), ..Default::default() });
    let mut after = cluster();
    apply(&mut after, 2, [down.clone(), down.clone(), down, registered.clone()]);
    let line = "Warn node n2 is connected, at 10.0.0.3, and still counts as down: flapping: lost 3 times in 10 minutes; takes \
                tasks again at 1970-01-01T00:00:30.000000000Z if it stays connected";
    assert_eq!(logged(&cluster(), &after, &registered), line);
}

#[test]
fn a_stopped_rollout_is_logged_with_its_cause() {
    let before = cluster();
    let mut after = before.clone();
    apply(&mut after, 2, [failed(3, "exit status 1")]);
    let (service, reason) =
        (service(), format!("update paused due to failure or early termination of task {}", task(3)));
    let gone = "update paused due to failure or early termination of task 0000000000000000000000009".to_owned();
    let paused = |reason| Kind::UpdatePaused(UpdatePaused { service, reason, rollback: None });
    let back = Kind::RollbackStarted(RollbackStarted { service, reason: reason.clone() });
    let table = [
        (paused(reason), "Warn the update of service web paused: task web.1 failed: exit status 1".to_owned()),
        (back, "Warn the update of service web is rolled back: task web.1 failed: exit status 1".to_owned()),
        (paused(gone.clone()), format!("Warn the update of service web paused: {gone}")),
    ];
    for (kind, line) in table {
        assert_eq!(logged(&before, &after, &kind), line);
    }
}

#[test]
fn a_task_gives_up_when_it_failed_and_its_place_stays_empty() {
    let before = cluster();
    let both = let_go(&[3, 4], DesiredCause::Restart);
    let mut after = before.clone();
    apply(&mut after, 2, [failed(3, "exit status 1"), failed(4, "exit status 2"), both.clone()]);
    let line = "Warn task web.1 and 1 more gave up: exit status 1; its restart policy does not start it again";
    assert_eq!(logged(&before, &after, &both), line);
    let mut restarted = before.clone();
    apply(&mut restarted, 2, [failed(3, "exit status 1"), created(5, 1, Some(task(3)))]);
    assert_eq!(logged(&before, &restarted, &let_go(&[3], DesiredCause::Restart)), "-");
    assert_eq!(logged(&before, &after, &let_go(&[3], DesiredCause::ScaleDown)), "-");
}

/// The lines about a place whose task fails ten times with this error and this delay between restarts, where `at_once` events are
/// logged against the state after the last of them.
fn crash_loop(error: &str, delay_ns: Option<u64>, at_once: usize) -> Vec<String> {
    let mut after = cluster();
    let mut spec = ServiceSpec::clone(&after.services.get(service()).expect("it is there").spec);
    let restart = RestartPolicy { delay_ns, ..Default::default() };
    spec.task.get_or_insert_default().restart = Some(restart);
    let updated = ServiceSpecUpdated { service: service(), spec, ..Default::default() };
    apply(&mut after, 1, [Kind::ServiceSpecUpdated(Box::new(updated))]);
    let (before, mut crash_loops, mut waiting, mut lines) = (after.clone(), CrashLoops::default(), vec![], vec![]);
    for next in 10..20 {
        let last = if next == 10 { 3 } else { next - 1 };
        let again = created(next, 1, Some(task(last)));
        apply(&mut after, next as u64, [ended(last, error), again.clone()]);
        waiting.push(again);
        if waiting.len() == at_once {
            lines.extend(waiting.drain(..).map(|kind| logged_with(&mut crash_loops, &before, &after, &kind)));
        }
    }
    lines.retain(|line| line != "-");
    lines
}

#[test]
fn a_crash_loop_is_logged_once() {
    let grows = "each restart is delayed longer than the one before, up to a limit";
    let table = [
        ("exit status 1", None, 1, format!("failed 5 times in a row; {grows}: exit status 1")),
        ("exit status 1", None, 10, format!("failed 10 times in a row; {grows}: exit status 1")),
        ("", None, 1, format!("exited 5 times in a row, without an error; {grows}")),
        (
            "exit status 1",
            Some(2_000_000_000),
            1,
            "failed 5 times in a row; it is restarted 2s after each time: exit status 1".to_owned(),
        ),
    ];
    for (error, delay, at_once, line) in table {
        assert_eq!(crash_loop(error, delay, at_once), [format!("Warn task web.1 {line}")], "{error}");
    }
}

#[test]
fn what_no_event_says_is_seen_in_the_states() {
    let until = Timestamp::from_unix_ns(0);
    let before = Published { cluster: cluster(), leads: true, ..Published::default() };
    let quarantined = std::sync::Arc::new([(service(), until)].into());
    let after = Published { leads: false, quarantined, ..before.clone() };
    let logged: Vec<(Level, Topic)> =
        of_states(&before, &after).iter().map(|notice| (notice.level, notice.topic)).collect();
    assert_eq!(logged, [(Level::Warn, Topic::LeadershipLost), (Level::Error, Topic::ServiceSetAside)]);
    assert_eq!(of_states(&after, &after), []);
}

#[test]
fn a_topic_that_an_event_has_is_called_like_it() {
    let only_here = [Topic::LeadershipLost, Topic::ServiceSetAside];
    for topic in Topic::ALL.iter().filter(|topic| !only_here.contains(topic)) {
        assert!(events::catalogue::NAMES.contains(&topic.name()), "{topic:?}");
    }
}
