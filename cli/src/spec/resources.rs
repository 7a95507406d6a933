//! Resource reservations and limits of a task.

use clap::Args;
use events::{GenericResource, ServiceSpec};

use super::{replace, set, task};
use crate::values::{cpus, generic, number, size};

/// SwarmKit's names of the flags; Docker's names are aliases.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Resources")]
pub(super) struct ResourceFlags {
    /// Memory that each task reserves on its node, such as 512M
    #[arg(long, alias = "reserve-memory", value_name = "SIZE", value_parser = size::parse)]
    memory_reservation: Option<u64>,

    /// Maximum memory of a task
    #[arg(long, alias = "limit-memory", value_name = "SIZE", value_parser = size::parse)]
    memory_limit: Option<u64>,

    /// Swap that a task may use in addition to its memory limit, which is required; -1 for no limit
    #[arg(long, value_name = "SIZE|-1", value_parser = size::parse_or_unlimited)]
    memory_swap: Option<i64>,

    /// Swappiness: how readily the kernel swaps out the task's memory, from 0 to 100; -1 for the engine's default
    #[arg(long, value_name = "NUMBER", value_parser = number::within(-1..=100i64))]
    memory_swappiness: Option<i64>,

    /// Number of cores that each task reserves on its node, such as 0.5
    #[arg(long, alias = "reserve-cpu", value_name = "CORES", value_parser = cpus::parse)]
    cpu_reservation: Option<u64>,

    /// Maximum number of cores of a task
    #[arg(long, alias = "limit-cpu", value_name = "CORES", value_parser = cpus::parse)]
    cpu_limit: Option<u64>,

    /// Generic resources that each task reserves on its node, such as gpu=1,fpga=2; replaces all
    #[arg(long, value_name = "KIND=NUMBER,...", value_delimiter = ',', value_parser = generic::parse)]
    generic_resources: Vec<GenericResource>,
}

impl ResourceFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        if *self == Self::default() {
            return;
        }
        let resources = task(spec).resources.get_or_insert_default();
        set(&mut resources.swap_bytes, &self.memory_swap.map(Some));
        set(&mut resources.memory_swappiness, &self.memory_swappiness.map(Some));
        if self.memory_reservation.is_some() || self.cpu_reservation.is_some() || !self.generic_resources.is_empty() {
            let reservations = resources.reservations.get_or_insert_default();
            set(&mut reservations.memory_bytes, &self.memory_reservation);
            set(&mut reservations.nano_cpus, &self.cpu_reservation);
            replace(&mut reservations.generic, &self.generic_resources);
        }
        if self.memory_limit.is_some() || self.cpu_limit.is_some() {
            let limits = resources.limits.get_or_insert_default();
            set(&mut limits.memory_bytes, &self.memory_limit);
            set(&mut limits.nano_cpus, &self.cpu_limit);
        }
    }
}
