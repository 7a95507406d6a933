//! Configs as files of the host, in a directory of the task's own, which its variable `SWARM_CONFIG_DIR` names.
//!
//! An agent that is root keeps them below `/run`, where a task that runs as somebody else can reach them, and any other in the
//! task's directory. A process sees the host's own files, so that a config with an absolute target is refused: it would be
//! everybody's. So is one that gives whoever executes it the rights of its owner.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use events::TaskId;
use events::spec::FileReference;

use crate::agent::executor::{ExecutorError, Workload};
use crate::agent::placed_file;

/// The variable that names the directory.
pub(super) const VARIABLE: &str = "SWARM_CONFIG_DIR";
/// Where an agent that is root keeps the directories of its tasks.
const SHARED: &str = "/run/swarmlog/configs";
/// The highest directory that is made there.
const SHARED_TOP: &str = "/run/swarmlog";
/// Everybody may pass, whatever the umask of the agent.
const DIRECTORY_MODE: u32 = 0o755;

/// The directory of a task's configs; `own` is where everything else of it is.
pub(super) fn directory(own: &Path, task: TaskId) -> PathBuf {
    if rustix::process::geteuid().is_root() { Path::new(SHARED).join(task.to_string()) } else { own.join("configs") }
}

/// Puts the configs in place, also once more.
pub(super) fn place(workload: &Workload, directory: &Path) -> Result<(), ExecutorError> {
    if let Some(of) = workload.container().configs.iter().find(|of| workload.secret_config(of).is_some()) {
        let name = &of.name;
        return Err(ExecutorError::Fatal(format!(
            "config {name} is a template that reads a secret, and the process executor has only secrets in memory: make it a \
             secret with a template driver"
        )));
    }
    for (reference, data) in workload.config_files() {
        placed_file::judge(reference, VARIABLE).map_err(ExecutorError::Fatal)?;
        write(reference, data, directory).map_err(|error| {
            let name = &reference.name;
            ExecutorError::Fatal(format!("config {name} cannot be placed in {}: {error}", directory.display()))
        })?;
    }
    Ok(())
}

/// Forgets a task's configs. None there is success.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    placed_file::unless_absent(fs::remove_file(unfinished(directory)))?;
    placed_file::unless_absent(fs::remove_dir_all(directory))
}

/// Where a file is written before it has its name: beside the directory, where no target can be.
fn unfinished(directory: &Path) -> PathBuf {
    directory.with_added_extension("unfinished")
}

fn write(reference: &dyn FileReference, data: &[u8], directory: &Path) -> io::Result<()> {
    let path = directory.join(reference.given_path());
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent)?;
        let top = if directory.starts_with(SHARED_TOP) { Path::new(SHARED_TOP) } else { directory };
        for made in parent.ancestors().take_while(|made| made.starts_with(top)) {
            fs::set_permissions(made, Permissions::from_mode(DIRECTORY_MODE))?;
        }
    }
    placed_file::write(reference, data, &path, &unfinished(directory))
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
