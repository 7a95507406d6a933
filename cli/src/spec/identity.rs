//! What a service is called and how many tasks it has.

use clap::Args;
use events::spec::limits::REPLICAS_MAX;
use events::{ReplicatedMode, ServiceSpec, service_spec::Mode};

use crate::failure::{Failure, Kind};
use crate::values::{number, pair};

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(super) struct IdentityFlags {
    /// Label of the service; replaces all it has
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    label: Vec<(String, String)>,

    /// Number of tasks of a replicated service (1 for a new one)
    #[arg(long, alias = "instances", value_name = "NUMBER", value_parser = number::within(0..=REPLICAS_MAX))]
    replicas: Option<u64>,
}

impl IdentityFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) -> Result<(), Failure> {
        if !self.label.is_empty() {
            spec.annotations.get_or_insert_default().labels = self.label.iter().cloned().collect();
        }
        let Some(replicas) = self.replicas else { return Ok(()) };
        if spec.is_global() {
            return Err(Failure::new(Kind::Usage, "a global service has no number of replicas")
                .hint("omit --replicas: a global service runs one task on every eligible node"));
        }
        spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas }));
        Ok(())
    }
}
