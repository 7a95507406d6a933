//! A node's state directory: created, checked and locked before anything else.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock};

use crate::daemon::failure::{Failure, code};
use crate::security::KeyLock;

/// The file in which a worker stores the address of its manager.
pub const MANAGER_ADDR: &str = "manager.addr";

/// The lock file that gives a process exclusive use of the directory.
pub(super) const LOCK: &str = "lock";

/// The path of a manager's log in a state directory.
pub fn log(state_dir: &Path) -> PathBuf {
    state_dir.join("raft")
}

/// The directory to which `swarmd reseed` moves the existing log.
pub(super) const DAMAGED_LOG: &str = "raft.damaged";
/// Prefix of the directories with logs that the cluster continued without; each has the layout of a state directory.
pub(super) const FENCED_LOG: &str = "raft.fenced";

/// The logs in a state directory that were set aside, and are no longer used.
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

/// Replaces a file with this content: written to a temporary file and renamed, so that after a crash either the old or the new
/// one exists.
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

/// A state directory, locked by this process until it exits.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
    /// Wraps its keys.
    keys: Arc<KeyLock>,
}

impl StateDir {
    /// Creates the directory if necessary, and locks it.
    ///
    /// # Errors
    /// When it cannot be created or written, or another `swarmd` uses it.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_unused(path, "stop it first, or give this one a directory of its own with --state-dir")
    }

    /// Opens an existing directory: nothing is created if the path was mistyped.
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

    /// Like [`open`](Self::open), with this hint if another `swarmd` uses it.
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

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock that wraps its keys.
    pub fn keys(&self) -> &Arc<KeyLock> {
        &self.keys
    }

    /// The directory of the log, created if necessary.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn make_log(&self) -> Result<PathBuf, Failure> {
        let path = log(&self.path);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| unusable(&path, &error))?;
        Ok(path)
    }
}

/// The failure for a directory, or something in it, that is unusable.
pub(crate) fn unusable(path: &Path, error: &std::io::Error) -> Failure {
    let sentence = format!("the state directory cannot be used: {}: {error}", path.display());
    Failure::new(sentence, "choose a directory that this user can write, with --state-dir")
}
