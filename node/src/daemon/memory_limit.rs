//! The memory limit of this process's cgroup, and its usage. At the limit the kernel kills the process without an explanation,
//! so a warning is logged before: at startup and when memory runs low.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Where cgroups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// The cgroups of this process.
const OWN_GROUPS: &str = "/proc/self/cgroup";

/// Time between two readings. A manager's state grows by a few MiB per second at most.
const PERIOD: Duration = Duration::from_secs(2);
/// Usage from which a warning is logged, in percent of the limit.
const WARN_PERCENT: u64 = 90;
/// Usage below which the warning is cleared: low enough that it does not flap.
const AMPLE_PERCENT: u64 = 80;
/// Memory of a node with an empty state: the program, its log's buffers, its connections.
const BASE_BYTES: u64 = 64 * MIB;
/// Bytes of memory per byte of a checkpoint: a state of 200,000 tasks on 10,000 nodes takes 220 MB, its checkpoint 45 MB; and
/// one version of the state may be read while another is changed.
const BYTES_PER_CHECKPOINT_BYTE: u64 = 6;

const MIB: u64 = 1024 * 1024;

/// The memory of one cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    limit_bytes: u64,
    /// Without memory that the kernel can reclaim immediately.
    used_bytes: u64,
}

impl Memory {
    fn used_percent(self) -> u64 {
        let percent = u128::from(self.used_bytes) * 100 / u128::from(self.limit_bytes.max(1));
        u64::try_from(percent).unwrap_or(u64::MAX)
    }

    /// Whether memory is low, given whether it was low before.
    fn is_low(self, before: bool) -> bool {
        self.used_percent() >= if before { AMPLE_PERCENT } else { WARN_PERCENT }
    }
}

/// Logs a warning if a manager with a checkpoint of this size, or without one, needs more memory than its limit. It does not
/// prevent the start: the need is an estimate, and the operator may have to start it in order to remove services.
pub fn warn_if_short(checkpoint_bytes: u64) {
    if let Some((limit_mib, needed_mib)) = shortage(&groups(Path::new(OWN_GROUPS), Path::new(ROOT)), checkpoint_bytes) {
        let hint = "raise the limit (MemoryMax= of its unit, --memory of its container)";
        tracing::warn!(
            limit_mib,
            needed_mib,
            hint,
            "the control group of swarmd may have less memory than its state needs: the kernel may kill it"
        );
    }
}

/// The limit and the need in MiB, if the need is greater.
fn shortage(groups: &[Memory], checkpoint_bytes: u64) -> Option<(u64, u64)> {
    let needed = BASE_BYTES.saturating_add(checkpoint_bytes.saturating_mul(BYTES_PER_CHECKPOINT_BYTE));
    let limit = groups.iter().map(|group| group.limit_bytes).min()?;
    (limit < needed).then_some((limit / MIB, needed / MIB))
}

/// Monitors memory until `shutdown`, and logs when it is near the limit. Returns immediately if there is no limit.
pub async fn watch(shutdown: CancellationToken) {
    let mut low = false;
    while let Some(fullest) = fullest(&groups(Path::new(OWN_GROUPS), Path::new(ROOT))) {
        let (percent, limit_mib) = (fullest.used_percent(), fullest.limit_bytes / MIB);
        match (low, fullest.is_low(low)) {
            (false, true) => {
                let hint = "raise the limit (MemoryMax= of its unit, --memory of its container), or remove services";
                tracing::warn!(
                    percent,
                    limit_mib,
                    hint,
                    "the control group of swarmd is nearly out of memory: at the limit the kernel kills swarmd"
                );
            }
            (true, false) => tracing::info!(percent, limit_mib, "the control group of swarmd has enough memory again"),
            (true, true) | (false, false) => {}
        }
        low = fullest.is_low(low);
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

fn fullest(groups: &[Memory]) -> Option<Memory> {
    groups.iter().copied().max_by_key(|group| group.used_percent())
}

/// The cgroups that limit the memory of a process: its own and its ancestors, in version 1 or 2 below `root`. In a container
/// without its own cgroup namespace the kernel shows the path on the host: then only the mounted root is its own.
fn groups(own: &Path, root: &Path) -> Vec<Memory> {
    let Ok(own) = fs::read_to_string(own) else { return Vec::new() };
    let of_line = |line: &str| {
        let (mounted, version, path) = hierarchy(line, root)?;
        let path = path.trim_start_matches('/');
        let dirs = Path::new(path).ancestors().map(|path| mounted.join(path)).collect::<Vec<_>>();
        Some(dirs.into_iter().filter_map(move |dir| version.read(&dir)))
    };
    own.lines().filter_map(of_line).flatten().collect()
}

/// The mount point and group in a line of `/proc/self/cgroup`, if its hierarchy limits memory.
fn hierarchy<'a>(line: &'a str, root: &Path) -> Option<(PathBuf, Version, &'a str)> {
    let mut parts = line.splitn(3, ':');
    let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    match controllers {
        "" => Some((root.to_owned(), V2, path)),
        controllers if controllers.split(',').any(|name| name == "memory") => Some((root.join("memory"), V1, path)),
        _ => None,
    }
}

/// The files of one cgroup version.
#[derive(Debug, Clone, Copy)]
struct Version {
    limit: &'static str,
    used: &'static str,
    /// The reclaimable page cache, as a line of the statistics.
    cache: &'static str,
}

const V1: Version =
    Version { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", cache: "total_inactive_file" };
const V2: Version = Version { limit: "memory.max", used: "memory.current", cache: "inactive_file" };
/// A limit of version 1 that means unlimited: the maximum of its page counter, halved to be safe.
const UNLIMITED_BYTES: u64 = i64::MAX as u64 / 2;

impl Version {
    /// The memory of the group in this directory; `None` without a limit.
    fn read(self, dir: &Path) -> Option<Memory> {
        let number = |file: &str| fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
        let limit_bytes = number(self.limit).filter(|limit| *limit < UNLIMITED_BYTES)?;
        let statistics = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
        let cache = statistics.lines().find_map(|line| line.strip_prefix(self.cache)?.trim().parse::<u64>().ok());
        Some(Memory { limit_bytes, used_bytes: number(self.used)?.saturating_sub(cache.unwrap_or(0)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files below a directory, with their content.
    fn write(dir: &Path, files: &[(&str, &str)]) {
        for (file, content) in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, content).expect("written");
        }
    }

    #[test]
    fn the_groups_of_both_versions_are_read_up_to_their_root() {
        /// A line of `/proc/self/cgroup`, the files below the root, and the expected limits and usages.
        type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [(u64, u64)]);
        let rows: [Row<'_>; 6] = [
            ("0::/", &[], &[]),
            (
                "0::/system.slice/swarmd.service",
                &[
                    ("system.slice/swarmd.service/memory.max", "1000\n"),
                    ("system.slice/swarmd.service/memory.current", "700\n"),
                    ("system.slice/swarmd.service/memory.stat", "anon 600\ninactive_file 50\nactive_file 50\n"),
                    ("system.slice/memory.max", "max\n"),
                    ("system.slice/memory.current", "900\n"),
                ],
                &[(1000, 650)],
            ),
            // The limit of an ancestor counts as well, and without statistics all memory counts as used.
            (
                "0::/a/b",
                &[("a/memory.max", "500"), ("a/memory.current", "400"), ("a/b/memory.max", "max")],
                &[(500, 400)],
            ),
            // In a container with its own cgroup namespace.
            ("0::/", &[("memory.max", "300"), ("memory.current", "100")], &[(300, 100)]),
            // Version 1, in a container that sees the path on the host, and its own group as the root.
            (
                "4:cpu,memory:/docker/x\n1:name=systemd:/docker/x",
                &[
                    ("memory/memory.limit_in_bytes", "2000"),
                    ("memory/memory.usage_in_bytes", "1900"),
                    ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 900"),
                ],
                &[(2000, 1000)],
            ),
            (
                "4:memory:/",
                &[("memory/memory.limit_in_bytes", "9223372036854771712"), ("memory/memory.usage_in_bytes", "1")],
                &[],
            ),
        ];
        for (line, files, expected) in rows {
            let dir = tempfile::tempdir().expect("a directory");
            write(dir.path(), &[("own", line)]);
            write(&dir.path().join("root"), files);
            let found = groups(&dir.path().join("own"), &dir.path().join("root"));
            let found: Vec<_> = found.iter().map(|memory| (memory.limit_bytes, memory.used_bytes)).collect();
            assert_eq!(found, expected, "{line}");
        }
        assert_eq!(groups(Path::new("/no/such/file"), Path::new(ROOT)), []);
    }

    #[test]
    fn a_limit_below_the_need_is_told_with_both() {
        let limited = |mib: u64| Memory { limit_bytes: mib * MIB, used_bytes: 0 };
        /// Limits in MiB, the checkpoint in MiB, and what is reported.
        type Row<'a> = (&'a [u64], u64, Option<(u64, u64)>);
        let rows: [Row<'_>; 5] = [
            (&[], 1_000, None),
            (&[63], 0, Some((63, 64))),
            (&[64], 0, None),
            (&[1_000, 256], 45, Some((256, 334))),
            (&[1_000, 512], 45, None),
        ];
        for (limits, checkpoint, expected) in rows {
            let groups: Vec<_> = limits.iter().copied().map(limited).collect();
            assert_eq!(shortage(&groups, checkpoint * MIB), expected, "{limits:?} {checkpoint}");
        }
    }

    #[test]
    fn the_warning_comes_at_nine_tenths_and_goes_well_below_them() {
        let mut low = false;
        for (used, expected) in [(0, false), (89, false), (90, true), (85, true), (100, true), (79, false), (85, false)]
        {
            let memory = Memory { limit_bytes: 1_000, used_bytes: used * 10 };
            low = memory.is_low(low);
            assert_eq!(low, expected, "{used} %");
        }
        let groups = [(100, 10), (1_000, 950), (2_000, 1_000)];
        let groups = groups.map(|(limit_bytes, used_bytes)| Memory { limit_bytes, used_bytes });
        assert_eq!(fullest(&groups).map(Memory::used_percent), Some(95), "the one that is full first");
    }
}
