//! Configs that are mounted because they cannot be copied to their targets before the start: into a read-only root filesystem,
//! or into a tmpfs, which is created at the start. They are stored in a directory per task on this machine, and the container
//! gets each as a read-only file, as Docker does with all configs.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use events::spec::FileReference;
use events::{ConfigReference, ContainerSpec, Mount, MountType, TaskId};

use crate::agent::executor::{ExecutorError, Workload};
use crate::agent::placed_file;
use crate::agent::policy::real_path;

/// Only the agent and the engine may enter.
const DIRECTORY_MODE: u32 = 0o700;

/// Whether a config is mounted rather than copied.
pub(super) fn is_mounted(reference: &ConfigReference, container: &ContainerSpec) -> bool {
    let path = reference.path();
    let covers = |mount: &Mount| {
        let target = mount.target.trim_end_matches('/');
        mount.r#type() == MountType::Tmpfs && path.strip_prefix(target).is_some_and(|rest| rest.starts_with('/'))
    };
    !reference.runtime && (container.read_only || container.mounts.iter().any(covers))
}

/// The directory of the configs that containers mount.
#[derive(Debug, Clone)]
pub(super) struct ConfigMounts(PathBuf);

impl ConfigMounts {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The workload with a mount for each such config.
    pub(super) fn added_to(&self, workload: &Workload) -> Workload {
        let (container, directory) = (workload.container(), self.directory(workload.task));
        // The directory is the agent's own: if its links cannot be resolved, the engine reports it.
        let directory = real_path(&directory).unwrap_or(directory);
        let mount = |(number, reference): (usize, &ConfigReference)| Mount {
            r#type: MountType::Bind.into(),
            source: file(&directory, number).to_string_lossy().into_owned(),
            target: reference.path(),
            read_only: true,
            ..Mount::default()
        };
        let is_ours = |of: &ConfigReference| is_mounted(of, container) && workload.secret_config(of).is_none();
        let configs = container.configs.iter().enumerate().filter(|(_, config)| is_ours(config));
        let mounts = container.mounts.iter().cloned().chain(configs.map(mount)).collect();
        workload.clone().with_mounts(mounts)
    }

    /// Writes the files that the workload's container mounts; repeating it is harmless.
    ///
    /// # Errors
    /// Fatal when one cannot be written.
    pub(super) async fn write(&self, workload: &Workload) -> Result<(), ExecutorError> {
        if !workload.container().configs.iter().any(|config| is_mounted(config, workload.container())) {
            return Ok(());
        }
        let (workload, directory) = (workload.clone(), self.directory(workload.task));
        let shown = directory.display().to_string();
        let written = tokio::task::spawn_blocking(move || write(&workload, &directory)).await;
        let written = written.map_err(io::Error::other).and_then(|written| written);
        written.map_err(|error| ExecutorError::Fatal(format!("the configs cannot be written to {shown}: {error}")))
    }

    /// Removes a task's files. Succeeds if there are none.
    ///
    /// # Errors
    /// Temporary when they cannot be removed.
    pub(super) async fn remove(&self, task: TaskId) -> Result<(), ExecutorError> {
        let removed = tokio::fs::remove_dir_all(self.directory(task)).await;
        placed_file::ignore_not_found(removed)
            .map_err(|error| ExecutorError::Temporary(format!("the task's configs cannot be removed: {error}")))
    }

    /// The tasks that have files here, including those whose container no longer exists.
    ///
    /// # Errors
    /// Temporary when the directory cannot be read.
    pub(super) fn tasks(&self) -> Result<Vec<TaskId>, ExecutorError> {
        let unreadable =
            |error| ExecutorError::Temporary(format!("the configs in {} cannot be listed: {error}", self.0.display()));
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(unreadable)?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
        Ok(names.map_err(unreadable)?.iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    fn directory(&self, task: TaskId) -> PathBuf {
        self.0.join(task.to_string())
    }
}

/// Targets may be long and deeply nested, so files are named by their number in the spec.
fn file(directory: &Path, number: usize) -> PathBuf {
    directory.join(number.to_string())
}

fn write(workload: &Workload, directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let container = workload.container();
    for (number, reference) in container.configs.iter().enumerate() {
        let data = reference.key().and_then(|key| workload.configs.get(&key));
        if let Some(data) = data.filter(|_| is_mounted(reference, container)) {
            placed_file::write(reference, data, &file(directory, number), &directory.join("unfinished"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use events::FileTarget;

    use super::*;

    #[test]
    fn what_cannot_be_copied_before_the_start_is_mounted() {
        let file = Some(FileTarget { name: "/run/app/web.conf".into(), ..FileTarget::default() });
        let reference = ConfigReference { name: "web.conf".into(), file, ..ConfigReference::default() };
        let mount =
            |kind: MountType, target: &str| Mount { target: target.into(), r#type: kind.into(), ..Mount::default() };
        let tmpfs = |target| mount(MountType::Tmpfs, target);
        for (read_only, mounts, mounted) in [
            (false, vec![], false),
            (false, vec![tmpfs("/run/ap"), tmpfs("/tmp"), mount(MountType::Volume, "/run")], false),
            (true, vec![], true),
            (false, vec![tmpfs("/run")], true),
            (false, vec![tmpfs("/tmp"), tmpfs("/run/app/")], true),
        ] {
            let container = ContainerSpec { read_only, mounts, ..ContainerSpec::default() };
            assert_eq!(is_mounted(&reference, &container), mounted, "{container:?}");
        }
    }
}
