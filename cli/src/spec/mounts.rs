//! What a container sees of the outside: directories, volumes, memory.

use clap::Args;
use events::{Mount, MountType, ServiceSpec};

use super::container;
use crate::values::mount;

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Mounts")]
pub(super) struct MountFlags {
    /// Directory of the host; replaces all bind mounts
    #[arg(long, value_name = "SOURCE:TARGET[:OPTIONS]", value_parser = mount::parse_bind)]
    bind: Vec<Mount>,

    /// Volume of the engine, anonymous without a name; replaces all volumes
    #[arg(long, value_name = "[NAME:]TARGET[:OPTIONS]", value_parser = mount::parse_volume)]
    volume: Vec<Mount>,

    /// Filesystem in memory (tmpfs); replaces all of this type
    #[arg(long, value_name = "TARGET[:OPTIONS]", value_parser = mount::parse_tmpfs)]
    tmpfs: Vec<Mount>,
}

impl MountFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        let mounts = &mut container(spec).mounts;
        for (kind, given) in
            [(MountType::Bind, &self.bind), (MountType::Volume, &self.volume), (MountType::Tmpfs, &self.tmpfs)]
        {
            if !given.is_empty() {
                mounts.retain(|mount| mount.r#type() != kind);
                mounts.extend(given.iter().cloned());
            }
        }
    }
}
