//! The name, the labels and the number of tasks of a service.

use clap::Args;
use events::spec::limits::REPLICAS_MAX;
use events::{ReplicatedJobMode, ReplicatedMode, ServiceSpec, service_spec::Mode};

use crate::failure::{Failure, Kind};
use crate::values::{number, pair};

#[derive(Debug, Clone, Default, PartialEq, Args)]
pub(super) struct IdentityFlags {
    /// Label of the service; replaces all
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair::parse)]
    label: Vec<(String, String)>,

    /// Number of tasks of a replicated service, or of tasks of a job that have to complete (default 1)
    #[arg(long, alias = "instances", value_name = "NUMBER", value_parser = number::within(0..=REPLICAS_MAX))]
    replicas: Option<u64>,

    /// Number of tasks of a job that run at the same time; 0 for all (default 0)
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=REPLICAS_MAX))]
    max_concurrent: Option<u64>,
}

impl IdentityFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) -> Result<(), Failure> {
        if !self.label.is_empty() {
            spec.annotations.get_or_insert_default().labels = self.label.iter().cloned().collect();
        }
        if self.max_concurrent.is_some() && spec.completions().is_none() {
            return Err(Failure::new(Kind::Usage, "--max-concurrent is for replicated jobs")
                .hint("omit it, or create the service with --mode replicated-job"));
        }
        if self.replicas.is_some() && spec.is_global() {
            return Err(Failure::new(Kind::Usage, "a global service has no number of replicas")
                .hint("omit --replicas: a global service runs one task on every eligible node"));
        }
        if self.replicas.is_some() && spec.autoscale.is_some() {
            return Err(Failure::new(
                Kind::Usage,
                "the service is autoscaled: its number of replicas follows from what its tasks use",
            )
            .hint("omit --replicas and change the bounds with --autoscale, or give --autoscale off as well"));
        }
        if self.replicas.is_some() || self.max_concurrent.is_some() {
            spec.mode = Some(self.mode(spec.mode()));
        }
        Ok(())
    }

    fn mode(&self, present: Mode) -> Mode {
        match present {
            Mode::Replicated(ReplicatedMode { replicas }) => {
                Mode::Replicated(ReplicatedMode { replicas: self.replicas.unwrap_or(replicas) })
            }
            Mode::ReplicatedJob(job) => Mode::ReplicatedJob(ReplicatedJobMode {
                max_concurrent: self.max_concurrent.unwrap_or(job.max_concurrent),
                total_completions: self.replicas.unwrap_or(job.total_completions),
            }),
            Mode::Global(_) | Mode::GlobalJob(_) => present,
        }
    }
}
