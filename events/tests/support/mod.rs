//! One sample of every event, with every field filled in.

mod specs;

use events::*;

pub use specs::{cluster_spec, node_description, node_spec, service_spec, task_status};

/// An id that is easy to find in the bytes of a golden file.
pub fn id<I: Id>(number: u128) -> I {
    I::from_bits(0x0a00_0000_0000_0000_0000_0000_0000_0000 + number)
}

/// An instant in January 2026, with digits down to the last nanosecond.
pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ns(1_767_225_600_123_456_789 + seconds * 1_000_000_000)
}

/// A sample of every event, in the order of the catalogue.
pub fn samples() -> Vec<Kind> {
    [
        cluster_samples(),
        node_samples(),
        service_samples(),
        task_samples(),
        config_samples(),
        secret_samples(),
        run_samples(),
        sink_samples(),
    ]
    .concat()
}

fn cluster_samples() -> Vec<Kind> {
    let (node, role, service) = (id(1), Role::Worker.into(), id(3));
    vec![
        Kind::LeadershipAssumed(LeadershipAssumed { node, term: 3, version: "0.1.0".into(), feature_level_max: 1 }),
        Kind::StateHashRecorded(StateHashRecorded { at_index: 4_096, hash: vec![0x5a; 16], fold_version: Some(2) }),
        Kind::ClusterInitialised(ClusterInitialised { cluster: id(9), name: "default".into(), spec: cluster_spec() }),
        Kind::ClusterSpecUpdated(ClusterSpecUpdated { spec: cluster_spec() }),
        Kind::JoinTokenRotated(JoinTokenRotated { role, secret_sha256: vec![0xa5; 32] }),
        Kind::FeatureLevelRaised(FeatureLevelRaised { level: 2 }),
        Kind::RootCaGenerated(RootCaGenerated { cert_pem: "root certificate".into(), digest: "3x7digest".into() }),
        Kind::RootRotationStarted(RootRotationStarted {
            cert_pem: "new root certificate".into(),
            digest: "4y8digest".into(),
            cross_cert_pem: "new root signed by the old one".into(),
            worker_token_sha256: vec![0xa6; 32],
            manager_token_sha256: vec![0xa7; 32],
            key_outside: Some(true),
        }),
        Kind::RootRotationCompleted(RootRotationCompleted {
            digest: "4y8digest".into(),
            destroyed_secrets: vec!["root-ca/key".into(), "join-token/worker".into()],
        }),
        Kind::CertificateIssued(CertificateIssued {
            node,
            role,
            cert_pem: "certificate".into(),
            not_after: time(7_776_000),
        }),
        Kind::NodeMovedToRoot(NodeMovedToRoot { node, digest: "4y8digest".into() }),
        Kind::OperatorCreated(OperatorCreated {
            operator: id(10),
            name: "ada".into(),
            role: OperatorRole::Viewer.into(),
            not_after: time(7_776_000),
        }),
        Kind::OperatorRevoked(OperatorRevoked { operator: id(10) }),
        Kind::OperatorRenewed(OperatorRenewed { operator: id(10), not_after: time(7_776_000) }),
        Kind::SecretsRead(SecretsRead { names: vec!["join-token/worker".into()] }),
        Kind::AccessRefused(AccessRefused {
            manager: node,
            refused: vec![RefusedCalls {
                actor: ActorRecord {
                    kind: ActorKind::CertifiedOperator.into(),
                    subject: "ada".into(),
                    via: Some(id(2)),
                },
                role: Some("viewer".into()),
                call: "service.remove".into(),
                count: 1_000,
                first: time(1),
                last: time(60),
            }],
            others: Some(12),
        }),
        Kind::UnlockKeyChanged(UnlockKeyChanged { locked: true }),
        Kind::HistoryTagged(HistoryTagged { name: "before-migration".into(), index: 41, time: time(60) }),
        Kind::HistoryUntagged(HistoryUntagged { name: "before-migration".into() }),
        Kind::HistoryRedacted(HistoryRedacted {
            service,
            field: "env.PASSWORD".into(),
            digest: format!("redacted:hmac-sha256:{}", "5f".repeat(32)),
            frames: vec![
                RedactedBytes { index: 7, sha256: vec![7; 32] },
                RedactedBytes { index: 12, sha256: vec![12; 32] },
            ],
            revisions: vec![7],
        }),
        Kind::MemberAdded(MemberAdded {
            node,
            raft_id: 77,
            addr: "10.0.0.1:4242".into(),
            voter: true,
            feature_level_max: 2,
            audit_key: Some("swarmlog/a/b+0123abcd+AQID".into()),
        }),
        Kind::MemberPromoted(MemberPromoted { node, raft_id: 77 }),
        Kind::MemberDemoted(MemberDemoted { node, raft_id: 77 }),
        Kind::MemberRemoved(MemberRemoved { node, raft_id: 77 }),
        Kind::ManagerAnnounced(ManagerAnnounced {
            node,
            raft_id: 77,
            addr: "10.0.0.1:4242".into(),
            feature_level_max: 2,
            audit_key: Some("swarmlog/a/b+0123abcd+AQID".into()),
        }),
        Kind::QuorumForced(QuorumForced {
            node,
            raft_id: 78,
            addr: "10.0.0.1:4242".into(),
            fenced: vec![77, 79],
            cluster: Some(id(9)),
        }),
    ]
}

fn node_samples() -> Vec<Kind> {
    let (node, session) = (id(1), id(2));
    vec![
        Kind::NodeJoined(NodeJoined {
            node,
            spec: node_spec(),
            hostname: "node-1".into(),
            addr: "10.0.0.1:50000".into(),
        }),
        Kind::NodeRegistered(NodeRegistered { node, session, addr: "10.0.0.1:4242".into() }),
        Kind::NodeDescribed(Box::new(NodeDescribed { node, description: node_description() })),
        Kind::NodeSpecUpdated(NodeSpecUpdated { node, spec: node_spec() }),
        Kind::NodeBecameReady(NodeBecameReady { node }),
        Kind::NodeDeclaredDown(NodeDeclaredDown { node, last_heard: time(15), unheard: Some(true) }),
        Kind::NodeDisconnected(NodeDisconnected { node, session }),
        Kind::NodeRemoved(NodeRemoved { node, forced: true, forgotten: false }),
    ]
}

fn service_samples() -> Vec<Kind> {
    let (service, reason) = (id(3), "2 of 3 tasks failed".to_owned());
    let change = SpecChange::ManualRollback.into();
    vec![
        Kind::ServiceCreated(Box::new(ServiceCreated { service, spec: service_spec() })),
        Kind::ServiceSpecUpdated(Box::new(ServiceSpecUpdated {
            service,
            spec: service_spec(),
            change,
            credentials: Some(true),
            destroyed_secrets: vec!["env-secret/3/1".into()],
            restored: Some(7),
        })),
        Kind::ServiceScaled(ServiceScaled {
            service,
            from: 3,
            to: 6,
            reason: Some("CPU at 91% over 60s, target 70%".into()),
        }),
        Kind::ServiceRebalanced(ServiceRebalanced {
            service,
            task: id(4),
            from: id(1),
            to: id(2),
            reason: "5 tasks on node-1, 2 on node-2".into(),
        }),
        Kind::ServiceRemoved(ServiceRemoved { service }),
        Kind::UpdateStarted(UpdateStarted { service, slots: 6, rollback: Some(true) }),
        Kind::UpdateTasksOverdue(UpdateTasksOverdue { service, tasks: vec![id(4), id(5)] }),
        Kind::UpdatePaused(UpdatePaused { service, reason: reason.clone(), rollback: Some(true) }),
        Kind::UpdateCompleted(UpdateCompleted { service, rollback: Some(true) }),
        Kind::RollbackStarted(RollbackStarted { service, reason }),
        Kind::UpdateResumed(UpdateResumed { service, rollback: Some(true) }),
    ]
}

fn task_samples() -> Vec<Kind> {
    let (task, node, tasks) = (id(4), id(1), vec![id(4), id(5)]);
    let claims = vec![GenericResource { kind: "gpu".into(), amount: 0, names: vec!["GPU-1".into(), "GPU-2".into()] }];
    vec![
        Kind::TaskCreated(TaskCreated {
            task,
            service: id(3),
            spec_version: 17,
            slot: 2,
            node: Some(node),
            desired: TaskState::Ready.into(),
            replaces: Some(id(6)),
            start_after: Some(time(5)),
            cause: TaskCause::Restart.into(),
            reaped: vec![id(7)],
        }),
        Kind::TaskAssigned(TaskAssigned { task, node, claims }),
        Kind::TaskPlacementFailed(TaskPlacementFailed {
            tasks: tasks.clone(),
            explanation: "no suitable node: 3 of 5 nodes lack 2 GiB".into(),
        }),
        Kind::TaskDesiredStateSet(TaskDesiredStateSet {
            tasks: tasks.clone(),
            desired: TaskState::Shutdown.into(),
            cause: DesiredCause::ScaleDown.into(),
        }),
        Kind::TaskReported(TaskReported { task, status: task_status() }),
        Kind::TaskRejected(TaskRejected { task, message: "rejected".into(), error: "no such label".into() }),
        Kind::TaskOrphaned(TaskOrphaned { tasks: tasks.clone(), message: "node lost".into() }),
        Kind::TaskReaped(TaskReaped { tasks }),
        Kind::TaskAccessed(TaskAccessed {
            task,
            node,
            access: TaskAccess::Exec.into(),
            argv: vec!["sh".into(), "-c".into(), "ps aux".into()],
            user: Some("nobody".into()),
            path: Some("/etc/hosts".into()),
        }),
    ]
}

fn run_samples() -> Vec<Kind> {
    let (service, due) = (id(3), time(5));
    vec![
        Kind::RunScheduled(RunScheduled { service, due }),
        Kind::RunStarted(RunStarted { service, due, beside: true }),
        Kind::RunSkipped(RunSkipped { service, due, cause: SkipCause::Late.into() }),
    ]
}

fn config_samples() -> Vec<Kind> {
    let config = id(8);
    let annotations = Annotations { name: "web.conf".into(), labels: specs::map("team", "shop") };
    let spec = ConfigSpec { annotations: Some(annotations), template_driver: "golang".into() };
    vec![
        Kind::ConfigCreated(ConfigCreated { config, spec: spec.clone(), data: b"listen :80\n".to_vec() }),
        Kind::ConfigSpecUpdated(ConfigSpecUpdated { config, spec }),
        Kind::ConfigRevised(ConfigRevised { config, revision: 3, data: b"listen :81\n".to_vec(), dropped: vec![1] }),
        Kind::ConfigRemoved(ConfigRemoved { config }),
    ]
}

fn sink_samples() -> Vec<Kind> {
    let sink = id(12);
    let spec = SinkSpec {
        name: "siem".into(),
        webhook: "https://siem.example:8443/in".into(),
        file: "events.jsonl".into(),
        kinds: vec!["service_created".into()],
        actors: vec!["ada".into()],
        commands: vec!["service.create".into()],
        object: id::<ServiceId>(3).to_string(),
        node: id::<NodeId>(1).to_string(),
        redact_env: true,
        redact_labels: true,
    };
    let reason = String::from("the answer is 503");
    vec![
        Kind::SinkCreated(SinkCreated { sink, spec, after: Some(41), signed: true }),
        Kind::SinkRemoved(SinkRemoved { sink }),
        Kind::SinkPaused(SinkPaused { sink }),
        Kind::SinkResumed(SinkResumed { sink }),
        Kind::SinkProgressed(SinkProgressed { sink, index: 57 }),
        Kind::SinkFailed(SinkFailed { sink, reason: reason.clone() }),
        Kind::SinkParked(SinkParked { sink, reason }),
    ]
}

fn secret_samples() -> Vec<Kind> {
    let secret = id(10);
    let annotations = Annotations { name: "db-password".into(), labels: specs::map("team", "shop") };
    let spec = SecretSpec { annotations: Some(annotations), template_driver: "golang".into() };
    vec![
        Kind::SecretCreated(SecretCreated { secret, spec: spec.clone(), size_kib: 3 }),
        Kind::SecretSpecUpdated(SecretSpecUpdated { secret, spec }),
        Kind::SecretRevised(SecretRevised { secret, revision: 3, size_kib: 4, dropped: vec![1] }),
        Kind::SecretRemoved(SecretRemoved { secret }),
    ]
}
