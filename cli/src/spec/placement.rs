//! Constraints and preferences of placement.

use clap::{Args, ValueEnum};
use events::spec::limits::REPLICAS_MAX;
use events::{Affinity, Placement, PlacementPreference, PlacementStrategy, ServiceSpec};

use super::{replace, set, task};
use crate::values::{affinity, constraint, number, pair};

/// How the scheduler chooses among the suitable nodes.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Strategy {
    /// The node with the fewest tasks of the service, then the node with the fewest tasks
    Spread,
    /// The node with the least free resources
    Binpack,
    /// A random node
    Random,
}

impl Strategy {
    /// The strategy as a number in specs.
    pub fn number(self) -> i32 {
        let strategy = match self {
            Self::Spread => PlacementStrategy::Spread,
            Self::Binpack => PlacementStrategy::Binpack,
            Self::Random => PlacementStrategy::Random,
        };
        strategy.into()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(next_help_heading = "Placement")]
pub(super) struct PlacementFlags {
    /// Constraint that a node must meet, such as node.labels.zone==east; replaces all
    #[arg(long, value_name = "EXPRESSION", value_parser = constraint::parse)]
    constraint: Vec<String>,

    /// Spread tasks evenly over the values of this label, such as spread=node.labels.zone; replaces all
    #[arg(long, value_name = "spread=LABEL", value_parser = constraint::parse_preference)]
    placement_pref: Vec<String>,

    /// Dependency: a service that must run, or a job that must complete, before the first tasks start; replaces all
    #[arg(long, value_name = "SERVICE", value_parser = pair::key)]
    depends_on: Vec<String>,

    /// Maximum number of tasks of the service on one node; 0 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = number::within(0..=REPLICAS_MAX))]
    replicas_max_per_node: Option<u64>,

    /// Required affinity to services or images on the same node, such as service==db or image!=old; replaces all
    #[arg(long, value_name = "EXPRESSION", value_parser = affinity::parse)]
    affinity: Vec<Affinity>,

    /// Preferred affinity to services or images on the same node, such as service!=web,weight=10; replaces all
    #[arg(long, value_name = "EXPRESSION[,weight=NUMBER]", value_parser = affinity::parse_preferred)]
    affinity_pref: Vec<Affinity>,

    /// How the scheduler chooses among suitable nodes (default: the cluster's strategy)
    #[arg(long, value_name = "STRATEGY")]
    placement_strategy: Option<Strategy>,
}

impl PlacementFlags {
    pub(super) fn apply(&self, spec: &mut ServiceSpec) {
        if *self == Self::default() {
            return;
        }
        replace(&mut spec.depends_on, &self.depends_on);
        let placement = task(spec).placement.get_or_insert_default();
        replace(&mut placement.constraints, &self.constraint);
        let preferences = self.placement_pref.iter().map(|label| PlacementPreference { spread: label.clone() });
        replace(&mut placement.preferences, &preferences.collect::<Vec<_>>());
        set(&mut placement.max_replicas, &self.replicas_max_per_node);
        if !self.affinity.is_empty() {
            replace_affinities(placement, &self.affinity, |affinity| affinity.weight.is_none());
        }
        if !self.affinity_pref.is_empty() {
            replace_affinities(placement, &self.affinity_pref, |affinity| affinity.weight.is_some());
        }
        placement.strategy = self.placement_strategy.map(Strategy::number).or(placement.strategy);
    }
}

/// Replaces the affinities of one kind and keeps the others.
fn replace_affinities(placement: &mut Placement, given: &[Affinity], is_replaced: impl Fn(&Affinity) -> bool) {
    placement.affinities.retain(|affinity| !is_replaced(affinity));
    placement.affinities.extend_from_slice(given);
}
