//! How the engine checks whether a container is healthy.

use std::time::Duration;

use clap::Args;
use events::ServiceSpec;

use super::{container, ns, set};
use crate::values::{duration, number};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Health check")]
pub(super) struct HealthFlags {
    /// Command line that the container's shell runs; healthy if it exits with 0
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    health_cmd: Option<String>,

    /// Time between two checks
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    health_interval: Option<Duration>,

    /// Time limit of a check
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    health_timeout: Option<Duration>,

    /// Consecutive failures after which the container is unhealthy
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=i32::MAX.unsigned_abs()))]
    health_retries: Option<u32>,

    /// Time after the start during which failures do not count
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    health_start_period: Option<Duration>,

    /// Time between two checks during the start period
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    health_start_interval: Option<Duration>,

    /// Disable the health check that the image defines
    #[arg(long, conflicts_with_all = ["health_cmd", "health_interval", "health_timeout", "health_retries", "health_start_period", "health_start_interval"])]
    no_healthcheck: bool,
}

impl HealthFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        if *self == Self::default() {
            return;
        }
        let check = container(spec).healthcheck.get_or_insert_default();
        if self.no_healthcheck {
            *check = Default::default();
            check.test = vec!["NONE".to_owned()];
            return;
        }
        if check.test == ["NONE"] {
            check.test.clear();
        }
        set(&mut check.test, &self.health_cmd.as_ref().map(|line| vec!["CMD-SHELL".to_owned(), line.clone()]));
        set(&mut check.interval_ns, &self.health_interval.map(ns));
        set(&mut check.timeout_ns, &self.health_timeout.map(ns));
        set(&mut check.retries, &self.health_retries);
        set(&mut check.start_period_ns, &self.health_start_period.map(ns));
        set(&mut check.start_interval_ns, &self.health_start_interval.map(ns));
    }
}
