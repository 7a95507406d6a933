//! Specs and statuses with every field set.

use std::collections::BTreeMap;

use events::service_spec::Mode;
use events::*;

use super::{id, time};

/// Every setting of a cluster.
pub fn cluster_spec() -> ClusterSpec {
    ClusterSpec {
        task_history_limit: Some(-1),
        heartbeat_period_ns: Some(2_000_000_000),
        heartbeat_grace: Some(4),
        nodes_max: Some(500),
        node_cert_expiry_ns: Some(3_600_000_000_000),
        log_driver: Some(driver("json-file")),
        autolock: Some(true),
        placement_strategy: Some(PlacementStrategy::Binpack.into()),
        require_reason: vec!["service.remove".into()],
        history_keep_ns: Some(400 * 24 * 3_600_000_000_000),
        external_cas: vec![ExternalCa { url: "https://ca.example/sign".into(), ca_cert_pem: "root".into() }],
    }
}

/// A drained node.
pub fn node_spec() -> NodeSpec {
    let annotations = Some(Annotations { name: "db-1".into(), labels: map("zone", "a") });
    NodeSpec {
        annotations,
        role: Role::Manager.into(),
        availability: Availability::Drain.into(),
        drain_deadline_ns: Some(600_000_000_000),
    }
}

/// A node description with every field set.
pub fn node_description() -> NodeDescription {
    NodeDescription {
        hostname: "node-1".into(),
        platform: Some(Platform { architecture: "x86_64".into(), os: "linux".into() }),
        resources: Some(resources(8_000_000_000)),
        engine: Some(EngineDescription {
            version: "20.10.24".into(),
            api_version: "1.41".into(),
            labels: map("storage", "ssd"),
            plugins: vec![EnginePlugin { r#type: "Volume".into(), name: "local".into() }],
        }),
        version: "0.1.0".into(),
        executor: "docker".into(),
    }
}

/// A service that uses every field.
pub fn service_spec() -> ServiceSpec {
    let rollout = |parallelism, action: FailureAction| UpdateConfig {
        parallelism: Some(parallelism),
        delay_ns: 1_000_000_000,
        failure_action: action.into(),
        monitor_ns: Some(3_000_000_000),
        max_failure_ppm: 250_000,
        order: UpdateOrder::StartFirst.into(),
        progress_deadline_ns: Some(600_000_000_000),
    };
    ServiceSpec {
        annotations: Some(Annotations { name: "web".into(), labels: map("team", "shop") }),
        task: Some(task_spec()),
        mode: Some(Mode::Replicated(ReplicatedMode { replicas: 3 })),
        update: Some(rollout(2, FailureAction::Rollback)),
        rollback: Some(rollout(0, FailureAction::Continue)),
        endpoint: Some(EndpointSpec { ports: vec![port()] }),
        schedule: Some(JobSchedule {
            cron: "30 3 * * MON-FRI".into(),
            time_zone: "Europe/Berlin".into(),
            overlap: Overlap::Replace.into(),
            start_deadline_ns: Some(600_000_000_000),
        }),
        depends_on: vec!["db".into()],
        autoscale: Some(Autoscale {
            min_replicas: 2,
            max_replicas: 20,
            cpu_percent: Some(70),
            memory_percent: Some(80),
            window_ns: Some(30_000_000_000),
            cool_down_ns: Some(600_000_000_000),
        }),
        rebalance: Some(Rebalance { max_tasks: Some(2), every_ns: Some(60_000_000_000) }),
    }
}

/// A failed task.
pub fn task_status() -> TaskStatus {
    let phase = |state: TaskState, seconds| TaskPhase { state: state.into(), at: Some(time(seconds)) };
    TaskStatus {
        state: TaskState::Failed.into(),
        at: Some(time(9)),
        message: "task: non-zero exit (137)".into(),
        error: "killed: out of memory".into(),
        container: Some(ContainerStatus {
            container_id: "0123456789abcdef".into(),
            pid: 4_242,
            exit_code: Some(137),
            oom_killed: true,
            ports: vec![port()],
            warnings: vec!["the engine has no swap limit".into()],
        }),
        phases: vec![phase(TaskState::Starting, 7), phase(TaskState::Running, 8)],
    }
}

fn task_spec() -> TaskSpec {
    TaskSpec {
        container: Some(container_spec()),
        resources: Some(ResourceRequirements {
            limits: Some(Resources { generic: Vec::new(), ..resources(2_000_000_000) }),
            reservations: Some(resources(500_000_000)),
            swap_bytes: Some(-1),
            memory_swappiness: Some(60),
        }),
        restart: Some(RestartPolicy {
            condition: Some(RestartCondition::OnFailure.into()),
            delay_ns: Some(1_500_000_000),
            max_attempts: 5,
            window_ns: 60_000_000_000,
        }),
        placement: Some(Placement {
            constraints: vec!["node.labels.zone!=b".into()],
            preferences: vec![PlacementPreference { spread: "node.labels.zone".into() }],
            platforms: vec![Platform { architecture: "x86_64".into(), os: "linux".into() }],
            max_replicas: 2,
            strategy: Some(PlacementStrategy::Random.into()),
            affinities: vec![
                Affinity { expression: "service!=db".into(), weight: None },
                Affinity { expression: "image==shop/web:1.2".into(), weight: Some(7) },
            ],
        }),
        log_driver: Some(driver("journald")),
        force_update: 7,
    }
}

fn container_spec() -> ContainerSpec {
    ContainerSpec {
        image: "registry.example.org:5000/shop/web:1.2".into(),
        labels: map("tier", "front"),
        command: vec!["/bin/web".into()],
        args: vec!["--listen".into(), ":80".into()],
        hostname: "web-{{.Task.Slot}}".into(),
        env: vec!["MODE=live".into(), "DEBUG".into()],
        dir: "/srv".into(),
        user: "1000:1000".into(),
        groups: vec!["audio".into()],
        privileges: Some(privileges()),
        init: Some(true),
        tty: true,
        open_stdin: true,
        read_only: true,
        stop_signal: "SIGQUIT".into(),
        mounts: mounts(),
        stop_grace_period_ns: Some(20_000_000_000),
        registry_auth_key: format!("registry-auth/{}", id::<ServiceId>(3)),
        hosts: vec!["10.0.0.7 db".into()],
        dns: Some(DnsConfig {
            nameservers: vec!["10.0.0.53".into()],
            search: vec!["example.org".into()],
            options: vec!["ndots:2".into()],
        }),
        healthcheck: Some(HealthConfig {
            test: vec!["CMD".into(), "true".into()],
            interval_ns: 10_000_000_000,
            timeout_ns: 1_000_000_000,
            retries: 3,
            start_period_ns: 5_000_000_000,
            start_interval_ns: 500_000_000,
        }),
        isolation: Isolation::Process.into(),
        network: NetworkMode::Host.into(),
        pids_limit: 100,
        sysctls: map("net.core.somaxconn", "1024"),
        capability_add: vec!["NET_ADMIN".into()],
        capability_drop: vec!["ALL".into()],
        ulimits: vec![Ulimit { name: "nofile".into(), soft: 1_024, hard: -1 }],
        oom_score_adj: -500,
        env_secrets: vec![EnvSecret { name: "TOKEN".into(), key: "env-secret/3/4".into() }],
        configs: vec![ConfigReference {
            config: Some(id(8)),
            name: "web.conf".into(),
            file: Some(FileTarget {
                name: "/etc/web.conf".into(),
                uid: "1000".into(),
                gid: "1000".into(),
                mode: Some(0o400),
            }),
            revision: 2,
            pinned: true,
            runtime: true,
        }],
        devices: vec![Device { source: "/dev/fuse".into(), target: "/dev/f".into(), permissions: "rw".into() }],
        device_requests: vec![DeviceRequest {
            driver: "nvidia".into(),
            count: -1,
            ids: vec!["GPU-1".into()],
            capabilities: vec!["gpu".into()],
            options: map("mode", "mig"),
            claimed: "gpu".into(),
        }],
        device_cgroup_rules: vec!["c 42:* rmw".into()],
        privileged: true,
        shm_size_bytes: 67_108_864,
        cgroup_parent: "/batch".into(),
        pull_policy: PullPolicy::Always.into(),
        secrets: vec![SecretReference {
            secret: Some(id(10)),
            name: "db-password".into(),
            file: Some(FileTarget { name: "password".into(), mode: Some(0o440), ..FileTarget::default() }),
            revision: 2,
            pinned: true,
        }],
    }
}

fn privileges() -> Privileges {
    Privileges {
        selinux: Some(SelinuxContext {
            disable: true,
            user: "u".into(),
            role: "r".into(),
            r#type: "t".into(),
            level: "l".into(),
        }),
        seccomp: Some(Seccomp { mode: SeccompMode::Custom.into(), profile: b"{}".to_vec() }),
        apparmor: AppArmorMode::Custom.into(),
        no_new_privileges: true,
        apparmor_profile: "web".into(),
        credential_spec: Some(CredentialSpec {
            file: "f.json".into(),
            registry: "r".into(),
            config: "web.conf".into(),
        }),
    }
}

fn mounts() -> Vec<Mount> {
    let mount = |of: MountType, source: &str, target: &str| Mount {
        r#type: of.into(),
        source: source.into(),
        target: target.into(),
        read_only: true,
        consistency: MountConsistency::Cached.into(),
        ..Mount::default()
    };
    let bind = BindOptions {
        propagation: BindPropagation::Rslave.into(),
        non_recursive: true,
        create_mountpoint: true,
        read_only_non_recursive: true,
        read_only_force_recursive: true,
    };
    let volume = VolumeOptions {
        no_copy: true,
        labels: map("keep", "yes"),
        driver: Some(driver("local")),
        subpath: "web".into(),
    };
    let image = ImageOptions { subpath: "small".into() };
    let tmpfs = TmpfsOptions { size_bytes: 1_048_576, mode: 0o1777, options: "noexec".into() };
    vec![
        Mount { bind: Some(bind), ..mount(MountType::Bind, "/srv/data", "/data") },
        Mount { volume: Some(volume), ..mount(MountType::Volume, "cache", "/cache") },
        Mount { tmpfs: Some(tmpfs), ..mount(MountType::Tmpfs, "", "/tmp") },
        Mount { image: Some(image), ..mount(MountType::Image, "models:1", "/models") },
    ]
}

fn resources(nano_cpus: u64) -> Resources {
    let generic = |kind: &str, amount, names: &[&str]| GenericResource {
        kind: kind.into(),
        amount,
        names: names.iter().map(|&name| name.into()).collect(),
    };
    Resources {
        nano_cpus,
        memory_bytes: 268_435_456,
        generic: vec![generic("fpga", 2, &[]), generic("gpu", 0, &["GPU-1", "GPU-2"])],
    }
}

fn port() -> PortConfig {
    PortConfig {
        name: "http".into(),
        protocol: PortProtocol::Udp.into(),
        target_port: 80,
        published_port: 8_080,
        publish_mode: PublishMode::Host.into(),
    }
}

fn driver(name: &str) -> Driver {
    Driver { name: name.into(), options: map("max-size", "10m") }
}

pub(super) fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}
