//! Waiting until a node has reached its desired availability or role: drained of tasks, without starting tasks, promoted or
//! demoted.

use std::time::Duration;

use events::{Availability, Named, Role, TaskState};
use wire::v1::{EventsRequest, ListTasksRequest, MemberState, NodeState, NodeView, TaskList, TaskView};

use super::WaitFlags;
use super::progress::Progress;
use super::verdict::{LINES_MAX, ProgressView, TaskLine};
use crate::failure::{Failure, Kind};
use crate::format::{node, task};
use crate::manager::Manager;
use crate::session::{Session, Wait};

/// Events that can end or advance such a wait.
const KINDS: [&str; 15] = [
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
    "certificate_issued",
    "manager_announced",
    "member_added",
    "member_promoted",
    "member_removed",
];

/// How often a role change is read without an event: what delays it is not in history.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The condition to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeGoal {
    /// No task runs there.
    Drained,
    /// Tasks that were starting there run or have ended.
    Paused,
    /// It is a manager and votes.
    Promoted,
    /// It is no longer a manager.
    Demoted,
}

impl NodeGoal {
    /// The availability that goes with the condition, if it is about tasks.
    fn availability(self) -> Option<Availability> {
        match self {
            Self::Drained => Some(Availability::Drain),
            Self::Paused => Some(Availability::Pause),
            Self::Promoted | Self::Demoted => None,
        }
    }

    /// Whether to wait for this task.
    fn awaits(self, task: &TaskView) -> bool {
        let state = task.status.state();
        match self {
            Self::Drained => (TaskState::Assigned..=TaskState::Running).contains(&state),
            // A task that is held back may start there much later.
            Self::Paused => {
                (TaskState::Assigned..TaskState::Running).contains(&state) && task.desired() == TaskState::Running
            }
            Self::Promoted | Self::Demoted => false,
        }
    }
}

/// The progress of a node.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reached(ProgressView),
    Underway(ProgressView),
    /// It is down: the state of its tasks is unknown and will not be updated.
    Lost(String),
    /// Another client changed its desired state.
    Overruled(String),
}

/// Waits, unless the flags disable it, until the nodes have reached their desired state at `since`.
///
/// # Errors
/// When the wait times out, the user interrupts it, the connection to the manager is lost or another client changes a node's
/// availability.
pub async fn for_nodes<M: Manager>(
    session: &mut Session<'_, M>,
    flags: &WaitFlags,
    nodes: &[String],
    goal: NodeGoal,
    since: u64,
) -> Result<(), Failure> {
    if !flags.waits() || session.is_trial() {
        return Ok(());
    }
    let interactive = session.env.interactive;
    let mut limit: Wait<'static> = match flags.limit(interactive) {
        Some(limit) => session.env.clock.sleep(limit),
        None => Box::pin(std::future::pending()),
    };
    let mut interrupt = std::mem::replace(&mut session.env.interrupt, Box::pin(std::future::pending()));
    let mut result = Ok(());
    for reference in nodes {
        let mut watch = Watch { node: reference, goal, progress: Progress::new(interactive), left: Vec::new() };
        result = tokio::select! {
            // In this order, so that a simulation is deterministic and success wins over a time limit at the same moment.
            biased;
            result = watch.run(session, since) => result,
            () = &mut limit => Err(timed_out(reference, goal, &watch.left)),
            () = &mut interrupt => Err(interrupted(reference, goal)),
        };
        watch.progress.finish();
        if result.is_err() {
            break;
        }
    }
    session.env.interrupt = interrupt;
    result
}

/// The state of one wait.
struct Watch<'a> {
    node: &'a str,
    goal: NodeGoal,
    progress: Progress,
    /// Names of the tasks that are waited for.
    left: Vec<String>,
}

impl Watch<'_> {
    async fn run<M: Manager>(&mut self, session: &mut Session<'_, M>, since: u64) -> Result<(), Failure> {
        let kinds = KINDS.map(str::to_owned).to_vec();
        // By id: a service may have the same name.
        let (object, with_tasks) = (Some(session.node(self.node).await?.id.to_string()), Some(true));
        let request =
            EventsRequest { from: Some(since), follow: true, object, kinds, with_tasks, ..Default::default() };
        let mut history = session.manager.events(request).await?;
        loop {
            let read = self.tasks(session).await?;
            let view = session.node(self.node).await?;
            let mut awaited: Vec<&TaskView> = read.tasks.iter().filter(|task| self.goal.awaits(task)).collect();
            awaited.sort_by_key(|task| (task.service_name.as_str(), task.slot, task.id));
            self.left = awaited.iter().map(|task| task::place(task, false)).collect();
            match judge(&view, &awaited, self.goal) {
                Verdict::Reached(progress_view) => {
                    return Ok(self.progress.conclude(&progress_view, session.env.err)?);
                }
                Verdict::Underway(progress_view) => self.progress.show(&progress_view, session.env.err)?,
                Verdict::Lost(why) => return session.note(&why),
                Verdict::Overruled(why) => {
                    let hint = format!("`swarmctl node inspect {}` shows its desired state", self.node);
                    return Err(Failure::new(Kind::Conflict, why).hint(hint));
                }
            }
            let pause = super::pause(session.env.clock, read.tasks.len());
            match self.goal.availability() {
                Some(_) => super::after(&mut history, read.index).await?,
                None => tokio::select! {
                    biased;
                    event = super::after(&mut history, read.index) => event?,
                    () = session.env.clock.sleep(LOOK_EVERY) => {}
                },
            }
            pause.await;
        }
    }

    /// The tasks of the node, and the index at which they were read.
    async fn tasks<M: Manager>(&self, session: &mut Session<'_, M>) -> Result<TaskList, Failure> {
        // A role change does not depend on tasks: only the index is needed.
        let live = self.goal.availability().is_none().then_some(true);
        let request = ListTasksRequest { node: Some(self.node.to_owned()), live, ..Default::default() };
        session.manager.tasks(request).await
    }
}

fn judge(view: &NodeView, awaited: &[&TaskView], goal: NodeGoal) -> Verdict {
    match (goal, goal.availability()) {
        (NodeGoal::Promoted, _) => judge_role(view, Role::Manager),
        (NodeGoal::Demoted, _) | (_, None) => judge_role(view, Role::Worker),
        (_, Some(wanted)) => judge_tasks(view, awaited, wanted),
    }
}

/// The progress of a node towards another role.
fn judge_role(view: &NodeView, wanted: Role) -> Verdict {
    let (name, present) = (node::name(view), view.spec.role());
    if present != wanted {
        return Verdict::Overruled(format!("{name}: its role was changed to {} in the meantime", present.name()));
    }
    let state = view.manager.as_ref().map(wire::v1::ManagerStatus::state);
    let obstacle = view.manager.as_ref().and_then(|manager| manager.obstacle.clone());
    let (reached, how) = match (wanted, state) {
        (Role::Manager, Some(MemberState::Voter)) => (true, "votes as a manager"),
        (Role::Manager, Some(MemberState::Learner)) => (false, "catching up with the log"),
        (Role::Manager, Some(MemberState::Joining) | None) if view.role() == Role::Worker => {
            (false, "waiting for its certificate as a manager")
        }
        (Role::Manager, Some(MemberState::Joining) | None) => {
            (false, "waiting for it to join the managers (if this takes long, see the log of its swarmd)")
        }
        (Role::Worker, None) => (true, "is a worker"),
        (Role::Worker, Some(MemberState::Joining | MemberState::Learner | MemberState::Voter)) => {
            (false, "still replicates the log")
        }
    };
    if view.state() == NodeState::Down && wanted == Role::Manager && !reached {
        return Verdict::Lost(format!("{name} is down: it becomes a manager once it is back"));
    }
    let headline = obstacle.unwrap_or_else(|| format!("{name}: {how}"));
    let progress_view =
        ProgressView { step: headline.clone(), headline, count: usize::from(!reached), tasks: Vec::new() };
    if reached { Verdict::Reached(progress_view) } else { Verdict::Underway(progress_view) }
}

/// The progress of a node's tasks.
fn judge_tasks(view: &NodeView, awaited: &[&TaskView], wanted: Availability) -> Verdict {
    let (name, present) = (node::name(view), view.spec.availability());
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
    let headline = match (wanted, awaited.is_empty()) {
        (Availability::Drain, false) => format!("{name}: {count} still on it{}", drain_message(view)),
        (Availability::Drain, true) => format!("{name}: drained{}", drain_message(view)),
        (Availability::Pause | Availability::Active, false) => format!("{name}: {count} still starting"),
        (Availability::Pause | Availability::Active, true) => format!("{name}: paused"),
    };
    let shown = awaited.iter().filter(|task| awaited.len() <= LINES_MAX || !task.status.error.is_empty());
    let tasks = shown.map(|task| line(task)).collect();
    let progress_view = ProgressView { step: headline.clone(), headline, count: awaited.len(), tasks };
    if awaited.is_empty() { Verdict::Reached(progress_view) } else { Verdict::Underway(progress_view) }
}

/// The node's message about its drain.
fn drain_message(view: &NodeView) -> String {
    let says = view.state() == NodeState::Ready && !view.message.is_empty();
    if says { format!(", {}", view.message) } else { String::new() }
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

fn timed_out(node: &str, goal: NodeGoal, left: &[String]) -> Failure {
    /// Maximum number of tasks that are named.
    const NAMED_MAX: usize = 5;
    let named = left.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = left.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let left = if named.is_empty() { String::new() } else { format!("; still there: {named}{more}") };
    Failure::new(Kind::TimedOut, format!("timed out waiting for {node}{left}")).hint(going_on(node, goal))
}

fn interrupted(node: &str, goal: NodeGoal) -> Failure {
    Failure::new(Kind::Interrupted, format!("stopped waiting for {node}; the operation continues"))
        .hint(going_on(node, goal))
}

fn going_on(node: &str, goal: NodeGoal) -> String {
    match goal {
        NodeGoal::Drained | NodeGoal::Paused => {
            format!("`swarmctl node inspect {node}` shows the tasks that are still there")
        }
        NodeGoal::Promoted | NodeGoal::Demoted => "`swarmctl raft` shows the managers and how far they are".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples;

    fn node_with(availability: Availability, state: NodeState) -> NodeView {
        let mut node = samples::nodes().remove(1);
        node.spec.set_availability(availability);
        node.state = state.into();
        node.message.clear();
        node
    }

    fn headline(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Reached(progress_view) | Verdict::Underway(progress_view) => &progress_view.headline,
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
        let mut waits = node_with(drain, ready);
        waits.message = "1 to stop once replaced".to_owned();
        let verdict = judge(&waits, &[&task], NodeGoal::Drained);
        assert_eq!(headline(&verdict), "worker-1: 1 task still on it, 1 to stop once replaced");
    }

    #[test]
    fn a_change_of_roles_says_what_it_waits_for() {
        let stays = "worker-1 stays a manager: that would leave 1 of 2 managers reachable, and 2 are needed";
        let (manager, worker, voter) = (Role::Manager, Role::Worker, Some(MemberState::Voter));
        // The desired role, the certificate, the manager status, the obstacle, and the expected progress.
        let table = [
            (manager, worker, None, None, "worker-1: waiting for its certificate as a manager"),
            (
                manager,
                manager,
                Some(MemberState::Joining),
                None,
                "worker-1: waiting for it to join the managers (if this takes long, see the log of its swarmd)",
            ),
            (manager, manager, Some(MemberState::Learner), None, "worker-1: catching up with the log"),
            (manager, manager, voter, None, "worker-1: votes as a manager"),
            (worker, manager, voter, None, "worker-1: still replicates the log"),
            (worker, manager, voter, Some(stays), stays),
            (worker, manager, None, None, "worker-1: is a worker"),
        ];
        for (wanted, certificate, state, obstacle, expected) in table {
            let mut view = node_with(Availability::Active, NodeState::Ready);
            view.spec.set_role(wanted);
            view.set_role(certificate);
            view.manager = state.map(|state| wire::v1::ManagerStatus {
                state: state.into(),
                obstacle: obstacle.map(str::to_owned),
                ..samples::manager_status()
            });
            let goal = if wanted == manager { NodeGoal::Promoted } else { NodeGoal::Demoted };
            let verdict = judge(&view, &[], goal);
            let reached = expected.ends_with("votes as a manager") || expected.ends_with("is a worker");
            assert_eq!((headline(&verdict), matches!(verdict, Verdict::Reached(_))), (expected, reached));
        }
        let view = node_with(Availability::Active, NodeState::Ready);
        let overruled = judge(&view, &[], NodeGoal::Promoted);
        assert_eq!(headline(&overruled), "worker-1: its role was changed to worker in the meantime");
    }

    #[test]
    fn what_is_left_is_named_when_the_time_is_over() {
        let left: Vec<String> = (1..=7).map(|slot| format!("web.{slot}")).collect();
        let failure = timed_out("n1", NodeGoal::Drained, &left).sentence;
        assert_eq!(failure, "timed out waiting for n1; still there: web.1, web.2, web.3, web.4, web.5 and 2 more");
    }
}
