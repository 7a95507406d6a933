//! The files of a task on disk, in a directory of its own: enough for a restarted agent to find the process and its exit code.
//!
//! | file | written by | when |
//! |---|---|---|
//! | `task.json` | agent | prepared |
//! | `lock` | supervisor | held while it lives, so that no two run one task |
//! | `started.json` | supervisor | the command runs |
//! | `ended.json` | supervisor | it has ended |
//!  `ended.json` | supervisor | it has exited |
//! | `stopped` | agent | a shutdown was asked for: nothing is started |
//!  `stopped` | agent | a shutdown was requested: nothing is started from now on |
//! | `supervisor.log` | supervisor | what went wrong with itself |
//!  `supervisor.log` | supervisor | its own errors |
//! Files appear complete, by renaming. They are not synced: after a power failure there is no process left to track.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use events::{ClusterId, NodeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::identity::Identity;

/// The directory of the records of commands beside the task.
const BESIDE: &str = "beside";

fn beside(command: &Identity) -> String {
    format!("{BESIDE}/{}", command.pid)
}

/// The directory of one task.
#[derive(Debug, Clone)]
pub(super) struct TaskFiles {
    dir: PathBuf,
}

/// The record of the task.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its cluster.
    pub(super) cluster: ClusterId,
    /// The node it was created on.
    pub(super) node: NodeId,
    /// Its name.
    pub(super) name: String,
    /// The image that a container engine would use.
    pub(super) image: String,
}

/// A command that was started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Started {
    /// The process that waits for the command.
    pub(super) supervisor: Identity,
    /// The command, which leads its process group.
    pub(super) command: Identity,
    /// Messages about settings that could not be applied.
    pub(super) warnings: Vec<String>,
    /// The directories of its control groups.
    pub(super) cgroups: Vec<PathBuf>,
}

/// A command that has exited.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ExitRecord {
    /// Its exit code; 128 plus the signal number if a signal killed it.
    pub(super) exit_code: i32,
    /// Whether the kernel's OOM killer killed it.
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

    /// The file of the command's output.
    pub(super) fn output(&self) -> PathBuf {
        self.dir.join("output")
    }

    /// Creates the directory, readable only by this user, and the task's record, unless they exist.
    pub(super) fn create(&self, record: &Record) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        if self.record()?.is_none() { self.write("task.json", record) } else { Ok(()) }
    }

    /// The record of the task, if it was prepared.
    pub(super) fn record(&self) -> io::Result<Option<Record>> {
        self.read("task.json")
    }

    /// The command, if it was started.
    pub(super) fn started(&self) -> io::Result<Option<Started>> {
        self.read("started.json")
    }

    /// The exit of the command, if it has exited.
    pub(super) fn ended(&self) -> io::Result<Option<ExitRecord>> {
        self.read("ended.json")
    }

    /// Records that the command was started.
    pub(super) fn write_started(&self, started: &Started) -> io::Result<()> {
        self.write("started.json", started)
    }

    /// Records that the command has exited.
    pub(super) fn write_exit(&self, ended: &ExitRecord) -> io::Result<()> {
        self.write("ended.json", ended)
    }

    /// Records a command beside the task.
    pub(super) fn write_beside(&self, command: &Identity) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.dir.join(BESIDE))?;
        self.write(&beside(command), command)
    }

    /// The recorded commands beside the task; some may have exited.
    pub(super) fn beside(&self) -> io::Result<Vec<Identity>> {
        let entries = match fs::read_dir(self.dir.join(BESIDE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut commands = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            // An unfinished file has another extension: the agent stopped while writing it.
            if name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit())) {
                commands.extend(self.read(&format!("{BESIDE}/{}", name.display()))?);
            }
        }
        Ok(commands)
    }

    /// Removes the record of a command beside the task, which has exited.
    pub(super) fn forget_beside(&self, command: &Identity) -> io::Result<()> {
        match fs::remove_file(self.dir.join(beside(command))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Marks the task as stopped: nothing is started here from now on.
    pub(super) fn mark_stopped(&self) -> io::Result<()> {
        File::create(self.dir.join("stopped")).map(drop)
    }

    /// Whether the task was marked as stopped.
    pub(super) fn is_stopped(&self) -> bool {
        self.dir.join("stopped").exists()
    }

    /// The lock that a supervisor holds while it lives; `None` if another one holds it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let file = File::create(self.dir.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The file for the supervisor's own errors.
    pub(super) fn supervisor_log(&self) -> io::Result<File> {
        File::options().create(true).append(true).open(self.dir.join("supervisor.log"))
    }

    /// Deletes all files. Succeeds if there are none.
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
