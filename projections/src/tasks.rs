//! Tasks: single runs of a service's spec in a slot or on a node. A task's state only ever rises.

use std::sync::Arc;

use events::spec::defaults;
use events::{DesiredCause, GenericResource, NodeId, ServiceId, TaskCause, TaskId, TaskState, TaskStatus, Timestamp};
use serde::{Deserialize, Serialize};

use crate::instance::Instance;

pub(crate) mod derive;
pub(crate) mod fold;

/// One run of a service's spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The task's id.
    pub id: TaskId,
    /// The service it belongs to.
    pub service: ServiceId,
    /// The slot that it fills; `None` for a task of a global service, which fills its node.
    slot: Option<u64>,
    /// The node that runs it, once one is chosen.
    pub node: Option<NodeId>,
    /// The revision of the service's spec that it runs.
    pub spec_version: u64,
    /// Its desired state.
    pub desired: TaskState,
    /// The reason for its desired state, if that has changed since the task was created.
    pub desired_cause: Option<DesiredCause>,
    /// Its observed state.
    pub state: TaskState,
    /// Why it was created.
    pub cause: TaskCause,
    /// The task whose place it takes.
    pub replaces: Option<TaskId>,
    /// The earliest time at which it may start.
    pub start_after: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Index of the frame that created it, which orders the tasks of a slot.
    pub created_index: u64,
    /// Index of the frame that last changed it.
    pub version: u64,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When its running state was recorded.
    pub running_at: Option<Timestamp>,
    /// When its end was recorded.
    pub ended_at: Option<Timestamp>,
    /// CPU that it reserves, in billionths of a core.
    pub nano_cpus: u64,
    /// Memory that it reserves.
    pub memory_bytes: u64,
    /// Generic resources that it claims from its node.
    pub claims: Box<[GenericResource]>,
    /// Its node's last report.
    pub status: Option<Arc<TaskStatus>>,
    /// Why it cannot be placed; only while it waits for a node.
    pub waiting: Option<Arc<str>>,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Without an error.
    Finished,
    /// With an error.
    Failed,
    /// It was stopped, or is about to be stopped.
    Stopped,
}

impl Task {
    /// The place that it fills.
    pub fn instance(&self) -> Instance {
        match self.slot {
            Some(slot) => Instance::Slot(slot),
            None => Instance::Node(self.node.expect("a task without a slot is made for a node")),
        }
    }

    /// Whether its node was chosen before scheduling, as for a global service.
    pub fn is_bound(&self) -> bool {
        self.slot.is_none()
    }

    /// Whether it has run for long enough that earlier failures no longer count.
    pub fn is_healthy(&self, now: Timestamp) -> bool {
        self.running_at.is_some_and(|since| now.since(since) >= defaults::RESTART_HEALTHY_AFTER)
    }

    /// Whether it is wanted: its desired state is not to stop.
    pub fn is_wanted(&self) -> bool {
        self.desired.is_wanted()
    }

    /// Whether it is wanted and has not ended.
    pub fn is_live(&self) -> bool {
        self.is_wanted() && !self.state.is_terminal()
    }

    /// Whether it was stopped only because it could not stay on its node.
    pub fn had_to_leave(&self) -> bool {
        use DesiredCause::{ConstraintsNoLongerMet, DrainDeadlinePassed, NodeDown, NodeDrained, NodeRemoved};
        let causes = [ConstraintsNoLongerMet, DrainDeadlinePassed, NodeDown, NodeDrained, NodeRemoved];
        self.desired_cause.is_some_and(|cause| causes.contains(&cause))
    }

    /// Whether it uses resources of its node: assigned there and not ended.
    pub fn occupies_node(&self) -> bool {
        self.node.is_some() && self.state >= TaskState::Assigned && !self.state.is_terminal()
    }

    /// Whether the scheduler has to find a node for it, or to confirm its bound one.
    pub fn awaits_placement(&self) -> bool {
        self.state < TaskState::Assigned && self.is_wanted()
    }

    /// How it ended; for one that has not ended, that it was or will be stopped.
    pub fn end(&self) -> End {
        match self.state {
            TaskState::Complete => End::Finished,
            TaskState::Failed | TaskState::Rejected => End::Failed,
            TaskState::New
            | TaskState::Pending
            | TaskState::Assigned
            | TaskState::Accepted
            | TaskState::Preparing
            | TaskState::Ready
            | TaskState::Starting
            | TaskState::Running
            | TaskState::Shutdown
            | TaskState::Remove
            | TaskState::Orphaned => End::Stopped,
        }
    }

    /// The time that counts as its end.
    pub fn ended_or_updated_at(&self) -> Timestamp {
        self.ended_at.unwrap_or(self.updated_at)
    }
}
