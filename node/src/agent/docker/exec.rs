//! Commands executed beside a task, in its container.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bollard::exec::StartExecOptions;
use bollard::models::{ExecConfig, ExecInspectResponse, ExecStartConfig};
use bollard::query_parameters::ResizeExecOptionsBuilder;
use futures_util::stream::{self, StreamExt};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::{ExecSpec, TerminalSize};

use super::engine::Engine;
use super::{DockerExecutor, hijack};
use crate::agent::conversation;
use crate::agent::executor::{ExecutorError, Inputs, Outputs, Workload};

/// Delay before the engine is polled again: the first, and the maximum.
const ASK_PAUSE_FIRST: Duration = Duration::from_millis(10);
const ASK_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How often a resize is tried until the command has a terminal, shortly after its start; the delays add up to half a second.
const RESIZES_MAX: u32 = 10;
const RESIZE_PAUSE: Duration = Duration::from_millis(10);
/// How long a command may continue after its client disconnected.
const HANG_UP_GRACE: Duration = Duration::from_secs(5);

/// A command in a container.
struct Exec {
    engine: Arc<Engine>,
    id: String,
    container: String,
    has_terminal: bool,
}

impl DockerExecutor {
    /// Executes a command in the container of a task.
    pub(super) async fn exec(
        &self,
        workload: &Workload,
        spec: ExecSpec,
        inputs: Inputs,
    ) -> Result<Outputs, ExecutorError> {
        let container = self.container(workload).await?.and_then(|container| container.id);
        let container = container.ok_or_else(|| ExecutorError::Fatal("its container is gone".to_owned()))?;
        let client = self.engine.client()?;
        let (takes_input, detach, size) = (spec.stdin, spec.detach, spec.terminal);
        let made = client.create_exec(&container, config(spec)).await.map_err(|error| self.engine.judge(error))?;
        if detach {
            let options = StartExecOptions { detach: true, tty: size.is_some(), output_capacity: None };
            client.start_exec(&made.id, Some(options)).await.map_err(|error| self.engine.judge(error))?;
            return Ok(stream::once(async { Ok(Output::ExitCode(0)) }).boxed());
        }
        let has_terminal = size.is_some();
        let start =
            ExecStartConfig { detach: Some(false), tty: Some(has_terminal), console_size: size.map(rows_first) };
        let start = serde_json::to_string(&start).map_err(|error| ExecutorError::Fatal(error.to_string()))?;
        let hijacked = hijack::call(&self.engine, &format!("/exec/{}/start", made.id), start).await?;
        let exec = Exec { engine: Arc::clone(&self.engine), id: made.id, container, has_terminal };
        // Engines before API 1.42 accept no size at the start.
        let inputs = stream::iter(size.map(Input::Size)).chain(inputs).boxed();
        Ok(conversation::begin(hijacked.ends(takes_input, has_terminal), exec, inputs))
    }
}

/// The engine's request for a command.
fn config(spec: ExecSpec) -> ExecConfig {
    let attach = Some(!spec.detach);
    ExecConfig {
        attach_stdin: Some(spec.stdin && !spec.detach),
        attach_stdout: attach,
        attach_stderr: attach,
        console_size: spec.terminal.map(rows_first),
        tty: Some(spec.terminal.is_some()),
        env: Some(spec.env),
        cmd: Some(spec.argv),
        user: spec.user,
        working_dir: spec.dir,
        ..ExecConfig::default()
    }
}

/// A terminal size in the engine's order.
fn rows_first(size: TerminalSize) -> Vec<usize> {
    [size.rows, size.columns].map(|length| usize::from(clamped(length))).to_vec()
}

/// Limits a dimension to 65,535, more than any terminal has.
pub(super) fn clamped(length: u32) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

impl Exec {
    /// Polls the engine until an inspection has the value: its state lags behind the start and exit of a command.
    async fn known<T>(&self, look: impl Fn(&ExecInspectResponse) -> Option<T>) -> Result<T, ExecutorError> {
        let mut pause = ASK_PAUSE_FIRST;
        loop {
            let seen = self.engine.client()?.inspect_exec(&self.id).await.map_err(|error| self.engine.judge(error))?;
            if let Some(known) = look(&seen) {
                return Ok(known);
            }
            tokio::time::sleep(pause).await;
            pause = ASK_PAUSE_MAX.min(pause * 2);
        }
    }
}

/// The exit code of a command; `None` while it is running.
fn end(seen: &ExecInspectResponse) -> Option<i32> {
    let code = seen.exit_code.filter(|_| seen.running == Some(false))?;
    Some(i32::try_from(code).unwrap_or(super::UNKNOWN_EXIT_CODE))
}

/// The process of a command.
fn pid(seen: &ExecInspectResponse) -> Option<Pid> {
    Pid::from_raw(i32::try_from(seen.pid?).ok()?)
}

#[tonic::async_trait]
impl conversation::Command for Exec {
    async fn resize(&self, size: TerminalSize) -> Result<(), ExecutorError> {
        if !self.has_terminal {
            return Err(ExecutorError::Fatal("it has no terminal".to_owned()));
        }
        let (w, h) = (i32::from(clamped(size.columns)), i32::from(clamped(size.rows)));
        let mut tries = 1;
        loop {
            let options = ResizeExecOptionsBuilder::new().h(h).w(w).build();
            match self.engine.client()?.resize_exec(&self.id, options).await {
                Err(_) if tries < RESIZES_MAX => tokio::time::sleep(RESIZE_PAUSE * tries).await,
                resized => return resized.map_err(|error| self.engine.judge(error)),
            }
            tries += 1;
        }
    }

    async fn signal(&self, signal: Signal) -> Result<(), ExecutorError> {
        let pid = self.known(|seen| end(seen).map(|_| None).or_else(|| pid(seen).map(Some))).await?;
        // A command that has exited needs no signal.
        pid.map_or(Ok(()), |pid| signal_in(&self.container, pid, signal).map_err(ExecutorError::Fatal))
    }

    async fn exit_code(&self) -> Result<i32, ExecutorError> {
        self.known(end).await
    }

    async fn hang_up(&self) {
        let ends = async {
            self.signal(Signal::HUP).await?;
            if let Ok(ended) = tokio::time::timeout(HANG_UP_GRACE, self.exit_code()).await {
                return ended.map(drop);
            }
            self.signal(Signal::KILL).await
        };
        if let Err(error) = ends.await {
            let container = &self.container;
            tracing::warn!(container, %error, "a command in a container keeps running after its client disconnected");
        }
    }
}

/// Signals a process of a container. The engine has no call for this, so it works only if the container's processes are visible
/// on this machine.
fn signal_in(container: &str, pid: Pid, signal: Signal) -> Result<(), String> {
    let fail = |why: std::io::Error| format!("cannot signal the command: {why}");
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(fail(error.into())),
    };
    // The handle refers to the current owner of the pid; if that is in the container, it stays valid for it.
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).map_err(fail)?;
    if !groups.contains(container) {
        return Err("cannot signal the command: its process is not found on this machine".to_owned());
    }
    match pidfd_send_signal(&handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(fail(error.into())),
    }
}
