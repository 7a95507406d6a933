//! What becomes of running tasks as nodes come and go.

use clap::Args;
use events::ServiceSpec;

use crate::values::rebalance::{self, Wish};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Placement")]
pub(super) struct BalanceFlags {
    /// Move running tasks to nodes that have fewer of them: how many in a step, and how far apart the steps are (default off)
    #[arg(long, value_name = "max=NUMBER,every=DURATION|on|off", value_parser = rebalance::parse)]
    rebalance: Option<Wish>,
}

impl BalanceFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        match self.rebalance {
            None => {}
            Some(Wish::Off) => spec.rebalance = None,
            Some(Wish::On(rule)) => spec.rebalance = Some(rule),
        }
    }
}
