//! Whether a service is as it was asked to be, judged from one reading of it.

use std::collections::{BTreeMap, BTreeSet};

use events::spec::defaults::CRASH_LOOP_FROM;
use events::{NodeId, RestartCondition, TaskId, TaskState, Timestamp};
use wire::v1::{Restarting, ServiceView, TaskView, UpdateState};

use crate::format::{state, task};

/// Tasks that all have a line. Of more only those in trouble have one, and a terminal shows the headline alone, as Docker's
/// tools do.
pub const LINES_MAX: usize = 20;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Every task of a new service runs.
    New,
    /// Every task runs the present spec, and the update that leads there is over.
    Spec,
    /// As many tasks run as are wanted, of whatever spec.
    Count,
    /// The current run of a job has finished, of a scheduled job that never ran the next one; of any other service like
    /// [`Goal::Spec`].
    Run,
}

impl Goal {
    /// Whether the tasks have to last for a while: an update has watched them already, by its monitor.
    pub fn is_watched(self) -> bool {
        match self {
            Self::New | Self::Count => true,
            Self::Spec | Self::Run => false,
        }
    }
}

/// How far a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as asked.
    Converged(Picture),
    /// It is on its way.
    Underway(Picture),
    /// It will not get there by itself.
    Failed {
        /// How far it is.
        picture: Picture,
        /// Why.
        why: String,
        /// Whether its tasks are restarted all the same.
        restarts: bool,
    },
}

/// What a person sees while waiting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The whole in one line.
    pub headline: String,
    /// The same without the number of running tasks, which goes up and down in an update: where this changes, the service got further.
    pub step: String,
    /// How many tasks there are to show: wanted ones, and places that nobody fills any more.
    pub count: usize,
    /// These tasks in the order of their slots. Of more than [`LINES_MAX`] only those in trouble.
    pub tasks: Vec<TaskLine>,
}

impl Picture {
    /// What went wrong last, and where.
    pub fn trouble(&self) -> Option<String> {
        let troubled = self.tasks.iter().filter(|task| !task.trouble.is_empty());
        troubled.max_by_key(|task| task.since).map(|task| format!("{}: {}", task.about, task.trouble))
    }
}

/// One task on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLine {
    /// Where it stands in the service: `web.1`.
    pub place: String,
    /// The same with the image and the node of the task that the trouble is about: `web.1 (nginx:9 on worker-1)`.
    pub about: String,
    /// Whether it runs an older spec than is wanted.
    pub stale: bool,
    /// How far it is.
    pub state: TaskState,
    /// The node that it is on, if any.
    pub node: String,
    /// Why it is not further, if that is known.
    pub trouble: String,
    /// How the attempt before this one ended, if the trouble is that one's.
    pub attempt: Option<TaskState>,
    /// When the trouble began.
    pub since: Timestamp,
}

impl TaskLine {
    /// State, node and trouble in words.
    pub fn detail(&self) -> String {
        let node = if self.node.is_empty() { String::new() } else { format!(" on {}", self.node) };
        let trouble = if self.trouble.is_empty() { String::new() } else { format!(": {}", self.trouble) };
        let last = |end| format!(": last attempt {}", state(end).to_lowercase());
        let attempt = self.attempt.map_or_else(String::new, last);
        let stale = if self.stale { ", not updated yet" } else { "" };
        format!("{}{node}{stale}{attempt}{trouble}", state(self.state).to_lowercase())
    }
}

/// Where a task belongs: a slot, or a node for a global service.
type Place = (Option<u64>, Option<NodeId>);

/// The tasks of a service that say how far it is, dead ones included: of a large service those in trouble, while its counts stand
/// for the others. What is asked about many of them is looked up.
pub(super) struct Reading<'a> {
    service: &'a ServiceView,
    tasks: &'a [TaskView],
    /// Places of wanted tasks.
    held: BTreeSet<Place>,
    /// Tasks that another one replaces.
    replaced: BTreeSet<TaskId>,
    /// Tasks that ended as they should not.
    bad: BTreeMap<TaskId, &'a TaskView>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(service: &'a ServiceView, tasks: &'a [TaskView]) -> Self {
        let bad = tasks.iter().filter(|task| is_bad(service, task));
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

    /// Tasks that should not have ended and have no successor.
    fn abandoned(&self) -> impl Iterator<Item = &'a TaskView> {
        let ended = self.tasks.iter().filter(|task| task.current && self.bad.contains_key(&task.id));
        ended.filter(|task| !self.has_successor(task))
    }

    /// Which task is missing for good, and why, if any is.
    fn given_up(&self) -> Option<String> {
        let lost = self.abandoned().find(|task| self.is_given_up(task))?;
        let never = self.service.spec.restart_policy().condition == RestartCondition::None;
        let what = if never { "is never restarted" } else { "is not restarted again" };
        Some(format!("{} ended and {what}: {}", described(lost), why(lost)))
    }

    /// What ended is told to stop in the same moment in which its successor is made, if its policy allows one. A global
    /// service may still get one when its node changes.
    fn is_given_up(&self, task: &TaskView) -> bool {
        let never = self.service.spec.restart_policy().condition == RestartCondition::None;
        // A successor that failed early, too, is kept until its start was due.
        let is_replaced = self.replaced.contains(&task.id);
        never || (task.desired() == TaskState::Shutdown && !is_replaced && !self.service.spec.is_global())
    }

    /// Which task ends again and again, and why, if any of those that count does: it runs neither now nor soon.
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

    /// What a person sees of these tasks, and of so many in all.
    pub(super) fn picture(
        &self,
        (step, headline): (String, String),
        count: usize,
        mut shown: Vec<&TaskView>,
        counts: impl Fn(&TaskView) -> bool,
    ) -> Picture {
        shown.retain(|task| count <= LINES_MAX || self.is_troubled(task));
        shown.sort_by_key(|task| (place(task), task.meta.created_at, task.id));
        let lines = shown.into_iter().map(|task| TaskLine { stale: !counts(task), ..self.line(task) });
        Picture { headline, step, count, tasks: lines.collect() }
    }

    /// The failed attempt before this task that explains it until it runs.
    fn attempt_before(&self, task: &TaskView) -> Option<&'a TaskView> {
        let before = task.replaces.and_then(|replaced| self.bad.get(&replaced).copied());
        before.filter(|_| task::trouble(task).is_empty() && task.status.state() < TaskState::Running)
    }

    /// Whether the line of a task says what is wrong.
    fn is_troubled(&self, task: &TaskView) -> bool {
        let about = self.attempt_before(task).unwrap_or(task);
        about.status.state() == TaskState::Complete || !task::trouble(about).is_empty()
    }

    /// A task with its own trouble, or, until it runs, with what went wrong with the one that it replaces.
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

/// Judges a service by its counts, and by the tasks that say what is wrong, dead ones included.
pub fn judge(service: &ServiceView, tasks: &[TaskView], goal: Goal) -> Verdict {
    let reading = Reading::new(service, tasks);
    let all_count = goal == Goal::Count || is_spared(service);
    let counts = |task: &TaskView| all_count || task.current;
    let wanted: Vec<&TaskView> = tasks.iter().filter(|task| is_wanted(task)).collect();
    let (live, serving) = (count(service.live_tasks), count(service.running_tasks));
    let settled = if all_count { serving } else { count(service.current_running_tasks) } + finished(service);
    let update = service.update.as_ref().map(|update| update.state()).filter(|_| goal != Goal::Count);
    let desired = count(service.desired_tasks);
    let headline = headline(service.spec.name(), update, settled, desired, serving);
    let abandoned: Vec<&TaskView> = reading.abandoned().take(desired.saturating_sub(live)).collect();
    let of_all = live + abandoned.len();
    let picture = reading.picture(headline, of_all, wanted.into_iter().chain(abandoned).collect(), counts);
    if let Some(why) = stopped_update(service, tasks, goal) {
        return Verdict::Failed { picture, why, restarts: false };
    }
    let is_complete =
        settled >= desired && live <= desired && (all_count || service.current_tasks == service.live_tasks);
    if is_complete && !update.is_some_and(is_rolling) {
        return Verdict::Converged(picture);
    }
    // Nothing but an update makes tasks better that fail while it is paused.
    let stuck =
        stopped_update(service, tasks, Goal::Spec).filter(|_| is_paused(service) && picture.trouble().is_some());
    if let Some(why) = stuck.or_else(|| reading.given_up()) {
        return Verdict::Failed { picture, why, restarts: false };
    }
    // Failures in an update are for the update to judge, as long as it goes on.
    match reading.crash_loop(counts).filter(|_| !update.is_some_and(is_rolling)) {
        Some(why) => Verdict::Failed { picture, why, restarts: true },
        None => Verdict::Underway(picture),
    }
}

/// Places whose task has done its work and gets no successor.
fn finished(service: &ServiceView) -> usize {
    let ends = service.spec.restart_policy().condition != RestartCondition::Any;
    if ends { count(service.current_finished_places) } else { 0 }
}

pub(super) fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// How far a service is, without and with the number of running tasks: until an update is complete, tasks that run and tasks that are
/// updated are not the same ones.
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

/// Whether tasks of an older spec may stay: those of a global service whose update is completed are on nodes that take no
/// tasks now, and are replaced when their node is active again.
fn is_spared(service: &ServiceView) -> bool {
    service.spec.is_global() && service.update.as_ref().is_some_and(|update| update.state() == UpdateState::Completed)
}

/// Whether the service's update, or its rollback, is paused.
pub fn is_paused(service: &ServiceView) -> bool {
    let paused = [UpdateState::Paused, UpdateState::RollbackPaused];
    service.update.as_ref().is_some_and(|update| paused.contains(&update.state()))
}

/// Why the service's update goes no further, if so.
pub fn stopped_update(service: &ServiceView, tasks: &[TaskView], goal: Goal) -> Option<String> {
    let name = service.spec.name();
    let update = service.update.as_ref().filter(|_| goal != Goal::Count);
    let what = match update.map(|update| update.state()) {
        Some(UpdateState::Paused) => "the update is paused",
        Some(UpdateState::RollbackPaused) => "the rollback is paused",
        // A rollback that was asked for ends well.
        Some(UpdateState::RollbackCompleted) if update.is_some_and(|update| update.requested) => return None,
        Some(UpdateState::RollbackCompleted) => "the update failed and was rolled back",
        Some(UpdateState::Updating | UpdateState::Completed | UpdateState::RollbackStarted) | None => return None,
    };
    let because = update.map_or("", |update| update.message.as_str());
    // The message says no more than which task it was; that of a rollback that is over does not say it any more.
    let culprit = tasks.iter().find(|task| because.contains(&task.id.to_string()));
    let failed = tasks.iter().filter(|task| !task.current && is_bad(service, task)).max_by_key(|task| task.status.at);
    let rolled_back = update.is_some_and(|update| update.state() == UpdateState::RollbackCompleted);
    let culprit = culprit.or(failed.filter(|_| rolled_back));
    let told = |task: &TaskView| Some(why(task)).filter(|why| !why.is_empty()).unwrap_or_else(|| because.to_owned());
    let because = culprit.map_or_else(|| because.to_owned(), |task| format!("{}: {}", described(task), told(task)));
    let words = [name.to_owned(), what.to_owned(), because];
    Some(words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(": "))
}

/// A task with all that is needed to look for what is wrong with it: `web.1 (nginx:9 on worker-1)`.
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

/// Whether the task ended as it should not: a service that always restarts its tasks wants them to keep running.
fn is_bad(service: &ServiceView, task: &TaskView) -> bool {
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

/// Whether a task is meant to be there, and may still be.
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
