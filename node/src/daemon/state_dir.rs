//! A node's state directory: made, checked and locked before anything else happens.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::daemon::failure::{Failure, code};
use crate::security::KeyLock;

/// The file in which a worker keeps the address of its manager.
pub const MANAGER_ADDR: &str = "manager.addr";

/// The file by which a process has the directory for itself.
pub(super) const LOCK: &str = "lock";

/// Where a manager's log is in a state directory.
pub fn log(state_dir: &Path) -> PathBuf {
    state_dir.join("raft")
}

/// Where `swarmd reseed` puts the log that was there.
pub(super) const DAMAGED_LOG: &str = "raft.damaged";
/// What directories are called in which the logs of a manager are that its cluster went on without: each is like a state directory.
pub(super) const FENCED_LOG: &str = "raft.fenced";

/// The logs in a state directory that were set aside: nothing there uses them any more.
///
/// # Errors
/// When the directory cannot be read.
pub fn logs_set_aside(state_dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let is_aside = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name == DAMAGED_LOG || name.starts_with(FENCED_LOG)
    };
    let entries = std::fs::read_dir(state_dir)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<Result<_, _>>()?;
    paths.retain(is_aside);
    paths.sort_unstable();
    Ok(paths)
}

/// Puts a file with this content in the place of another: written aside and renamed, so that after a crash there is the old
/// one or the new one.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let aside = path.with_added_extension("new");
    let mut file = File::create(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&aside, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// A state directory that belongs to this process until it ends.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
    /// What its keys are wrapped with.
    keys: Arc<KeyLock>,
}

impl StateDir {
    /// Makes the directory if need be and locks it.
    ///
    /// # Errors
    /// When it cannot be made or written, or another `swarmd` has it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_unused(path, "stop it first, or give this one a directory of its own with --state-dir")
    }

    /// The same of one that is there: nothing is made where a path was mistyped.
    ///
    /// # Errors
    /// As [`open`](Self::open); or when there is no such directory.
    pub fn open_existing(path: &Path) -> Result<Self, Failure> {
        if path.is_dir() {
            return Self::open(path);
        }
        let sentence = format!("there is no state directory {}", path.display());
        Err(Failure::new(sentence, "give the state directory of this node with --state-dir").with_code(code::USAGE))
    }

    /// The same, with what to do where another `swarmd` has it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_unused(path: &Path, otherwise: &str) -> Result<Self, Failure> {
        let unusable = |error: std::io::Error| unusable(path, &error);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let file = path.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
        let lock = lock.map_err(|error| self::unusable(&file, &error))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock, keys: Arc::default() }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let sentence = format!("another swarmd is running on the state directory {}", path.display());
                Err(Failure::new(sentence, otherwise))
            }
            Err(error) => Err(unusable(error.into())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What its keys are wrapped with.
    pub fn keys(&self) -> &Arc<KeyLock> {
        &self.keys
    }

    /// The directory of the log, made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_log(&self) -> Result<PathBuf, Failure> {
        let path = log(&self.path);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| unusable(&path, &error))?;
        Ok(path)
    }
}

/// The refusal of a directory, or of something in it, that cannot be used at all.
pub(crate) fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    let sentence = format!("the state directory cannot be used: {}: {error}", path.display());
    Failure::new(sentence, "choose a directory that this user can write, with --state-dir")
}
