//! Tasks: one-shot runs of a service's spec in a slot or on a node. A task's state only ever rises.

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
    /// The slot that it fills; of a global service's task, which fills its node, none.
    slot: Option<u64>,
    /// The node that runs it, once one is chosen.
    pub node: Option<NodeId>,
    /// The revision of the service's spec that it runs.
    pub spec_version: u64,
    /// What is wanted of it.
    pub desired: TaskState,
    /// Why that is wanted, when it is not what the task was made for.
    pub desired_cause: Option<DesiredCause>,
    /// How far it is.
    pub state: TaskState,
    /// Why it was made.
    pub cause: TaskCause,
    /// The task whose place it takes.
    pub replaces: Option<TaskId>,
    /// Not to be started before this time.
    pub start_after: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Where in the log it was made, which orders the tasks of a slot.
    pub created_index: u64,
    /// Index of the frame that last changed it.
    pub version: u64,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When the cluster learned that it runs.
    pub running_at: Option<Timestamp>,
    /// When the cluster learned that it is over.
    pub ended_at: Option<Timestamp>,
    /// CPU that it reserves, in billionths of a core.
    pub nano_cpus: u64,
    /// Memory that it reserves.
    pub memory_bytes: u64,
    /// Generic resources that it took from its node.
    pub claims: Box<[GenericResource]>,
    /// Its node's last report.
    pub status: Option<Arc<TaskStatus>>,
    /// Why it is not placed, while it is not.
    pub waiting: Option<Arc<str>>,
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Without an error.
    Finished,
    /// With one.
    Failed,
    /// It was stopped, or is about to be.
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

    /// Whether its node was chosen before the scheduler, as for a global service.
    pub fn is_bound(&self) -> bool {
        self.slot.is_none()
    }

    /// Whether it has run for so long that what failed before is over.
    pub fn is_healthy(&self, now: Timestamp) -> bool {
        self.running_at.is_some_and(|since| now.since(since) >= defaults::RESTART_HEALTHY_AFTER)
    }

    /// Whether it is wanted, or will be: not told to stop.
    pub fn is_wanted(&self) -> bool {
        self.desired.is_wanted()
    }

    /// Whether it is wanted and not over.
    pub fn is_live(&self) -> bool {
        self.is_wanted() && !self.state.is_terminal()
    }

    /// Whether it was stopped because it could not stay on its node, and for no reason of its own.
    pub fn had_to_leave(&self) -> bool {
        use DesiredCause::{ConstraintsNoLongerMet, DrainDeadlinePassed, NodeDown, NodeDrained, NodeRemoved};
        let causes = [ConstraintsNoLongerMet, DrainDeadlinePassed, NodeDown, NodeDrained, NodeRemoved];
        self.desired_cause.is_some_and(|cause| causes.contains(&cause))
    }

    /// Whether it takes resources of its node: placed there and not over.
    pub fn occupies_node(&self) -> bool {
        self.node.is_some() && self.state >= TaskState::Assigned && !self.state.is_terminal()
    }

    /// Whether the scheduler has to find a node for it, or to confirm the one it is bound to.
    pub fn awaits_placement(&self) -> bool {
        self.state < TaskState::Assigned && self.is_wanted()
    }

    /// How it ended; of one that has not ended, that it was or will be stopped.
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

    /// When its end counts as having happened.
    pub fn ended_or_updated_at(&self) -> Timestamp {
        self.ended_at.unwrap_or(self.updated_at)
    }
}
