//! Objects of the state, and refusals, in API responses.

use commands::{Rejection, RejectionKind};
use events::frame::FrameHash;
use events::service_spec::Mode;
use events::{Availability, NodeId, Resources, Role, ServiceSpec, TaskState, TaskStatus, Timestamp};
use projections::nodes::host;
use projections::views::overview::{self, replicas, restarting, restarting_places};
use projections::views::progress::{is_current, progress};
use projections::{Cluster, Liveness, Node, Service, Task, Update, UpdateState};
use wire::v1::{
    Autoscaled, ClusterView, Head, JobRun, JoinTokens, Meta, NodeState, NodeSummary, NodeView, Rebalanced, Refusal,
    RefusalKind, Restarting, ServiceMode, ServiceSummary, ServiceView, TagView, TaskView,
    UpdateState as WireUpdateState, UpdateStatus,
};

use super::managers;
use crate::log::FrameLink;
use crate::manager::driver::Published;
use crate::manager::replica::RaftStatus;

/// A rejection as sent to the client.
pub fn refusal(rejection: Rejection) -> Refusal {
    let kind = match rejection.kind {
        RejectionKind::NotFound => RefusalKind::NotFound,
        RejectionKind::Exists => RefusalKind::Exists,
        RejectionKind::Invalid => RefusalKind::Invalid,
        RejectionKind::Conflict => RefusalKind::Conflict,
        RejectionKind::Forbidden => RefusalKind::Forbidden,
        RejectionKind::Exhausted => RefusalKind::Exhausted,
        RejectionKind::Unavailable => RefusalKind::Unavailable,
    };
    let hint = (!rejection.hint.is_empty()).then_some(rejection.hint);
    Refusal { kind: kind.into(), subject: rejection.subject, sentence: rejection.sentence, hint }
}

/// The cluster's settings, tokens and addresses, and the end of its history.
pub fn cluster(state: &Published, remote_addr: &str, head: Option<Head>, with_tokens: bool) -> ClusterView {
    let settings = &state.cluster.settings;
    let known = |role| state.keyring.text(&settings.token_key(role)).filter(|_| with_tokens);
    let token = |role| known(role).unwrap_or_default().to_owned();
    ClusterView {
        id: settings.id,
        name: settings.name.clone(),
        meta: Meta { version: settings.version, created_at: settings.created_at, updated_at: settings.updated_at },
        spec: (*settings.spec).clone(),
        root_ca_digest: settings.root_digest.clone(),
        join_tokens: JoinTokens { worker: token(Role::Worker), manager: token(Role::Manager) },
        index: state.cluster.position.index,
        manager_addrs: vec![remote_addr.to_owned()],
        head,
        root_cert_pem: settings.root_cert_pem.clone(),
        root_rotation: super::root::rotation(&state.cluster),
        raft: None,
        heartbeat_period_ns: ns(state.cluster.heartbeat_period()),
        node_down_after_ns: ns(state.cluster.heartbeat_timeout()),
        feature_level: state.cluster.feature_level(),
        tags: settings
            .tags
            .iter()
            .map(|(name, tag)| TagView { name: name.clone(), index: tag.index, time: tag.time })
            .collect(),
        history_use: None,
    }
}

pub(super) fn ns(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A frame of history, for comparison.
pub fn head(frame: FrameLink) -> Head {
    Head { index: frame.index, frame_hash: hex(&frame.hash) }
}

/// A frame's hash in hexadecimal.
pub(super) fn hex(hash: &FrameHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A node, with its manager status as seen by one manager.
pub fn node(cluster: &Cluster, node: &Node, raft: &RaftStatus, own: NodeId) -> NodeView {
    let usage = cluster.usage.of(node.id);
    NodeView {
        id: node.id,
        meta: Meta { version: node.version, created_at: node.created_at, updated_at: node.updated_at },
        spec: (*node.spec).clone(),
        description: Some(match &node.description {
            Some(description) => (**description).clone(),
            None => events::NodeDescription { hostname: node.hostname().to_owned(), ..Default::default() },
        }),
        state: node_state(node).into(),
        message: node_message(cluster, node),
        addr: host(&node.addr).to_owned(),
        role: node.role.into(),
        leader: managers::leader(cluster, raft) == Some(node.id),
        reserved: Resources { nano_cpus: usage.nano_cpus, memory_bytes: usage.memory_bytes, generic: Vec::new() },
        tasks: usage.tasks,
        certificate_not_after: node.certificate_not_after,
        manager: managers::status(cluster, raft, own, node),
        held_until: node.held_until,
    }
}

/// The message about a node: about its liveness, or else about its drain.
fn node_message(cluster: &Cluster, node: &Node) -> String {
    let liveness = node.liveness_message();
    if !liveness.is_empty() || node.spec.availability() != Availability::Drain {
        return liveness;
    }
    let staying = cluster.tasks_of_node(node.id).filter(|task| task.is_live()).count();
    match node.drain_deadline {
        _ if node.stopped_at_deadline > 0 => {
            let stopped = node.stopped_at_deadline;
            format!("drain deadline passed: {stopped} stopped before being replaced")
        }
        _ if staying == 0 => String::new(),
        Some(deadline) => format!("{staying} to stop once replaced, or at {deadline}"),
        None => format!("{staying} to stop once replaced"),
    }
}

pub(super) fn node_state(node: &Node) -> NodeState {
    match node.liveness {
        Liveness::Unknown => NodeState::Unknown,
        Liveness::Ready => NodeState::Ready,
        Liveness::Disconnected => NodeState::Disconnected,
        Liveness::Down => NodeState::Down,
    }
}

/// The name of a node: set by an operator, or else its host name.
pub fn node_name(node: &Node) -> &str {
    node.name()
}

/// A node in a list.
pub fn node_summary(cluster: &Cluster, node: &Node, raft: &RaftStatus, own: NodeId) -> NodeSummary {
    NodeSummary {
        id: node.id,
        meta: Meta { version: node.version, created_at: node.created_at, updated_at: node.updated_at },
        name: node_name(node).to_owned(),
        hostname: node.hostname().to_owned(),
        labels: node.spec.annotations.as_ref().map(|annotations| annotations.labels.clone()).unwrap_or_default(),
        role: node.role.into(),
        availability: node.spec.availability,
        state: node_state(node).into(),
        message: node.liveness_message(),
        leader: managers::leader(cluster, raft) == Some(node.id),
        addr: host(&node.addr).to_owned(),
        tasks: cluster.usage.of(node.id).tasks,
        certificate_not_after: node.certificate_not_after,
        manager: managers::status(cluster, raft, own, node),
        held_until: node.held_until,
    }
}

/// The mode of a service.
pub fn mode(spec: &ServiceSpec) -> ServiceMode {
    match spec.mode() {
        Mode::Global(_) => ServiceMode::Global,
        Mode::Replicated(_) => ServiceMode::Replicated,
        Mode::ReplicatedJob(_) => ServiceMode::ReplicatedJob,
        Mode::GlobalJob(_) => ServiceMode::GlobalJob,
    }
}

/// A service in a list.
pub fn service_summary(state: &Published, service: &Service, now: Timestamp) -> ServiceSummary {
    let (count, ended) = (replicas(&state.cluster, service), overview::ended(&state.cluster, service));
    let named = service.spec.annotations();
    ServiceSummary {
        id: service.id,
        meta: Meta { version: service.version, created_at: service.created_at, updated_at: service.updated_at },
        name: named.name.clone(),
        labels: named.labels.clone(),
        mode: mode(&service.spec).into(),
        image: service.spec.template().container().image.clone(),
        ports: service.spec.endpoint.iter().flat_map(|endpoint| endpoint.ports.clone()).collect(),
        update: service.update.as_ref().map(update),
        desired_tasks: count.desired,
        running_tasks: count.running,
        restarting: restarting_places(&state.cluster, service, now).map(restarts),
        set_aside_until: state.quarantined.get(&service.id).copied(),
        finished_places: ended.finished,
        failed_places: ended.failed,
        completions: service.completions().map(|of| of.total),
        replicas_min: service.spec.autoscaling().map(|rule| rule.min),
        replicas_max: service.spec.autoscaling().map(|rule| rule.max),
        next_run: service.next_run,
        unplaced: overview::unplaced(&state.cluster, service.id).map(str::to_owned),
    }
}

/// A service, with its desired and running task counts.
pub fn service(state: &Published, service: &Service, now: Timestamp) -> ServiceView {
    let (count, ended) = (replicas(&state.cluster, service), overview::ended(&state.cluster, service));
    let progress = progress(&state.cluster, service);
    ServiceView {
        id: service.id,
        meta: Meta { version: service.version, created_at: service.created_at, updated_at: service.updated_at },
        spec: (*service.spec).clone(),
        previous_spec: service.previous.as_deref().cloned(),
        update: service.update.as_ref().map(update),
        desired_tasks: count.desired,
        running_tasks: count.running,
        restarting: restarting_places(&state.cluster, service, now).map(restarts),
        set_aside_until: state.quarantined.get(&service.id).copied(),
        finished_places: ended.finished,
        failed_places: ended.failed,
        run: service.run.map(|run| JobRun {
            iteration: run.iteration,
            started_at: run.started_at,
            abreast: run.concurrent_runs,
        }),
        next_run: service.next_run,
        autoscaled: autoscaled(service),
        rebalanced: service.rebalanced.as_ref().map(|last| Rebalanced { at: last.at, reason: last.reason.clone() }),
        live_tasks: progress.live,
        current_tasks: progress.current,
        current_running_tasks: progress.current_running,
        current_finished_places: progress.current_finished,
    }
}

/// The last autoscaling of a service.
pub(super) fn autoscaled(service: &Service) -> Option<Autoscaled> {
    let last = service.autoscaled.as_ref()?;
    Some(Autoscaled { at: last.at, from: last.from, reason: last.reason.clone() })
}

fn restarts(known: overview::Restarting<'_>) -> Restarting {
    Restarting {
        tasks: known.tasks,
        failures: known.failures,
        exits: known.exits,
        last_failure: known.last_failure.to_owned(),
        next_attempt: known.next_attempt,
        running_again: known.running_again,
    }
}

fn update(update: &Update) -> UpdateStatus {
    let state = match update.state {
        UpdateState::Updating => WireUpdateState::Updating,
        UpdateState::Paused => WireUpdateState::Paused,
        UpdateState::Completed => WireUpdateState::Completed,
        UpdateState::RollingBack => WireUpdateState::RollbackStarted,
        UpdateState::RollbackPaused => WireUpdateState::RollbackPaused,
        UpdateState::RolledBack => WireUpdateState::RollbackCompleted,
    };
    UpdateStatus {
        state: state.into(),
        started_at: update.started_at,
        completed_at: update.completed_at,
        message: update.message.clone(),
        requested: update.requested,
    }
}

/// A task, with the spec that it runs if requested: thousands of tasks run the same spec.
pub fn task(cluster: &Cluster, task: &Task, with_spec: bool, now: Timestamp) -> TaskView {
    let spec = cluster.spec_of(task);
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    let service = cluster.services.get(task.service);
    TaskView {
        id: task.id,
        meta: Meta { version: task.version, created_at: task.created_at, updated_at: task.updated_at },
        name: cluster.task_name(task),
        service: task.service,
        service_name: spec.name().to_owned(),
        slot: task.instance().slot(),
        node: task.node,
        node_hostname: node.map(|node| node.hostname().to_owned()).unwrap_or_default(),
        desired: task.desired.into(),
        status: status(task),
        spec_version: task.spec_version,
        spec: with_spec.then(|| (**spec).clone()),
        waiting: task.waiting.as_deref().filter(|_| task.awaits_placement()).map(str::to_owned),
        claims: task.claims.to_vec(),
        replaces: task.replaces,
        restarting: restarting(cluster, task, now).map(restarts),
        image: spec.template().container().image.clone(),
        current: service.is_some_and(|service| is_current(cluster, service, task.spec_version)),
    }
}

/// The last report, or the cluster's own information about a task without a report.
fn status(task: &Task) -> TaskStatus {
    if let Some(status) = &task.status {
        return TaskStatus { state: task.state.into(), ..(**status).clone() };
    }
    let message = if task.state < TaskState::Assigned {
        "waiting for a node"
    } else if task.desired == TaskState::Ready {
        "waiting to be started"
    } else {
        "waiting for the node to accept it"
    };
    TaskStatus {
        state: task.state.into(),
        at: Some(task.updated_at),
        message: message.to_owned(),
        ..Default::default()
    }
}
