//! Files of secrets, and of configs that contain a secret: on a tmpfs only, in a directory per task, from shortly before the
//! task starts until it has ended. A container mounts each file; a plain process gets the directory.
//!
//! The files outlive the agent, as tasks do. Pages of a tmpfs may be swapped out: a node with swap on disk needs encrypted
//! swap.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use events::spec::FileReference;
use events::{Mount, MountType, TaskId};
use sha2::{Digest, Sha256};

use super::executor::{ExecutorError, MemoryFile, Workload};
use super::placed_file;
use super::policy::real_path;

/// Mode of the directories above those of tasks: only the agent may list them, everyone may traverse them.
const PASSAGE_MODE: u32 = 0o711;
/// Only the owner may enter: the agent and the engine, or the user that the task runs as.
const TASK_MODE: u32 = 0o700;
/// Within a task's directory, the modes of the files decide who may read them.
const INNER_MODE: u32 = 0o755;
/// The kernel's magic numbers of in-memory file systems: tmpfs and ramfs.
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// Bytes of the digest that names an agent's directory.
const NAME_BYTES: usize = 8;

/// The location of the secret files of an agent's tasks.
#[derive(Debug, Clone)]
pub struct SecretFiles {
    /// The directory of all agents of this user; `None` if no in-memory file system was found.
    shared: Option<PathBuf>,
    /// The name of this agent's directory in it.
    name: String,
}

impl SecretFiles {
    /// The location for the agent with this directory, which distinguishes it from other agents on the machine.
    pub fn of(own: &Path) -> Self {
        let user = rustix::process::geteuid();
        let places = [user.is_root().then_some("/run"), Some("/dev/shm")];
        let found = places.into_iter().flatten().map(Path::new).find(|place| is_in_memory(place));
        let own = std::path::absolute(own).unwrap_or_else(|_| own.to_owned());
        let digest = Sha256::digest(own.as_os_str().as_encoded_bytes());
        Self {
            shared: found.map(|place| place.join(format!("swarmlog-secrets-{}", user.as_raw()))),
            name: digest[..NAME_BYTES].iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }

    /// The directory of a task's secrets.
    pub fn directory(&self, task: TaskId) -> Option<PathBuf> {
        Some(self.shared.as_ref()?.join(&self.name).join(task.to_string()))
    }

    /// Writes the missing files, each to its path below the task's directory. Files belong to the owner of the spec, the
    /// directory to `owner` or to the current user.
    ///
    /// # Errors
    /// Temporary when the data of one has not been received, fatal when one cannot be written.
    pub(super) fn place(
        &self,
        workload: &Workload,
        owner: Option<(u32, u32)>,
        path: impl Fn(usize, &dyn FileReference) -> PathBuf,
    ) -> Result<(), ExecutorError> {
        let files = workload.memory_files();
        if files.is_empty() {
            return Ok(());
        }
        let fatal = |why: String| ExecutorError::Fatal(format!("the secrets cannot be placed: {why}"));
        let directory = self.directory(workload.task).ok_or_else(|| {
            fatal(
                "neither /run nor /dev/shm is a file system in memory, such as tmpfs, that this agent may use"
                    .to_owned(),
            )
        })?;
        let mut missing = Vec::new();
        for (number, MemoryFile { reference, data }) in files.into_iter().enumerate() {
            let path = directory.join(path(number, reference));
            if !path.try_exists().map_err(|error| fatal(error.to_string()))? {
                let data = data.ok_or_else(|| ExecutorError::Temporary(not_received(reference)))?;
                missing.push((reference, data, path));
            }
        }
        let write = || -> io::Result<()> {
            self.make_directory(&directory, owner)?;
            for (reference, data, path) in &missing {
                make_inner(&directory, path)?;
                placed_file::write(*reference, &data.0, path, &unfinished(&directory))?;
            }
            Ok(())
        };
        if missing.is_empty() {
            Ok(())
        } else {
            write().map_err(|error| fatal(format!("{}: {error}", directory.display())))
        }
    }

    /// The workload with a mount for each of its files, which are named by number in its directory.
    pub(super) fn mounted(&self, workload: &Workload) -> Workload {
        let (container, directory) = (workload.container(), self.directory(workload.task).unwrap_or_default());
        // The directory is the agent's own: if its links cannot be resolved, the engine reports it.
        let directory = real_path(&directory).unwrap_or(directory);
        let mount = |(number, file): (usize, MemoryFile<'_>)| Mount {
            r#type: MountType::Bind.into(),
            source: directory.join(numbered(number, file.reference)).to_string_lossy().into_owned(),
            target: file.reference.path(),
            read_only: true,
            ..Mount::default()
        };
        let files = workload.memory_files().into_iter().enumerate().map(mount);
        workload.clone().with_mounts(container.mounts.iter().cloned().chain(files).collect())
    }

    /// Removes a task's files. Succeeds if there are none.
    ///
    /// # Errors
    /// Temporary when they cannot be removed.
    pub(super) fn remove(&self, task: TaskId) -> Result<(), ExecutorError> {
        let Some(directory) = self.directory(task) else { return Ok(()) };
        let removed = placed_file::ignore_not_found(fs::remove_file(unfinished(&directory)))
            .and_then(|()| placed_file::ignore_not_found(fs::remove_dir_all(&directory)));
        removed.map_err(|error| ExecutorError::Temporary(format!("the task's secrets cannot be removed: {error}")))
    }

    /// The tasks that have files here, including those whose container or process no longer exists.
    ///
    /// # Errors
    /// Temporary when the directory cannot be read.
    pub(super) fn tasks(&self) -> Result<Vec<TaskId>, ExecutorError> {
        let Some(shared) = &self.shared else { return Ok(Vec::new()) };
        let unreadable = |error| ExecutorError::Temporary(format!("the secrets of tasks cannot be listed: {error}"));
        let entries = match fs::read_dir(shared.join(&self.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(unreadable)?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
        Ok(names.map_err(unreadable)?.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Creates a task's directory, and those above it. Existing ones must belong to this user: in a world-writable directory
    /// such as /dev/shm they could belong to someone else.
    fn make_directory(&self, directory: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
        let above: Vec<&Path> = directory.ancestors().skip(1).take(2).collect();
        for passage in above.into_iter().rev() {
            make(passage, PASSAGE_MODE)?;
            let found = fs::symlink_metadata(passage)?;
            if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o022 != 0 {
                let why = format!("{} is not a directory of swarmd's own", passage.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
        }
        make(directory, TASK_MODE)?;
        owner.map_or(Ok(()), |(uid, gid)| chown(directory, Some(uid), Some(gid)))
    }
}

/// Targets in a container can be any path, so its files are named by their number in the spec.
pub(super) fn numbered(number: usize, _: &dyn FileReference) -> PathBuf {
    number.to_string().into()
}

/// The reason why a file cannot be created yet.
pub(super) fn not_received(of: &dyn FileReference) -> String {
    format!("{} {} has not been received from a manager yet", of.noun(), of.name())
}

/// Creates one directory with exactly this mode, or accepts an existing one.
fn make(directory: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(TASK_MODE).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| fs::set_permissions(directory, Permissions::from_mode(mode))),
    }
}

/// Creates the directories between a task's directory and a file.
fn make_inner(directory: &Path, file: &Path) -> io::Result<()> {
    let inner: Vec<&Path> = file.ancestors().skip(1).take_while(|inner| *inner != directory).collect();
    inner.into_iter().rev().try_for_each(|inner| make(inner, INNER_MODE))
}

/// Where a file is written before it is renamed: beside the task's directory, where no target can be.
fn unfinished(directory: &Path) -> PathBuf {
    directory.with_added_extension("unfinished")
}

fn is_in_memory(place: &Path) -> bool {
    rustix::fs::statfs(place).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
}

#[cfg(test)]
mod tests {
    use events::{FileTarget, Id, SecretBytes, SecretId, SecretReference};

    use super::*;
    use crate::agent::executor::tests::workload;

    fn reference(target: &str, mode: u32) -> SecretReference {
        let file = Some(FileTarget { name: target.into(), mode: Some(mode), ..FileTarget::default() });
        SecretReference { secret: Some(SecretId::from_bits(1)), name: "key".into(), file, revision: 2, pinned: false }
    }

    fn named(_: usize, reference: &dyn FileReference) -> PathBuf {
        reference.given_path().into()
    }

    #[test]
    fn files_are_in_memory_until_they_are_removed() {
        let own = tempfile::tempdir().expect("a directory");
        let files = SecretFiles::of(own.path());
        let references = vec![reference("", 0o440), reference("deep/key", 0o400)];
        let mut workload = workload(events::ContainerSpec { secrets: references, ..Default::default() });
        let absent = files.place(&workload, None, named).expect_err("the data has not come");
        assert!(matches!(absent, ExecutorError::Temporary(_)), "{absent}");
        assert_eq!(files.tasks().expect("a list"), []);

        workload.secrets = [(reference("", 0).key(), SecretBytes(b"the-marker".to_vec()))].into();
        files.place(&workload, None, named).expect("placed");
        let directory = files.directory(workload.task).expect("a file system in memory");
        assert!(is_in_memory(&directory));
        let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
        for (path, expected) in [("", 0o700), ("key", 0o440), ("deep", 0o755), ("deep/key", 0o400)] {
            assert_eq!(mode(&directory.join(path)), expected, "{path}");
        }
        assert_eq!(fs::read(directory.join("deep/key")).expect("it is there"), b"the-marker");
        assert_eq!(fs::read_dir(own.path()).expect("a directory").count(), 0, "nothing is on the disk");

        // A restarted agent may not have received the data yet, and does not need it.
        workload.secrets.clear();
        files.place(&workload, None, named).expect("all are there");
        assert_eq!(SecretFiles::of(own.path()).tasks().expect("a list"), [workload.task]);
        assert_eq!(SecretFiles::of(&own.path().join("other")).tasks().expect("a list"), [], "another agent's");
        for _ in 0..2 {
            files.remove(workload.task).expect("removed");
        }
        assert!(!directory.exists());
    }
}
