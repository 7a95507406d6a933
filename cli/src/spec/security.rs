//! As whom a container runs and what it may do.

use clap::Args;
use events::spec::limits::{OOM_SCORES, PIDS_LIMITS};
use events::{ServiceSpec, Ulimit};

use super::{container, replace, set};
use crate::values::container::capability;
use crate::values::{number, pair, ulimit};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Capabilities and limits of the container")]
pub(super) struct SecurityFlags {
    /// User, by name or number, and group after a colon
    #[arg(long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Additional group of the user; replaces all
    #[arg(long, value_name = "GROUP")]
    group: Vec<String>,

    /// Make the container's root filesystem read-only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    read_only: Option<bool>,

    /// Capability to add, such as NET_ADMIN; replaces all
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_add: Vec<String>,

    /// Capability to drop, or ALL; replaces all
    #[arg(long, value_name = "CAPABILITY", value_parser = capability)]
    cap_drop: Vec<String>,

    /// Kernel parameter of the container; replaces all
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    sysctl: Vec<(String, String)>,

    /// Ulimit of the process, such as nofile=1024:2048; replaces all
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = ulimit::parse)]
    ulimit: Vec<Ulimit>,

    /// Maximum number of processes in the container; 0 or -1 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = number::within(PIDS_LIMITS))]
    pids_limit: Option<i64>,

    /// OOM score adjustment, from -1000 (killed last) to 1000 (killed first)
    #[arg(long, value_name = "NUMBER", value_parser = number::within(OOM_SCORES))]
    oom_score_adj: Option<i64>,
}

impl SecurityFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let container = container(spec);
        set(&mut container.user, &self.user);
        replace(&mut container.groups, &self.group);
        set(&mut container.read_only, &self.read_only);
        replace(&mut container.capability_add, &self.cap_add);
        replace(&mut container.capability_drop, &self.cap_drop);
        if !self.sysctl.is_empty() {
            container.sysctls = self.sysctl.iter().cloned().collect();
        }
        replace(&mut container.ulimits, &self.ulimit);
        set(&mut container.pids_limit, &self.pids_limit);
        set(&mut container.oom_score_adj, &self.oom_score_adj);
    }
}
