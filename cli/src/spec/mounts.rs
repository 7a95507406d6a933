//! Mounts of a container: directories, volumes and tmpfs.

use clap::Args;
use events::{Mount, ServiceSpec};

use super::container;
use crate::values::{mount, mount_keys};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Mounts")]
pub(super) struct MountFlags {
    /// Bind mount of a directory of the host; replaces all bind mounts
    #[arg(long, value_name = "SOURCE:TARGET[:OPTIONS]", value_parser = mount::parse_bind)]
    bind: Vec<Mount>,

    /// Volume of the engine, anonymous if it has no name; replaces all volumes
    #[arg(long, value_name = "[NAME:]TARGET[:OPTIONS]", value_parser = mount::parse_volume)]
    volume: Vec<Mount>,

    /// tmpfs mount, a filesystem in memory; replaces all tmpfs mounts
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = mount::parse_tmpfs)]
    tmpfs: Vec<Mount>,

    /// Mount in Docker's form, with every option: type=volume,source=NAME,target=PATH,...; replaces all of its type
    #[arg(long, value_name = "KEY=VALUE,...", value_parser = mount_keys::parse)]
    mount: Vec<Mount>,
}

impl MountFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let mounts = &mut container(spec).mounts;
        let given: Vec<&Mount> = [&self.bind, &self.volume, &self.tmpfs, &self.mount].into_iter().flatten().collect();
        mounts.retain(|mount| given.iter().all(|new| new.r#type != mount.r#type));
        mounts.extend(given.into_iter().cloned());
    }
}
