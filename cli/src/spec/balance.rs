//! Rebalancing as nodes join and leave, and autoscaling by resource usage.

use clap::Args;
use events::ServiceSpec;

use crate::values::autoscale;
use crate::values::rebalance::{self, Setting};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Placement")]
pub(super) struct BalanceFlags {
    /// Move running tasks to nodes with fewer tasks: the maximum per step, and the interval between steps (default off)
    #[arg(long, value_name = "max=NUMBER,every=DURATION|on|off", value_parser = rebalance::parse)]
    rebalance: Option<Setting>,

    /// Scale automatically by resource usage, in percent of the reservation: within bounds, averaged over a window (default 60s),
    /// and scaling in only after a cool-down (default 5m); in place of --replicas (default off)
    #[arg(long, value_name = "min=NUMBER,max=NUMBER,cpu=PERCENT,memory=PERCENT|off", value_parser = autoscale::parse)]
    autoscale: Option<autoscale::Setting>,
}

impl BalanceFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        match self.rebalance {
            None => {}
            Some(Setting::Off) => spec.rebalance = None,
            Some(Setting::On(rule)) => spec.rebalance = Some(rule),
        }
        match self.autoscale {
            None => {}
            Some(autoscale::Setting::Off) => spec.autoscale = None,
            Some(autoscale::Setting::On(rule)) => spec.autoscale = Some(rule),
        }
    }
}
