//! `swarmctl node drain`.

use clap_complete::ArgValueCandidates;
use events::Availability;

use super::change::set_availability;
use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{NodeGoal, WaitFlags, for_nodes};

/// Move all tasks away from nodes
///
/// Tasks of replicated services move to other nodes, and no new ones are placed on these until `swarmctl node activate`. Waits until
/// no task runs on them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let since = set_availability(session, &args.nodes, Availability::Drain).await?;
    for_nodes(session, &args.wait, &args.nodes, NodeGoal::Drained, since).await
}
