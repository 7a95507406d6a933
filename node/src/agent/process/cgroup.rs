//! Limits CPU, memory and processes with a control group, version 1 or 2, where this process may create one.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::order::Limits;

/// Where control groups are mounted.
pub(super) const ROOT: &str = "/sys/fs/cgroup";

/// Our parent group below the root.
const PARENT: &str = "swarmlog";

/// The period over which CPU time is distributed, in microseconds; the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

/// The control groups of one task: one directory in version 2, one per controller in version 1.
#[derive(Debug, Default)]
pub(super) struct Cgroup {
    dirs: Vec<PathBuf>,
}

/// One limit: its display name, its controller, and the file and value in version 1 and 2.
struct Setting {
    what: &'static str,
    controller: &'static str,
    v1: (&'static str, String),
    v2: (&'static str, String),
}

impl Cgroup {
    /// Creates the groups that the limits need. Also returns which limits could not be set.
    pub(super) fn create(root: &Path, name: &str, limits: &Limits) -> (Self, Vec<String>) {
        let mut group = Self::default();
        let mut warnings = Vec::new();
        for setting in settings(limits) {
            if let Err(error) = group.set(root, name, &setting) {
                warnings.push(format!("{} not applied: {error}", setting.what));
            }
        }
        (group, warnings)
    }

    fn set(&mut self, root: &Path, name: &str, setting: &Setting) -> io::Result<()> {
        let unified = root.join("cgroup.controllers").exists();
        let parent = if unified { root.join(PARENT) } else { root.join(setting.controller).join(PARENT) };
        let dir = parent.join(name);
        fs::create_dir_all(&dir)?;
        if !self.dirs.contains(&dir) {
            self.dirs.push(dir.clone());
        }
        if unified {
            // A controller is available below a group only when the group delegates it.
            for above in [root, &parent] {
                fs::write(above.join("cgroup.subtree_control"), format!("+{}", setting.controller))?;
            }
        }
        let (file, value) = if unified { &setting.v2 } else { &setting.v1 };
        fs::write(dir.join(file), value)
    }

    /// Adds a process, whose later children inherit the limits.
    pub(super) fn add(&self, pid: u32) -> io::Result<()> {
        self.dirs.iter().try_for_each(|dir| fs::write(dir.join("cgroup.procs"), pid.to_string()))
    }

    /// Whether the kernel's OOM killer killed a process of the group.
    pub(super) fn is_oom_killed(&self) -> bool {
        let files = self.dirs.iter().flat_map(|dir| [dir.join("memory.events"), dir.join("memory.oom_control")]);
        files.filter_map(|file| fs::read_to_string(file).ok()).any(|text| {
            let mut counts = text.lines().filter_map(|line| line.strip_prefix("oom_kill "));
            counts.any(|count| count.trim() != "0")
        })
    }

    /// The created directories, to pass to [`remove`].
    pub(super) fn dirs(&self) -> &[PathBuf] {
        &self.dirs
    }
}

/// Removes the directories of control groups. Succeeds if there are none.
///
/// # Errors
/// When a group still contains a process.
pub(super) fn remove(dirs: &[PathBuf]) -> io::Result<()> {
    dirs.iter().try_for_each(|dir| match fs::remove_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    })
}

fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    if limits.memory_bytes > 0 {
        let bytes = limits.memory_bytes.to_string();
        let (v1, v2) = (("memory.limit_in_bytes", bytes.clone()), ("memory.max", bytes));
        settings.push(Setting { what: "memory limit", controller: "memory", v1, v2 });
    }
    if limits.nano_cpus > 0 {
        // The kernel refuses less than a millisecond.
        let quota_us = (limits.nano_cpus / (1_000_000_000 / CPU_PERIOD_US)).max(1_000);
        let v1 = ("cpu.cfs_quota_us", quota_us.to_string());
        let v2 = ("cpu.max", format!("{quota_us} {CPU_PERIOD_US}"));
        settings.push(Setting { what: "CPU limit", controller: "cpu", v1, v2 });
    }
    if limits.pids > 0 {
        let (v1, v2) = (("pids.max", limits.pids.to_string()), ("pids.max", limits.pids.to_string()));
        settings.push(Setting { what: "limit of processes", controller: "pids", v1, v2 });
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { nano_cpus: 1_500_000_000, memory_bytes: 64 << 20, pids: 7 };

    fn read(root: &Path, file: &str) -> String {
        fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    #[test]
    fn version_1_has_a_directory_for_each_controller() {
        let root = tempfile::tempdir().expect("a directory");
        let (group, warnings) = Cgroup::create(root.path(), "t", &LIMITS);
        assert_eq!((group.dirs().len(), warnings.len()), (3, 0));
        group.add(42).expect("added");
        assert_eq!(read(root.path(), "memory/swarmlog/t/memory.limit_in_bytes"), "67108864");
        assert_eq!(read(root.path(), "cpu/swarmlog/t/cpu.cfs_quota_us"), "150000");
        assert_eq!(read(root.path(), "pids/swarmlog/t/pids.max"), "7");
        assert_eq!(read(root.path(), "cpu/swarmlog/t/cgroup.procs"), "42");
    }

    #[test]
    fn version_2_has_one_directory_and_hands_controllers_down() {
        let root = tempfile::tempdir().expect("a directory");
        fs::write(root.path().join("cgroup.controllers"), "cpu memory pids").expect("written");
        let (group, warnings) = Cgroup::create(root.path(), "t", &LIMITS);
        assert_eq!((group.dirs().len(), warnings.len()), (1, 0));
        assert_eq!(read(root.path(), "swarmlog/t/memory.max"), "67108864");
        assert_eq!(read(root.path(), "swarmlog/t/cpu.max"), "150000 100000");
        assert_eq!(read(root.path(), "swarmlog/cgroup.subtree_control"), "+pids");
        fs::write(root.path().join("swarmlog/t/memory.events"), "oom 1\noom_kill 0\n").expect("written");
        assert!(!group.is_oom_killed());
        fs::write(root.path().join("swarmlog/t/memory.events"), "oom 1\noom_kill 2\n").expect("written");
        assert!(group.is_oom_killed());
    }

    #[test]
    fn what_cannot_be_limited_is_said() {
        let (group, warnings) = Cgroup::create(Path::new("/proc/nonexistent"), "t", &LIMITS);
        assert!(group.dirs().is_empty());
        assert!(warnings[0].starts_with("memory limit not applied: "), "{warnings:?}");
        assert_eq!(warnings.len(), 3);
    }
}
