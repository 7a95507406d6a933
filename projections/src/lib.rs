//! The state of the cluster, as a fold of its events.
//!
//! [`Cluster`] holds one persistent ordered table per noun; [`Cluster::apply`] is the only way to change it. A clone costs a few
//! pointers, so that a reader, a plan or the leader's tip each hold a version of their own.
//!
//! Absent on purpose: clocks, randomness, I/O, and any way to fail. An impossible event stops the process, because a manager
//! whose state differs from that of its peers is worse than one that is down.

pub mod table;

pub mod configs;

pub mod concerns;
mod counts;
mod lookup;
mod parts;

pub mod failing;
pub mod failures;
mod heartbeats;
pub mod instance;
pub mod members;
pub mod nodes;
pub mod operators;
pub mod places;
pub mod redactions;
pub mod requests;
pub mod restarts;
pub mod revision_tasks;
pub mod rollouts;
pub mod secrets;
pub mod services;
pub mod settings;
pub mod sinks;
pub mod tasks;
pub mod unplaced;
pub mod usage;

pub mod check;
pub mod keyring;
pub mod snapshot;
pub mod views;

#[cfg(test)]
mod samples;

use std::sync::Arc;

use events::{
    ClusterId, ConfigId, Event, Frame, Kind, NodeId, OperatorId, SecretId, ServiceId, SinkId, TaskId, TaskState,
    Timestamp,
};
use imbl::{OrdMap, OrdSet};
use xxhash_rust::xxh3::xxh3_128;

pub use configs::{Config, ConfigRevision};
pub use instance::Instance;
pub use keyring::{Keyring, Secret};
use lookup::Lookup;
pub use members::{Announced, FormerAuditKey, Member};
pub use nodes::{Liveness, Node};
pub use operators::Operator;
pub use places::Places;
pub use redactions::Redaction;
pub use requests::{Answer, Requests};
pub use restarts::Restarts;
pub use revision_tasks::{RevisionTasks, TaskCounts};
pub use rollouts::{Step, Tally};
pub use secrets::{ClusterSecret, SecretRevision};
pub use services::{Autoscaled, Rebalanced, Revision, Run, Service, Update, UpdateState};
pub use settings::{RootRotation, Settings, Tag};
pub use sinks::{Sink, SinkFailure, SinkState};
pub use table::Table;
pub use tasks::Task;
pub use unplaced::Unplaced;
pub use usage::{NodeUsage, Usage};

use events::spec::defaults;

/// Version of the fold: raised when the same events give a different state, which invalidates old checkpoints.
pub const FOLD_VERSION: u32 = 23;

/// The position of an event in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Index of its frame.
    pub index: u64,
    /// The frame's log time.
    pub time: Timestamp,
}

parts::state! {
    /// The state of the cluster after some frame.
    #[derive(Debug, Clone, Default)]
    pub struct Cluster
    parts {
        /// Cluster-wide settings.
        pub settings: Arc<Settings>,
        /// The members.
        pub nodes: Table<NodeId, Node>,
        /// Removed members, whose certificates are refused, with the time at which those expire.
        pub banned: Table<NodeId, Timestamp>,
        /// Operators with a certificate.
        pub operators: Table<OperatorId, Operator>,
        /// The managers that replicate the log.
        pub members: Table<NodeId, Member>,
        /// Managers that wait to become members, or to become members again after they lost their log.
        pub announced: Table<NodeId, Announced>,
        /// Raft ids of former members, which are never used again, with the index of the frame that removed them.
        pub former_members: Table<u64, u64>,
        /// Keys that verify signatures of managers up to some frame: those of removed managers, and replaced keys.
        pub former_audit_keys: Table<(u64, NodeId), FormerAuditKey>,
        /// The services.
        pub services: Table<ServiceId, Service>,
        /// Specs that tasks run, by service and template version.
        pub revisions: Table<(ServiceId, u64), Revision>,
        /// The configs.
        pub configs: Table<ConfigId, Config>,
        /// The secrets, without their data.
        pub secrets: Table<SecretId, ClusterSecret>,
        /// The sinks.
        pub sinks: Table<SinkId, Sink>,
        /// Values erased from history, by the index of the frame that announced it.
        pub redactions: Table<u64, Redaction>,
        /// The tasks.
        pub tasks: Table<TaskId, Task>,
        /// The last restarts in each place, for limits on attempts and for the delay before the next one.
        restarts: Table<(ServiceId, Instance), Restarts>,
        /// Last failures of a service on a node: spec version and time.
        pub failures: Table<(ServiceId, NodeId), Vec<(u64, Timestamp)>>,
        /// The places that rollouts took.
        rollout_steps: Table<(ServiceId, Instance), Step>,
        /// The counters of rollouts that are not completed.
        pub rollout_tallies: Table<ServiceId, Tally>,
        /// Commands that took effect.
        pub requests: Requests,
    }
    indices {
        /// The services by name, ignoring case.
        service_names: OrdMap<Arc<str>, ServiceId> = "names of services",
        /// Services with anti-affinity to others, by the names of those.
        apart: OrdSet<(Arc<str>, ServiceId)> = "services that keep apart from others",
        /// Services that start after others, by the names of those.
        dependents: OrdSet<(Arc<str>, ServiceId)> = "services that start after others",
        /// Host names of nodes, and names of the services of tasks.
        lookup: Lookup = "names that references are looked up by",
        /// The configs by name, ignoring case.
        config_names: OrdMap<Arc<str>, ConfigId> = "names of configs",
        /// The secrets by name, ignoring case.
        secret_names: OrdMap<Arc<str>, SecretId> = "names of secrets",
        /// The services that run a task on every node.
        global_services: OrdSet<ServiceId> = "global services",
        /// The services whose tasks are moved to nodes that have fewer of them.
        rebalancing: OrdSet<ServiceId> = "services that rebalance",
        /// The services with autoscaling, whose number of replicas follows the resource use of their tasks.
        autoscaling: OrdSet<ServiceId> = "services that are autoscaled",
        /// How many nodes there are in each state.
        nodes_by_liveness: OrdMap<Liveness, u64> = "nodes by liveness",
        /// How many services have a rollout in each state; those without one are not counted.
        services_by_update: OrdMap<UpdateState, u64> = "services by the state of their update",
        /// The tasks bound to nodes.
        tasks_by_node: OrdSet<(NodeId, TaskId)> = "tasks by node",
        /// The tasks in the places of services.
        tasks_by_instance: OrdSet<(ServiceId, Instance, TaskId)> = "tasks by instance",
        /// How many tasks run each revision; without revisions that no task runs.
        tasks_by_revision: RevisionTasks = "tasks by revision",
        /// How many tasks there are in each state.
        tasks_by_state: OrdMap<TaskState, u64> = "tasks by state",
        /// How many tasks of a service each place has, by kind.
        places: Places = "places",
        /// The tasks that the scheduler has to place or confirm.
        unplaced: Unplaced = "unplaced tasks",
        /// Workers that joined but never registered.
        newcomers: OrdSet<NodeId> = "workers that never registered",
        /// Failures by the time of the last one.
        failures_by_age: failures::ByAge = "failures by age",
        /// The places that fail repeatedly.
        failing: failing::Failing = "places that fail again and again",
        /// Resources that tasks use on their nodes.
        pub usage: Usage = "usage of nodes",
    }
    derived by [nodes::derive, services::fold::derive, configs::derive, secrets::derive, tasks::derive::derive, lookup::derive, failures::derive, failing::derive]
}

impl Default for Stamp {
    fn default() -> Self {
        Self { index: 0, time: Timestamp::from_unix_ns(0) }
    }
}

concerns! {
    /// What a change of state affects: the scope of the reconcilers.
    pub struct Touched
    sets {
        /// Services whose own rows changed.
        services: ServiceId,
        /// Places with a changed task.
        places: (ServiceId, Instance),
        /// Nodes whose own rows changed.
        nodes: NodeId,
        /// Nodes whose session, certificate or liveness changed, without an effect on their tasks.
        contacts: NodeId,
        /// Nodes with a changed task.
        tasks_of_nodes: NodeId,
        /// Nodes that did not change, but whose heartbeat timeout may have expired.
        overdue: NodeId,
        /// Operators whose certificates are refused from now on.
        operators: OperatorId,
        /// Services that lack tasks which a turn had no room to create. Set by the reconciler that counts the tasks, not by an
        /// event.
        unfilled: ServiceId,
        /// Services whose unplaceable tasks should be tried again, for which a full turn had no room. Set by the scheduler, not
        /// by an event.
        waiting: ServiceId,
        /// Services whose rollout may continue, because its time has come. Set by the rollout's timer, not by an event.
        rollouts: ServiceId,
        /// Services whose tasks may be moved to other nodes, because the time has come. Set by the timer, not by an event.
        balances: ServiceId,
        /// Services whose number of replicas may be adjusted to the current resource use of their tasks. Set by the timer, not by
        /// an event.
        scalings: ServiceId,
        /// Large services that are reconciled in parts, one in each turn, with the place to continue from. Set when the work is
        /// divided among turns, not by an event.
        sweeps: (ServiceId, Instance),
        /// Nodes that may have changed before they were reconciled, and whose tasks are judged again. Set when a full
        /// reconciliation is divided among turns, not by an event.
        unjudged: NodeId,
    }
    flags {
        /// New tasks wait to be placed, for which a full turn had no room. Set by the scheduler, not by an event.
        placement,
        /// The members changed, or the managers that should be members. Also affected by what a manager records about its peers,
        /// which is in no event.
        members,
        /// Everything may be affected: settings or leadership changed.
        everything,
    }
}

impl Cluster {
    /// Folds one event into the state and returns what it affects.
    ///
    /// # Panics
    /// When the event is impossible in this state.
    pub fn apply(&mut self, event: &Event, at: &Stamp) -> Touched {
        let mut touched = Touched::default();
        self.apply_into(event, at, &mut touched);
        touched
    }

    /// Like [`Cluster::apply`], but adds to what earlier events of the turn affect.
    ///
    /// # Panics
    /// When the event is impossible in this state.
    pub fn apply_into(&mut self, event: &Event, at: &Stamp, touched: &mut Touched) {
        let kind = event.kind.as_ref().expect("unknown events are dropped or refused when a frame is decoded");
        match kind {
            Kind::LeadershipAssumed(event) => {
                members::leads(self, event);
                nodes::leader_changed(self, at, touched);
            }
            Kind::StateHashRecorded(_) => {}
            Kind::ClusterInitialised(event) => settings::initialised(self, event, at, touched),
            Kind::ClusterSpecUpdated(event) => settings::spec_updated(self, &event.spec, at, touched),
            Kind::JoinTokenRotated(event) => settings::token_rotated(self, event),
            Kind::FeatureLevelRaised(event) => settings::feature_level_raised(self, event.level),
            Kind::RootCaGenerated(event) => settings::root_generated(self, event),
            Kind::RootRotationStarted(event) => settings::rotation_started(self, event, at),
            Kind::RootRotationCompleted(_) => settings::rotation_completed(self),
            Kind::NodeMovedToRoot(event) => nodes::moved_to_root(self, event, at, touched),
            Kind::CertificateIssued(event) => nodes::certified(self, event, at, touched),
            Kind::OperatorCreated(event) => operators::created(self, event, at),
            Kind::OperatorRevoked(event) => operators::revoked(self, event.operator, touched),
            Kind::OperatorRenewed(event) => operators::renewed(self, event),
            Kind::SecretsRead(_) => {}
            Kind::AccessRefused(event) => members::access_refused(self, event, at),
            Kind::UnlockKeyChanged(event) => settings::unlock_key_changed(self, event),
            Kind::HistoryTagged(event) => settings::history_tagged(self, event),
            Kind::HistoryUntagged(event) => settings::history_untagged(self, event),
            Kind::HistoryRedacted(event) => redactions::redacted(self, event, at),
            Kind::MemberAdded(event) => members::added(self, event, at, touched),
            Kind::MemberPromoted(event) => members::promoted(self, event, at, touched),
            Kind::MemberDemoted(event) => members::demoted(self, event, at, touched),
            Kind::MemberRemoved(event) => members::removed(self, event, at, touched),
            Kind::ManagerAnnounced(event) => members::announced(self, event, at, touched),
            Kind::QuorumForced(event) => members::forced(self, event, at, touched),
            Kind::NodeJoined(event) => nodes::joined(self, event, at, touched),
            Kind::NodeRegistered(event) => nodes::registered(self, event, at, touched),
            Kind::NodeDescribed(event) => nodes::described(self, event, touched),
            Kind::NodeSpecUpdated(event) => nodes::spec_updated(self, event, at, touched),
            Kind::NodeBecameReady(event) => nodes::liveness_changed(self, event.node, Liveness::Ready, at, touched),
            Kind::NodeDeclaredDown(event) => nodes::liveness_changed(self, event.node, Liveness::Down, at, touched),
            Kind::NodeDisconnected(event) => {
                nodes::liveness_changed(self, event.node, Liveness::Disconnected, at, touched)
            }
            Kind::NodeRemoved(event) => nodes::removed(self, event, at, touched),
            Kind::ServiceCreated(event) => services::fold::created(self, event, at, touched),
            Kind::ServiceSpecUpdated(event) => services::fold::spec_updated(self, event, at, touched),
            Kind::ServiceScaled(event) => services::fold::scaled(self, event, at, touched),
            Kind::ServiceRebalanced(event) => services::fold::rebalanced(self, event, at),
            Kind::ServiceRemoved(event) => services::fold::removed(self, event.service, touched),
            Kind::UpdateStarted(event) => services::fold::update_started(self, event, touched),
            Kind::UpdateTasksOverdue(event) => rollouts::tasks_overdue(self, event, at, touched),
            Kind::UpdatePaused(event) => services::fold::update_paused(self, event, touched),
            Kind::UpdateCompleted(event) => services::fold::update_completed(self, event.service, at, touched),
            Kind::RollbackStarted(event) => services::fold::rollback_started(self, event, touched),
            Kind::UpdateResumed(event) => services::fold::update_resumed(self, event.service, at, touched),
            Kind::TaskCreated(event) => tasks::fold::created(self, event, at, touched),
            Kind::TaskAssigned(event) => tasks::fold::assigned(self, event, at, touched),
            Kind::TaskPlacementFailed(event) => tasks::fold::placement_failed(self, event, at, touched),
            Kind::TaskDesiredStateSet(event) => tasks::fold::desired(self, event, at, touched),
            Kind::TaskReported(event) => tasks::fold::reported(self, event, at, touched),
            Kind::TaskRejected(event) => tasks::fold::rejected(self, event, at, touched),
            Kind::TaskOrphaned(event) => tasks::fold::orphaned(self, event, at, touched),
            Kind::TaskReaped(event) => tasks::fold::reaped(self, event, touched),
            Kind::TaskAccessed(_) => {}
            Kind::ConfigCreated(event) => configs::created(self, event, at),
            Kind::ConfigSpecUpdated(event) => configs::spec_updated(self, event, at),
            Kind::ConfigRevised(event) => configs::revised(self, event, at),
            Kind::ConfigRemoved(event) => configs::removed(self, event.config),
            Kind::SecretCreated(event) => secrets::created(self, event, at),
            Kind::SecretSpecUpdated(event) => secrets::spec_updated(self, event, at),
            Kind::SecretRevised(event) => secrets::revised(self, event, at),
            Kind::SecretRemoved(event) => secrets::removed(self, event.secret),
            Kind::RunScheduled(event) => services::fold::run_scheduled(self, event, touched),
            Kind::RunStarted(event) => services::fold::run_started(self, event, at, touched),
            Kind::RunSkipped(event) => services::fold::run_skipped(self, event, touched),
            Kind::SinkCreated(event) => sinks::created(self, event, at),
            Kind::SinkRemoved(event) => sinks::removed(self, event.sink),
            Kind::SinkPaused(event) => sinks::paused(self, event.sink),
            Kind::SinkResumed(event) => sinks::resumed(self, event.sink),
            Kind::SinkProgressed(event) => sinks::progressed(self, event, at),
            Kind::SinkFailed(event) => sinks::failed(self, event, at),
            Kind::SinkParked(event) => sinks::parked(self, event, at),
        }
    }

    /// Folds a whole frame: its events, then its commands, then its position in the log.
    ///
    /// # Panics
    /// When the frame does not follow this state.
    pub fn apply_frame(&mut self, frame: &Frame) -> Touched {
        let at = Stamp { index: frame.header.index, time: frame.header.log_time };
        let mut touched = Touched::default();
        for event in &frame.events {
            self.apply_into(event, &at, &mut touched);
        }
        self.conclude(frame, &at);
        touched
    }

    /// Completes a frame whose events were applied one by one.
    ///
    /// # Panics
    /// When the frame does not follow this state.
    pub fn conclude(&mut self, frame: &Frame, at: &Stamp) {
        assert!(at.index > self.position.index, "frame {} follows frame {}", at.index, self.position.index);
        assert!(at.time >= self.position.time, "log time went back at frame {}", at.index);
        for command in &frame.commands {
            self.requests.remember(command, at);
        }
        self.position = *at;
    }

    /// The cluster's id; zero before it is initialised.
    pub fn id(&self) -> ClusterId {
        self.settings.id
    }

    /// The service with this name, ignoring case.
    pub fn service_named(&self, name: &str) -> Option<&Service> {
        self.service_names.get(&services::name_key(name)).and_then(|id| self.services.get(*id))
    }

    /// The services with an anti-affinity rule against this one, so that their tasks must not share its nodes.
    pub fn kept_apart_from(&self, name: &str) -> impl Iterator<Item = ServiceId> {
        let name = services::name_key(name);
        let first = (Arc::clone(&name), ServiceId::default());
        self.apart.range(first..=(name, ServiceId::MAX)).map(|(_, service)| *service)
    }

    /// The services that start after this one.
    pub fn dependents_of(&self, name: &str) -> impl Iterator<Item = ServiceId> {
        let name = services::name_key(name);
        let first = (Arc::clone(&name), ServiceId::default());
        self.dependents.range(first..=(name, ServiceId::MAX)).map(|(_, service)| *service)
    }

    /// The services that run a task on every node.
    pub fn global_services(&self) -> impl Iterator<Item = &Service> {
        self.global_services.iter().filter_map(|id| self.services.get(*id))
    }

    /// The services whose tasks are moved to nodes that have fewer of them.
    pub fn rebalancing(&self) -> &OrdSet<ServiceId> {
        &self.rebalancing
    }

    /// The services with autoscaling, whose number of replicas follows the resource use of their tasks.
    pub fn autoscaling(&self) -> &OrdSet<ServiceId> {
        &self.autoscaling
    }

    /// The spec that a task runs.
    pub fn spec_of(&self, task: &Task) -> &Arc<events::ServiceSpec> {
        let revision = self.revisions.get((task.service, task.spec_version));
        &revision.expect("a spec is kept as long as a task runs it").spec
    }

    /// The tasks of a service, by instance, then by id.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Task> {
        let range = (service, Instance::FIRST, TaskId::default())..=(service, Instance::LAST, TaskId::MAX);
        self.tasks_by_instance.range(range).filter_map(|(_, _, id)| self.tasks.get(*id))
    }

    /// How many tasks a service has, at most `most`.
    pub fn task_count(&self, service: ServiceId, most: usize) -> usize {
        self.instances(service).take(most).count()
    }

    /// How many tasks run each revision of a service.
    pub fn tasks_by_revision(&self) -> &RevisionTasks {
        &self.tasks_by_revision
    }

    /// The tasks in one place of a service, by id.
    pub fn tasks_of_instance(&self, service: ServiceId, instance: Instance) -> impl Iterator<Item = &Task> {
        let range = (service, instance, TaskId::default())..=(service, instance, TaskId::MAX);
        self.tasks_by_instance.range(range).filter_map(|(_, _, id)| self.tasks.get(*id))
    }

    /// The places of the tasks of a service, in order.
    fn instances(&self, service: ServiceId) -> impl DoubleEndedIterator<Item = Instance> {
        let range = (service, Instance::FIRST, TaskId::default())..=(service, Instance::LAST, TaskId::MAX);
        self.tasks_by_instance.range(range).map(|(_, instance, _)| *instance)
    }

    /// How many tasks there are in each state; only states with any.
    pub fn tasks_by_state(&self) -> impl Iterator<Item = (TaskState, u64)> {
        self.tasks_by_state.iter().map(|(state, count)| (*state, *count))
    }

    /// How many nodes there are in a state.
    pub fn node_count(&self, liveness: Liveness) -> u64 {
        self.nodes_by_liveness.get(&liveness).copied().unwrap_or(0)
    }

    /// How many services have a rollout in a matching state.
    pub fn count_updates(&self, is_such: impl Fn(UpdateState) -> bool) -> u64 {
        self.services_by_update.iter().filter(|(state, _)| is_such(**state)).map(|(_, count)| count).sum()
    }

    /// The tasks bound to a node, by id.
    pub fn tasks_of_node(&self, node: NodeId) -> impl Iterator<Item = &Task> {
        let range = (node, TaskId::default())..=(node, TaskId::MAX);
        self.tasks_by_node.range(range).filter_map(|(_, id)| self.tasks.get(*id))
    }

    /// How many workers have joined but never registered.
    pub fn newcomers(&self) -> usize {
        self.newcomers.len()
    }

    /// The tasks that the scheduler has to place or confirm.
    pub fn unplaced(&self) -> &Unplaced {
        &self.unplaced
    }

    /// A task's name: `<service>.<slot>.<id>`, with the node's id instead of the slot for a global service.
    pub fn task_name(&self, task: &Task) -> String {
        let service = self.spec_of(task).name();
        match task.instance() {
            Instance::Slot(slot) => format!("{service}.{slot}.{}", task.id),
            Instance::Node(node) => format!("{service}.{node}.{}", task.id),
        }
    }

    /// The cluster's settings, such as how many dead tasks a slot keeps.
    pub fn spec(&self) -> &events::ClusterSpec {
        &self.settings.spec
    }

    /// The hash of everything that events determine, equal on every manager after the same frame.
    pub fn state_hash(&self) -> [u8; 16] {
        let parts: Vec<u64> = self.parts().into_iter().map(|(_, part)| part.hash()).collect();
        let bytes = postcard::to_allocvec(&(parts, self.position.index)).expect("numbers always encode");
        xxh3_128(&bytes).to_be_bytes()
    }
}

/// The name of the only cluster object.
pub const CLUSTER_NAME: &str = defaults::CLUSTER_NAME;

#[cfg(test)]
mod tests {
    use events::{SecretsRead, StateHashRecorded, TaskAccessed, catalogue};

    use super::*;

    #[test]
    fn notes_leave_the_state_as_it_is() {
        let notes = [
            Kind::StateHashRecorded(StateHashRecorded::default()),
            Kind::SecretsRead(SecretsRead::default()),
            Kind::TaskAccessed(TaskAccessed::default()),
        ];
        assert_eq!(notes.each_ref().map(Kind::name), *catalogue::NOTES);
        for kind in notes {
            let mut cluster = Cluster::default();
            let before = cluster.state_hash();
            cluster.apply(&Event::by_command(0, kind), &Stamp { index: 1, ..Stamp::default() });
            assert_eq!(cluster.state_hash(), before);
        }
    }
}
