//! Waiting until a node is as it was asked to be: left by its tasks, or left alone by new ones.

use events::{Availability, Named, TaskState};
use wire::v1::{EventsRequest, ListTasksRequest, NodeState, NodeView, TaskView};

use super::WaitFlags;
use super::progress::Progress;
use super::verdict::{LINES_MAX, Picture, TaskLine};
use crate::failure::{Failure, Kind};
use crate::format::{node, task};
use crate::manager::Manager;
use crate::session::{Session, Wait};

/// Events that can end such a wait, or bring it further.
const KINDS: [&str; 10] = [
    "task_desired_state_set",
    "task_assigned",
    "task_reported",
    "task_rejected",
    "task_orphaned",
    "task_reaped",
    "node_spec_updated",
    "node_declared_down",
    "node_registered",
    "node_removed",
];

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeGoal {
    /// Nothing runs there any more.
    Drained,
    /// What was on its way there runs or has ended.
    Paused,
}

impl NodeGoal {
    fn availability(self) -> Availability {
        match self {
            Self::Drained => Availability::Drain,
            Self::Paused => Availability::Pause,
        }
    }

    /// Whether this task has to be waited for.
    fn awaits(self, task: &TaskView) -> bool {
        let state = task.status.state();
        match self {
            Self::Drained => (TaskState::Assigned..=TaskState::Running).contains(&state),
            // One that is held back until later may start there long after.
            Self::Paused => {
                (TaskState::Assigned..TaskState::Running).contains(&state) && task.desired() == TaskState::Running
            }
        }
    }
}

/// How far a node is.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached(Picture),
    Underway(Picture),
    /// It is down: what runs there is not known, and nothing more will be heard of it.
    Lost(String),
    /// Somebody else wants something else of it.
    Overruled(String),
}

/// Waits, unless the flags say otherwise, until the nodes are as they were asked to be at `since`.
///
/// # Errors
/// When the time is over, the user ends it, the manager is lost or somebody changes a node's availability again.
pub async fn for_nodes<M: Manager>(
    session: &mut Session<'_, M>,
    flags: &WaitFlags,
    nodes: &[String],
    goal: NodeGoal,
    since: u64,
) -> Result<(), Failure> {
    if !flags.waits() {
        return Ok(());
    }
    let interactive = session.around.interactive;
    let mut limit: Wait<'static> = match flags.limit(interactive) {
        Some(limit) => session.around.clock.sleep(limit),
        None => Box::pin(std::future::pending()),
    };
    let mut interrupt = std::mem::replace(&mut session.around.interrupt, Box::pin(std::future::pending()));
    let mut result = Ok(());
    for reference in nodes {
        let mut watch = Watch { node: reference, goal, progress: Progress::new(interactive), left: Vec::new() };
        result = tokio::select! {
            // In this order, so that a simulation runs the same way each time and success beats a limit that ends with it.
            biased;
            result = watch.run(session, since) => result,
            () = &mut limit => Err(timed_out(reference, &watch.left)),
            () = &mut interrupt => Err(interrupted(reference)),
        };
        watch.progress.finish();
        if result.is_err() {
            break;
        }
    }
    session.around.interrupt = interrupt;
    result
}

/// One wait, and what was seen of it so far.
struct Watch<'a> {
    node: &'a str,
    goal: NodeGoal,
    progress: Progress,
    /// Places of the tasks that are waited for.
    left: Vec<String>,
}

impl Watch<'_> {
    async fn run<M: Manager>(&mut self, session: &mut Session<'_, M>, since: u64) -> Result<(), Failure> {
        let kinds = KINDS.map(str::to_owned).to_vec();
        let (object, with_tasks) = (Some(self.node.to_owned()), Some(true));
        let request =
            EventsRequest { from: Some(since), follow: true, object, kinds, with_tasks, ..Default::default() };
        let mut history = session.manager.events(request).await?;
        loop {
            let request = ListTasksRequest { node: Some(self.node.to_owned()), ..Default::default() };
            let read = session.manager.tasks(request).await?;
            let view = session.node(self.node).await?;
            let mut awaited: Vec<&TaskView> = read.tasks.iter().filter(|task| self.goal.awaits(task)).collect();
            awaited.sort_by_key(|task| (task.service_name.as_str(), task.slot, task.id));
            self.left = awaited.iter().map(|task| task::place(task, false)).collect();
            match judge(&view, &awaited, self.goal) {
                Verdict::Reached(picture) => return Ok(self.progress.conclude(&picture, session.around.err)?),
                Verdict::Underway(picture) => self.progress.show(&picture, session.around.err)?,
                Verdict::Lost(why) => return session.note(&why),
                Verdict::Overruled(why) => {
                    let hint = format!("`swarmctl node inspect {}` shows what is wanted of it now", self.node);
                    return Err(Failure::new(Kind::Conflict, why).hint(hint));
                }
            }
            let pause = super::pause(session.around.clock, read.tasks.len());
            super::after(&mut history, read.index).await?;
            pause.await;
        }
    }
}

fn judge(view: &NodeView, awaited: &[&TaskView], goal: NodeGoal) -> Verdict {
    let name = node::name(view);
    let (wanted, present) = (goal.availability(), view.spec.availability());
    if present != wanted {
        return Verdict::Overruled(format!(
            "{name}: its availability was changed to {} in the meantime",
            present.name()
        ));
    }
    let count = match awaited.len() {
        1 => "1 task".to_owned(),
        count => format!("{count} tasks"),
    };
    if view.state() == NodeState::Down && !awaited.is_empty() {
        return Verdict::Lost(format!("{name} is down: {count} there will be stopped once it is back"));
    }
    let headline = match (goal, awaited.is_empty()) {
        (NodeGoal::Drained, false) => format!("{name}: {count} still on it"),
        (NodeGoal::Drained, true) => format!("{name}: drained"),
        (NodeGoal::Paused, false) => format!("{name}: {count} still starting"),
        (NodeGoal::Paused, true) => format!("{name}: paused"),
    };
    let shown = awaited.iter().filter(|task| awaited.len() <= LINES_MAX || !task.status.error.is_empty());
    let tasks = shown.map(|task| line(task)).collect();
    let picture = Picture { step: headline.clone(), headline, count: awaited.len(), tasks };
    if awaited.is_empty() { Verdict::Reached(picture) } else { Verdict::Underway(picture) }
}

fn line(task: &TaskView) -> TaskLine {
    TaskLine {
        place: task::place(task, false),
        about: task::place(task, false),
        stale: false,
        state: task.status.state(),
        node: String::new(),
        trouble: task.status.error.clone(),
        attempt: None,
        since: task.status.at.unwrap_or(task.meta.updated_at),
    }
}

fn timed_out(node: &str, left: &[String]) -> Failure {
    /// Tasks that are named.
    const NAMED_MAX: usize = 5;
    let named = left.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = left.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let left = if named.is_empty() { String::new() } else { format!("; still there: {named}{more}") };
    Failure::new(Kind::TimedOut, format!("timed out waiting for {node}{left}")).hint(going_on(node))
}

fn interrupted(node: &str) -> Failure {
    Failure::new(Kind::Interrupted, format!("stopped waiting for {node}; the operation continues")).hint(going_on(node))
}

fn going_on(node: &str) -> String {
    format!("`swarmctl node inspect {node}` shows the tasks that are still there")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    fn node_with(availability: Availability, state: NodeState) -> NodeView {
        let mut node = samples::nodes().remove(1);
        node.spec.set_availability(availability);
        node.state = state.into();
        node
    }

    fn headline(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Reached(picture) | Verdict::Underway(picture) => &picture.headline,
            Verdict::Lost(why) | Verdict::Overruled(why) => why,
        }
    }

    #[test]
    fn a_task_is_awaited_until_it_has_ended_or_until_it_runs() {
        let table = [
            (TaskState::Shutdown, TaskState::Running, true, false),
            (TaskState::Shutdown, TaskState::Shutdown, false, false),
            (TaskState::Running, TaskState::Starting, true, true),
            (TaskState::Running, TaskState::Running, true, false),
            (TaskState::Ready, TaskState::Assigned, true, false),
            (TaskState::Running, TaskState::Pending, false, false),
        ];
        for (desired, state, drained, paused) in table {
            let task = samples::task(1, 1, desired, state, 1);
            assert_eq!(
                (NodeGoal::Drained.awaits(&task), NodeGoal::Paused.awaits(&task)),
                (drained, paused),
                "{state:?}"
            );
        }
    }

    #[test]
    fn a_node_is_judged_by_what_is_awaited_there() {
        let task = samples::task(1, 1, TaskState::Shutdown, TaskState::Running, 1);
        let (drain, ready) = (Availability::Drain, NodeState::Ready);
        let table = [
            (drain, ready, vec![&task, &task], "worker-1: 2 tasks still on it"),
            (drain, ready, vec![], "worker-1: drained"),
            (drain, NodeState::Down, vec![&task], "worker-1 is down: 1 task there will be stopped once it is back"),
            (drain, NodeState::Down, vec![], "worker-1: drained"),
            (Availability::Active, ready, vec![], "worker-1: its availability was changed to active in the meantime"),
        ];
        for (availability, state, tasks, expected) in table {
            assert_eq!(headline(&judge(&node_with(availability, state), &tasks, NodeGoal::Drained)), expected);
        }
    }

    #[test]
    fn what_is_left_is_named_when_the_time_is_over() {
        let left: Vec<String> = (1..=7).map(|slot| format!("web.{slot}")).collect();
        let failure = timed_out("n1", &left).sentence;
        assert_eq!(failure, "timed out waiting for n1; still there: web.1, web.2, web.3, web.4, web.5 and 2 more");
    }
}
