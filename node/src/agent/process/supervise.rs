//! The supervisor: a separate process for each task, which starts the command, waits for it and records its exit. So a command
//! outlives the agent, and a restarted agent still gets its exit code.
//!
//! It runs in two stages of the same program. The first leads its own session, waits and records; it starts the second, which
//! waits until its limits are set, then executes the command. None of this needs code between fork and exec.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use wire::v1::LogStream;

use super::cgroup::{self, Cgroup};
use super::channel;
use super::exec;
use super::files::{ExitRecord, Started, TaskFiles};
use super::identity::Identity;
use super::order::Order;
use super::output::Output;
use super::ulimits;
use crate::security::hardening;

/// Set for the second stage.
const STAGE: &str = "SWARMLOG_SUPERVISE_COMMAND";

/// Time to read the last output of a command. A process that left its group may keep the pipe open.
const DRAIN: Duration = Duration::from_secs(1);

/// Supervises the task whose files are in `dir`; the order arrives on standard input. Must be called first in a process that
/// does nothing else. Errors are reported to the agent, or to standard error.
pub fn supervise(dir: &Path) -> ExitCode {
    if let Some(code) = exec::become_command() {
        return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
    }
    let done = if std::env::var_os(STAGE).is_some() { become_command() } else { start_and_wait(dir) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supervisor of {}: {error}", dir.display());
            ExitCode::FAILURE
        }
    }
}

/// A command running under this supervisor.
struct Running {
    child: Child,
    /// Its senders are dropped once all output was stored.
    drained: mpsc::Receiver<()>,
    /// Messages about settings that could not be applied.
    warnings: Vec<String>,
}

/// The first stage.
fn start_and_wait(dir: &Path) -> io::Result<()> {
    // Leaves the agent's session, so that signals of its terminal do not arrive here. Fails harmlessly if it already leads a
    // session.
    let _ = rustix::process::setsid();
    // The order contains the task's secrets. The second stage is not hardened, because this one writes to its /proc files.
    for failed in hardening::harden(false) {
        eprintln!("{failed}");
    }
    let files = TaskFiles::new(dir.to_owned());
    let mut agent = channel::from_stdin()?;
    let order = channel::receive(&mut agent)?;
    // Held until this process exits, unless the start fails.
    let lock = match files.lock() {
        Ok(Some(lock)) => lock,
        Ok(None) => return Ok(()),
        Err(error) => return channel::reply(&mut agent, &Err(format!("cannot lock {}: {error}", dir.display()))),
    };
    if files.is_stopped() || files.started()?.is_some() {
        return Ok(());
    }
    let (cgroup, warnings) = Cgroup::create(Path::new(cgroup::ROOT), &order.name, &order.limits);
    match start(&files, &order, &cgroup, warnings) {
        Ok(running) => {
            // If the agent is gone, a later one reads the files.
            if let Err(error) = channel::reply(&mut agent, &Ok(running.warnings.clone())) {
                eprintln!("the agent did not wait for the answer: {error}");
            }
            wait(&files, running, &cgroup)?;
            cgroup::remove(cgroup.dirs())
        }
        Err(words) => {
            // All traces are removed before the response, because the agent may retry immediately.
            cgroup::remove(cgroup.dirs())?;
            drop(lock);
            channel::reply(&mut agent, &Err(words))
        }
    }
}

/// Starts the command and records it. A command that cannot be recorded is killed, because no agent could find it.
fn start(files: &TaskFiles, order: &Order, cgroup: &Cgroup, mut warnings: Vec<String>) -> Result<Running, String> {
    let pipes = || Ok((io::pipe()?, io::pipe()?, Output::create(&files.output())?));
    let ((out, to_out), (err, to_err), output) = pipes().map_err(|error: io::Error| error.to_string())?;
    let (command, child) = spawn(to_out, to_err).map_err(|error| format!("cannot start the command: {error}"))?;
    warnings.extend(limit(child.id(), order, cgroup));
    match release(command, &child, order).and_then(|identity| record(files, identity, &warnings, cgroup)) {
        Ok(()) => Ok(Running { child, drained: drain(out, err, output), warnings }),
        Err(words) => match kill_group(&child).and_then(|()| reap(child)) {
            Ok(_) => Err(words),
            Err(error) => Err(format!("{words}; and the command cannot be killed: {error}")),
        },
    }
}

/// Lets the second stage execute the command.
fn release(mut command: UnixStream, child: &Child, order: &Order) -> Result<Identity, String> {
    let identity = Identity::of(child.id()).ok_or("the command cannot be found in /proc")?;
    let talk = channel::send(&mut command, order).and_then(|()| channel::answer(&mut command));
    talk.map_err(|error| format!("cannot talk to the command: {error}"))??;
    Ok(identity)
}

fn record(files: &TaskFiles, command: Identity, warnings: &[String], cgroup: &Cgroup) -> Result<(), String> {
    let supervisor = Identity::of(std::process::id()).ok_or("the supervisor cannot be found in /proc")?;
    let started = Started { supervisor, command, warnings: warnings.to_vec(), cgroups: cgroup.dirs().to_vec() };
    files.write_started(&started).map_err(|error| format!("cannot record the task: {error}"))
}

/// Stores the command's output, with a thread for each stream.
fn drain(out: io::PipeReader, err: io::PipeReader, output: Output) -> mpsc::Receiver<()> {
    let (done, drained) = mpsc::channel();
    let output = Arc::new(output);
    for (stream, reader) in [(LogStream::Stdout, out), (LogStream::Stderr, err)] {
        let (output, done) = (Arc::clone(&output), done.clone());
        std::thread::spawn(move || {
            if let Err(error) = output.keep(stream, reader) {
                eprintln!("cannot keep the command's output: {error}");
            }
            drop(done);
        });
    }
    drained
}

/// Starts the second stage: this program again, with the same arguments.
fn spawn(out: io::PipeWriter, err: io::PipeWriter) -> io::Result<(UnixStream, Child)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.args(std::env::args_os().skip(1)).env(STAGE, "1").process_group(0);
    command.stdin(OwnedFd::from(theirs)).stdout(out).stderr(err);
    Ok((ours, command.spawn()?))
}

/// Limits the second stage while it waits; returns what could not be applied.
fn limit(pid: u32, order: &Order, cgroup: &Cgroup) -> Vec<String> {
    let mut warnings: Vec<String> = order.ulimits.iter().filter_map(|limit| ulimits::set(pid, limit).err()).collect();
    if let Err(error) = cgroup.add(pid) {
        warnings.push(format!("limits not applied: cannot enter the control group: {error}"));
    }
    if order.oom_score_adj != 0 {
        let written = std::fs::write(format!("/proc/{pid}/oom_score_adj"), order.oom_score_adj.to_string());
        warnings.extend(written.err().map(|error| format!("oom_score_adj not applied: {error}")));
    }
    warnings
}

/// Waits for the command, kills what is left of its group and records the exit.
fn wait(files: &TaskFiles, running: Running, cgroup: &Cgroup) -> io::Result<()> {
    let status = reap(running.child)?;
    if running.drained.recv_timeout(DRAIN) == Err(mpsc::RecvTimeoutError::Timeout) {
        eprintln!("the command's output is held open by a process that left its group");
    }
    // The shell's convention.
    let exit_code = status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(255);
    files.write_exit(&ExitRecord { exit_code, oom_killed: cgroup.is_oom_killed() })
}

/// Waits for a child and kills its group. The child stays a zombie until then, so the id of its group cannot be reused.
fn reap(mut child: Child) -> io::Result<ExitStatus> {
    let pid = raw_pid(&child)?;
    while let Err(error) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    kill_group(&child)?;
    child.wait()
}

/// Kills the group that a child leads. Succeeds if it is empty.
fn kill_group(child: &Child) -> io::Result<()> {
    match kill_process_group(raw_pid(child)?, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn raw_pid(child: &Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::other("the kernel gave a process no id"))
}

/// The second stage: waits for the order, which arrives after the limits are set, and executes the command. Returns only on
/// failure.
fn become_command() -> io::Result<()> {
    let mut supervisor = channel::from_stdin()?;
    let order = channel::receive(&mut supervisor)?;
    let [program, args @ ..] = order.argv.as_slice() else {
        return Err(io::Error::other("an order without a command"));
    };
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&order.env).current_dir(&order.dir).stdin(Stdio::null());
    if let Some(user) = order.user {
        command.uid(user.uid).gid(user.gid);
    }
    // Inherited across exec and by all children: setuid programs and file capabilities grant no privileges.
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        return channel::reply(&mut supervisor, &Err(format!("cannot give up new privileges: {error}")));
    }
    let error = command.exec();
    let failure = if order.dir.is_dir() {
        format!("exec: \"{program}\": {error}")
    } else {
        format!("working directory {}: {error}", order.dir.display())
    };
    channel::reply(&mut supervisor, &Err(failure))
}
