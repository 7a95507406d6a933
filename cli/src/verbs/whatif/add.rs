//! `swarmctl whatif add`.

use clap_complete::ArgValueCandidates;
use wire::v1::AddNodes;
use wire::v1::preview_step::Step;

use crate::completion;
use crate::failure::Failure;
use crate::session::Session;

/// Add workers with the resources, labels and platform of a given node
///
/// Example: swarmctl whatif add 3 --like worker-1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many nodes
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=1000))]
    count: u64,

    /// Node to copy: a name, an id or a unique prefix of an id
    #[arg(long, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    like: String,
}

pub(super) fn run<M>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.suppose(Step::Add(AddNodes { count: args.count, like: args.like.clone() }));
    Ok(())
}
