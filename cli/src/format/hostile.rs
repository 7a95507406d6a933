//! Every formatter, with hostile text in every text field: none of it reaches the terminal unescaped.

use std::collections::BTreeMap;

use events::*;
use wire::v1::{EventRecord, JoinTokens, NodeSummary, NodeView, Restarting, ServiceSummary, ServiceView, TaskView};

use super::escape::tests::{HOSTILE, assert_harmless};
use super::view::View;
use super::{Format, RecordNames, cluster, event_lines, node, samples, service, task};
use crate::failure::{Failure, Kind as FailureKind};

fn bad() -> String {
    HOSTILE.to_owned()
}

fn map() -> BTreeMap<String, String> {
    BTreeMap::from([(bad(), bad())])
}

fn list() -> Vec<String> {
    vec![bad()]
}

fn driver() -> Option<Driver> {
    Some(Driver { name: bad(), options: map() })
}

fn generic() -> Vec<GenericResource> {
    vec![
        GenericResource { kind: bad(), amount: 0, names: list() },
        GenericResource { kind: bad(), ..Default::default() },
    ]
}

fn container() -> ContainerSpec {
    let mount = |of: MountType| Mount { r#type: of.into(), source: bad(), target: bad(), ..Default::default() };
    let volume = VolumeOptions { labels: map(), driver: driver(), subpath: bad(), no_copy: true };
    let tmpfs = TmpfsOptions { options: bad(), ..Default::default() };
    ContainerSpec {
        image: bad(),
        labels: map(),
        command: list(),
        args: list(),
        hostname: bad(),
        env: list(),
        env_secrets: vec![EnvSecret { name: bad(), key: bad() }],
        dir: bad(),
        user: bad(),
        groups: list(),
        stop_signal: bad(),
        mounts: vec![
            mount(MountType::Bind),
            Mount { volume: Some(volume), ..mount(MountType::Volume) },
            Mount { tmpfs: Some(tmpfs), ..mount(MountType::Tmpfs) },
        ],
        hosts: list(),
        dns: Some(DnsConfig { nameservers: list(), search: list(), options: list() }),
        healthcheck: Some(HealthConfig { test: list(), ..Default::default() }),
        sysctls: map(),
        capability_add: list(),
        capability_drop: list(),
        ulimits: vec![Ulimit { name: bad(), ..Default::default() }],
        privileges: Some(Privileges {
            selinux: Some(SelinuxContext { disable: true, user: bad(), role: bad(), r#type: bad(), level: bad() }),
            apparmor: AppArmorMode::Custom.into(),
            apparmor_profile: bad(),
            ..Default::default()
        }),
        devices: vec![Device { source: bad(), target: bad(), permissions: bad() }],
        device_requests: vec![DeviceRequest {
            driver: bad(),
            ids: list(),
            capabilities: list(),
            options: map(),
            claimed: bad(),
            ..Default::default()
        }],
        device_cgroup_rules: list(),
        cgroup_parent: bad(),
        ..Default::default()
    }
}

fn port() -> PortConfig {
    PortConfig { name: bad(), target_port: 80, ..Default::default() }
}

fn spec() -> ServiceSpec {
    let preferences = vec![PlacementPreference { spread: bad() }];
    let resources = Some(Resources { generic: generic(), ..Default::default() });
    ServiceSpec {
        annotations: Some(Annotations { name: bad(), labels: map() }),
        task: Some(TaskSpec {
            container: Some(container()),
            resources: Some(ResourceRequirements {
                limits: resources.clone(),
                reservations: resources,
                ..Default::default()
            }),
            placement: Some(Placement { constraints: list(), preferences, ..Default::default() }),
            log_driver: driver(),
            ..Default::default()
        }),
        endpoint: Some(EndpointSpec { ports: vec![port()] }),
        ..Default::default()
    }
}

fn status() -> TaskStatus {
    let container =
        ContainerStatus { container_id: bad(), ports: vec![port()], warnings: list(), ..Default::default() };
    let state = TaskState::Failed.into();
    TaskStatus { state, message: bad(), error: bad(), container: Some(container), ..Default::default() }
}

fn services() -> Vec<ServiceView> {
    let mut service = samples::full_service();
    service.spec = spec();
    service.update.iter_mut().for_each(|update| update.message = bad());
    vec![service]
}

fn service_summaries() -> Vec<ServiceSummary> {
    let restarting = Restarting { tasks: 1, failures: 1, last_failure: bad(), ..Default::default() };
    let mut update = samples::full_service().update;
    update.iter_mut().for_each(|update| update.message = bad());
    vec![ServiceSummary {
        name: bad(),
        labels: map(),
        image: bad(),
        ports: vec![port()],
        update,
        restarting: Some(restarting),
        unplaced: Some(bad()),
        ..samples::service_summary()
    }]
}

fn node_summaries() -> Vec<NodeSummary> {
    let one = samples::node_summaries().remove(1);
    vec![NodeSummary { name: bad(), hostname: bad(), labels: map(), message: bad(), addr: bad(), ..one }]
}

fn tasks() -> Vec<TaskView> {
    let one = samples::tasks().remove(2);
    let task = |slot, waiting| TaskView {
        name: bad(),
        service_name: bad(),
        slot,
        node_hostname: bad(),
        status: status(),
        spec: Some(spec()),
        image: bad(),
        waiting,
        claims: generic(),
        ..one.clone()
    };
    vec![task(Some(1), Some(bad())), task(None, None)]
}

fn nodes() -> Vec<NodeView> {
    let one = samples::nodes().remove(1);
    let named = |name| NodeView {
        spec: NodeSpec { annotations: Some(Annotations { name, labels: map() }), ..one.spec.clone() },
        description: Some(NodeDescription {
            hostname: bad(),
            platform: Some(Platform { architecture: bad(), os: bad() }),
            resources: Some(Resources { generic: generic(), ..Default::default() }),
            engine: Some(EngineDescription { version: bad(), api_version: bad(), labels: map(), ..Default::default() }),
            version: bad(),
            executor: bad(),
        }),
        message: bad(),
        addr: bad(),
        ..one.clone()
    };
    vec![named(bad()), named(String::new())]
}

#[test]
fn tables_and_blocks() {
    let view = View { now: samples::NOW, ids: false, width: Some(1_000) };
    let mut shown = vec![
        service::table(&service_summaries(), view),
        node::table(&node_summaries(), view),
        task::table(&tasks(), view),
        task::table_in_service(&tasks(), view),
    ];
    shown.extend(services().iter().map(|of| service::block(of, view)));
    shown.extend(nodes().iter().map(|of| node::block(of, view)));
    shown.extend(tasks().iter().map(|of| task::block(of, &list(), view)));
    let mut of = samples::cluster();
    (of.name, of.root_ca_digest, of.manager_addrs, of.spec.log_driver) = (bad(), bad(), list(), driver());
    of.join_tokens = JoinTokens { worker: bad(), manager: bad() };
    shown.push(cluster::block(&of, view));
    for text in shown {
        assert_harmless(&text);
        assert!(text.contains(r"\u{1b}"), "a sample without anything hostile: {text}");
    }
}

#[test]
fn history() {
    let task = TaskId::from_bits(3);
    let node = NodeId::from_bits(1);
    let (service, reason) = (ServiceId::from_bits(9), bad());
    let kinds = [
        Kind::LeadershipAssumed(LeadershipAssumed { version: bad(), ..Default::default() }),
        Kind::NodeJoined(NodeJoined { node, hostname: bad(), addr: bad(), ..Default::default() }),
        Kind::NodeDescribed(Box::new(NodeDescribed {
            node,
            description: NodeDescription { executor: bad(), ..Default::default() },
        })),
        Kind::NodeSpecUpdated(NodeSpecUpdated {
            node,
            spec: NodeSpec { annotations: Some(Annotations { name: bad(), labels: map() }), ..Default::default() },
        }),
        Kind::ServiceCreated(Box::new(ServiceCreated { service, spec: spec() })),
        Kind::UpdatePaused(UpdatePaused { service, reason: reason.clone(), rollback: None }),
        Kind::UpdateResumed(UpdateResumed { service, rollback: None }),
        Kind::RollbackStarted(RollbackStarted { service, reason }),
        Kind::TaskAssigned(TaskAssigned { task, node, claims: generic() }),
        Kind::TaskPlacementFailed(TaskPlacementFailed { tasks: vec![task], explanation: bad() }),
        Kind::TaskReported(TaskReported { task, status: status() }),
        Kind::TaskRejected(TaskRejected { task, message: bad(), error: bad() }),
        Kind::TaskOrphaned(TaskOrphaned { tasks: vec![task], message: bad() }),
    ];
    let actor = ActorRecord { kind: ActorKind::Joiner.into(), subject: bad(), via: None };
    for kind in kinds {
        let record = EventRecord {
            event: Event::by_command(0, kind),
            command: Some(Box::new(CommandRecord { actor: actor.clone(), reason: Some(bad()), ..Default::default() })),
            names: [(task.to_string(), bad()), (node.to_string(), bad()), (service.to_string(), bad())].into(),
            ..Default::default()
        };
        let line = event_lines::line(&record, RecordNames::with(&record), None);
        assert_harmless(&line);
        assert!(line.contains(r"\u{1b}") && line.matches('\n').count() == 1, "{line}");
    }
}

#[test]
fn failures() {
    let failure = Failure::new(FailureKind::Other, bad()).hint(bad());
    for format in [Format::Table, Format::Json] {
        let mut shown = Vec::new();
        failure.write(format, &mut shown).expect("a vector takes everything");
        assert_harmless(&String::from_utf8(shown).expect("text"));
    }
}
