//! Fixed replies of a manager, for tests of the formatters.

use events::*;
use wire::v1::*;

use crate::values;

/// The current time in all samples.
pub const NOW: Timestamp = Timestamp::from_unix_ns(1_800_000_000_000_000_000);
/// Viewed now, without a terminal.
pub const VIEW: super::view::View = super::view::View { now: NOW, ids: false, width: None };

fn before(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ns(NOW.unix_ns() - seconds * 1_000_000_000)
}

pub fn meta(version: u64) -> Meta {
    Meta { version, created_at: before(200), updated_at: before(190) }
}

pub fn spec() -> ServiceSpec {
    ServiceSpec {
        annotations: Some(Annotations { name: "web".to_owned(), ..Default::default() }),
        task: Some(TaskSpec {
            container: Some(ContainerSpec { image: "nginx:1.27".to_owned(), ..Default::default() }),
            ..Default::default()
        }),
        mode: Some(service_spec::Mode::Replicated(ReplicatedMode { replicas: 2 })),
        ..Default::default()
    }
}

/// The event with which root created a service.
pub fn created(service: ServiceId, spec: ServiceSpec, reason: &str) -> EventRecord {
    let actor = ActorRecord { kind: ActorKind::Operator.into(), subject: "root".to_owned(), via: None };
    let command = CommandRecord {
        id: CommandId::from_bits(1),
        kind: "service.create".to_owned(),
        actor,
        reason: Some(reason.to_owned()),
        ..CommandRecord::default()
    };
    EventRecord {
        index: 12,
        ordinal: 3,
        log_time: Timestamp::from_unix_ns(1_500_000_000),
        event: Event::by_command(0, Kind::ServiceCreated(Box::new(ServiceCreated { service, spec }))),
        command: Some(Box::new(command)),
        subjects: vec![service.to_string()],
        names: [(service.to_string(), "web".to_owned())].into(),
        before: None,
        frame_hash: None,
    }
}

pub fn service() -> ServiceView {
    ServiceView {
        id: ServiceId::from_bits(9),
        meta: meta(7),
        spec: spec(),
        previous_spec: None,
        update: None,
        desired_tasks: 2,
        running_tasks: 1,
        restarting: None,
        set_aside_until: None,
        finished_places: 0,
        failed_places: 0,
        run: None,
        next_run: None,
        rebalanced: None,
        autoscaled: None,
        live_tasks: 2,
        current_tasks: 2,
        current_running_tasks: 1,
        current_finished_places: 0,
    }
}

/// A service view that counts exactly these tasks.
pub fn counted(service: ServiceView, tasks: &[TaskView]) -> ServiceView {
    let number = |is_such: &dyn Fn(&TaskView) -> bool| tasks.iter().filter(|task| is_such(task)).count() as u64;
    let place = |task: &TaskView| (task.slot, task.node.filter(|_| task.slot.is_none()));
    let live = |task: &TaskView| task.desired().is_wanted() && !task.status.state().is_terminal();
    let runs = |task: &TaskView| live(task) && task.status.state() == TaskState::Running;
    let has_successor = |task: &TaskView| tasks.iter().any(|other| live(other) && place(other) == place(task));
    let finished = |task: &TaskView| task.current && task.status.state() == TaskState::Complete && !has_successor(task);
    ServiceView {
        live_tasks: number(&live),
        running_tasks: number(&runs),
        current_tasks: number(&|task| live(task) && task.current),
        current_running_tasks: number(&|task| runs(task) && task.current),
        current_finished_places: number(&finished),
        ..service
    }
}

/// A service with most settings set.
pub fn full_service() -> ServiceView {
    let mut spec = spec();
    let labels = [("tier", "front"), ("team", "blue")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    spec.annotations = Some(Annotations { name: "web".to_owned(), labels: labels.into() });
    let reservations = Resources {
        nano_cpus: 500_000_000,
        memory_bytes: 0,
        generic: vec![values::generic::parse("gpu=1").expect("valid")],
    };
    let limits = Resources { memory_bytes: 512 << 20, ..Default::default() };
    spec.task = Some(TaskSpec {
        container: Some(ContainerSpec {
            image: "nginx:1.27".to_owned(),
            args: vec!["-g".to_owned(), "daemon off;".to_owned()],
            env: vec!["A=b".to_owned()],
            mounts: vec![values::mount::parse_bind("/srv:/data:ro").expect("valid")],
            ..Default::default()
        }),
        resources: Some(ResourceRequirements {
            limits: Some(limits),
            reservations: Some(reservations),
            ..Default::default()
        }),
        restart: Some(RestartPolicy { condition: Some(RestartCondition::OnFailure.into()), ..Default::default() }),
        placement: Some(Placement { constraints: vec!["node.labels.zone==east".to_owned()], ..Default::default() }),
        ..Default::default()
    });
    spec.update = Some(events::UpdateConfig {
        parallelism: Some(2),
        delay_ns: 1_000_000_000,
        failure_action: FailureAction::Rollback.into(),
        max_failure_ppm: 250_000,
        order: UpdateOrder::StartFirst.into(),
        ..Default::default()
    });
    spec.endpoint = Some(EndpointSpec { ports: vec![values::port::parse("http:80:8080").expect("valid")] });
    let update = UpdateStatus {
        state: UpdateState::Paused.into(),
        started_at: before(185),
        completed_at: None,
        message: "1 of 2 tasks failed".to_owned(),
        requested: false,
    };
    ServiceView { spec, update: Some(update), ..service() }
}

/// A task of the sample service.
pub fn task(id: u128, slot: u64, desired: TaskState, state: TaskState, seconds_ago: i64) -> TaskView {
    TaskView {
        id: TaskId::from_bits(id),
        meta: meta(8),
        name: format!("web.{slot}.{}", TaskId::from_bits(id)),
        service: ServiceId::from_bits(9),
        service_name: "web".to_owned(),
        slot: (slot > 0).then_some(slot),
        node: None,
        node_hostname: String::new(),
        desired: desired.into(),
        status: TaskStatus { state: state.into(), at: Some(before(seconds_ago)), ..Default::default() },
        spec_version: 7,
        spec: Some(spec()),
        waiting: None,
        claims: Vec::new(),
        replaces: None,
        restarting: None,
        image: spec().template().container().image.clone(),
        current: true,
    }
}

/// A running, a pending and a failed task.
pub fn tasks() -> Vec<TaskView> {
    let mut running = task(3, 1, TaskState::Running, TaskState::Running, 180);
    running.node = Some(NodeId::from_bits(2));
    running.node_hostname = "worker-1".to_owned();
    let mut waiting = task(4, 2, TaskState::Running, TaskState::Pending, 10);
    waiting.waiting = Some("no suitable node (2 of 3 nodes lack 2 GiB)".to_owned());
    let mut failed = task(5, 2, TaskState::Shutdown, TaskState::Failed, 11);
    failed.node = Some(NodeId::from_bits(6));
    failed.node_hostname = "worker-2".to_owned();
    failed.status.error = "exit status 1".to_owned();
    failed.status.container = Some(ContainerStatus {
        container_id: "c0ffee".to_owned(),
        exit_code: Some(137),
        oom_killed: true,
        ..Default::default()
    });
    vec![running, waiting, failed]
}

pub fn nodes() -> Vec<NodeView> {
    let node = |id, hostname: &str| NodeView {
        id: NodeId::from_bits(id),
        meta: meta(3),
        spec: NodeSpec::default(),
        description: Some(NodeDescription {
            hostname: hostname.to_owned(),
            platform: Some(Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() }),
            resources: Some(Resources {
                nano_cpus: 2_000_000_000,
                memory_bytes: 4 << 30,
                generic: events::spec::generic::parse("gpu=a,gpu=b").expect("valid"),
            }),
            executor: "docker".to_owned(),
            ..Default::default()
        }),
        state: NodeState::Ready.into(),
        message: String::new(),
        addr: format!("10.0.0.{id}"),
        role: Role::Worker.into(),
        leader: false,
        reserved: Resources { nano_cpus: 500_000_000, memory_bytes: 512 << 20, ..Default::default() },
        tasks: 2,
        certificate_not_after: None,
        manager: None,
        held_until: None,
    };
    let manager = NodeView {
        role: Role::Manager.into(),
        leader: true,
        certificate_not_after: Some(NOW),
        manager: Some(manager_status()),
        ..node(1, "manager")
    };
    let labels = [("zone".to_owned(), "east".to_owned())].into();
    let worker = NodeView {
        spec: NodeSpec {
            annotations: Some(Annotations { labels, ..Default::default() }),
            availability: Availability::Drain.into(),
            ..Default::default()
        },
        state: NodeState::Down.into(),
        message: "no heartbeat for 15s".to_owned(),
        ..node(2, "worker-1")
    };
    vec![manager, worker]
}

pub fn cluster() -> ClusterView {
    ClusterView {
        id: ClusterId::from_bits(7),
        name: "default".to_owned(),
        meta: meta(2),
        spec: ClusterSpec::default(),
        root_ca_digest: "abc".to_owned(),
        join_tokens: JoinTokens {
            worker: "SWMTKN-1-abc-worker".to_owned(),
            manager: "SWMTKN-1-abc-manager".to_owned(),
        },
        index: 42,
        manager_addrs: vec!["10.0.0.1:4242".to_owned()],
        head: Some(Head { index: 42, frame_hash: "c0ffee".to_owned() }),
        root_cert_pem: "a root certificate\n".to_owned(),
        root_rotation: Some(RootRotationView {
            digest: "def".to_owned(),
            started_at: before(10),
            nodes: 9,
            moved: 3,
            waits_for: vec!["worker-1".to_owned(), "worker-2".to_owned()],
        }),
        raft: Some(raft()),
        heartbeat_period_ns: 1_000_000_000,
        node_down_after_ns: 3_000_000_000,
        feature_level: events::frame::FEATURE_LEVEL,
        tags: Vec::new(),
        history_use: Some(HistoryUse {
            history_bytes: 3 << 20,
            checkpoint_bytes: 1 << 20,
            index_bytes: 512 << 10,
            tree_bytes: 64 << 10,
            archive_dir: Some("/srv/archive".to_owned()),
            archives: 2,
            archived_frames: 8_190,
            archive_bytes: 700 << 10,
            archived_to: Some(8_191),
            absent: 1,
        }),
    }
}

/// The raft status of the sample manager.
pub fn manager_status() -> ManagerStatus {
    ManagerStatus {
        state: MemberState::Voter.into(),
        reachability: Reachability::Reachable.into(),
        addr: "10.0.0.1:4242".to_owned(),
        answers: true,
        obstacle: None,
    }
}

/// Two managers that vote, one of them unreachable, and one that is catching up.
pub fn raft() -> RaftView {
    let member = |number: u64, state: MemberState, reachability: Reachability, matched| RaftMember {
        node: NodeId::from_bits(number.into()),
        name: format!("m{number}"),
        raft_id: Some(9 + number),
        addr: format!("10.0.0.{number}:4242"),
        state: state.into(),
        reachability: reachability.into(),
        matched,
        obstacle: None,
    };
    RaftView {
        node: NodeId::from_bits(1),
        raft_id: 10,
        leader: Some(NodeId::from_bits(1)),
        term: 3,
        committed: 42,
        applied: 42,
        voters: 2,
        needed: 2,
        members: vec![
            member(1, MemberState::Voter, Reachability::Reachable, Some(42)),
            member(2, MemberState::Voter, Reachability::Unreachable, Some(40)),
            member(3, MemberState::Learner, Reachability::Reachable, None),
        ],
        warnings: vec!["2 managers are too few".to_owned()],
    }
}

/// The sample service as shown in a list.
pub fn service_summary() -> ServiceSummary {
    let service = service();
    ServiceSummary {
        id: service.id,
        meta: service.meta,
        name: service.spec.name().to_owned(),
        labels: Default::default(),
        mode: ServiceMode::Replicated.into(),
        image: service.spec.template().container().image.clone(),
        ports: Vec::new(),
        update: None,
        desired_tasks: service.desired_tasks,
        running_tasks: service.running_tasks,
        restarting: None,
        set_aside_until: None,
        finished_places: 0,
        failed_places: 0,
        completions: None,
        next_run: None,
        replicas_min: None,
        replicas_max: None,
        unplaced: None,
    }
}

/// The sample nodes as shown in a list.
pub fn node_summaries() -> Vec<NodeSummary> {
    let summary = |node: NodeView| NodeSummary {
        id: node.id,
        meta: node.meta,
        name: crate::format::node::name(&node).to_owned(),
        hostname: crate::format::node::name(&node).to_owned(),
        labels: node.spec.annotations.clone().unwrap_or_default().labels,
        role: node.role,
        availability: node.spec.availability,
        state: node.state,
        message: node.message.clone(),
        leader: node.leader,
        addr: node.addr.clone(),
        tasks: node.tasks,
        certificate_not_after: node.certificate_not_after,
        manager: node.manager,
        held_until: node.held_until,
    };
    nodes().into_iter().map(summary).collect()
}

/// A config.
pub fn config() -> ConfigView {
    let annotations = Annotations { name: "web.conf".into(), labels: [("team".into(), "shop".into())].into() };
    ConfigView {
        id: ConfigId::from_bits(8),
        meta: meta(3),
        spec: ConfigSpec { annotations: Some(annotations), ..Default::default() },
        bytes: 11,
        data: Some(b"listen :80\n".to_vec()),
        revisions: vec![FileRevisionView { revision: 1, created_at: before(200) }],
        services: vec!["web".into()],
    }
}

/// A secret.
pub fn secret() -> SecretView {
    let annotations = Annotations { name: "db-password".into(), labels: [("team".into(), "shop".into())].into() };
    SecretView {
        id: SecretId::from_bits(10),
        meta: meta(3),
        spec: SecretSpec { annotations: Some(annotations), ..Default::default() },
        revisions: [1, 2].map(|revision| FileRevisionView { revision, created_at: before(190) }).into(),
        services: vec!["web".into()],
    }
}

/// The sample sink.
pub fn sink() -> SinkView {
    let spec = SinkSpec {
        name: "siem".to_owned(),
        webhook: "https://siem.example/in".to_owned(),
        kinds: vec!["service_created".to_owned()],
        ..SinkSpec::default()
    };
    SinkView {
        id: SinkId::from_bits(13),
        meta: meta(5),
        spec,
        signed: true,
        activity: SinkActivity::Active.into(),
        position: 41,
        progressed_at: Some(meta(5).created_at),
        failure: Some(SinkFailure { since: meta(5).created_at, reason: "the answer is 503".to_owned() }),
    }
}

/// An operator with the role viewer.
pub fn operator() -> OperatorView {
    OperatorView {
        id: OperatorId::from_bits(12),
        meta: meta(5),
        name: "ada".to_owned(),
        role: OperatorRole::Viewer.into(),
        not_after: Timestamp::from_unix_ns(NOW.unix_ns() + 86_400 * 1_000_000_000),
        root_replaced: false,
    }
}
