//! Commands about single tasks.

use events::{DesiredCause, Kind, OperatorRole, TaskDesiredStateSet, TaskId, TaskState};
use projections::Cluster;

use crate::verb::{Asker, Verb};
use crate::{Ctx, Decision, Rejection};

/// Removes one task: its node stops it, the reaper forgets it, and its service creates another if it wants one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct RemoveTask {
    /// The task.
    pub task: TaskId,
}

impl Verb for RemoveTask {
    fn name(&self) -> &'static str {
        "task.remove"
    }

    fn asker(&self) -> Asker {
        Asker::Operator(OperatorRole::Operator)
    }

    fn adds(&self, _state: &Cluster) -> bool {
        false
    }

    fn decide(&self, state: &Cluster, _ctx: &mut Ctx) -> Result<Decision, Rejection> {
        let id = self.task;
        let task = state.tasks.get(id).ok_or_else(|| Rejection::not_found("task", id))?;
        if task.desired >= TaskState::Remove {
            return Ok(Decision::nothing(id));
        }
        let desired = TaskState::Remove.into();
        let set = TaskDesiredStateSet { tasks: vec![id], desired, cause: DesiredCause::User.into() };
        Ok(Decision::one(id, Kind::TaskDesiredStateSet(set)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Story, operator, web};
    use crate::{Command, RejectionKind};
    use events::Id;

    #[test]
    fn a_task_is_told_once_to_go() {
        let mut story = Story::with_worker();
        let service = story.service(&web());
        let task = story.task(1, service, None);
        let desired = TaskState::Remove.into();
        let set = TaskDesiredStateSet { tasks: vec![task], desired, cause: DesiredCause::User.into() };
        let decision = story.accept(&operator(), Command::RemoveTask(crate::RemoveTask { task }));
        assert_eq!(decision.events, [Kind::TaskDesiredStateSet(set)]);
        assert_eq!(story.accept(&operator(), Command::RemoveTask(crate::RemoveTask { task })).events, []);
    }

    #[test]
    fn a_task_that_is_not_there_is_not_found() {
        let task = TaskId::from_bits(9);
        let refused = Story::with_worker().refuse(&operator(), Command::RemoveTask(crate::RemoveTask { task }));
        assert_eq!(refused.kind, RejectionKind::NotFound);
    }
}
