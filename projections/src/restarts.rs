//! When a place whose task ended before it ran is tried again.

use std::time::Duration;

use events::spec::defaults::RESTART_DELAY;
use events::{TaskState, Timestamp};

use crate::{Cluster, Restarts, Task};

impl Cluster {
    /// How long its service pauses before a task takes the place of this one.
    pub fn restart_delay(&self, task: &Task) -> Duration {
        let ends = self.restarts.get((task.service, task.instance())).map_or(0, Restarts::in_a_row);
        let service = self.services.get(task.service);
        service.map_or(RESTART_DELAY, |service| service.spec.template().restart_policy().delay_after(ends))
    }

    /// When the place of a task that failed before it ran is tried again. An image that cannot be pulled fails while its task is
    /// prepared, before any delay in front of its start, so that the next task is only created after the delay.
    pub fn tried_again_at(&self, task: &Task) -> Option<Timestamp> {
        let failed = matches!(task.state, TaskState::Failed | TaskState::Rejected);
        let ended = task.ended_at.filter(|_| failed && task.running_at.is_none());
        ended.map(|ended| ended + self.restart_delay(task))
    }

    /// Until when a task that ended before it ran keeps its place: not before it was to start, nor before its place is tried again.
    pub fn keeps_place_until(&self, task: &Task) -> Option<Timestamp> {
        task.start_after.filter(|_| task.state.is_terminal()).max(self.tried_again_at(task))
    }
}
