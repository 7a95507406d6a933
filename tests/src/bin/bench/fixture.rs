//! Clusters for measurements, built from events as a leader would write them.

use events::service_spec::Mode;
use events::{
    Annotations, ContainerSpec, ContainerStatus, Event, Id, Kind, NodeDescribed, NodeDescription, NodeId, NodeJoined,
    NodeRegistered, NodeSpec, Placement, PlacementPreference, Platform, Reconciler, ReplicatedMode,
    ResourceRequirements, Resources, ServiceCreated, ServiceId, ServiceSpec, SessionId, TaskAssigned, TaskCause,
    TaskCreated, TaskId, TaskPhase, TaskReported, TaskSpec, TaskState, TaskStatus, Timestamp,
};
use projections::{Cluster, Stamp};

/// Values of the label that tasks are spread over.
const ZONES: u64 = 10;
/// CPU and memory of a node; a task reserves a thousandth of each.
const NODE_NANO_CPUS: u64 = 64_000_000_000;
const NODE_MEMORY_BYTES: u64 = 256 << 30;

/// The stamp of the frame with this index.
pub fn stamp(index: u64) -> Stamp {
    Stamp { index, time: time(index) }
}

/// One millisecond per frame.
pub fn time(index: u64) -> Timestamp {
    Timestamp::from_unix_ns(i64::try_from(index * 1_000_000).unwrap_or(i64::MAX))
}

/// Applies these events as the frame with this index.
pub fn fold(cluster: &mut Cluster, index: u64, kinds: impl IntoIterator<Item = Kind>) {
    for kind in kinds {
        cluster.apply(&Event::by_reconciler(Reconciler::Schedule, kind), &stamp(index));
    }
}

/// An id that is as random as real ones, so that tables are packed as badly.
pub fn id<I: Id>(number: u64) -> I {
    let spread = u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    I::from_bits(spread ^ (spread >> 64))
}

/// Number of tasks with a common id prefix, like those created in one frame. A service with more replicas has as many alike.
const TASKS_OF_A_FRAME: u64 = 20;

/// The id of a task.
pub fn task_id(number: u64) -> TaskId {
    const BEGINNING: u32 = 16;
    let beginning = id::<TaskId>(number / TASKS_OF_A_FRAME).bits() >> (u128::BITS - BEGINNING);
    TaskId::from_bits(beginning << (u128::BITS - BEGINNING) | id::<TaskId>(number).bits() >> BEGINNING)
}

/// A node that joins, registers and describes itself.
pub fn node(number: u64) -> [Kind; 3] {
    let node: NodeId = id(number);
    let hostname = format!("worker-{number}");
    let addr = format!("10.{}.{}.{}:4242", number >> 16, number >> 8 & 255, number & 255);
    let spec = node_spec(number, "");
    let description = NodeDescription {
        hostname: hostname.clone(),
        platform: Some(Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() }),
        resources: Some(Resources { nano_cpus: NODE_NANO_CPUS, memory_bytes: NODE_MEMORY_BYTES, generic: Vec::new() }),
        version: "0.1.0".to_owned(),
        executor: "docker".to_owned(),
        ..NodeDescription::default()
    };
    [
        Kind::NodeJoined(NodeJoined { node, spec, hostname, addr: addr.clone() }),
        Kind::NodeRegistered(NodeRegistered { node, session: id::<SessionId>(number), addr }),
        Kind::NodeDescribed(Box::new(NodeDescribed { node, description })),
    ]
}

/// The desired state of a node: its labels, one of them variable.
pub fn node_spec(number: u64, note: &str) -> NodeSpec {
    let zone = format!("zone-{}", number % ZONES);
    let labels =
        [("zone", zone.as_str()), ("disk", "ssd"), ("note", note)].into_iter().filter(|(_, value)| !value.is_empty());
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    NodeSpec { annotations: Some(Annotations { labels, ..Annotations::default() }), ..NodeSpec::default() }
}

/// A service whose tasks reserve CPU and memory, require an SSD, and are spread over zones.
pub fn service(number: u64, replicas: u64) -> Kind {
    Kind::ServiceCreated(Box::new(ServiceCreated {
        service: id::<ServiceId>(number),
        spec: service_spec(number, replicas),
    }))
}

/// The spec of such a service.
pub fn service_spec(number: u64, replicas: u64) -> ServiceSpec {
    let reservations =
        Resources { nano_cpus: NODE_NANO_CPUS / 1_000, memory_bytes: NODE_MEMORY_BYTES / 1_000, generic: Vec::new() };
    let placement = Placement {
        constraints: vec!["node.labels.disk==ssd".to_owned()],
        preferences: vec![PlacementPreference { spread: "node.labels.zone".to_owned() }],
        ..Placement::default()
    };
    let task = TaskSpec {
        container: Some(ContainerSpec { image: "shop/web:1.0".to_owned(), ..ContainerSpec::default() }),
        resources: Some(ResourceRequirements { reservations: Some(reservations), ..ResourceRequirements::default() }),
        placement: Some(placement),
        ..TaskSpec::default()
    };
    ServiceSpec {
        annotations: Some(Annotations { name: format!("service-{number}"), ..Annotations::default() }),
        task: Some(task),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas })),
        ..ServiceSpec::default()
    }
}

/// A task of a service that was created in the frame `spec_version`.
pub fn task(number: u64, service: u64, spec_version: u64, slot: u64) -> Kind {
    Kind::TaskCreated(TaskCreated {
        task: task_id(number),
        service: id(service),
        spec_version,
        slot,
        node: None,
        desired: TaskState::Running.into(),
        replaces: None,
        reaped: Vec::new(),
        start_after: None,
        cause: TaskCause::Scale.into(),
    })
}

/// A task on its node.
pub fn assigned(task: u64, node: u64) -> Kind {
    Kind::TaskAssigned(TaskAssigned { task: task_id(task), node: id(node), claims: Vec::new() })
}

/// A report that a container runs, or has ended with `exit_code`.
pub fn reported(task: u64, state: TaskState, exit_code: Option<i32>, at: Timestamp) -> Kind {
    Kind::TaskReported(TaskReported { task: task_id(task), status: status(u128::from(task), state, exit_code, at) })
}

/// The status of such a container.
pub fn status(container: u128, state: TaskState, exit_code: Option<i32>, at: Timestamp) -> TaskStatus {
    let container_id = format!("{container:064x}");
    let container = ContainerStatus { container_id, pid: 4_242, exit_code, ..ContainerStatus::default() };
    let phases = [TaskState::Preparing, TaskState::Starting, state];
    TaskStatus {
        state: state.into(),
        at: Some(at),
        message: "started".to_owned(),
        container: Some(container),
        phases: phases.map(|phase| TaskPhase { state: phase.into(), at: Some(at) }).to_vec(),
        ..TaskStatus::default()
    }
}
