//! Configs as files on the host, in a directory per task that the environment variable `SWARM_CONFIG_DIR` names.
//!
//! An agent that runs as root creates them below `/run`, where a task that runs as another user can read them; any other agent
//! creates them in the task's directory. A config that contains a secret is in memory beside the task's secrets, with a link to
//! it here. A process sees the host's file system, so a config with an absolute target is refused: every process would see it.
//! A config with a setuid or setgid mode is refused too.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use events::spec::FileReference;
use events::{ConfigReference, TaskId};

use crate::agent::executor::{ExecutorError, Workload};
use crate::agent::placed_file;

/// The environment variable with the path of the directory.
pub(super) const VARIABLE: &str = "SWARM_CONFIG_DIR";
/// Where an agent that runs as root creates the directories of its tasks.
const SHARED: &str = "/run/swarmlog/configs";
/// The topmost directory that is created there.
const SHARED_TOP: &str = "/run/swarmlog";
/// Where configs that contain a secret are, below the directory of secrets.
const IN_MEMORY: &str = ".configs";
/// Everyone may traverse it, regardless of the agent's umask.
const DIRECTORY_MODE: u32 = 0o755;

/// The directory of a task's configs; `own` is the task's directory.
pub(super) fn directory(own: &Path, task: TaskId) -> PathBuf {
    if rustix::process::geteuid().is_root() { Path::new(SHARED).join(task.to_string()) } else { own.join("configs") }
}

/// The path of a config that contains a secret, below the directory of the task's secrets.
pub(super) fn in_memory(reference: &dyn FileReference) -> PathBuf {
    Path::new(IN_MEMORY).join(reference.given_path())
}

/// Writes the configs; repeating it is harmless. Those that contain a secret are in `memory`.
pub(super) fn place(workload: &Workload, directory: &Path, memory: Option<&Path>) -> Result<(), ExecutorError> {
    let unplaced = |reference: &ConfigReference, error: io::Error| {
        let name = &reference.name;
        ExecutorError::Fatal(format!("config {name} cannot be placed in {}: {error}", directory.display()))
    };
    for (reference, data) in workload.config_files() {
        placed_file::judge(reference, VARIABLE).map_err(ExecutorError::Fatal)?;
        write(reference, data, directory).map_err(|error| unplaced(reference, error))?;
    }
    for reference in workload.container().configs.iter().filter(|of| workload.secret_config(of).is_some()) {
        placed_file::judge(reference, VARIABLE).map_err(ExecutorError::Fatal)?;
        // Without a directory in memory, writing the file there has already failed with a reason.
        let Some(memory) = memory else { continue };
        link(reference, &memory.join(in_memory(reference)), directory).map_err(|error| unplaced(reference, error))?;
    }
    Ok(())
}

/// Removes a task's configs. Succeeds if there are none.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    placed_file::ignore_not_found(fs::remove_file(unfinished(directory)))?;
    placed_file::ignore_not_found(fs::remove_dir_all(directory))
}

/// Where a file is written before it is renamed: beside the directory, where no target can be.
fn unfinished(directory: &Path) -> PathBuf {
    directory.with_added_extension("unfinished")
}

fn write(reference: &dyn FileReference, data: &[u8], directory: &Path) -> io::Result<()> {
    let path = make_way(reference, directory)?;
    placed_file::write(reference, data, &path, &unfinished(directory))
}

fn link(reference: &dyn FileReference, to: &Path, directory: &Path) -> io::Result<()> {
    let (path, unfinished) = (make_way(reference, directory)?, unfinished(directory));
    placed_file::ignore_not_found(fs::remove_file(&unfinished))?;
    symlink(to, &unfinished)?;
    fs::rename(&unfinished, path)
}

/// The path of a file, whose parent directories are created.
fn make_way(reference: &dyn FileReference, directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join(reference.given_path());
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent)?;
        let top = if directory.starts_with(SHARED_TOP) { Path::new(SHARED_TOP) } else { directory };
        for made in parent.ancestors().take_while(|made| made.starts_with(top)) {
            fs::set_permissions(made, Permissions::from_mode(DIRECTORY_MODE))?;
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use events::{ConfigId, ConfigReference, FileTarget, Id};

    use super::*;

    #[test]
    fn no_target_is_where_another_is_written_first() {
        let home = tempfile::tempdir().expect("a directory");
        let directory = home.path().join("configs");
        let targets = BTreeMap::from([("app.unfinished", "one"), ("app", "two"), ("a/app", "three")]);
        for _ in 0..2 {
            for (target, data) in &targets {
                let file = Some(FileTarget { name: (*target).into(), mode: Some(0o400), ..FileTarget::default() });
                let config = Some(ConfigId::from_bits(1));
                let reference = ConfigReference { config, name: "app".into(), file, ..ConfigReference::default() };
                write(&reference, data.as_bytes(), &directory).expect("written");
            }
        }
        for (target, data) in targets {
            assert_eq!(fs::read_to_string(directory.join(target)).expect("it is there"), data, "{target}");
        }
        fs::write(unfinished(&directory), "half").expect("written");
        remove(&directory).expect("removed");
        assert_eq!(fs::read_dir(home.path()).expect("a directory").count(), 0);
    }
}
