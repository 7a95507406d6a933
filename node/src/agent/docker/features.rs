//! Spec fields that need a newer engine API than the oldest supported one (1.40). An engine silently ignores unknown fields, so
//! a task that depends on one would run differently than specified; it is refused instead. If the field is only an improvement,
//! the task gets a warning.

use std::fmt;
use std::str::FromStr;

use events::{Mount, MountType};

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

/// A field that a workload uses, and the first API version that supports it.
pub(super) type Need = (&'static str, ApiVersion);

/// The fields that a workload depends on and an older engine would ignore.
pub(super) fn needs(workload: &Workload) -> Vec<Need> {
    workload.container().mounts.iter().flat_map(mount_needs).collect()
}

/// The fields that a workload does not depend on: without a start interval, a task becomes healthy some seconds later.
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
        (mount.r#type() == MountType::Image, "mount option type=image", ApiVersion(1, 48)),
        (mount.tmpfs.as_ref().is_some_and(|t| !t.options.is_empty()), "mount option tmpfs-options", ApiVersion(1, 46)),
    ];
    table.into_iter().filter(|(used, ..)| *used).map(|(_, what, since)| (what, since)).collect()
}

/// A message for each field that an engine does not support.
pub(super) fn unmet(needs: &[Need], api: ApiVersion) -> Vec<String> {
    let unmet = needs.iter().filter(|(_, since)| api < *since);
    unmet.map(|(what, since)| format!("{what} needs engine API {since}, and this engine has {api}")).collect()
}
