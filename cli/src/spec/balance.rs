//! What is done to a service as nodes come and go, and as its tasks have more or less to do.

use clap::Args;
use events::ServiceSpec;

use crate::values::autoscale;
use crate::values::rebalance::{self, Wish};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Placement")]
pub(super) struct BalanceFlags {
    /// Move running tasks to nodes that have fewer of them: how many in a step, and how far apart the steps are (default off)
    #[arg(long, value_name = "max=NUMBER,every=DURATION|on|off", value_parser = rebalance::parse)]
    rebalance: Option<Wish>,

    /// Number of replicas by what tasks use, in percent of what they reserve: within bounds, averaged over a window (default 60s), and
    /// not fewer before a cool-down (default 5m); in place of --replicas (default off)
    #[arg(long, value_name = "min=NUMBER,max=NUMBER,cpu=PERCENT,memory=PERCENT|off", value_parser = autoscale::parse)]
    autoscale: Option<autoscale::Wish>,
}

impl BalanceFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        match self.rebalance {
            None => {}
            Some(Wish::Off) => spec.rebalance = None,
            Some(Wish::On(rule)) => spec.rebalance = Some(rule),
        }
        match self.autoscale {
            None => {}
            Some(autoscale::Wish::Off) => spec.autoscale = None,
            Some(autoscale::Wish::On(rule)) => spec.autoscale = Some(rule),
        }
    }
}
