//! Runs tasks as plain child processes of the host, for machines without a container engine.
//!
//! Each task has a directory of small files and, while it runs, a supervisor process (`supervise.rs`) with which the agent
//! communicates only through those files. So tasks keep running while the agent is stopped, and the next agent adopts them. A
//! process sees the host's files and network; parts of a spec that it cannot have are refused (mounts) or reported as warnings
//! in the status. It runs as the user of the spec, as `nobody` if there is none, as root only where the node's operator allows
//! it, and it never gains privileges, whatever it executes.

mod attach;
mod cgroup;
mod channel;
mod configs;
mod describe;
mod exec;
mod files;
mod health;
mod identity;
mod logs;
mod order;
mod output;
mod supervise;
mod ulimits;
mod usage;
mod user;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use events::{ClusterId, ContainerStatus, NodeDescription, NodeId, TaskId};
use rustix::process::Signal;
use tokio::time::timeout;
use wire::v1::TaskUsage;
use wire::v1::interact_order::What;

use self::files::{Record, Started, TaskFiles};
use self::health::{Check, Health};
use self::order::Order;
pub use self::supervise::supervise;
use self::usage::Processes;
use self::user::Users;
use super::details::details;
use super::executor::{Executor, ExecutorError, Exit, Inputs, LogQuery, Outputs, TaskLogs, Workload};
use super::placed_file;
use super::secret_files::SecretFiles;
use super::signal;
use super::steps::Steps;
use crate::clock;

/// The reason of a task that was stopped by its health check.
const UNHEALTHY: &str = "unhealthy: its health check failed";

/// The environment variable with the path of a task's secrets.
const SECRETS_VARIABLE: &str = "SWARM_SECRET_DIR";

/// Why files cannot be copied.
const COPIES_NOTHING: &str = "plain processes have no files of their own: those of the node are copied there";

/// Why a task accepts no input.
const TAKES_NO_INPUT: &str = "plain processes take no input: attach with --no-stdin";

/// The exit code of a process whose own exit code is unknown.
const UNKNOWN_EXIT_CODE: i32 = 255;

/// Deadline for a supervisor to start a command, and for the kernel to end a killed one: normally milliseconds, unless the
/// machine is overloaded.
const PROMPT: Duration = Duration::from_secs(30);

/// Runs tasks as child processes.
pub struct ProcessExecutor {
    root: PathBuf,
    supervisor: Box<dyn Fn(&Path) -> Command + Send + Sync>,
    allow_root: bool,
    steps: Steps,
    secret_files: SecretFiles,
    processes: Arc<Processes>,
}

impl ProcessExecutor {
    /// An executor that stores its tasks below `root`. `supervisor` returns the command that runs [`supervise`] for a task's
    /// directory: this program with an internal subcommand. No task runs as root unless `allow_root`.
    pub fn new(root: PathBuf, allow_root: bool, supervisor: impl Fn(&Path) -> Command + Send + Sync + 'static) -> Self {
        let secret_files = SecretFiles::of(&root);
        let (steps, processes) = (Steps::default(), Arc::default());
        Self { root, supervisor: Box::new(supervisor), allow_root, steps, secret_files, processes }
    }

    fn users(&self) -> Users {
        Users::of_this_machine(self.allow_root)
    }

    fn files(&self, task: TaskId) -> TaskFiles {
        TaskFiles::new(self.root.join(task.to_string()))
    }

    /// The order of the task, with the directories of its configs and secrets in its environment.
    fn order(&self, workload: &Workload) -> Result<Order, ExecutorError> {
        let mut order = order::order(workload, &self.users()).map_err(ExecutorError::Fatal)?;
        if !workload.container().configs.is_empty() {
            let directory = self.configs(workload.task);
            order.env.insert(configs::VARIABLE.to_owned(), directory.display().to_string());
        }
        if let Some(directory) = self.secret_files.directory(workload.task)
            && !workload.container().secrets.is_empty()
        {
            order.env.insert(SECRETS_VARIABLE.to_owned(), directory.display().to_string());
        }
        Ok(order)
    }

    /// Writes the secrets, and the configs that contain one, into a directory that only the task's user may enter.
    fn place_secrets(&self, workload: &Workload, order: &Order) -> Result<(), ExecutorError> {
        for reference in &workload.container().secrets {
            placed_file::judge(reference, SECRETS_VARIABLE).map_err(ExecutorError::Fatal)?;
        }
        let owner = order.user.map(|user| (user.uid, user.gid));
        let secrets = workload.container().secrets.len();
        self.secret_files.place(workload, owner, |number, reference| {
            // The configs follow the secrets.
            if number < secrets { reference.given_path().into() } else { configs::in_memory(reference) }
        })
    }

    fn configs(&self, task: TaskId) -> PathBuf {
        configs::directory(self.files(task).dir(), task)
    }

    /// Has a supervisor start the command. If this is dropped, the command was either started and recorded, or will never be:
    /// an incomplete order is ignored.
    async fn launch(&self, files: &TaskFiles, order: &Order) -> Result<(), ExecutorError> {
        let (ours, theirs) = UnixStream::pair().map_err(broken)?;
        let mut command = (self.supervisor)(files.dir());
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(files.supervisor_log().map_err(broken)?);
        // Spawned through tokio, which also reaps children that are never waited for. Both copies of the supervisor's end are
        // closed after this.
        let spawned = tokio::process::Command::from(command).spawn();
        let child = spawned.map_err(|error| ExecutorError::Fatal(format!("cannot start a supervisor: {error}")))?;
        let order = order.clone();
        let talk = tokio::task::spawn_blocking(move || {
            let mut socket = ours;
            socket.set_read_timeout(Some(PROMPT))?;
            channel::send(&mut socket, &order)?;
            channel::answer(&mut socket)
        });
        let answer = talk.await.map_err(|error| ExecutorError::Temporary(error.to_string()))?;
        drop(child);
        answer
            .map_err(|error| ExecutorError::Temporary(format!("no answer of the supervisor: {error}")))?
            .map_err(ExecutorError::Fatal)
            .map(drop)
    }

    async fn start_and_gate(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        let files = self.files(workload.task);
        let order = self.order(workload)?;
        let check = Check::new(workload.container().healthcheck.as_ref()).map_err(ExecutorError::Fatal)?;
        if files.record().map_err(broken)?.is_none() {
            return Err(ExecutorError::Fatal(format!("no such task: {}", workload.name)));
        }
        let was_over = files.ended().map_err(broken)?.is_some();
        if files.started().map_err(broken)?.is_none() {
            if files.is_stopped() {
                return Err(ExecutorError::Fatal("the task was shut down before it started".into()));
            }
            // The secrets may have been lost in a reboot since the task was prepared.
            self.place_secrets(workload, &order)?;
            self.launch(&files, &order).await?;
        }
        let Some(started) = files.started().map_err(broken)? else {
            return Err(ExecutorError::Temporary("the supervisor is just starting the task".into()));
        };
        // It was started and exited before this start: whether it was ever healthy is unknown; `wait` reports how it exited.
        if let Some(check) = check.filter(|_| !was_over) {
            self.gate(workload, &files, &started, &order, &check).await?;
        }
        status(workload, &files)
    }

    /// Waits until the command is healthy.
    async fn gate(
        &self,
        workload: &Workload,
        files: &TaskFiles,
        started: &Started,
        order: &Order,
        check: &Check,
    ) -> Result<(), ExecutorError> {
        tokio::select! {
            ended = ended(files, started) => match ended? {
                0 => Ok(()),
                code => Err(ExecutorError::Fatal(format!("the command ended with exit code {code} before it was healthy"))),
            },
            health = check.decide(Health::Starting, order) => match health {
                Health::Healthy | Health::Starting => Ok(()),
                Health::Unhealthy => {
                    stop(workload, files, started).await?;
                    Err(ExecutorError::Fatal(UNHEALTHY.into()))
                }
            },
        }
    }
}

#[tonic::async_trait]
impl Executor for ProcessExecutor {
    async fn describe(&self) -> Result<NodeDescription, ExecutorError> {
        describe::node()
    }

    async fn prepare(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        let container = workload.container();
        let order = self.order(workload)?;
        Check::new(container.healthcheck.as_ref()).map_err(ExecutorError::Fatal)?;
        signal::parse(&container.stop_signal).map_err(ExecutorError::Fatal)?;
        let (name, image) = (workload.name.clone(), container.image.clone());
        let files = self.files(workload.task);
        files.create(&Record { cluster: workload.cluster, node: workload.node, name, image }).map_err(broken)?;
        if files.started().map_err(broken)?.is_none() {
            let memory = self.secret_files.directory(workload.task);
            configs::place(workload, &self.configs(workload.task), memory.as_deref())?;
            self.place_secrets(workload, &order)?;
        }
        status(workload, &files)
    }

    async fn start(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        self.steps.run(workload.task, self.start_and_gate(workload)).await
    }

    async fn wait(&self, workload: &Workload) -> Result<Exit, ExecutorError> {
        let files = self.files(workload.task);
        let Some(started) = files.started().map_err(broken)? else {
            return if files.dir().exists() {
                Err(ExecutorError::Fatal("the command was never started".into()))
            } else {
                let container = ContainerStatus { exit_code: Some(UNKNOWN_EXIT_CODE), ..Default::default() };
                Ok(Exit { container, reason: Some("the task's files were removed from outside".into()) })
            };
        };
        let order = self.order(workload)?;
        let check = Check::new(workload.container().healthcheck.as_ref()).map_err(ExecutorError::Fatal)?;
        let unhealthy = async {
            match &check {
                Some(check) => check.decide(Health::Healthy, &order).await,
                None => std::future::pending().await,
            }
        };
        let reason = tokio::select! {
            ended = ended(&files, &started) => ended.map(|_| None)?,
            _ = unhealthy => {
                stop(workload, &files, &started).await?;
                Some(UNHEALTHY.to_owned())
            }
        };
        Ok(exit(reason, status(workload, &files)?, &files))
    }

    async fn shutdown(&self, workload: &Workload) -> Result<Option<ContainerStatus>, ExecutorError> {
        self.steps.cancel(workload.task);
        let files = self.files(workload.task);
        if files.record().map_err(broken)?.is_none() {
            return Ok(None);
        }
        halt(&files)?;
        if let Some(started) = files.started().map_err(broken)? {
            stop(workload, &files, &started).await?;
        }
        status(workload, &files).map(Some)
    }

    async fn release(&self, task: TaskId) -> Result<(), ExecutorError> {
        exec::end_all(&self.files(task)).map_err(broken)?;
        self.secret_files.remove(task)
    }

    async fn remove(&self, task: TaskId) -> Result<(), ExecutorError> {
        self.steps.cancel(task);
        let files = self.files(task);
        configs::remove(&self.configs(task)).map_err(broken)?;
        self.secret_files.remove(task)?;
        if !files.dir().exists() {
            return Ok(());
        }
        halt(&files)?;
        exec::end_all(&files).map_err(broken)?;
        if let Some(started) = files.started().map_err(broken)? {
            kill(&started).await?;
            cgroup::remove(&started.cgroups).map_err(broken)?;
        }
        files.remove().map_err(broken)
    }

    async fn inventory(&self, cluster: ClusterId, node: NodeId) -> Result<Vec<TaskId>, ExecutorError> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(broken(error)),
        };
        let mut tasks = Vec::new();
        for entry in entries {
            let name = entry.map_err(broken)?.file_name();
            let Some(task) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let record = self.files(task).record().map_err(broken)?;
            if record.is_some_and(|record| record.cluster == cluster && record.node == node) {
                tasks.push(task);
            }
        }
        tasks.sort_unstable();
        Ok(tasks)
    }

    async fn logs(&self, workload: &Workload, query: LogQuery) -> Result<TaskLogs, ExecutorError> {
        let files = self.files(workload.task);
        if files.record().map_err(broken)?.is_none() {
            return Err(ExecutorError::Fatal("its files are gone".to_owned()));
        }
        let driver = workload.spec.template().log_driver.as_ref();
        let options = driver.into_iter().flat_map(|driver| &driver.options);
        let options = options.map(|(option, value)| (option.as_str(), value.as_str()));
        let details = details(options, &workload.container().labels, &workload.container().env);
        Ok(TaskLogs { details, lines: logs::lines(files, query).await.map_err(broken)? })
    }

    async fn usage(&self, workload: &Workload) -> Result<Option<TaskUsage>, ExecutorError> {
        let started = self.files(workload.task).started().map_err(broken)?;
        let Some(started) = started.filter(|started| started.command.is_alive()) else { return Ok(None) };
        let (processes, task, at) = (Arc::clone(&self.processes), workload.task, clock::now());
        let limit_bytes = order::limits(workload).memory_bytes;
        // The supervisor leads the session of all processes of the task.
        let read = move || processes.usage(task, started.supervisor.pid, limit_bytes, at);
        let usage = tokio::task::spawn_blocking(read).await;
        usage.map(Some).map_err(|error| ExecutorError::Temporary(error.to_string()))
    }

    async fn interact(&self, workload: &Workload, what: What, inputs: Inputs) -> Result<Outputs, ExecutorError> {
        let started = self.files(workload.task).started().map_err(broken)?;
        let running = started.filter(|started| started.command.is_alive());
        let running = running.ok_or_else(|| ExecutorError::Fatal("it is not running".to_owned()))?;
        match what {
            What::Exec(spec) => self.exec(workload, running, spec, inputs).await,
            // A client that assumes open standard input would lose what it sends.
            What::Attach(spec) if spec.stdin && workload.container().open_stdin => {
                Err(ExecutorError::Fatal(TAKES_NO_INPUT.to_owned()))
            }
            What::Attach(_) => self.attach(workload, running, inputs).await,
            What::Copy(_) => Err(ExecutorError::Fatal(COPIES_NOTHING.to_owned())),
        }
    }
}

/// Prevents any start from now on. Temporary while a supervisor is between checking the mark and recording its start.
fn halt(files: &TaskFiles) -> Result<(), ExecutorError> {
    files.mark_stopped().map_err(broken)?;
    if files.started().map_err(broken)?.is_none() && files.lock().map_err(broken)?.is_none() {
        return Err(ExecutorError::Temporary("the supervisor is just starting the task".into()));
    }
    Ok(())
}

/// Stops a command with the spec's signal and, after its grace period, with SIGKILL.
async fn stop(workload: &Workload, files: &TaskFiles, started: &Started) -> Result<(), ExecutorError> {
    let signal = signal::parse(&workload.container().stop_signal).map_err(ExecutorError::Fatal)?;
    started.command.signal_group(signal).map_err(broken)?;
    match timeout(workload.container().stop_grace(), ended(files, started)).await {
        Ok(ended) => ended.map(drop),
        Err(_) => kill(started).await,
    }
}

/// Kills a command, and waits until its supervisor has recorded the exit.
async fn kill(started: &Started) -> Result<(), ExecutorError> {
    started.command.signal_group(Signal::KILL).map_err(broken)?;
    let gone = async {
        started.supervisor.ended().await?;
        started.command.ended().await
    };
    let late = |_| ExecutorError::Temporary("a killed process does not end".into());
    timeout(PROMPT, gone).await.map_err(late)?.map_err(broken)
}

/// Waits for the exit of a command. Returns its exit code.
async fn ended(files: &TaskFiles, started: &Started) -> Result<i32, ExecutorError> {
    started.supervisor.ended().await.map_err(broken)?;
    // A supervisor that was killed leaves its command running, and the exit code unknown.
    started.command.ended().await.map_err(broken)?;
    Ok(files.ended().map_err(broken)?.map_or(UNKNOWN_EXIT_CODE, |ended| ended.exit_code))
}

/// The exit of a command, from its last status.
fn exit(reason: Option<String>, container: ContainerStatus, files: &TaskFiles) -> Exit {
    let lost = matches!(files.ended(), Ok(None)).then(|| "the exit code was lost with the supervisor".to_owned());
    Exit { container, reason: reason.or(lost) }
}

/// The status of a task.
fn status(workload: &Workload, files: &TaskFiles) -> Result<ContainerStatus, ExecutorError> {
    let started = files.started().map_err(broken)?;
    // In this order, because a supervisor records the exit before it exits itself.
    let is_gone = started.as_ref().is_some_and(|started| !started.supervisor.is_alive() && !started.command.is_alive());
    let end = files.ended().map_err(broken)?;
    let exit_code = end.as_ref().map(|end| end.exit_code).or(is_gone.then_some(UNKNOWN_EXIT_CODE));
    let mut warnings = order::warnings(workload);
    let is_running = started.is_some() && exit_code.is_none();
    let pid = started.as_ref().filter(|_| is_running).map_or(0, |started| started.command.pid);
    warnings.extend(started.into_iter().flat_map(|started| started.warnings));
    Ok(ContainerStatus {
        container_id: workload.task.to_string(),
        pid,
        exit_code,
        oom_killed: end.is_some_and(|end| end.oom_killed),
        ports: if is_running { order::ports(workload) } else { Vec::new() },
        warnings,
    })
}

/// Failures of the host: a full disk, an unreadable file. They are temporary or need an operator; the task is not at fault in
/// either case.
fn broken(error: io::Error) -> ExecutorError {
    ExecutorError::Temporary(format!("process executor: {error}"))
}
