//! An executor without containers, for tests and load: the image and the service's labels define what a task does.
//!
//! | image | what happens |
//! |---|---|
//! | `sim/exit-<code>` | the container ends with this code |
//!  `sim/oom` | it is killed because it is out of memory |
//! | `sim/unhealthy` | it starts and then becomes unhealthy |
//!  `sim/missing` | the image does not exist |
//!  `sim/busy` | the engine is busy at the first two attempts to prepare it |
//! | `sim/slow-pull` | pulling takes 10 s |
//! | any other | it runs until it is stopped |
//!
//! In a running task, `cat` echoes its input, `exit <code>` exits with that code, and any other command with 0. A task prints
//! as many lines as its label `sim.lines` says. The labels `sim.pull-ms` and `sim.run-ms` set how long pulling and running
//! take. Time is tokio's, so a test that pauses it is deterministic. Containers live as long as this object: pass it to another
//! agent to simulate a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use events::{ClusterId, ContainerStatus, NodeDescription, NodeId, Platform, Resources, ServiceSpec, TaskId};
use futures_util::stream::{self, StreamExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use wire::v1::interact_order::What;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::{LogLine, TaskUsage};

use super::super::executor::{Executor, ExecutorError, Exit, Inputs, LogQuery, Outputs, TaskLogs, Workload};

const SLOW_PULL: Duration = Duration::from_secs(10);
const BUSY_TIMES: u32 = 2;
/// The exit codes of a process that was terminated, and of one that was killed.
const EXIT_TERMINATED: i32 = 143;
const EXIT_KILLED: i32 = 137;

/// A simulated engine.
#[derive(Debug, Default)]
pub struct Simulated {
    engine: Mutex<Engine>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Engine {
    away: bool,
    nano_cpus: u64,
    containers: BTreeMap<TaskId, Container>,
    refusals: BTreeMap<TaskId, u32>,
    starts: BTreeMap<TaskId, u32>,
    released: BTreeSet<TaskId>,
}

#[derive(Debug)]
enum Container {
    Created,
    Running { ends_at: Option<Instant>, end: Exit },
    Ended(Exit),
}

/// The behaviour defined by an image and its service's labels.
struct Script {
    pull: Duration,
    missing: bool,
    busy: u32,
    run: Option<Duration>,
    end: Exit,
}

impl Script {
    fn of(spec: &ServiceSpec) -> Self {
        let label_ms =
            |name| spec.annotations().labels.get(name).and_then(|text| text.parse().ok()).map(Duration::from_millis);
        let image = spec.template().container().image.as_str();
        let mut script = Self {
            pull: Duration::ZERO,
            missing: image == "sim/missing",
            busy: 0,
            run: label_ms("sim.run-ms"),
            end: exit(0),
        };
        let mut ends = |end| {
            script.end = end;
            script.run.get_or_insert(Duration::ZERO);
        };
        match image.strip_prefix("sim/") {
            Some("oom") => {
                let container = ContainerStatus { oom_killed: true, ..exit(EXIT_KILLED).container };
                ends(Exit { container, reason: None });
            }
            Some("unhealthy") => ends(Exit { reason: Some("unhealthy container".into()), ..exit(EXIT_KILLED) }),
            Some("busy") => script.busy = BUSY_TIMES,
            Some("slow-pull") => script.pull = SLOW_PULL,
            Some(other) => {
                if let Some(code) = other.strip_prefix("exit-").and_then(|code| code.parse().ok()) {
                    ends(exit(code));
                }
            }
            None => {}
        }
        script.pull = label_ms("sim.pull-ms").unwrap_or(script.pull);
        script
    }
}

fn exit(code: i32) -> Exit {
    Exit { container: ContainerStatus { exit_code: Some(code), ..ContainerStatus::default() }, reason: None }
}

fn status(task: TaskId) -> ContainerStatus {
    ContainerStatus { container_id: format!("sim-{task}"), ..ContainerStatus::default() }
}

fn ended(task: TaskId, end: &Exit) -> Exit {
    let container = ContainerStatus { container_id: format!("sim-{task}"), ..end.container.clone() };
    Exit { container, reason: end.reason.clone() }
}

impl Simulated {
    /// Makes the engine unreachable, or reachable again. Containers keep running.
    pub fn set_away(&self, away: bool) {
        self.lock().away = away;
        self.changed.notify_waiters();
    }

    /// Sets the CPU capacity of the machine, in billionths of a core.
    pub fn set_nano_cpus(&self, nano_cpus: u64) {
        self.lock().nano_cpus = nano_cpus;
    }

    /// Ends a running container with this exit code, as if its process had exited.
    pub fn end(&self, task: TaskId, code: i32) {
        if let Some(container @ Container::Running { .. }) = self.lock().containers.get_mut(&task) {
            *container = Container::Ended(exit(code));
        }
        self.changed.notify_waiters();
    }

    /// Adds a running container that no agent created.
    pub fn plant(&self, task: TaskId) {
        self.lock().containers.insert(task, Container::Running { ends_at: None, end: exit(0) });
        self.changed.notify_waiters();
    }

    /// Waits until this holds; it is evaluated whenever a container changes.
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Enabled before the check, so that a change right after it is not missed.
            changed.as_mut().enable();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }

    /// Whether the task's container is running.
    pub fn is_running(&self, task: TaskId) -> bool {
        let mut engine = self.lock();
        matches!(engine.container(task), Some(Container::Running { .. }))
    }

    /// Whether there is any trace of the task.
    pub fn has(&self, task: TaskId) -> bool {
        self.lock().containers.contains_key(&task)
    }

    /// Whether the resources of the running task were released.
    pub fn is_released(&self, task: TaskId) -> bool {
        self.lock().released.contains(&task)
    }

    /// How often the task's container was started.
    pub fn starts(&self, task: TaskId) -> u32 {
        self.lock().starts.get(&task).copied().unwrap_or(0)
    }

    /// No code panics while it holds the lock, so a poisoned one still guards valid data.
    fn lock(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn present(&self) -> Result<MutexGuard<'_, Engine>, ExecutorError> {
        let engine = self.lock();
        if engine.away {
            return Err(ExecutorError::Temporary("the simulated engine is away".to_owned()));
        }
        Ok(engine)
    }

    /// The task's exit if it has ended, or the time at which it will.
    fn look(&self, task: TaskId) -> Result<Result<Exit, Option<Instant>>, ExecutorError> {
        match self.present()?.container(task) {
            Some(Container::Ended(end)) => Ok(Ok(ended(task, end))),
            Some(Container::Running { ends_at, .. }) => Ok(Err(*ends_at)),
            Some(Container::Created) => Err(ExecutorError::Fatal(format!("container of {task} was never started"))),
            None => Err(ExecutorError::Fatal(format!("no such container: {task}"))),
        }
    }
}

impl Engine {
    /// The container in its current state: one whose time has elapsed has exited.
    fn container(&mut self, task: TaskId) -> Option<&mut Container> {
        let container = self.containers.get_mut(&task)?;
        if let Container::Running { ends_at: Some(ends_at), end } = container
            && *ends_at <= Instant::now()
        {
            *container = Container::Ended(end.clone());
        }
        Some(container)
    }
}

#[tonic::async_trait]
impl Executor for Simulated {
    async fn describe(&self) -> Result<NodeDescription, ExecutorError> {
        let nano_cpus = self.present()?.nano_cpus;
        Ok(NodeDescription {
            platform: Some(Platform { architecture: "x86_64".into(), os: "linux".into() }),
            resources: Some(Resources { nano_cpus, ..Resources::default() }),
            executor: "simulated".into(),
            ..NodeDescription::default()
        })
    }

    async fn prepare(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        let script = Script::of(&workload.spec);
        {
            let mut engine = self.present()?;
            let refusals = engine.refusals.entry(workload.task).or_default();
            if *refusals < script.busy {
                *refusals += 1;
                return Err(ExecutorError::Temporary("the simulated engine is busy".to_owned()));
            }
        }
        if script.missing {
            return Err(ExecutorError::Fatal("No such image: sim/missing".to_owned()));
        }
        tokio::time::sleep(script.pull).await;
        self.present()?.containers.entry(workload.task).or_insert(Container::Created);
        self.changed.notify_waiters();
        Ok(status(workload.task))
    }

    async fn start(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        let script = Script::of(&workload.spec);
        let mut engine = self.present()?;
        match engine.container(workload.task) {
            Some(container @ Container::Created) => {
                let ends_at = script.run.map(|run| Instant::now() + run);
                *container = Container::Running { ends_at, end: script.end };
                *engine.starts.entry(workload.task).or_default() += 1;
                self.changed.notify_waiters();
                Ok(status(workload.task))
            }
            Some(Container::Running { .. }) => Ok(status(workload.task)),
            Some(Container::Ended(_)) => Err(ExecutorError::Fatal("the container has ended".to_owned())),
            None => Err(ExecutorError::Fatal(format!("no such container: {}", workload.task))),
        }
    }

    async fn wait(&self, workload: &Workload) -> Result<Exit, ExecutorError> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Enabled before the check, so that a change right after it is not missed.
            changed.as_mut().enable();
            match self.look(workload.task)? {
                Ok(end) => return Ok(end),
                Err(None) => changed.await,
                Err(Some(ends_at)) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(ends_at) => {}
                },
            }
        }
    }

    async fn shutdown(&self, workload: &Workload) -> Result<Option<ContainerStatus>, ExecutorError> {
        let mut engine = self.present()?;
        let task = workload.task;
        let status = match engine.container(task) {
            Some(container @ Container::Running { .. }) => {
                *container = Container::Ended(exit(EXIT_TERMINATED));
                Some(ended(task, &exit(EXIT_TERMINATED)).container)
            }
            Some(Container::Ended(end)) => Some(ended(task, end).container),
            Some(Container::Created) => Some(status(task)),
            None => None,
        };
        self.changed.notify_waiters();
        Ok(status)
    }

    async fn release(&self, task: TaskId) -> Result<(), ExecutorError> {
        self.present()?.released.insert(task);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn remove(&self, task: TaskId) -> Result<(), ExecutorError> {
        self.present()?.containers.remove(&task);
        self.changed.notify_waiters();
        Ok(())
    }

    async fn inventory(&self, _cluster: ClusterId, _node: NodeId) -> Result<Vec<TaskId>, ExecutorError> {
        Ok(self.present()?.containers.keys().copied().collect())
    }

    async fn usage(&self, workload: &Workload) -> Result<Option<TaskUsage>, ExecutorError> {
        if workload.spec.annotations().labels.contains_key("sim.unmeasured") {
            return Err(ExecutorError::Fatal("the simulated engine counts nothing".to_owned()));
        }
        let runs = matches!(self.present()?.container(workload.task), Some(Container::Running { .. }));
        Ok(runs.then(|| TaskUsage { task: workload.task, cpu_ns: 42, ..TaskUsage::default() }))
    }

    async fn interact(&self, workload: &Workload, what: What, inputs: Inputs) -> Result<Outputs, ExecutorError> {
        if !self.is_running(workload.task) {
            return Err(ExecutorError::Fatal("it is not running".to_owned()));
        }
        let spec = match what {
            What::Exec(spec) => spec,
            What::Copy(_) => return Err(ExecutorError::Fatal("a simulated task has no files".to_owned())),
            What::Attach(_) => return Err(ExecutorError::Fatal("a simulated task prints nothing new".to_owned())),
        };
        let words: Vec<&str> = spec.argv.iter().map(String::as_str).collect();
        let end = |code: i32| stream::once(async move { Ok(Output::ExitCode(code)) });
        Ok(match words[..] {
            ["exit", code] => end(code.parse().unwrap_or(EXIT_KILLED)).boxed(),
            ["cat"] => {
                let data = inputs.take_while(|input| std::future::ready(!matches!(input, Input::End(_))));
                let data = data.filter_map(|input| {
                    std::future::ready(if let Input::Data(data) = input {
                        Some(Ok(Output::Stdout(data)))
                    } else {
                        None
                    })
                });
                data.chain(end(0)).boxed()
            }
            _ => end(0).boxed(),
        })
    }

    /// As many lines as the label `sim.lines` says, of about a hundred bytes each.
    async fn logs(&self, workload: &Workload, query: LogQuery) -> Result<TaskLogs, ExecutorError> {
        if self.present()?.container(workload.task).is_none() {
            return Err(ExecutorError::Fatal("its container is gone".to_owned()));
        }
        let count = workload.spec.annotations().labels.get("sim.lines").and_then(|text| text.parse().ok()).unwrap_or(1);
        let line = |number| LogLine { data: format!("{number:0>100}").into(), ..LogLine::default() };
        let lines = stream::iter((0..count).map(move |number: u32| Ok(vec![line(number)])));
        let lines = if query.follow { lines.chain(stream::pending()).boxed() } else { lines.boxed() };
        Ok(TaskLogs { details: String::new(), lines })
    }
}
