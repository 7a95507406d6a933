//! Test support: given events, when a command, then events or a rejection.

use events::id::IdGenerator;
use events::service_spec::Mode;
use events::{
    Annotations, ClusterId, ClusterSpec, ContainerSpec, Event, Id, Kind, NodeId, NodeJoined, NodeRegistered,
    NodeRemoved, NodeSpec, ReplicatedMode, Role, ServiceId, ServiceSpec, SessionId, TaskAssigned, TaskCause,
    TaskCreated, TaskId, TaskReported, TaskSpec, TaskState, TaskStatus, Timestamp,
};
use projections::{Cluster, Stamp, check};

use crate::{Actor, Command, Ctx, Decision, InitialiseCluster, Rejection, SecretText, ServiceSecrets, decide};

/// A state and its position in the log.
pub(crate) struct Fixture {
    pub(crate) state: Cluster,
    index: u64,
    /// The reachable managers, by raft id.
    pub(crate) reached: std::sync::Arc<std::collections::BTreeSet<u64>>,
}

impl Fixture {
    /// Before a cluster is initialised.
    pub(crate) fn empty() -> Self {
        Self { state: Cluster::default(), index: 0, reached: Default::default() }
    }

    /// A cluster with its first manager.
    pub(crate) fn initialised() -> Self {
        let mut fixture = Self::empty();
        fixture.accept(&this_manager(), Command::InitialiseCluster(Box::new(initialise_request())));
        fixture
    }

    /// A cluster with its first manager and one worker.
    pub(crate) fn with_worker() -> Self {
        let mut fixture = Self::initialised();
        fixture.join(2);
        fixture
    }

    /// Makes the worker with this number join.
    pub(crate) fn join(&mut self, number: u128) -> NodeId {
        let node = NodeId::from_bits(number);
        let (hostname, addr) = (format!("node-{number}"), format!("10.0.0.{number}:1"));
        self.given([Kind::NodeJoined(NodeJoined { node, spec: NodeSpec::default(), hostname, addr })]);
        node
    }

    /// Creates a service by command.
    pub(crate) fn service(&mut self, spec: &ServiceSpec) -> ServiceId {
        let command = Command::CreateService(crate::CreateService {
            spec: Box::new(spec.clone()),
            secrets: ServiceSecrets::default(),
        });
        self.accept(&operator(), command).subject.expect("a subject").parse().expect("a service's id")
    }

    /// Creates a task of a service in a slot; with a node it is assigned, and brought to `state`.
    pub(crate) fn task(&mut self, number: u128, service: ServiceId, at: Option<(NodeId, TaskState)>) -> TaskId {
        let task = TaskId::from_bits(number);
        let created = TaskCreated {
            task,
            service,
            spec_version: self.state.services.get(service).expect("the service").template_version,
            slot: u64::try_from(number).expect("a small number"),
            node: None,
            desired: TaskState::Running.into(),
            replaces: None,
            reaped: Vec::new(),
            start_after: None,
            cause: TaskCause::Scale.into(),
        };
        self.given([Kind::TaskCreated(created)]);
        if let Some((node, state)) = at {
            self.given([Kind::TaskAssigned(TaskAssigned { task, node, claims: Vec::new() })]);
            if state > TaskState::Assigned {
                self.given([Kind::TaskReported(TaskReported { task, status: status(state) })]);
            }
        }
        task
    }

    /// Adds a frame with these events.
    pub(crate) fn given(&mut self, kinds: impl IntoIterator<Item = Kind>) {
        self.index += 1;
        let at = self.stamp();
        for kind in kinds {
            self.state.apply(&Event::by_command(0, kind), &at);
        }
        self.state.position = at;
        assert_eq!(check::check(&self.state), Vec::<String>::new(), "after frame {}", self.index);
    }

    /// The decision on a command; its events are added.
    pub(crate) fn accept(&mut self, actor: &Actor, command: Command) -> Decision {
        let decision = self.judge(actor, &command).unwrap_or_else(|rejection| panic!("{command:?}: {rejection:?}"));
        self.given(decision.events.clone());
        decision
    }

    /// The rejection of a command.
    pub(crate) fn refuse(&self, actor: &Actor, command: Command) -> Rejection {
        let rejection = self.judge(actor, &command).expect_err("the command is refused");
        assert!(!rejection.subject.is_empty() && !rejection.hint.is_empty(), "{rejection:?}");
        rejection
    }

    fn judge(&self, actor: &Actor, command: &Command) -> Result<Decision, Rejection> {
        let ids = IdGenerator::new(self.state.id(), self.index + 1);
        let reached = std::sync::Arc::clone(&self.reached);
        decide(&self.state, actor, command, &mut Ctx { now: self.stamp().time, ids, reached })
    }

    fn stamp(&self) -> Stamp {
        Stamp { index: self.index, time: Timestamp::from_unix_ns(i64::try_from(self.index).expect("a short fixture")) }
    }
}

pub(crate) fn manager() -> NodeId {
    NodeId::from_bits(1)
}

/// The worker of [`Fixture::with_worker`].
pub(crate) fn worker() -> NodeId {
    NodeId::from_bits(2)
}

pub(crate) fn operator() -> Actor {
    Actor::Operator("root".into())
}

pub(crate) fn this_manager() -> Actor {
    Actor::Manager(manager())
}

pub(crate) fn joiner() -> Actor {
    Actor::Joiner("10.0.0.9".into())
}

/// A worker, by its certificate.
pub(crate) fn node(id: NodeId) -> Actor {
    Actor::Node { id, role: Role::Worker }
}

pub(crate) fn session(number: u128) -> SessionId {
    SessionId::from_bits(number)
}

pub(crate) fn registered(node: NodeId, number: u128) -> Kind {
    Kind::NodeRegistered(NodeRegistered { node, session: session(number), addr: "10.0.0.2:1".into() })
}

pub(crate) fn removed(node: NodeId) -> Kind {
    Kind::NodeRemoved(NodeRemoved { node, forced: false, forgotten: false })
}

pub(crate) fn status(state: TaskState) -> TaskStatus {
    TaskStatus { state: state.into(), ..TaskStatus::default() }
}

/// The spec of a small service named `web`.
pub(crate) fn web() -> ServiceSpec {
    replicated("web", 1)
}

/// The spec of a small service.
pub(crate) fn replicated(name: &str, replicas: u64) -> ServiceSpec {
    let container = ContainerSpec { image: "busybox:local".into(), ..ContainerSpec::default() };
    ServiceSpec {
        annotations: Some(Annotations { name: name.into(), ..Annotations::default() }),
        task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas })),
        ..ServiceSpec::default()
    }
}

pub(crate) fn initialise_request() -> InitialiseCluster {
    InitialiseCluster {
        cluster: ClusterId::from_bits(77),
        spec: ClusterSpec::default(),
        root_cert_pem: "root".into(),
        root_digest: "digest".into(),
        root_key_pem: SecretText("key".into()),
        worker_token: (SecretText("SWMTKN-1-w".into()), [1; 32]),
        manager_token: (SecretText("SWMTKN-1-m".into()), [2; 32]),
        node: manager(),
        raft_id: 1,
        audit_key: None,
        feature_level_max: events::frame::FEATURE_LEVEL,
        hostname: "manager-1".into(),
        addr: "10.0.0.1:1".into(),
        cert_pem: "pem".into(),
        cert_not_after: Timestamp::from_unix_ns(90),
    }
}
