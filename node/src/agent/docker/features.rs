//! Which fields of a spec need a newer API of the engine than the oldest that we meet (1.40). An engine leaves unknown
//! fields aside without a word, so a task that relies on one would run other than asked; it is refused instead. A task that
//! only runs less well gets a warning.

use std::fmt;
use std::str::FromStr;

use events::Mount;

use super::mounts::fits_short_form;
use crate::agent::executor::Workload;

/// A version of the engine's API: major, minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion(pub(super) u32, pub(super) u32);

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl FromStr for ApiVersion {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        Ok(Self(major.parse()?, minor.parse()?))
    }
}

/// A field that a workload uses, and the first API that knows it.
pub(super) type Need = (&'static str, ApiVersion);

/// Everything that a workload cannot do without and an older engine would leave aside.
pub(super) fn needs(workload: &Workload) -> Vec<Need> {
    workload.container().mounts.iter().flat_map(mount_needs).collect()
}

/// Everything that a workload can do without: without probes of their own at the start, a task is healthy some seconds later.
pub(super) fn preferences(workload: &Workload) -> Vec<Need> {
    let health = workload.container().healthcheck.as_ref();
    let early = health.filter(|health| health.start_interval_ns != 0);
    early.map(|_| ("the health check's start interval", ApiVersion(1, 44))).into_iter().collect()
}

fn mount_needs(mount: &Mount) -> Vec<Need> {
    let bind = mount.bind.unwrap_or_default();
    let table = [
        (bind.create_mountpoint && !fits_short_form(mount), "mount option bind-create-src", ApiVersion(1, 42)),
        (bind.read_only_non_recursive, "mount option bind-recursive=writable", ApiVersion(1, 44)),
        (bind.read_only_force_recursive, "mount option bind-recursive=readonly", ApiVersion(1, 44)),
        (
            mount.volume.as_ref().is_some_and(|v| !v.subpath.is_empty()),
            "mount option volume-subpath",
            ApiVersion(1, 45),
        ),
        (mount.tmpfs.as_ref().is_some_and(|t| !t.options.is_empty()), "mount option tmpfs-options", ApiVersion(1, 46)),
    ];
    table.into_iter().filter(|(used, ..)| *used).map(|(_, what, since)| (what, since)).collect()
}

/// A sentence for each need that an engine cannot meet.
pub(super) fn unmet(needs: &[Need], api: ApiVersion) -> Vec<String> {
    let unmet = needs.iter().filter(|(_, since)| api < *since);
    unmet.map(|(what, since)| format!("{what} needs engine API {since}, and this engine has {api}")).collect()
}
