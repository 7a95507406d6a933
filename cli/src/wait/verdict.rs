//! Judges from one read whether a service has converged.

use std::collections::{BTreeMap, BTreeSet};

use events::spec::defaults::CRASH_LOOP_FROM;
use events::{NodeId, RestartCondition, TaskId, TaskState, Timestamp};
use wire::v1::{Restarting, ServiceView, TaskView, UpdateState};

use crate::format::{state, task};

/// Up to this many tasks, each has a line. With more, only those with problems have one, and a terminal shows only the headline,
/// as Docker's tools do.
pub const LINES_MAX: usize = 20;

/// The condition to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Every task of a new service runs.
    New,
    /// Every task runs the present spec, and the update has ended.
    Spec,
    /// The desired number of tasks runs, with any spec.
    Count,
    /// The current run of a job has finished, or the next one if a scheduled job never ran; for any other service like
    /// [`Goal::Spec`].
    Run,
}

impl Goal {
    /// Whether the tasks have to keep running for a while: after an update, its monitor has checked that already.
    pub fn must_stay_running(self) -> bool {
        match self {
            Self::New | Self::Count => true,
            Self::Spec | Self::Run => false,
        }
    }
}

/// The progress of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has converged.
    Converged(ProgressView),
    /// It has not converged yet.
    Underway(ProgressView),
    /// It will not converge without intervention.
    Failed {
        /// The progress.
        progress_view: ProgressView,
        /// The reason.
        why: String,
        /// Whether its tasks are restarted anyway.
        restarts: bool,
    },
}

/// The progress as shown to a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressView {
    /// A summary in one line.
    pub headline: String,
    /// The same without the number of running tasks, which goes up and down during an update: when this changes, the service has
    /// made progress.
    pub step: String,
    /// The number of tasks to show: desired ones, and slots that are no longer filled.
    pub count: usize,
    /// The tasks in the order of their slots; of more than [`LINES_MAX`] only those with problems.
    pub tasks: Vec<TaskLine>,
}

impl ProgressView {
    /// The last problem, with its slot.
    pub fn trouble(&self) -> Option<String> {
        let troubled = self.tasks.iter().filter(|task| !task.trouble.is_empty());
        troubled.max_by_key(|task| task.since).map(|task| format!("{}: {}", task.about, task.trouble))
    }
}

/// One task and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLine {
    /// Its slot: `web.1`.
    pub place: String,
    /// The same with the image and the node of the task with the problem: `web.1 (nginx:9 on worker-1)`.
    pub about: String,
    /// Whether it runs an older spec than desired.
    pub stale: bool,
    /// Its state.
    pub state: TaskState,
    /// Its node, if it has one.
    pub node: String,
    /// Its problem, if known.
    pub trouble: String,
    /// How the previous attempt ended, if the problem is from that one.
    pub attempt: Option<TaskState>,
    /// When the problem started.
    pub since: Timestamp,
}

impl TaskLine {
    /// State, node and problem in words.
    pub fn detail(&self) -> String {
        let node = if self.node.is_empty() { String::new() } else { format!(" on {}", self.node) };
        let trouble = if self.trouble.is_empty() { String::new() } else { format!(": {}", self.trouble) };
        let last = |end| format!(": last attempt {}", state(end).to_lowercase());
        let attempt = self.attempt.map_or_else(String::new, last);
        let stale = if self.stale { ", not updated yet" } else { "" };
        format!("{}{node}{stale}{attempt}{trouble}", state(self.state).to_lowercase())
    }
}

/// The slot of a task, or the node for a global service.
type Place = (Option<u64>, Option<NodeId>);

/// The tasks of a service that determine its progress, dead ones included: of a large service only those with problems, while its
/// counts represent the others. Data about many tasks is kept in maps.
pub(super) struct Reading<'a> {
    service: &'a ServiceView,
    tasks: &'a [TaskView],
    /// Slots of desired tasks.
    held: BTreeSet<Place>,
    /// Tasks that were replaced.
    replaced: BTreeSet<TaskId>,
    /// Tasks that failed.
    bad: BTreeMap<TaskId, &'a TaskView>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(service: &'a ServiceView, tasks: &'a [TaskView]) -> Self {
        let bad = tasks.iter().filter(|task| has_failed(service, task));
        Self {
            service,
            tasks,
            held: tasks.iter().filter(|task| is_wanted(task)).map(place).collect(),
            replaced: tasks.iter().filter_map(|task| task.replaces).collect(),
            bad: bad.map(|task| (task.id, task)).collect(),
        }
    }

    fn has_successor(&self, task: &TaskView) -> bool {
        self.held.contains(&place(task))
    }

    /// Whether the service has more tasks than were read.
    fn is_part(&self) -> bool {
        self.tasks.iter().filter(|task| is_wanted(task)).count() < count(self.service.live_tasks)
    }

    /// Failed tasks without a replacement.
    fn abandoned(&self) -> impl Iterator<Item = &'a TaskView> {
        let ended = self.tasks.iter().filter(|task| task.current && self.bad.contains_key(&task.id));
        ended.filter(|task| !self.has_successor(task))
    }

    /// The task that failed permanently, and why, if there is one.
    fn given_up(&self) -> Option<String> {
        let lost = self.abandoned().find(|task| self.is_given_up(task))?;
        let never = self.service.spec.restart_policy().condition == RestartCondition::None;
        let what = if never { "is never restarted" } else { "is not restarted again" };
        Some(format!("{} ended and {what}: {}", described(lost), why(lost)))
    }

    /// An ended task is shut down at the moment its replacement is created, if its policy allows one. A task of a global service may
    /// also have failed on a node that is no longer suitable: such a place does not count as failed.
    fn is_given_up(&self, task: &TaskView) -> bool {
        let never = self.service.spec.restart_policy().condition == RestartCondition::None;
        // A replacement that failed early, too, is kept until its scheduled start.
        let is_replaced = self.replaced.contains(&task.id);
        let counts = !self.service.spec.is_global() || self.service.failed_places > 0;
        never || (task.desired() == TaskState::Shutdown && !is_replaced && counts)
    }

    /// The task that keeps failing, and why, among those that count: it neither runs now nor soon.
    fn crash_loop(&self, counts: impl Fn(&TaskView) -> bool) -> Option<String> {
        let known = |task: &'a TaskView| task.restarting.as_ref().map(|known| (task, known));
        let is_loop = |known: &Restarting| !known.running_again && known.failures + known.exits >= CRASH_LOOP_FROM;
        let known = self.tasks.iter().filter(|task| counts(task)).filter_map(known);
        let mut loops = known.filter(|(_, known)| is_loop(known));
        let (task, known) = loops.next()?;
        let about = self.attempt_before(task).unwrap_or(task);
        let ended = match (known.failures, known.exits) {
            (_, 0) => "failed",
            _ => "ended",
        };
        let times = known.failures + known.exits;
        let last = if known.last_failure.is_empty() { "exited with code 0" } else { &known.last_failure };
        let others = match loops.count() {
            0 => String::new(),
            _ if self.is_part() => "; so did others".to_owned(),
            1 => "; so did 1 more task".to_owned(),
            more => format!("; so did {more} more tasks"),
        };
        Some(format!("{} {ended} {times} times in a row: {last}{others}", described(about)))
    }

    /// The progress of these tasks, out of `count`.
    pub(super) fn progress_view(
        &self,
        (step, headline): (String, String),
        count: usize,
        mut shown: Vec<&TaskView>,
        counts: impl Fn(&TaskView) -> bool,
    ) -> ProgressView {
        shown.retain(|task| count <= LINES_MAX || self.is_troubled(task));
        shown.sort_by_key(|task| (place(task), task.meta.created_at, task.id));
        let lines = shown.into_iter().map(|task| TaskLine { stale: !counts(task), ..self.line(task) });
        ProgressView { headline, step, count, tasks: lines.collect() }
    }

    /// The failed predecessor of this task, whose error is shown until this task runs.
    fn attempt_before(&self, task: &TaskView) -> Option<&'a TaskView> {
        let before = task.replaces.and_then(|replaced| self.bad.get(&replaced).copied());
        before.filter(|_| task::trouble(task).is_empty() && task.status.state() < TaskState::Running)
    }

    /// Whether the line of a task shows a problem.
    fn is_troubled(&self, task: &TaskView) -> bool {
        let about = self.attempt_before(task).unwrap_or(task);
        about.status.state() == TaskState::Complete || !task::trouble(about).is_empty()
    }

    /// The line of a task with its own problem, or, until it runs, that of its predecessor.
    fn line(&self, task: &TaskView) -> TaskLine {
        let before = self.attempt_before(task);
        let about = before.unwrap_or(task);
        TaskLine {
            place: task::place(task, false),
            about: described(about),
            stale: false,
            state: task.status.state(),
            node: task::node(task, false),
            trouble: why(about),
            attempt: before.map(|before| before.status.state()),
            since: about.status.at.unwrap_or(about.meta.updated_at),
        }
    }
}

/// Judges a service by its counts and by its tasks with problems, dead ones included.
pub fn judge(service: &ServiceView, tasks: &[TaskView], goal: Goal) -> Verdict {
    let reading = Reading::new(service, tasks);
    let all_count = goal == Goal::Count || may_keep_old_tasks(service);
    let counts = |task: &TaskView| all_count || task.current;
    let wanted: Vec<&TaskView> = tasks.iter().filter(|task| is_wanted(task)).collect();
    let (live, serving) = (count(service.live_tasks), count(service.running_tasks));
    let settled = if all_count { serving } else { count(service.current_running_tasks) } + finished(service);
    let update = service.update.as_ref().map(|update| update.state()).filter(|_| goal != Goal::Count);
    let desired = count(service.desired_tasks);
    let headline = headline(service.spec.name(), update, settled, desired, serving);
    let abandoned: Vec<&TaskView> = reading.abandoned().take(desired.saturating_sub(live)).collect();
    let of_all = live + abandoned.len();
    let progress_view = reading.progress_view(headline, of_all, wanted.into_iter().chain(abandoned).collect(), counts);
    if let Some(why) = stopped_update(service, tasks, goal) {
        return Verdict::Failed { progress_view, why, restarts: false };
    }
    let is_complete =
        settled >= desired && live <= desired && (all_count || service.current_tasks == service.live_tasks);
    if is_complete && !update.is_some_and(is_rolling) {
        return Verdict::Converged(progress_view);
    }
    // While the update is paused, failing tasks can only be fixed by another update.
    let stuck =
        stopped_update(service, tasks, Goal::Spec).filter(|_| is_paused(service) && progress_view.trouble().is_some());
    if let Some(why) = stuck.or_else(|| reading.given_up()) {
        return Verdict::Failed { progress_view, why, restarts: false };
    }
    // While an update is in progress, it judges failures itself.
    match reading.crash_loop(counts).filter(|_| !update.is_some_and(is_rolling)) {
        Some(why) => Verdict::Failed { progress_view, why, restarts: true },
        None => Verdict::Underway(progress_view),
    }
}

/// The number of slots whose task has completed and is not replaced.
fn finished(service: &ServiceView) -> usize {
    let ends = service.spec.restart_policy().condition != RestartCondition::Any;
    if ends { count(service.current_finished_places) } else { 0 }
}

pub(super) fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A summary, without and with the number of running tasks: until an update is complete, the running tasks and the updated ones
/// are not the same.
fn headline(
    name: &str,
    update: Option<UpdateState>,
    settled: usize,
    desired: usize,
    serving: usize,
) -> (String, String) {
    let (doing, done) = match update {
        Some(UpdateState::Updating) => ("updating", "updated"),
        Some(UpdateState::Paused) => ("update paused", "updated"),
        Some(UpdateState::RollbackStarted) => ("rolling back", "rolled back"),
        Some(UpdateState::RollbackPaused) => ("rollback paused", "rolled back"),
        Some(UpdateState::Completed | UpdateState::RollbackCompleted) | None => {
            let running = format!("{name}: {settled} of {desired} tasks running");
            return (running.clone(), running);
        }
    };
    let step = format!("{name}: {doing}, {settled} of {desired} tasks {done}");
    let headline = format!("{step}, {serving} running");
    (step, headline)
}

/// Whether tasks of an older spec may stay: after a completed update, tasks of a global service may be on nodes that accept no
/// tasks now, and are replaced when their node is active again.
fn may_keep_old_tasks(service: &ServiceView) -> bool {
    service.spec.is_global() && service.update.as_ref().is_some_and(|update| update.state() == UpdateState::Completed)
}

/// Whether the service's update or rollback is paused.
pub fn is_paused(service: &ServiceView) -> bool {
    let paused = [UpdateState::Paused, UpdateState::RollbackPaused];
    service.update.as_ref().is_some_and(|update| paused.contains(&update.state()))
}

/// Why the service's update stopped, if it did.
pub fn stopped_update(service: &ServiceView, tasks: &[TaskView], goal: Goal) -> Option<String> {
    let name = service.spec.name();
    let update = service.update.as_ref().filter(|_| goal != Goal::Count);
    let what = match update.map(|update| update.state()) {
        Some(UpdateState::Paused) => "the update is paused",
        Some(UpdateState::RollbackPaused) => "the rollback is paused",
        // For a requested rollback, this is success.
        Some(UpdateState::RollbackCompleted) if update.is_some_and(|update| update.requested) => return None,
        Some(UpdateState::RollbackCompleted) => "the update failed and was rolled back",
        Some(UpdateState::Updating | UpdateState::Completed | UpdateState::RollbackStarted) | None => return None,
    };
    let because = update.map_or("", |update| update.message.as_str());
    // The message only identifies the task; after a completed rollback it no longer does.
    let culprit = tasks.iter().find(|task| because.contains(&task.id.to_string()));
    let failed =
        tasks.iter().filter(|task| !task.current && has_failed(service, task)).max_by_key(|task| task.status.at);
    let rolled_back = update.is_some_and(|update| update.state() == UpdateState::RollbackCompleted);
    let culprit = culprit.or(failed.filter(|_| rolled_back));
    let reason_of =
        |task: &TaskView| Some(why(task)).filter(|why| !why.is_empty()).unwrap_or_else(|| because.to_owned());
    let because =
        culprit.map_or_else(|| because.to_owned(), |task| format!("{}: {}", described(task), reason_of(task)));
    let words = [name.to_owned(), what.to_owned(), because];
    Some(words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(": "))
}

/// A task with the details needed to find its problem: `web.1 (nginx:9 on worker-1)`.
pub(super) fn described(task: &TaskView) -> String {
    let node = task::node(task, false);
    let node = if node.is_empty() { node } else { format!(" on {node}") };
    format!("{} ({}{node})", task::place(task, false), task.image)
}

/// Why a task ended.
pub(super) fn why(task: &TaskView) -> String {
    match task.status.state() {
        TaskState::Complete => "exited with code 0".to_owned(),
        _ => task::trouble(task).to_owned(),
    }
}

/// Whether the task failed: if a service always restarts its tasks, any end is a failure.
fn has_failed(service: &ServiceView, task: &TaskView) -> bool {
    let for_ever = service.spec.restart_policy().condition == RestartCondition::Any;
    match task.status.state() {
        TaskState::Failed | TaskState::Rejected => true,
        TaskState::Complete => for_ever,
        _ => false,
    }
}

fn place(task: &TaskView) -> Place {
    (task.slot, task.node.filter(|_| task.slot.is_none()))
}

/// Whether a task is desired and may still run.
fn is_wanted(task: &TaskView) -> bool {
    task.desired().is_wanted() && !task.status.state().is_terminal()
}

fn is_rolling(state: UpdateState) -> bool {
    match state {
        UpdateState::Updating | UpdateState::RollbackStarted => true,
        UpdateState::Paused | UpdateState::Completed | UpdateState::RollbackPaused | UpdateState::RollbackCompleted => {
            false
        }
    }
}

#[cfg(test)]
mod tests;
