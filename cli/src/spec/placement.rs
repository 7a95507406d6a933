//! Where tasks may and should run.

use clap::Args;
use events::spec::limits::REPLICAS_MAX;
use events::{PlacementPreference, ServiceSpec};

use super::{replace, set, task};
use crate::values::{constraint, number};

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Placement")]
pub(super) struct PlacementFlags {
    /// Condition that a node must meet, such as node.labels.zone==east; replaces all
    #[arg(long, value_name = "EXPRESSION", value_parser = constraint::parse)]
    constraint: Vec<String>,

    /// Label whose values tasks are spread over, such as spread=node.labels.zone; replaces all
    #[arg(long, value_name = "spread=LABEL", value_parser = constraint::parse_preference)]
    placement_pref: Vec<String>,

    /// Maximum number of tasks of the service on one node; 0 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=REPLICAS_MAX))]
    replicas_max_per_node: Option<u64>,
}

impl PlacementFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        if *self == Self::default() {
            return;
        }
        let placement = task(spec).placement.get_or_insert_default();
        replace(&mut placement.constraints, &self.constraint);
        let preferences = self.placement_pref.iter().map(|label| PlacementPreference { spread: label.clone() });
        replace(&mut placement.preferences, &preferences.collect::<Vec<_>>());
        set(&mut placement.max_replicas, &self.replicas_max_per_node);
    }
}
