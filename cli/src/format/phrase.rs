//! A short phrase for each event, which starts with its subject.

use std::fmt::Display;

use events::service_spec::Mode;
use events::{
    AccessRefused, ActorKind, ClusterSpecUpdated, HistoryRedacted, Kind, Named, NodeDeclaredDown, NodeRemoved,
    NodeSpec, NodeSpecUpdated, QuorumForced, RefusedCalls, ReplicatedMode, Role, RunSkipped, ServiceRebalanced,
    ServiceScaled, ServiceSpec, ServiceSpecUpdated, SkipCause, TaskAccess, TaskAccessed, TaskAssigned, TaskCreated,
    TaskDesiredStateSet, TaskId, TaskRejected, TaskState, TaskStatus, UpdateStarted,
};
use serde::Serialize;
use wire::v1::SpecBefore;

use super::{RecordNames, changes, state, template, words};
use crate::values::size;

/// Maximum number of task names in one phrase; the number of the others follows.
const TASKS_SHOWN: usize = 5;
/// Maximum number of frames in one phrase; the number of the others follows.
const FRAMES_SHOWN: usize = 12;
/// Maximum number of callers in one phrase; the number of the others follows.
const CALLERS_SHOWN: usize = 5;
/// Maximum number of spec changes in one line.
const CHANGES_SHOWN: usize = 12;

/// What happened, and how it differs from the previous state, if that is known. Each kind has one line; longer ones have a
/// function of their own.
pub fn phrase(kind: &Kind, before: Option<&SpecBefore>, names: RecordNames) -> String {
    let name = |id: &dyn Display| names.of(&id.to_string()).to_owned();
    match kind {
        Kind::LeadershipAssumed(e) => format!("{}: leads in term {}, swarmd {}", name(&e.node), e.term, e.version),
        Kind::StateHashRecorded(e) => format!("of the state at index {}", e.at_index),
        Kind::ClusterInitialised(e) => format!("{} {}", e.name, e.cluster),
        Kind::ClusterSpecUpdated(e) => cluster_updated(e, before),
        Kind::JoinTokenRotated(e) => format!("for the role {}", e.role().name()),
        Kind::FeatureLevelRaised(e) => format!("to {}: every manager knows it", e.level),
        Kind::RootCaGenerated(e) => format!("digest {}", e.digest),
        Kind::RootRotationStarted(e) => format!("to digest {}", e.digest),
        Kind::RootRotationCompleted(e) => format!("digest {}", e.digest),
        Kind::NodeMovedToRoot(e) => format!("{}: to digest {}", name(&e.node), e.digest),
        Kind::CertificateIssued(e) => format!("{}: as {}, until {}", name(&e.node), e.role().name(), e.not_after),
        Kind::OperatorCreated(e) => format!("{}: with the role {}, until {}", e.name, e.role().name(), e.not_after),
        Kind::OperatorRevoked(e) => name(&e.operator),
        Kind::OperatorRenewed(e) => format!("{}: until {}", name(&e.operator), e.not_after),
        Kind::UnlockKeyChanged(e) => if e.locked { "a new one" } else { "none" }.to_owned(),
        Kind::SecretsRead(e) => e.names.join(", "),
        Kind::AccessRefused(e) => format!("{}: {}", name(&e.manager), refused(e)),
        Kind::HistoryTagged(e) => format!("{}: index {}, {}", e.name, e.index, e.time),
        Kind::HistoryUntagged(e) => e.name.clone(),
        Kind::HistoryRedacted(e) => redacted(e, &name(&e.service)),
        Kind::MemberAdded(e) if e.voter => format!("{}: votes as a manager, at {}", name(&e.node), e.addr),
        Kind::MemberAdded(e) => format!("{}: follows the log without a vote, at {}", name(&e.node), e.addr),
        Kind::MemberPromoted(e) => format!("{}: has caught up, and votes as a manager", name(&e.node)),
        Kind::MemberDemoted(e) => format!("{}: no longer votes, and is about to leave", name(&e.node)),
        Kind::MemberRemoved(e) => format!("{}: is no longer a manager", name(&e.node)),
        Kind::ManagerAnnounced(e) => format!("{}: ready to follow the log as a manager, at {}", name(&e.node), e.addr),
        Kind::QuorumForced(e) => format!("{}: {}", name(&e.node), forced(e)),
        Kind::NodeJoined(e) => format!("{}: from {}", name(&e.node), e.addr),
        Kind::NodeRegistered(e) => format!("{}: ready, from {}", name(&e.node), e.addr),
        Kind::NodeDescribed(e) => format!("{}: runs {}", name(&e.node), e.description.executor),
        Kind::NodeSpecUpdated(e) => format!("{}: {}", name(&e.node), node_updated(e, before)),
        Kind::NodeBecameReady(e) => name(&e.node),
        Kind::NodeDeclaredDown(e) => format!("{}: {}", name(&e.node), last_heard(e)),
        Kind::NodeDisconnected(e) => name(&e.node),
        Kind::NodeRemoved(e) => format!("{}{}", name(&e.node), how_removed(e)),
        Kind::ServiceCreated(e) => format!("{}: {}", name(&e.service), summary(&e.spec)),
        Kind::ServiceSpecUpdated(e) => format!("{}: {}", name(&e.service), service_updated(e, before)),
        Kind::ServiceScaled(e) => format!("{}: {}", name(&e.service), scaled(e)),
        Kind::ServiceRebalanced(e) => format!("{}: {}", name(&e.service), rebalanced(e, names)),
        Kind::ServiceRemoved(e) => name(&e.service),
        Kind::UpdateStarted(e) => format!("{}: {}", name(&e.service), started(e)),
        Kind::UpdateTasksOverdue(e) => format!("{}: {}", name(&e.service), several(&e.tasks, names)),
        Kind::UpdatePaused(e) => format!("{}: {}", name(&e.service), e.reason),
        Kind::UpdateCompleted(e) => name(&e.service) + if e.rollback() { ": rollback" } else { "" },
        Kind::RollbackStarted(e) => format!("{}: {}", name(&e.service), e.reason),
        Kind::UpdateResumed(e) => name(&e.service) + if e.rollback() { ": rollback" } else { "" },
        Kind::TaskCreated(e) => created(e, names),
        Kind::TaskAssigned(e) => assigned(e, names),
        Kind::TaskPlacementFailed(e) => format!("{}: {}", several(&e.tasks, names), e.explanation),
        Kind::TaskDesiredStateSet(e) => format!("{}: {}", several(&e.tasks, names), desired(e)),
        Kind::TaskReported(e) => format!("{}: {}", name(&e.task), reported(&e.status)),
        Kind::TaskRejected(e) => format!("{}: {}", name(&e.task), rejected(e)),
        Kind::TaskOrphaned(e) => format!("{}: {}", several(&e.tasks, names), e.message),
        Kind::TaskReaped(e) => several(&e.tasks, names),
        Kind::TaskAccessed(e) => format!("{} on {}: {}", name(&e.task), name(&e.node), accessed(e)),
        Kind::ConfigCreated(e) => format!("{}: {}", name(&e.config), size::show(e.data.len() as u64)),
        Kind::ConfigSpecUpdated(e) => name(&e.config),
        Kind::ConfigRevised(e) => {
            format!("{}: revision {}, {}", name(&e.config), e.revision, size::show(e.data.len() as u64))
        }
        Kind::ConfigRemoved(e) => name(&e.config),
        Kind::RunScheduled(e) => format!("{}: the next run is due {}", name(&e.service), e.due.minute()),
        Kind::RunStarted(e) => {
            let beside = if e.beside { ", beside the one before" } else { "" };
            format!("{}: the run of {}{beside}", name(&e.service), e.due.minute())
        }
        Kind::RunSkipped(e) => format!("{}: the run of {}: {}", name(&e.service), e.due.minute(), skipped(e)),
        Kind::SecretCreated(e) => name(&e.secret),
        Kind::SecretSpecUpdated(e) => name(&e.secret),
        Kind::SecretRevised(e) => format!("{}: revision {}", name(&e.secret), e.revision),
        Kind::SecretRemoved(e) => name(&e.secret),
        Kind::SinkCreated(e) => format!("{}: to {}{}", e.spec.name, e.spec.webhook, e.spec.file),
        Kind::SinkRemoved(e) => name(&e.sink),
        Kind::SinkPaused(e) => name(&e.sink),
        Kind::SinkResumed(e) => name(&e.sink),
        Kind::SinkProgressed(e) => format!("{}: has all up to index {}", name(&e.sink), e.index),
        Kind::SinkFailed(e) => format!("{}: {}", name(&e.sink), e.reason),
        Kind::SinkParked(e) => format!("{}: {}", name(&e.sink), e.reason),
    }
}

fn scaled(event: &ServiceScaled) -> String {
    let reason = event.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("from {} to {} replicas{reason}", event.from, event.to)
}

fn rebalanced(event: &ServiceRebalanced, names: RecordNames) -> String {
    let [task, from, to] = [event.task.to_string(), event.from.to_string(), event.to.to_string()];
    format!("{} moves from {} to {}: {}", names.of(&task), names.of(&from), names.of(&to), event.reason)
}

/// Why a run was skipped.
pub(super) fn skipped(event: &RunSkipped) -> &'static str {
    match event.cause() {
        SkipCause::Overlap => "the previous one is still running",
        SkipCause::Late => "it would start after its deadline",
    }
}

fn cluster_updated(event: &ClusterSpecUpdated, before: Option<&SpecBefore>) -> String {
    let before = before.and_then(|before| before.cluster.as_ref());
    before.map_or_else(|| "settings of the cluster".to_owned(), |before| changed(before, &event.spec))
}

fn node_updated(event: &NodeSpecUpdated, before: Option<&SpecBefore>) -> String {
    let before = before.and_then(|before| before.node.as_ref());
    before.map_or_else(|| node_spec(&event.spec), |before| changed(before, &event.spec))
}

fn service_updated(event: &ServiceSpecUpdated, before: Option<&SpecBefore>) -> String {
    let before = before.and_then(|before| before.service.as_ref());
    let what = before.map_or_else(|| summary(&event.spec), |before| changed(before, &event.spec));
    let restored = event.restored.map_or_else(String::new, |revision| format!(" to revision {revision}"));
    format!("{}{restored}, {what}", event.change().name().replace('_', " "))
}

fn forced(event: &QuorumForced) -> String {
    format!("continues as the only manager; {} managers before it are fenced", event.fenced.len())
}

fn started(event: &UpdateStarted) -> String {
    format!("{}{} to replace", if event.rollback() { "rollback, " } else { "" }, tasks(event.slots))
}

fn desired(event: &TaskDesiredStateSet) -> String {
    format!("{}, cause {}", state(event.desired()), event.cause().name().replace('_', " "))
}

fn rejected(event: &TaskRejected) -> &str {
    if event.error.is_empty() { &event.message } else { &event.error }
}

fn last_heard(event: &NodeDeclaredDown) -> String {
    let last_contact = if event.unheard() { "no heartbeat since a manager took over at" } else { "last heartbeat at" };
    format!("{last_contact} {}", event.last_heard)
}

fn redacted(event: &HistoryRedacted, service: &str) -> String {
    let frames: Vec<String> = event.frames.iter().take(FRAMES_SHOWN).map(|frame| frame.index.to_string()).collect();
    let more = event.frames.len().saturating_sub(FRAMES_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let unit = if event.frames.len() == 1 { "frame" } else { "frames" };
    format!("{service}: {} erased from {unit} {}{more}", event.field, frames.join(", "))
}

fn how_removed(event: &NodeRemoved) -> &'static str {
    match (event.forced, event.forgotten) {
        (_, true) => ": it never registered",
        (true, false) => ": by force",
        (false, false) => "",
    }
}

/// The difference between a spec and the one it replaces.
pub(super) fn changed<T: Serialize>(before: &T, after: &T) -> String {
    // Specs are plain data, which always serializes to JSON.
    let [before, after] = [before, after].map(|spec| serde_json::to_value(spec).unwrap_or_default());
    let changes = changes::between(&before, &after);
    match changes.len().saturating_sub(CHANGES_SHOWN) {
        0 if changes.is_empty() => "no change".to_owned(),
        0 => changes.join(", "),
        more => format!("{}, and {more} more changes", changes[..CHANGES_SHOWN].join(", ")),
    }
}

/// A short summary of a spec.
pub(super) fn summary(spec: &ServiceSpec) -> String {
    let mode = match spec.mode() {
        Mode::Global(_) => "global".to_owned(),
        Mode::GlobalJob(_) => "global job".to_owned(),
        Mode::ReplicatedJob(mode) => format!("job of {}", tasks(mode.total_completions)),
        Mode::Replicated(ReplicatedMode { replicas: 1 }) => "1 replica".to_owned(),
        Mode::Replicated(ReplicatedMode { replicas }) => format!("{replicas} replicas"),
    };
    format!("{}, {mode}", spec.template().container().image)
}

/// The desired state of a node. The role worker is the default and not shown.
fn node_spec(spec: &NodeSpec) -> String {
    let annotations = spec.annotations.iter();
    let labels: Vec<String> =
        annotations.flat_map(|known| &known.labels).map(|(key, value)| format!("{key}={value}")).collect();
    let role = match spec.role() {
        Role::Manager => ", role manager",
        Role::Worker => "",
    };
    let labels = if labels.is_empty() { String::new() } else { format!(", labels {}", labels.join(" ")) };
    format!("availability {}{role}{labels}", spec.availability().name())
}

fn created(event: &TaskCreated, names: RecordNames) -> String {
    let replaces = event.replaces.map_or_else(String::new, |task| format!(", replaces {task}"));
    let reaped: Vec<String> = event.reaped.iter().map(ToString::to_string).collect();
    let reaped = if reaped.is_empty() { String::new() } else { format!(", forgets {}", reaped.join(", ")) };
    let task = event.task.to_string();
    format!("{}: task {task}, cause {}{replaces}{reaped}", names.of(&task), event.cause().name())
}

fn assigned(event: &TaskAssigned, names: RecordNames) -> String {
    let (task, node) = (event.task.to_string(), event.node.to_string());
    let claims: Vec<String> = event.claims.iter().map(template::generic).collect();
    let with = if claims.is_empty() { "" } else { ", with " };
    format!("{}: to {}{with}{}", names.of(&task), names.of(&node), claims.join(", "))
}

fn accessed(event: &TaskAccessed) -> String {
    let user = event.user.as_ref().map_or_else(String::new, |user| format!(" as user {user}"));
    match event.access() {
        TaskAccess::Exec => format!("command {}{user}", words(&event.argv)),
        TaskAccess::Attach => "attached".to_owned(),
        TaskAccess::CopyFrom => format!("copied from {}", event.path()),
        TaskAccess::CopyTo => format!("copied to {}", event.path()),
    }
}

/// Who was refused which calls, and how often.
fn refused(event: &AccessRefused) -> String {
    let of = |calls: &RefusedCalls| {
        let (call, who, kind) = (&calls.call, &calls.actor.subject, calls.actor.kind());
        let standing = match (&calls.role, kind) {
            (Some(role), _) => role.as_str(),
            (None, ActorKind::Joiner) => "no certificate",
            (None, ActorKind::CertifiedOperator) => "revoked",
            (None, ActorKind::Operator) => "local user",
            (None, ActorKind::Node | ActorKind::Manager) => "node",
        };
        let times = if calls.count == 1 { "once".to_owned() } else { format!("{} times", calls.count) };
        format!("{call} by {who} ({standing}) {times}")
    };
    let mut shown: Vec<String> = event.refused.iter().take(CALLERS_SHOWN).map(of).collect();
    let hidden: u64 = event.refused.iter().skip(CALLERS_SHOWN).map(|calls| calls.count).sum();
    match hidden.saturating_add(event.others()) {
        0 => {}
        1 => shown.push("1 call of another".to_owned()),
        more => shown.push(format!("{more} calls of others")),
    }
    shown.join("; ")
}

/// The state that was reached, with the reason if it is a failure.
fn reported(status: &TaskStatus) -> String {
    let reached = state(status.state());
    match (status.error.as_str(), status.message.as_str()) {
        ("", _) if status.state() <= TaskState::Running => reached,
        ("", "") => reached,
        ("", message) => format!("{reached}, {message}"),
        (error, _) => format!("{reached}, {error}"),
    }
}

fn several(ids: &[TaskId], names: RecordNames) -> String {
    let shown: Vec<String> = ids.iter().take(TASKS_SHOWN).map(|id| names.of(&id.to_string()).to_owned()).collect();
    match ids.len().saturating_sub(TASKS_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn tasks(number: u64) -> String {
    if number == 1 { "1 task".to_owned() } else { format!("{number} tasks") }
}

#[cfg(test)]
mod tests {
    use events::{ActorRecord, Id};

    use super::*;

    #[test]
    fn refused_callers_are_named_with_what_they_are_and_many_are_counted() {
        let calls = |kind: ActorKind, subject: &str, role: Option<&str>, count: u64| RefusedCalls {
            actor: ActorRecord { kind: kind.into(), subject: subject.to_owned(), via: None },
            role: role.map(str::to_owned),
            call: "service.remove".to_owned(),
            count,
            ..RefusedCalls::default()
        };
        let mut event = AccessRefused {
            refused: vec![
                calls(ActorKind::CertifiedOperator, "eve", Some("viewer"), 1_000),
                calls(ActorKind::CertifiedOperator, "0id", None, 1),
                calls(ActorKind::Joiner, "10.0.0.9", None, 2),
            ],
            ..AccessRefused::default()
        };
        let three = "service.remove by eve (viewer) 1000 times; service.remove by 0id (revoked) once; \
                     service.remove by 10.0.0.9 (no certificate) 2 times";
        assert_eq!(refused(&event), three);
        event.others = Some(1);
        assert_eq!(refused(&event), format!("{three}; 1 call of another"));
        event.refused.extend((0..4).map(|_| calls(ActorKind::Node, "7", Some("worker"), 3)));
        let worker = "service.remove by 7 (worker) 3 times";
        assert_eq!(refused(&event), format!("{three}; {worker}; {worker}; 7 calls of others"));
    }

    #[test]
    fn many_tasks_are_counted() {
        let ids: Vec<TaskId> = (1..=7).map(TaskId::from_bits).collect();
        assert!(several(&ids, RecordNames::none()).ends_with("5 and 2 more"));
        assert!(!several(&ids[..5], RecordNames::none()).contains("more"));
    }

    #[test]
    fn what_is_wanted_of_a_node_is_told_in_full() {
        let mut spec = NodeSpec { availability: events::Availability::Pause.into(), ..Default::default() };
        assert_eq!(node_spec(&spec), "availability pause");
        let labels = [("disk", "ssd"), ("zone", "east")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        spec.annotations = Some(events::Annotations { labels: labels.into(), ..Default::default() });
        spec.role = Role::Manager.into();
        assert_eq!(node_spec(&spec), "availability pause, role manager, labels disk=ssd zone=east");
    }

    #[test]
    fn a_failure_says_why_and_progress_does_not_chat() {
        let status = |state: TaskState, message: &str, error: &str| TaskStatus {
            state: state.into(),
            message: message.to_owned(),
            error: error.to_owned(),
            ..Default::default()
        };
        assert_eq!(reported(&status(TaskState::Running, "started", "")), "RUNNING");
        assert_eq!(reported(&status(TaskState::Failed, "started", "exit status 1")), "FAILED, exit status 1");
        assert_eq!(reported(&status(TaskState::Shutdown, "stopped on request", "")), "SHUTDOWN, stopped on request");
    }
}
