//! The effect of every task event on a task, in each of its states.

use std::panic::{AssertUnwindSafe, catch_unwind};

use events::{
    Event, Kind, NodeId, NodeJoined, Reconciler, ServiceCreated, ServiceId, ServiceSpec, TaskAssigned, TaskCreated,
    TaskDesiredStateSet, TaskOrphaned, TaskPlacementFailed, TaskReaped, TaskRejected, TaskReported, TaskStatus,
};

use super::*;

const TASK: TaskId = TaskId::MAX;
const NODE: NodeId = NodeId::MAX;
const SERVICE: ServiceId = ServiceId::MAX;

/// The states of a task, in order.
const STATES: [TaskState; 13] = [
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Accepted,
    TaskState::Preparing,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Shutdown,
    TaskState::Failed,
    TaskState::Rejected,
    TaskState::Remove,
    TaskState::Orphaned,
];

fn apply(cluster: &mut Cluster, kind: Kind) {
    cluster.apply(&Event::by_reconciler(Reconciler::Replicated, kind), &Stamp::default());
}

fn assigned() -> Kind {
    Kind::TaskAssigned(TaskAssigned { task: TASK, node: NODE, claims: Vec::new() })
}

fn desired(desired: TaskState) -> Kind {
    let cause = DesiredCause::ScaleDown.into();
    Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks: vec![TASK], desired: desired.into(), cause })
}

fn reported(state: TaskState) -> Kind {
    Kind::TaskReported(TaskReported { task: TASK, status: TaskStatus { state: state.into(), ..TaskStatus::default() } })
}

/// A cluster with one task, in this state.
fn cluster(state: TaskState) -> Cluster {
    let mut cluster = Cluster::default();
    apply(&mut cluster, Kind::NodeJoined(NodeJoined { node: NODE, ..NodeJoined::default() }));
    let created = ServiceCreated { service: SERVICE, spec: ServiceSpec::default() };
    apply(&mut cluster, Kind::ServiceCreated(Box::new(created)));
    let desired = TaskState::Running.into();
    let task = TaskCreated { task: TASK, service: SERVICE, slot: 1, desired, ..TaskCreated::default() };
    apply(&mut cluster, Kind::TaskCreated(task));
    if state > TaskState::Pending {
        apply(&mut cluster, assigned());
    }
    if state > TaskState::Assigned {
        apply(&mut cluster, reported(state));
    }
    cluster
}

/// The letter of the state after an event: `.` for an unchanged state, `-` for no task, and `!` if the event is impossible.
fn after(state: TaskState, event: &Kind) -> char {
    let mut cluster = cluster(state);
    let applied = catch_unwind(AssertUnwindSafe(|| apply(&mut cluster, event.clone())));
    match cluster.tasks.get(TASK) {
        _ if applied.is_err() => '!',
        None => '-',
        Some(task) if task.state == state => '.',
        Some(task) => letter(task.state),
    }
}

fn letter(state: TaskState) -> char {
    match state {
        TaskState::New => 'N',
        TaskState::Pending => 'P',
        TaskState::Assigned => 'A',
        TaskState::Accepted => 'C',
        TaskState::Preparing => 'p',
        TaskState::Ready => 'r',
        TaskState::Starting => 's',
        TaskState::Running => 'R',
        TaskState::Complete => 'c',
        TaskState::Shutdown => 'S',
        TaskState::Failed => 'F',
        TaskState::Rejected => 'J',
        TaskState::Remove => 'M',
        TaskState::Orphaned => 'O',
    }
}

#[test]
fn every_event_has_its_effect_in_every_state() {
    let message = String::new;
    let rejected = TaskRejected { task: TASK, message: message(), error: message() };
    let table = [
        //                                             PACprsRcSFJMO
        (assigned(), "A!!!!!!!!!!!!"),
        (reported(TaskState::Preparing), "ppp.!!!!!!!!!"),
        (reported(TaskState::Running), "RRRRRR.!!!!!!"),
        (reported(TaskState::Complete), "ccccccc.!!!!!"),
        (reported(TaskState::Failed), "FFFFFFFFF.!!!"),
        (Kind::TaskRejected(rejected), "JJJJJJJJJJ.!!"),
        (Kind::TaskOrphaned(TaskOrphaned { tasks: vec![TASK], message: message() }), "OOOOOOOOOOOO."),
        // A task that no node ever had ends at once; any other ends when its node reports it.
        (desired(TaskState::Shutdown), "S............"),
        (desired(TaskState::Remove), "S............"),
        // The desired state never decreases.
        (desired(TaskState::Running), "!!!!!!!!!!!!!"),
        (Kind::TaskPlacementFailed(TaskPlacementFailed { tasks: vec![TASK], explanation: message() }), "............."),
        (Kind::TaskReaped(TaskReaped { tasks: vec![TASK] }), "-------------"),
    ];
    for (event, expected) in table {
        let row: String = STATES.iter().map(|state| after(*state, &event)).collect();
        assert_eq!(row, expected, "{event:?}");
    }
}

/// What is derived from a task: whether it waits to be placed, uses resources of its node, is counted there as one that should
/// run, is listed at its node, and holds its slot.
fn derived(cluster: &Cluster) -> String {
    let usage = cluster.usage.of(NODE);
    let parts = [
        ("waits", cluster.unplaced().len() == 1),
        ("takes", usage.tasks == 1),
        ("active", usage.active == 1),
        ("listed", cluster.tasks_of_node(NODE).count() == 1),
        ("held", cluster.places().wanted(SERVICE) == 1),
        ("idle", cluster.places().is_idle(SERVICE, Instance::Slot(1))),
    ];
    parts.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_derived_follows_from_state_and_desired_state() {
    for state in STATES {
        let (wanted, stopping) = match state {
            TaskState::Pending => ("waits held", "idle"),
            TaskState::Assigned
            | TaskState::Accepted
            | TaskState::Preparing
            | TaskState::Ready
            | TaskState::Starting
            | TaskState::Running => ("takes active listed held", "takes listed idle"),
            TaskState::New
            | TaskState::Complete
            | TaskState::Shutdown
            | TaskState::Failed
            | TaskState::Rejected
            | TaskState::Remove
            | TaskState::Orphaned => ("listed held", "listed idle"),
        };
        let mut cluster = cluster(state);
        assert_eq!(derived(&cluster), wanted, "{state:?}");
        apply(&mut cluster, desired(TaskState::Shutdown));
        assert_eq!(derived(&cluster), stopping, "{state:?}, to be shut down");
        apply(&mut cluster, Kind::TaskReaped(TaskReaped { tasks: vec![TASK] }));
        assert_eq!(derived(&cluster), "", "{state:?}, reaped");
    }
}

#[test]
fn a_row_and_its_counts_of_references_fit_an_allocation_of_256_bytes() {
    assert!(size_of::<super::Task>() <= 256 - 2 * size_of::<usize>(), "{}", size_of::<super::Task>());
}
