//! A simulated container engine: the image's name determines what a container does.
//!
//! | image | what happens |
//! |---|---|
//! | `sim/exit-<code>` | the container ends with this code at once |
//! | `sim/exit-<code>-after-<n>s` | it ends with this code after this many seconds |
//! | `sim/slow-pull` | pulling takes 10 s |
//! | `sim/slow-start` | becoming healthy takes 10 s |
//! | `sim/missing` | there is no such image |
//! | `sim/busy` | the engine is busy for the first two attempts to prepare the task |
//! | `sim/unhealthy` | it starts and never becomes healthy |
//! | `sim/oom` | it is killed because it runs out of memory, after 1 s |
//! | `sim/ignores-term` | it stops only when it is killed, after 10 s |
//! | any other | it runs until it is stopped |
//!
//! A container prints a line when it starts, one when it receives the order to stop, and one when it ends on its own.
//!
//! A tag has no effect, so that `sim/ok:2` is a new version of `sim/ok`. Containers survive the agent, and stopped ones survive
//! the machine.

use std::collections::BTreeMap;
use std::time::Duration;

use events::{ContainerStatus, TaskId, Timestamp};
use reconcilers::worker::{Call, CallError, StepOutcome};
use wire::v1::{LogLine, LogStream};

/// Duration of a normal step.
const PREPARE: Duration = Duration::from_millis(200);
const START: Duration = Duration::from_millis(100);
const STOP: Duration = Duration::from_millis(100);
const REMOVE: Duration = Duration::from_millis(50);
/// Duration of a slow step.
const SLOW: Duration = Duration::from_secs(10);
/// Time until a container is found to be unhealthy.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(3);
/// Lifetime of a container that uses too much memory.
const OOM_AFTER: Duration = Duration::from_secs(1);
/// Number of times that a busy engine refuses to prepare a task.
const BUSY_TIMES: u32 = 2;
/// The exit code in a shell of a process that was terminated, and of one that was killed.
const EXIT_TERMINATED: i32 = 143;
const EXIT_KILLED: i32 = 137;

/// The engine of one machine.
#[derive(Debug, Default)]
pub struct Engine {
    containers: BTreeMap<TaskId, Container>,
    calls: BTreeMap<TaskId, Underway>,
    refusals: BTreeMap<TaskId, u32>,
    starts: BTreeMap<TaskId, u32>,
    /// The output of containers, including future output if they are not stopped before.
    printed: BTreeMap<TaskId, Vec<LogLine>>,
}

#[derive(Debug)]
enum Container {
    Created,
    Running { ends_at: Option<Timestamp>, end: End },
    Ended(End),
}

#[derive(Debug, Clone, Copy)]
struct End {
    code: i32,
    oom_killed: bool,
}

/// A call in progress.
#[derive(Debug)]
struct Underway {
    call: Call,
    image: Image,
    /// When it ends; a wait ends with its container.
    due: Option<Timestamp>,
}

/// The behaviour encoded in an image's name.
#[derive(Debug, Clone)]
struct Image {
    name: String,
}

impl Engine {
    /// Starts a call for a task and replaces the one in progress.
    pub fn begin(&mut self, task: TaskId, call: Call, image: &str, now: Timestamp) {
        let image = Image { name: image.split(':').next().unwrap_or(image).to_owned() };
        let due = match call {
            Call::Prepare => Some(now + image.pull()),
            Call::Start => {
                self.start(task, &image, now);
                Some(now + image.start())
            }
            Call::Wait => None,
            Call::Shutdown => {
                self.ask_to_stop(task, now);
                Some(now + self.stop_takes(task, &image))
            }
            Call::Remove => Some(now + REMOVE),
        };
        self.calls.insert(task, Underway { call, image, due });
    }

    /// Drops all calls in progress: their caller is gone.
    pub fn forget_calls(&mut self) {
        self.calls.clear();
    }

    /// Whether any call other than a wait is in progress.
    pub fn is_busy(&self) -> bool {
        self.calls.values().any(|underway| underway.call != Call::Wait)
    }

    /// The time of the next event.
    pub fn next(&self) -> Option<Timestamp> {
        self.calls.iter().filter_map(|(task, underway)| underway.due.or_else(|| self.ends_at(*task))).min()
    }

    /// The calls that have ended by now, with their results.
    pub fn finish_due(&mut self, now: Timestamp) -> Vec<(TaskId, StepOutcome)> {
        let is_due = |task: &TaskId, underway: &Underway| {
            underway.due.or_else(|| self.ends_at(*task)).is_some_and(|due| due <= now)
        };
        let due: Vec<TaskId> =
            self.calls.iter().filter(|(task, underway)| is_due(task, underway)).map(|(task, _)| *task).collect();
        due.into_iter().filter_map(|task| Some((task, self.finish(task, now)?))).collect()
    }

    /// Ends a running container with this code, as if its process had ended; returns whether there was one.
    pub fn kill(&mut self, task: TaskId, code: i32, now: Timestamp) -> bool {
        self.pass(task, now);
        match self.containers.get_mut(&task) {
            Some(container @ Container::Running { .. }) => {
                *container = Container::Ended(End { code, oom_killed: false });
                self.forget_later(task, now);
                true
            }
            Some(Container::Created | Container::Ended(_)) | None => false,
        }
    }

    /// The output of a container so far; empty if there is no container.
    pub fn printed(&self, task: TaskId, now: Timestamp) -> Option<Vec<LogLine>> {
        self.containers.get(&task)?;
        let printed = self.printed.get(&task).into_iter().flatten();
        Some(printed.filter(|line| line.at <= now).cloned().collect())
    }

    fn print(&mut self, task: TaskId, at: Timestamp, stream: LogStream, text: String) {
        let line = LogLine { at, stream: stream.into(), data: text.into() };
        self.printed.entry(task).or_default().push(line);
    }

    /// Removes output that would have been printed after this time.
    fn forget_later(&mut self, task: TaskId, now: Timestamp) {
        if let Some(lines) = self.printed.get_mut(&task) {
            lines.retain(|line| line.at <= now);
        }
    }

    fn ask_to_stop(&mut self, task: TaskId, now: Timestamp) {
        self.pass(task, now);
        if let Some(Container::Running { .. }) = self.containers.get(&task) {
            self.forget_later(task, now);
            self.print(task, now, LogStream::Stderr, "asked to stop".to_owned());
        }
    }

    /// The machine loses power: nothing runs any longer, but the disk is kept.
    pub fn lose_power(&mut self, now: Timestamp) {
        self.calls.clear();
        self.printed.values_mut().for_each(|lines| lines.retain(|line| line.at <= now));
        for container in self.containers.values_mut() {
            if let Container::Running { .. } = container {
                *container = Container::Ended(End { code: EXIT_KILLED, oom_killed: false });
            }
        }
    }

    /// Removes containers that do not belong to a task.
    pub fn remove_strays(&mut self, belongs: impl Fn(TaskId) -> bool) {
        self.containers.retain(|task, _| belongs(*task));
        self.printed.retain(|task, _| belongs(*task));
    }

    /// Tasks with a running container.
    pub fn running(&self) -> impl Iterator<Item = TaskId> {
        let runs = |container: &Container| matches!(container, Container::Running { .. });
        self.containers.iter().filter(move |(_, container)| runs(container)).map(|(task, _)| *task)
    }

    /// How often each task's container was ever started.
    pub fn starts(&self) -> &BTreeMap<TaskId, u32> {
        &self.starts
    }

    /// When the task's container ends or has ended on its own: in the past if it has ended or does not exist.
    fn ends_at(&self, task: TaskId) -> Option<Timestamp> {
        match self.containers.get(&task) {
            Some(Container::Running { ends_at, .. }) => *ends_at,
            Some(Container::Created | Container::Ended(_)) | None => Some(Timestamp::default()),
        }
    }

    fn start(&mut self, task: TaskId, image: &Image, now: Timestamp) {
        if let Some(container @ Container::Created) = self.containers.get_mut(&task) {
            let (ends_at, end) = image.run(now);
            *container = Container::Running { ends_at, end };
            *self.starts.entry(task).or_default() += 1;
            self.print(task, now, LogStream::Stdout, format!("{} started", image.name));
            if let Some(ends_at) = ends_at {
                self.print(task, ends_at, LogStream::Stderr, format!("ends with {}", end.code));
            }
        }
    }

    fn stop_takes(&self, task: TaskId, image: &Image) -> Duration {
        match self.containers.get(&task) {
            Some(Container::Running { .. }) if image.ignores_term() => SLOW,
            Some(Container::Running { .. }) => STOP,
            Some(Container::Created | Container::Ended(_)) | None => Duration::ZERO,
        }
    }

    /// Ends a container whose time is up.
    fn pass(&mut self, task: TaskId, now: Timestamp) {
        if let Some(container) = self.containers.get_mut(&task)
            && let Container::Running { ends_at: Some(ends_at), end } = container
            && *ends_at <= now
        {
            *container = Container::Ended(*end);
        }
    }

    fn finish(&mut self, task: TaskId, now: Timestamp) -> Option<StepOutcome> {
        let Underway { call, image, .. } = self.calls.remove(&task)?;
        self.pass(task, now);
        Some(match call {
            Call::Prepare => self.prepared(task, &image),
            Call::Start => self.started(task, &image),
            Call::Wait => self.waited(task),
            Call::Shutdown => StepOutcome::Stopped(self.stopped(task, &image)),
            Call::Remove => {
                self.containers.remove(&task);
                self.printed.remove(&task);
                StepOutcome::Removed
            }
        })
    }

    fn prepared(&mut self, task: TaskId, image: &Image) -> StepOutcome {
        let refusals = self.refusals.entry(task).or_default();
        if image.is_busy() && *refusals < BUSY_TIMES {
            *refusals += 1;
            let busy = "the simulated engine is busy".to_owned();
            return StepOutcome::Failed(Call::Prepare, CallError::Temporary(busy));
        }
        if image.is_missing() {
            let missing = format!("No such image: {}", image.name);
            return StepOutcome::Failed(Call::Prepare, CallError::Fatal(missing));
        }
        self.containers.entry(task).or_insert(Container::Created);
        StepOutcome::Prepared(status(task))
    }

    fn started(&mut self, task: TaskId, image: &Image) -> StepOutcome {
        let failed = |why: String| StepOutcome::Failed(Call::Start, CallError::Fatal(why));
        match self.containers.get_mut(&task) {
            Some(container @ Container::Running { .. }) if image.is_unhealthy() => {
                *container = Container::Ended(End { code: EXIT_KILLED, oom_killed: false });
                failed("task: unhealthy container".to_owned())
            }
            Some(Container::Running { .. } | Container::Ended(_)) => StepOutcome::Started(status(task)),
            Some(Container::Created) => failed("the container was never started".to_owned()),
            None => failed("no such container".to_owned()),
        }
    }

    fn waited(&self, task: TaskId) -> StepOutcome {
        match self.containers.get(&task) {
            Some(Container::Ended(end)) => StepOutcome::Ended { container: ended(task, *end), reason: None },
            Some(Container::Created | Container::Running { .. }) | None => {
                StepOutcome::Failed(Call::Wait, CallError::Fatal("no such container".to_owned()))
            }
        }
    }

    fn stopped(&mut self, task: TaskId, image: &Image) -> Option<ContainerStatus> {
        let container = self.containers.get_mut(&task)?;
        match container {
            Container::Created => Some(status(task)),
            Container::Running { .. } => {
                let code = if image.ignores_term() { EXIT_KILLED } else { EXIT_TERMINATED };
                let end = End { code, oom_killed: false };
                *container = Container::Ended(end);
                Some(ended(task, end))
            }
            Container::Ended(end) => Some(ended(task, *end)),
        }
    }
}

impl Image {
    fn is(&self, behaviour: &str) -> bool {
        self.name.strip_prefix("sim/") == Some(behaviour)
    }

    fn is_busy(&self) -> bool {
        self.is("busy")
    }

    fn is_missing(&self) -> bool {
        self.is("missing")
    }

    fn is_unhealthy(&self) -> bool {
        self.is("unhealthy")
    }

    fn ignores_term(&self) -> bool {
        self.is("ignores-term")
    }

    fn pull(&self) -> Duration {
        if self.is("slow-pull") { SLOW } else { PREPARE }
    }

    fn start(&self) -> Duration {
        match () {
            () if self.is("slow-start") => SLOW,
            () if self.is_unhealthy() => UNHEALTHY_AFTER,
            () => START,
        }
    }

    /// When a container that starts now ends on its own, and how.
    fn run(&self, now: Timestamp) -> (Option<Timestamp>, End) {
        let killed = End { code: EXIT_KILLED, oom_killed: true };
        if self.is("oom") {
            return (Some(now + OOM_AFTER), killed);
        }
        let Some(words) = self.name.strip_prefix("sim/exit-") else { return (None, killed) };
        let (code, after) = words.split_once("-after-").unwrap_or((words, "0s"));
        let seconds = after.strip_suffix('s').and_then(|number| number.parse().ok()).unwrap_or(0);
        let end = End { code: code.parse().unwrap_or(1), oom_killed: false };
        // Not before the start is complete, so that the task is reported as running.
        (Some(now + START.max(Duration::from_secs(seconds))), end)
    }
}

fn status(task: TaskId) -> ContainerStatus {
    ContainerStatus { container_id: format!("sim-{task}"), ..ContainerStatus::default() }
}

fn ended(task: TaskId, end: End) -> ContainerStatus {
    ContainerStatus { exit_code: Some(end.code), oom_killed: end.oom_killed, ..status(task) }
}
