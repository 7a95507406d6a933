//! `swarmctl node pause`.

use clap_complete::ArgValueCandidates;

use super::change::{Wanted, set_availability};
use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{NodeGoal, WaitFlags, for_nodes};

/// Place no new tasks on nodes
///
/// Running tasks keep running. Waits until tasks that are starting are running.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let since = set_availability(session, &args.nodes, Wanted::Paused).await?;
    for_nodes(session, &args.wait, &args.nodes, NodeGoal::Paused, since).await
}
