//! Commands executed beside a task: as its user, in its directory, with its environment and under its limits.
//!
//! As for the task itself, this program runs first: a third stage enters the task's control groups, drops its privileges, and
//! executes the command. Its order is passed in an environment variable that only it sees.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::Mutex;
use wire::v1::task_output::Output;
use wire::v1::{ExecSpec, TerminalSize};

use super::files::{Started, TaskFiles};
use super::identity::Identity;
use super::order::Order;
use super::{ProcessExecutor, UNKNOWN_EXIT_CODE, broken, ulimits};
use crate::agent::conversation::{self, CommandStreams};
use crate::agent::executor::{ExecutorError, Inputs, Outputs, Workload};

/// The variables with the order of the third stage, in pieces, are called this and their number.
const ORDER: &str = "SWARMLOG_SUPERVISE_EXEC";
/// Bytes of one piece: with its name less than the 128 KiB that Linux allows a variable (`MAX_ARG_STRLEN`). The environment of a
/// task may be larger.
const PIECE_BYTES: usize = 96 * 1024;
/// What a terminal is taken for where the task does not say.
const TERM: &str = "xterm";
/// How long a command may continue after its client disconnected.
const HANG_UP_GRACE: Duration = Duration::from_secs(5);
/// The exit codes of a shell for a command that is not found, and for one that cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;

/// The order of the third stage.
#[derive(Serialize, Deserialize)]
struct Entry {
    order: Order,
    cgroups: Vec<PathBuf>,
    has_terminal: bool,
}

/// A command beside a task.
struct Exec {
    child: Mutex<Child>,
    identity: Identity,
    terminal: Option<OwnedFd>,
}

impl ProcessExecutor {
    /// Executes a command beside a task.
    pub(super) async fn exec(
        &self,
        workload: &Workload,
        task: Started,
        spec: ExecSpec,
        inputs: Inputs,
    ) -> Result<Outputs, ExecutorError> {
        let entry = Entry {
            order: self.beside(workload, &spec)?,
            cgroups: task.cgroups,
            has_terminal: spec.terminal.is_some() && !spec.detach,
        };
        let files = self.files(workload.task);
        let mut command = (self.supervisor)(files.dir());
        let order = serde_json::to_vec(&entry).map_err(|error| ExecutorError::Fatal(error.to_string()))?;
        for (number, piece) in order.chunks(PIECE_BYTES).enumerate() {
            command.env(variable(number), OsStr::from_bytes(piece));
        }
        if spec.detach {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            // Spawned through tokio, which also reaps children that are never waited for.
            let child = spawn(command)?;
            // A command that has already exited needs no record.
            if let Some(identity) = child.id().and_then(Identity::of) {
                files.write_beside(&identity).map_err(broken)?;
                tokio::spawn(end_with(task.command, identity, files));
            }
            return Ok(stream::once(async { Ok(Output::ExitCode(0)) }).boxed());
        }
        let (mut child, ends, terminal) = match spec.terminal {
            Some(size) => in_terminal(command, size, spec.stdin)?,
            None => with_pipes(command, spec.stdin)?,
        };
        let Some(identity) = child.id().and_then(Identity::of) else {
            // Its pid is still its own, because it has not been waited for.
            child.start_kill().map_err(broken)?;
            return Err(ExecutorError::Temporary("the command cannot be found in /proc".to_owned()));
        };
        files.write_beside(&identity).map_err(broken)?;
        tokio::spawn(end_with(task.command, identity.clone(), files));
        let exec = Exec { child: Mutex::new(child), identity, terminal };
        Ok(conversation::begin(ends, exec, inputs))
    }

    /// The order of a command beside a task.
    fn beside(&self, workload: &Workload, spec: &ExecSpec) -> Result<Order, ExecutorError> {
        let mut order = self.order(workload)?;
        order.argv.clone_from(&spec.argv);
        if spec.terminal.is_some() {
            order.env.entry("TERM".to_owned()).or_insert_with(|| TERM.to_owned());
        }
        let variables = spec.env.iter().filter_map(|variable| variable.split_once('='));
        order.env.extend(variables.map(|(key, value)| (key.to_owned(), value.to_owned())));
        if let Some(dir) = &spec.dir {
            order.dir = dir.into();
        }
        if let Some(user) = &spec.user {
            order.user = self.users().resolve(user).map_err(ExecutorError::Fatal)?;
        }
        Ok(order)
    }
}

/// Kills a command when its task ends. After a restart of the agent, [`end_all`] does this when the task ends.
async fn end_with(task: Identity, command: Identity, files: TaskFiles) {
    tokio::select! {
        _ = task.ended() => {
            if let Err(error) = command.signal_group(Signal::KILL) {
                tracing::warn!(%error, "a command beside a task keeps running after the task ended");
            }
        }
        _ = command.ended() => {
            // A record whose pid was reused identifies no process.
            if let Err(error) = files.forget_beside(&command) {
                tracing::debug!(%error, "the record of a command beside a task cannot be removed");
            }
        }
    }
}

/// Kills all commands beside a task that has ended.
pub(super) fn end_all(files: &TaskFiles) -> io::Result<()> {
    files.beside()?.iter().try_for_each(|command| command.signal_group(Signal::KILL))
}

fn spawn(command: Command) -> Result<Child, ExecutorError> {
    let spawned = tokio::process::Command::from(command).spawn();
    spawned.map_err(|error| ExecutorError::Fatal(format!("cannot start the command: {error}")))
}

type Spawned = (Child, CommandStreams, Option<OwnedFd>);

fn with_pipes(mut command: Command, takes_input: bool) -> Result<Spawned, ExecutorError> {
    command.stdin(if takes_input { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command)?;
    let out = child.stdout.take().map(|out| conversation::pieces(out, Output::Stdout));
    let err = child.stderr.take().map(|err| conversation::pieces(err, Output::Stderr));
    let output = stream::select_all(out.into_iter().chain(err)).boxed();
    let stdin = child.stdin.take().map(|stdin| Box::new(stdin) as Box<_>);
    Ok((child, CommandStreams { stdin, output }, None))
}

fn in_terminal(mut command: Command, size: TerminalSize, takes_input: bool) -> Result<Spawned, ExecutorError> {
    let terminal = || {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = openpt(flags)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        tcsetwinsize(&ours, winsize(size))?;
        let theirs = ioctl_tiocgptpeer(&ours, flags)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let copies = [ours.try_clone()?, ours.try_clone()?].map(File::from);
        io::Result::Ok((ours, theirs, copies))
    };
    let (ours, theirs, [reader, writer]) = terminal().map_err(broken)?;
    let copy = || theirs.try_clone().map_err(broken);
    command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
    let child = spawn(command)?;
    // The terminal can be polled, read and written like a pipe.
    let reader = pipe::Receiver::from_file_unchecked(reader).map_err(broken)?;
    let writer = pipe::Sender::from_file_unchecked(writer).map_err(broken)?;
    let output = conversation::pieces(reader, Output::Stdout).take_while(|piece| {
        // The error of a terminal whose other end is closed everywhere.
        let is_closed =
            matches!(piece, Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()));
        std::future::ready(!is_closed)
    });
    let stdin = takes_input.then(|| Box::new(writer) as Box<_>);
    Ok((child, CommandStreams { stdin, output: output.boxed() }, Some(ours)))
}

fn winsize(size: TerminalSize) -> Winsize {
    let clamped = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
    Winsize { ws_row: clamped(size.rows), ws_col: clamped(size.columns), ws_xpixel: 0, ws_ypixel: 0 }
}

#[tonic::async_trait]
impl conversation::Command for Exec {
    async fn resize(&self, size: TerminalSize) -> Result<(), ExecutorError> {
        let terminal = self.terminal.as_ref().ok_or_else(|| ExecutorError::Fatal("it has no terminal".to_owned()))?;
        tcsetwinsize(terminal, winsize(size)).map_err(|error| broken(error.into()))
    }

    async fn signal(&self, signal: Signal) -> Result<(), ExecutorError> {
        self.identity.signal_group(signal).map_err(broken)
    }

    async fn exit_code(&self) -> Result<i32, ExecutorError> {
        let status = self.child.lock().await.wait().await.map_err(broken)?;
        // The shell's convention.
        Ok(status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(UNKNOWN_EXIT_CODE))
    }

    async fn hang_up(&self) {
        let ends = async {
            self.signal(Signal::HUP).await?;
            if let Ok(ended) = tokio::time::timeout(HANG_UP_GRACE, self.exit_code()).await {
                return ended.map(drop);
            }
            self.signal(Signal::KILL).await?;
            self.exit_code().await.map(drop)
        };
        if let Err(error) = ends.await {
            tracing::warn!(%error, "a command beside a task keeps running after its client disconnected");
        }
    }
}

/// The third stage: executes the command in its environment variable; returns `None` if there is no such variable. Errors are
/// reported as by a shell.
pub(super) fn become_command() -> Option<i32> {
    let pieces = (0..).map_while(|number| std::env::var_os(variable(number)));
    let order = pieces.flat_map(OsStringExt::into_vec).collect::<Vec<u8>>();
    if order.is_empty() {
        return None;
    }
    Some(match serde_json::from_slice(&order).map_err(io::Error::from).and_then(enter) {
        Ok((program, error)) => {
            eprintln!("exec: \"{program}\": {error}");
            if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE }
        }
        Err(error) => {
            eprintln!("cannot run a command beside the task: {error}");
            NOT_RUNNABLE
        }
    })
}

/// The name of the variable with this piece of the order.
fn variable(number: usize) -> String {
    format!("{ORDER}_{number}")
}

/// Enters the place of the task, and becomes the command; why it did not.
fn enter(entry: Entry) -> io::Result<(String, io::Error)> {
    let Entry { order, cgroups, has_terminal } = entry;
    // Its own session: signals to the agent do not reach the command, and the terminal is its own.
    rustix::process::setsid()?;
    if has_terminal {
        rustix::process::ioctl_tiocsctty(io::stdin())?;
    }
    let own = std::process::id();
    cgroups.iter().try_for_each(|dir| std::fs::write(dir.join("cgroup.procs"), own.to_string()))?;
    for limit in &order.ulimits {
        // The status of the task reports limits that this machine does not allow.
        let _ = ulimits::set(own, limit);
    }
    let [program, args @ ..] = order.argv.as_slice() else {
        return Err(io::Error::other("an order without a command"));
    };
    if !order.dir.is_dir() {
        return Err(io::Error::other(format!("there is no directory {}", order.dir.display())));
    }
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&order.env).current_dir(&order.dir);
    if let Some(user) = order.user {
        command.uid(user.uid).gid(user.gid);
    }
    rustix::thread::set_no_new_privs(true)?;
    let error = command.exec();
    Ok((program.clone(), error))
}
