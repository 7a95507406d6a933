//! Names of the events and the objects that each concerns, for tables, filters and audits.

use crate::Kind;

macro_rules! catalogue {
    ($($variant:ident $name:literal |$event:pat_param| [$($subject:expr),*];)*) => {
        impl Kind {
            /// The event's name in lower case, such as `service_created`.
            pub fn name(&self) -> &'static str {
                match self { $( Kind::$variant(_) => $name, )* }
            }

            /// Ids of the objects that the event concerns, the most specific one first.
            pub fn subjects(&self) -> Vec<String> {
                match self { $( Kind::$variant($event) => subjects([$(&$subject as &dyn Subjects),*]), )* }
            }
        }

        /// Every event's name, in the order of the catalogue.
        pub const NAMES: &[&str] = &[$($name),*];
    };
}

/// The name of each kind of event, and the names of its fields.
pub const FIELDS: &[(&str, &[&str])] = include!(concat!(env!("OUT_DIR"), "/fields.rs"));

/// The name of each kind of event, and its number in the schema.
pub const NUMBERS: &[(&str, u32)] = include!(concat!(env!("OUT_DIR"), "/numbers.rs"));

/// The kinds of events that record an action or a finding and leave the state unchanged.
pub const NOTES: &[&str] = &["state_hash_recorded", "secrets_read", "task_accessed"];

/// The name of each command in the log, in order.
pub const COMMANDS: [&str; 49] = [
    "cluster.initialise",
    "cluster.rotate-root",
    "cluster.rotate-token",
    "cluster.rotate-unlock-key",
    "cluster.update",
    "config.create",
    "config.remove",
    "config.update",
    "history.redact",
    "history.tag",
    "history.untag",
    "leadership.assume",
    "manager.announce",
    "node.certify",
    "node.disconnect",
    "node.hear",
    "node.join",
    "node.leave",
    "node.move-to-root",
    "node.register",
    "node.remove",
    "node.update",
    "operator.create",
    "operator.renew",
    "operator.revoke",
    "quorum.force",
    "refusals.record",
    "secret.create",
    "secret.remove",
    "secret.update",
    "secrets.read",
    "service.create",
    "service.pause",
    "service.remove",
    "service.resume",
    "service.rollback",
    "service.scale",
    "service.update",
    "sink.create",
    "sink.pause",
    "sink.remove",
    "sink.report",
    "sink.resume",
    "state.hash",
    "task.attach",
    "task.cp",
    "task.exec",
    "task.remove",
    "task.report",
];

impl Kind {
    /// Whether the event leaves the state unchanged.
    pub fn is_note(&self) -> bool {
        NOTES.contains(&self.name())
    }

    /// Names of the secrets that this event destroys.
    pub fn destroyed_secrets(&self) -> &[String] {
        if let Self::RootRotationCompleted(event) = self {
            &event.destroyed_secrets
        } else if let Self::ServiceSpecUpdated(event) = self {
            &event.destroyed_secrets
        } else {
            &[]
        }
    }

    /// The feature level from which a build supports this event. An older one would refuse a log that contains it.
    pub fn feature_level(&self) -> u32 {
        // Must only be written once every manager supports it: the same holds for each kind added from here on.
        if let Self::FeatureLevelRaised(_) = self {
            2
        } else if let Self::HistoryRedacted(_) = self {
            crate::redaction::FEATURE_LEVEL
        } else {
            crate::frame::FEATURE_LEVEL_MIN
        }
    }

    /// Tasks that this event removes from the state.
    pub fn reaped(&self) -> &[crate::TaskId] {
        match self {
            Self::TaskReaped(event) => &event.tasks,
            Self::TaskCreated(event) => &event.reaped,
            Self::LeadershipAssumed(_)
            | Self::StateHashRecorded(_)
            | Self::ClusterInitialised(_)
            | Self::ClusterSpecUpdated(_)
            | Self::JoinTokenRotated(_)
            | Self::FeatureLevelRaised(_)
            | Self::RootCaGenerated(_)
            | Self::RootRotationStarted(_)
            | Self::RootRotationCompleted(_)
            | Self::NodeMovedToRoot(_)
            | Self::CertificateIssued(_)
            | Self::OperatorCreated(_)
            | Self::OperatorRevoked(_)
            | Self::OperatorRenewed(_)
            | Self::SecretsRead(_)
            | Self::AccessRefused(_)
            | Self::UnlockKeyChanged(_)
            | Self::HistoryTagged(_)
            | Self::HistoryUntagged(_)
            | Self::HistoryRedacted(_)
            | Self::MemberAdded(_)
            | Self::MemberPromoted(_)
            | Self::MemberDemoted(_)
            | Self::MemberRemoved(_)
            | Self::ManagerAnnounced(_)
            | Self::QuorumForced(_)
            | Self::NodeJoined(_)
            | Self::NodeRegistered(_)
            | Self::NodeDescribed(_)
            | Self::NodeSpecUpdated(_)
            | Self::NodeBecameReady(_)
            | Self::NodeDeclaredDown(_)
            | Self::NodeDisconnected(_)
            | Self::NodeRemoved(_)
            | Self::ServiceCreated(_)
            | Self::ServiceSpecUpdated(_)
            | Self::ServiceScaled(_)
            | Self::ServiceRebalanced(_)
            | Self::ServiceRemoved(_)
            | Self::UpdateStarted(_)
            | Self::UpdateTasksOverdue(_)
            | Self::UpdatePaused(_)
            | Self::UpdateCompleted(_)
            | Self::RollbackStarted(_)
            | Self::UpdateResumed(_)
            | Self::TaskAssigned(_)
            | Self::TaskPlacementFailed(_)
            | Self::TaskDesiredStateSet(_)
            | Self::TaskReported(_)
            | Self::TaskRejected(_)
            | Self::TaskOrphaned(_)
            | Self::TaskAccessed(_)
            | Self::ConfigCreated(_)
            | Self::ConfigSpecUpdated(_)
            | Self::ConfigRevised(_)
            | Self::ConfigRemoved(_)
            | Self::SecretCreated(_)
            | Self::SecretSpecUpdated(_)
            | Self::SecretRevised(_)
            | Self::SecretRemoved(_)
            | Self::RunScheduled(_)
            | Self::RunStarted(_)
            | Self::RunSkipped(_)
            | Self::SinkCreated(_)
            | Self::SinkRemoved(_)
            | Self::SinkPaused(_)
            | Self::SinkResumed(_)
            | Self::SinkProgressed(_)
            | Self::SinkFailed(_)
            | Self::SinkParked(_) => &[],
        }
    }
}

/// A value that refers to any number of objects.
trait Subjects {
    fn add_to(&self, list: &mut Vec<String>);
}

impl<I: crate::Id> Subjects for I {
    fn add_to(&self, list: &mut Vec<String>) {
        list.push(self.to_string());
    }
}

impl<I: crate::Id> Subjects for Option<I> {
    fn add_to(&self, list: &mut Vec<String>) {
        list.extend(self.iter().map(ToString::to_string));
    }
}

impl<I: crate::Id> Subjects for Vec<I> {
    fn add_to(&self, list: &mut Vec<String>) {
        list.extend(self.iter().map(ToString::to_string));
    }
}

fn subjects<const N: usize>(parts: [&dyn Subjects; N]) -> Vec<String> {
    let mut list = Vec::new();
    for part in parts {
        part.add_to(&mut list);
    }
    list
}

catalogue! {
    LeadershipAssumed "leadership_assumed" |event| [event.node];
    StateHashRecorded "state_hash_recorded" |_| [];
    ClusterInitialised "cluster_initialised" |event| [event.cluster];
    ClusterSpecUpdated "cluster_spec_updated" |_| [];
    JoinTokenRotated "join_token_rotated" |_| [];
    FeatureLevelRaised "feature_level_raised" |_| [];
    RootCaGenerated "root_ca_generated" |_| [];
    RootRotationStarted "root_rotation_started" |_| [];
    RootRotationCompleted "root_rotation_completed" |_| [];
    CertificateIssued "certificate_issued" |event| [event.node];
    NodeMovedToRoot "node_moved_to_root" |event| [event.node];
    OperatorCreated "operator_created" |event| [event.operator];
    OperatorRevoked "operator_revoked" |event| [event.operator];
    OperatorRenewed "operator_renewed" |event| [event.operator];
    SecretsRead "secrets_read" |_| [];
    AccessRefused "access_refused" |event| [event.manager];
    UnlockKeyChanged "unlock_key_changed" |_| [];
    HistoryTagged "history_tagged" |_| [];
    HistoryUntagged "history_untagged" |_| [];
    HistoryRedacted "history_redacted" |event| [event.service];
    MemberAdded "member_added" |event| [event.node];
    MemberPromoted "member_promoted" |event| [event.node];
    MemberDemoted "member_demoted" |event| [event.node];
    MemberRemoved "member_removed" |event| [event.node];
    ManagerAnnounced "manager_announced" |event| [event.node];
    QuorumForced "quorum_forced" |event| [event.node];
    NodeJoined "node_joined" |event| [event.node];
    NodeRegistered "node_registered" |event| [event.node];
    NodeDescribed "node_described" |event| [event.node];
    NodeSpecUpdated "node_spec_updated" |event| [event.node];
    NodeBecameReady "node_became_ready" |event| [event.node];
    NodeDeclaredDown "node_declared_down" |event| [event.node];
    NodeDisconnected "node_disconnected" |event| [event.node];
    NodeRemoved "node_removed" |event| [event.node];
    ServiceCreated "service_created" |event| [event.service];
    ServiceSpecUpdated "service_spec_updated" |event| [event.service];
    ServiceScaled "service_scaled" |event| [event.service];
    ServiceRebalanced "service_rebalanced" |event| [event.service, event.task, event.from, event.to];
    ServiceRemoved "service_removed" |event| [event.service];
    UpdateStarted "update_started" |event| [event.service];
    UpdateTasksOverdue "update_tasks_overdue" |event| [event.service, event.tasks];
    UpdatePaused "update_paused" |event| [event.service];
    UpdateCompleted "update_completed" |event| [event.service];
    RollbackStarted "rollback_started" |event| [event.service];
    UpdateResumed "update_resumed" |event| [event.service];
    TaskCreated "task_created" |event| [event.task, event.service, event.node, event.replaces, event.reaped];
    TaskAssigned "task_assigned" |event| [event.task, event.node];
    TaskPlacementFailed "task_placement_failed" |event| [event.tasks];
    TaskDesiredStateSet "task_desired_state_set" |event| [event.tasks];
    TaskReported "task_reported" |event| [event.task];
    TaskRejected "task_rejected" |event| [event.task];
    TaskOrphaned "task_orphaned" |event| [event.tasks];
    TaskReaped "task_reaped" |event| [event.tasks];
    TaskAccessed "task_accessed" |event| [event.task, event.node];
    ConfigCreated "config_created" |event| [event.config];
    ConfigSpecUpdated "config_spec_updated" |event| [event.config];
    ConfigRevised "config_revised" |event| [event.config];
    ConfigRemoved "config_removed" |event| [event.config];
    SecretCreated "secret_created" |event| [event.secret];
    SecretSpecUpdated "secret_spec_updated" |event| [event.secret];
    SecretRevised "secret_revised" |event| [event.secret];
    SecretRemoved "secret_removed" |event| [event.secret];
    RunScheduled "run_scheduled" |event| [event.service];
    RunStarted "run_started" |event| [event.service];
    RunSkipped "run_skipped" |event| [event.service];
    SinkCreated "sink_created" |event| [event.sink];
    SinkRemoved "sink_removed" |event| [event.sink];
    SinkPaused "sink_paused" |event| [event.sink];
    SinkResumed "sink_resumed" |event| [event.sink];
    SinkProgressed "sink_progressed" |event| [event.sink];
    SinkFailed "sink_failed" |event| [event.sink];
    SinkParked "sink_parked" |event| [event.sink];
}
