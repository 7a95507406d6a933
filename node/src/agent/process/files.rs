//! What is kept of a task on disk, in a directory of its own: enough for a later agent to find the process and to learn
//! its exit code.
//!
//! | file | written by | when |
//! |---|---|---|
//! | `task.json` | agent | prepared |
//! | `lock` | supervisor | held while it lives, so that no two run one task |
//! | `started.json` | supervisor | the command runs |
//! | `ended.json` | supervisor | it has ended |
//! | `beside/<pid>` | agent | a command of an operator runs beside it |
//! | `stopped` | agent | a shutdown was asked for: nothing starts any more |
//! | `output`, `output.1` | supervisor | what the command printed (`output.rs`), the newest and the part before |
//! | `supervisor.log` | supervisor | what went wrong with itself |
//!
//! Files appear whole, by a rename. They are not synced: after a power cut there is no process to know about.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use events::{ClusterId, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::identity::Identity;

/// Where the commands beside a task are noted.
const BESIDE: &str = "beside";

fn beside(command: &Identity) -> String {
    format!("{BESIDE}/{}", command.pid)
}

/// The directory of one task.
#[derive(Debug, Clone)]
pub(super) struct TaskFiles {
    dir: PathBuf,
}

/// The task itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// The cluster it belongs to.
    pub(super) cluster: ClusterId,
    /// The node it was made on.
    pub(super) node: NodeId,
    /// Its name.
    pub(super) name: String,
    /// The image it would be made from on an engine.
    pub(super) image: String,
}

/// A command that runs or ran.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Started {
    /// The process that waits for the command.
    pub(super) supervisor: Identity,
    /// The command, which leads its process group.
    pub(super) command: Identity,
    /// What could not be applied, in sentences.
    pub(super) warnings: Vec<String>,
    /// Directories of the control groups made for it.
    pub(super) cgroups: Vec<PathBuf>,
}

/// A command that has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    /// Its exit code; 128 and the signal's number for one that was killed.
    pub(super) exit_code: i32,
    /// Whether the kernel killed it for want of memory.
    pub(super) oom_killed: bool,
}

impl TaskFiles {
    /// The files in a directory, which need not exist.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the command's output goes.
    pub(super) fn output(&self) -> PathBuf {
        self.dir.join("output")
    }

    /// Makes the directory, for us alone, and the task's record, unless they are there.
    pub(super) fn create(&self, record: &Record) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        if self.record()?.is_none() { self.write("task.json", record) } else { Ok(()) }
    }

    /// The task's record, if it was prepared.
    pub(super) fn record(&self) -> io::Result<Option<Record>> {
        self.read("task.json")
    }

    /// The command, if it was started.
    pub(super) fn started(&self) -> io::Result<Option<Started>> {
        self.read("started.json")
    }

    /// The end, if it came.
    pub(super) fn ended(&self) -> io::Result<Option<Ended>> {
        self.read("ended.json")
    }

    /// Records that the command runs.
    pub(super) fn write_started(&self, started: &Started) -> io::Result<()> {
        self.write("started.json", started)
    }

    /// Records that the command has ended.
    pub(super) fn write_ended(&self, ended: &Ended) -> io::Result<()> {
        self.write("ended.json", ended)
    }

    /// Records that a command runs beside it.
    pub(super) fn write_beside(&self, command: &Identity) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.dir.join(BESIDE))?;
        self.write(&beside(command), command)
    }

    /// The commands that run beside it, or ran.
    pub(super) fn beside(&self) -> io::Result<Vec<Identity>> {
        let entries = match fs::read_dir(self.dir.join(BESIDE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut commands = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            // What is not whole has another ending, and is of an agent that ended while it wrote it.
            if name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
                commands.extend(self.read(&format!("{BESIDE}/{}", name.display()))?);
            }
        }
        Ok(commands)
    }

    /// Forgets a command beside it, which has ended.
    pub(super) fn forget_beside(&self, command: &Identity) -> io::Result<()> {
        match fs::remove_file(self.dir.join(beside(command))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Asks that nothing be started here any more.
    pub(super) fn mark_stopped(&self) -> io::Result<()> {
        File::create(self.dir.join("stopped")).map(drop)
    }

    /// Whether a shutdown was asked for.
    pub(super) fn is_stopped(&self) -> bool {
        self.dir.join("stopped").exists()
    }

    /// The lock that a supervisor holds while it lives; `None` if another does.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = File::create(self.dir.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The file for what goes wrong with the supervisor itself.
    pub(super) fn supervisor_log(&self) -> io::Result<File> {
        File::options().create(true).append(true).open(self.dir.join("supervisor.log"))
    }

    /// Deletes everything. Nothing there is success.
    pub(super) fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let draft = self.dir.join(format!("{name}.new"));
        fs::write(&draft, serde_json::to_vec(value)?)?;
        fs::rename(draft, self.dir.join(name))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.dir.join(name)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
