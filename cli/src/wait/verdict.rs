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
}

impl Goal {
    /// Whether the tasks have to last for a while: an update has watched them already, by its monitor.
    pub fn is_watched(self) -> bool {
        match self {
            Self::New | Self::Count => true,
            Self::Spec => false,
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
type Place = (u64, Option<NodeId>);

/// The tasks of a service, dead ones included, with what is asked about many of them: each answer is looked up, since a
/// service may have a million tasks.
struct Reading<'a> {
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
    fn new(service: &'a ServiceView, tasks: &'a [TaskView]) -> Self {
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

    /// Places whose task has done its work and gets no successor.
    fn finished(&self) -> BTreeSet<Place> {
        let ends = self.service.spec.template().restart_policy().condition != RestartCondition::Any;
        let done = self.tasks.iter().filter(|task| {
            ends && task.status.state() == TaskState::Complete && task.current && !self.has_successor(task)
        });
        done.map(place).collect()
    }

    /// Tasks that should not have ended and have no successor.
    fn abandoned(&self) -> impl Iterator<Item = &'a TaskView> {
        let ended = self.tasks.iter().filter(|task| task.current && self.bad.contains_key(&task.id));
        ended.filter(|task| !self.has_successor(task))
    }

    /// Which task is missing for good, and why, if any is.
    fn given_up(&self) -> Option<String> {
        let lost = self.abandoned().find(|task| self.is_given_up(task))?;
        let never = self.service.spec.template().restart_policy().condition == RestartCondition::None;
        let what = if never { "is never restarted" } else { "is not restarted again" };
        Some(format!("{} ended and {what}: {}", described(lost), why(lost)))
    }

    /// What ended is told to stop in the same moment in which its successor is made, if its policy allows one. A global
    /// service may still get one when its node changes.
    fn is_given_up(&self, task: &TaskView) -> bool {
        let never = self.service.spec.template().restart_policy().condition == RestartCondition::None;
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
            1 => "; so did 1 more task".to_owned(),
            more => format!("; so did {more} more tasks"),
        };
        Some(format!("{} {ended} {times} times in a row: {last}{others}", described(about)))
    }

    /// What a person sees of these tasks.
    fn picture(
        &self,
        (step, headline): (String, String),
        mut shown: Vec<&TaskView>,
        counts: impl Fn(&TaskView) -> bool,
    ) -> Picture {
        let count = shown.len();
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

/// Judges a service by its tasks, dead ones included.
pub fn judge(service: &ServiceView, tasks: &[TaskView], goal: Goal) -> Verdict {
    let reading = Reading::new(service, tasks);
    let counts = |task: &TaskView| goal == Goal::Count || task.current || is_spared(service);
    let wanted: Vec<&TaskView> = tasks.iter().filter(|task| is_wanted(task)).collect();
    let serving = wanted.iter().filter(|task| task.status.state() == TaskState::Running);
    let settled = serving.clone().filter(|task| counts(task)).count() + reading.finished().len();
    let update = service.update.as_ref().map(|update| update.state()).filter(|_| goal != Goal::Count);
    let desired = usize::try_from(service.desired_tasks).unwrap_or(usize::MAX);
    let headline = headline(service.spec.name(), update, settled, desired, serving.count());
    let mut shown = wanted.clone();
    shown.extend(reading.abandoned().take(desired.saturating_sub(wanted.len())));
    let picture = reading.picture(headline, shown, counts);
    if let Some(why) = stopped_update(service, tasks, goal) {
        return Verdict::Failed { picture, why, restarts: false };
    }
    let is_complete = settled >= desired && wanted.len() <= desired && wanted.iter().all(|task| counts(task));
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
        Some(UpdateState::RollbackCompleted) => "the update failed and was rolled back",
        Some(UpdateState::Updating | UpdateState::Completed | UpdateState::RollbackStarted) | None => return None,
    };
    let because = update.map_or("", |update| update.message.as_str());
    // The message says no more than which task it was; that of a rollback that is over does not say it any more.
    let culprit = tasks.iter().find(|task| because.contains(&task.id.to_string()));
    let failed = tasks.iter().filter(|task| !task.current && is_bad(service, task)).max_by_key(|task| task.status.at);
    let rolled_back = update.is_some_and(|update| update.state() == UpdateState::RollbackCompleted);
    let culprit = culprit.or(failed.filter(|_| rolled_back));
    let because = culprit.map_or_else(|| because.to_owned(), |task| format!("{}: {}", described(task), why(task)));
    let words = [name.to_owned(), what.to_owned(), because];
    Some(words.into_iter().filter(|words| !words.is_empty()).collect::<Vec<_>>().join(": "))
}

/// A task with all that is needed to look for what is wrong with it: `web.1 (nginx:9 on worker-1)`.
fn described(task: &TaskView) -> String {
    let node = task::node(task, false);
    let node = if node.is_empty() { node } else { format!(" on {node}") };
    format!("{} ({}{node})", task::place(task, false), task.image)
}

/// Why a task ended.
fn why(task: &TaskView) -> String {
    match task.status.state() {
        TaskState::Complete => "exited with code 0".to_owned(),
        _ => task::trouble(task).to_owned(),
    }
}

/// Whether the task ended as it should not: a service that always restarts its tasks wants them to keep running.
fn is_bad(service: &ServiceView, task: &TaskView) -> bool {
    let for_ever = service.spec.template().restart_policy().condition == RestartCondition::Any;
    match task.status.state() {
        TaskState::Failed | TaskState::Rejected => true,
        TaskState::Complete => for_ever,
        _ => false,
    }
}

fn place(task: &TaskView) -> Place {
    (task.slot, task.node.filter(|_| task.slot == 0))
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
mod tests {
    use super::*;
    use crate::format::samples;
    use events::Id as _;
    use wire::v1::UpdateStatus;

    fn running(slot: u64) -> TaskView {
        samples::task(u128::from(slot), slot, TaskState::Running, TaskState::Running, 1)
    }

    fn update(state: UpdateState) -> Option<UpdateStatus> {
        Some(UpdateStatus {
            state: state.into(),
            started_at: samples::NOW,
            completed_at: None,
            message: "why".to_owned(),
        })
    }

    fn is_converged(service: &ServiceView, tasks: &[TaskView], goal: Goal) -> bool {
        matches!(judge(service, tasks, goal), Verdict::Converged(_))
    }

    #[test]
    fn every_slot_must_run() {
        let service = samples::service();
        assert!(is_converged(&service, &[running(1), running(2)], Goal::Spec));
        let waiting = samples::tasks();
        let Verdict::Underway(picture) = judge(&service, &waiting, Goal::Spec) else { panic!("one task waits") };
        assert_eq!(picture.headline, "web: 1 of 2 tasks running");
        assert_eq!(picture.tasks[1].detail(), "pending: no suitable node (2 of 3 nodes lack 2 GiB)");
    }

    #[test]
    fn many_tasks_are_judged_by_looking_each_up_and_only_troubles_have_lines() {
        // Judged by going through all tasks for each one, these take hours.
        let count = 100_000;
        let mut service = samples::service();
        service.desired_tasks = count;
        let image = String::new();
        let small = |task: TaskView| TaskView { spec: None, image: image.clone(), ..task };
        let failed = (1..=count)
            .map(|slot| small(samples::task(u128::from(slot), slot, TaskState::Shutdown, TaskState::Failed, 9)));
        let next = (1..=count).map(|slot| {
            let task = samples::task(u128::from(count + slot), slot, TaskState::Running, TaskState::Running, 1);
            TaskView { replaces: Some(TaskId::from_bits(u128::from(slot))), ..small(task) }
        });
        let mut tasks: Vec<TaskView> = failed.chain(next).collect();
        let Verdict::Converged(picture) = judge(&service, &tasks, Goal::Count) else { panic!("all run") };
        assert_eq!((picture.count, picture.tasks), (100_000, vec![]));

        tasks[6].status.error = "exit status 1".to_owned();
        tasks[100_006].status.state = TaskState::Ready.into();
        let Verdict::Underway(picture) = judge(&service, &tasks, Goal::Count) else { panic!("one does not run yet") };
        assert_eq!(picture.count, 100_000);
        let lines: Vec<String> = picture.tasks.iter().map(|task| format!("{} {}", task.place, task.detail())).collect();
        assert_eq!(lines, ["web.7 ready: last attempt failed: exit status 1"]);
    }

    #[test]
    fn a_completed_update_of_a_global_service_spares_the_nodes_that_take_no_tasks() {
        let mut service = samples::service();
        let mut stale = running(2);
        stale.current = false;
        let tasks = [running(1), stale];
        service.update = update(UpdateState::Completed);
        assert!(!is_converged(&service, &tasks, Goal::Spec), "a replicated service has no such nodes");
        service.spec.mode = Some(events::service_spec::Mode::Global(events::GlobalMode {}));
        assert!(is_converged(&service, &tasks, Goal::Spec));
        service.update = update(UpdateState::Updating);
        assert!(!is_converged(&service, &tasks, Goal::Spec));
    }

    #[test]
    fn a_place_tells_how_its_last_attempt_ended_until_the_next_one_runs() {
        let service = samples::service();
        let mut tasks = samples::tasks();
        tasks[1].waiting = None;
        tasks[1].replaces = Some(tasks[2].id);
        for (state, detail, trouble) in [
            (
                TaskState::Ready,
                "ready: last attempt failed: exit status 1",
                Some("web.2 (nginx:1.27 on worker-2): exit status 1"),
            ),
            (TaskState::Running, "running", None),
        ] {
            tasks[1].status.state = state.into();
            let (Verdict::Underway(picture) | Verdict::Converged(picture)) = judge(&service, &tasks, Goal::Count)
            else {
                panic!("nothing is lost")
            };
            assert_eq!(picture.tasks[1].detail(), detail);
            assert_eq!(picture.trouble().as_deref(), trouble);
        }
    }

    #[test]
    fn a_place_that_is_given_up_is_shown_while_tasks_are_missing() {
        let mut service = samples::service();
        let mut tasks = [running(1), samples::tasks().remove(2)];
        tasks[1].desired = TaskState::Running.into();
        let Verdict::Underway(picture) = judge(&service, &tasks, Goal::Count) else { panic!("a task is missing") };
        assert_eq!(picture.tasks[1].detail(), "failed on worker-2: exit status 1");
        tasks[1].desired = TaskState::Shutdown.into();
        let Verdict::Failed { why, .. } = judge(&service, &tasks, Goal::Count) else {
            panic!("it has no more attempts")
        };
        assert_eq!(why, "web.2 (nginx:1.27 on worker-2) ended and is not restarted again: exit status 1");
        service.desired_tasks = 1;
        let Verdict::Converged(picture) = judge(&service, &tasks, Goal::Count) else { panic!("one is enough") };
        assert_eq!(picture.trouble(), None);
    }

    #[test]
    fn tasks_of_an_older_spec_do_not_count_unless_only_numbers_matter() {
        let service = samples::service();
        let tasks = [running(1), running(2)].map(|task| TaskView { current: false, ..task });
        assert!(!is_converged(&service, &tasks, Goal::Spec));
        assert!(is_converged(&service, &tasks, Goal::Count));
    }

    #[test]
    fn an_update_counts_what_is_updated_and_what_runs() {
        let mut service = samples::service();
        service.update = update(UpdateState::Updating);
        let tasks = [running(1), TaskView { current: false, ..running(2) }];
        let Verdict::Underway(picture) = judge(&service, &tasks, Goal::Spec) else { panic!("one is not updated") };
        assert_eq!(picture.headline, "web: updating, 1 of 2 tasks updated, 2 running");
        assert_eq!(picture.tasks[1].detail(), "running, not updated yet");
    }

    #[test]
    fn only_an_update_helps_where_tasks_fail_while_it_is_paused() {
        let mut service = samples::service();
        service.update = update(UpdateState::Paused);
        assert!(is_converged(&service, &[running(1), running(2)], Goal::Count));
        let preparing = samples::task(2, 2, TaskState::Running, TaskState::Preparing, 1);
        assert!(matches!(judge(&service, &[running(1), preparing], Goal::Count), Verdict::Underway(_)));
        let Verdict::Failed { why, .. } = judge(&service, &samples::tasks(), Goal::Count) else {
            panic!("it is stuck")
        };
        assert_eq!(why, "web: the update is paused: why");
    }

    #[test]
    fn a_place_that_ends_again_and_again_fails_the_wait_unless_it_runs_or_an_update_judges_it() {
        let looping = |failures, exits, last: &str, running_again| {
            let last_failure = last.to_owned();
            let known = Restarting { tasks: 1, failures, exits, last_failure, next_attempt: None, running_again };
            let waits = samples::task(2, 2, TaskState::Ready, TaskState::Assigned, 1);
            TaskView { restarting: Some(known), ..waits }
        };
        let stale = |task: TaskView| TaskView { current: false, ..task };
        let (exit, again) = ("exit status 1", "web.2 (nginx:1.27) failed 5 times in a row: exit status 1");
        // The task, the state of the update, what is waited for, and why the wait fails, if it does.
        let table = [
            (looping(4, 0, exit, false), None, Goal::New, ""),
            (looping(5, 0, exit, false), None, Goal::New, again),
            (looping(5, 0, exit, true), None, Goal::New, ""),
            (
                looping(0, 7, "", false),
                None,
                Goal::New,
                "web.2 (nginx:1.27) ended 7 times in a row: exited with code 0",
            ),
            (looping(2, 3, exit, false), None, Goal::Count, "web.2 (nginx:1.27) ended 5 times in a row: exit status 1"),
            (looping(5, 0, exit, false), Some(UpdateState::Updating), Goal::Spec, ""),
            (looping(5, 0, exit, false), Some(UpdateState::Completed), Goal::Spec, again),
            (stale(looping(5, 0, exit, false)), Some(UpdateState::Completed), Goal::Spec, ""),
            (stale(looping(5, 0, exit, false)), Some(UpdateState::Updating), Goal::Count, again),
        ];
        for (number, (task, state, goal, expected)) in table.into_iter().enumerate() {
            let mut service = samples::service();
            service.update = state.and_then(update);
            let why = match judge(&service, &[running(1), task], goal) {
                Verdict::Failed { why, restarts, .. } => {
                    assert!(restarts, "row {number}");
                    why
                }
                Verdict::Underway(_) => String::new(),
                Verdict::Converged(_) => panic!("row {number}: one task does not run"),
            };
            assert_eq!(why, expected, "row {number}");
        }
        let mut many: Vec<TaskView> = (2..5).map(|slot| TaskView { slot, ..looping(5, 0, exit, false) }).collect();
        many.push(running(1));
        let Verdict::Failed { why, .. } = judge(&samples::service(), &many, Goal::New) else { panic!("none will run") };
        assert_eq!(why, format!("{again}; so did 2 more tasks"));
    }

    #[test]
    fn a_surplus_task_and_a_running_update_are_waited_for() {
        let mut service = samples::service();
        assert!(!is_converged(&service, &[running(1), running(2), running(3)], Goal::Count));
        service.update = update(UpdateState::Updating);
        assert!(!is_converged(&service, &[running(1), running(2)], Goal::Spec));
        assert!(is_converged(&service, &[running(1), running(2)], Goal::Count));
        service.update = update(UpdateState::Completed);
        assert!(is_converged(&service, &[running(1), running(2)], Goal::Spec));
    }

    #[test]
    fn an_update_that_stopped_is_a_failure_with_its_reason() {
        let mut service = samples::service();
        for state in [UpdateState::Paused, UpdateState::RollbackPaused, UpdateState::RollbackCompleted] {
            service.update = update(state);
            let Verdict::Failed { why, .. } = judge(&service, &[], Goal::Spec) else { panic!("{state:?} is an end") };
            assert!(why.ends_with(": why"), "{why}");
            let mut culprit = samples::tasks().remove(2);
            service.update.as_mut().expect("it was set").message = format!("failure of task {}", culprit.id);
            culprit.status.error = "no such image".to_owned();
            let Verdict::Failed { why, .. } = judge(&service, std::slice::from_ref(&culprit), Goal::Spec) else {
                panic!("{state:?} is an end")
            };
            assert!(why.ends_with(": no such image"), "{why}");
            // What failed of the spec that was rolled back is the cause, though the message does not name it.
            culprit.current = false;
            service.update.as_mut().expect("it was set").message = "why".to_owned();
            let Verdict::Failed { why, .. } = judge(&service, &[culprit], Goal::Spec) else {
                panic!("{state:?} is an end")
            };
            let cause = if state == UpdateState::RollbackCompleted { ": no such image" } else { ": why" };
            assert!(why.ends_with(cause), "{why}");
            assert!(
                !matches!(judge(&service, &[], Goal::Count), Verdict::Failed { .. }),
                "{state:?} is no concern of a scaling"
            );
        }
    }

    #[test]
    fn a_task_that_ends_by_itself_but_should_not_is_a_trouble() {
        let service = samples::service();
        let (mut tasks, code) = (samples::tasks(), "exited with code 0");
        tasks[1].waiting = None;
        tasks[1].replaces = Some(tasks[2].id);
        tasks[1].status.state = TaskState::Ready.into();
        tasks[2].status.state = TaskState::Complete.into();
        tasks[2].status.error.clear();
        let Verdict::Underway(picture) = judge(&service, &tasks, Goal::Count) else { panic!("it is started again") };
        assert_eq!(picture.trouble(), Some(format!("web.2 (nginx:1.27 on worker-2): {code}")));
        assert_eq!(picture.tasks[1].detail(), format!("ready: last attempt complete: {code}"));
    }

    #[test]
    fn one_shots_that_are_done_count_and_failed_ones_end_the_wait() {
        let mut service = samples::service();
        let policy = events::RestartPolicy { condition: Some(RestartCondition::None.into()), ..Default::default() };
        service.spec.task.get_or_insert_default().restart = Some(policy);
        let ended = |slot, end| samples::task(slot, slot as u64, TaskState::Shutdown, end, 1);
        assert!(is_converged(&service, &[ended(1, TaskState::Complete), ended(2, TaskState::Complete)], Goal::Spec));
        let tasks = [ended(1, TaskState::Complete), ended(2, TaskState::Failed)];
        let Verdict::Failed { why, .. } = judge(&service, &tasks, Goal::Spec) else { panic!("web.2 failed for good") };
        assert!(why.starts_with("web.2 (nginx:1.27) ended and is never restarted"), "{why}");
    }
}
