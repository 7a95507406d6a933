//! `swarmctl whatif lose`.

use clap_complete::ArgValueCandidates;
use wire::v1::LoseNodes;
use wire::v1::preview_step::Step;

use crate::completion;
use crate::failure::Failure;
use crate::session::Session;
use crate::values::constraint;

/// Lose nodes: all of them go down at once
///
/// Example: swarmctl whatif lose worker-1 worker-2
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required_unless_present = "constraints", value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    /// All nodes that meet a constraint, such as node.labels.rack==a; if repeated, nodes must meet all of them
    #[arg(long = "where", value_name = "CONSTRAINT", value_parser = constraint::parse)]
    constraints: Vec<String>,
}

pub(super) fn run<M>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.suppose(Step::Lose(LoseNodes { nodes: args.nodes.clone(), constraints: args.constraints.clone() }));
    Ok(())
}
