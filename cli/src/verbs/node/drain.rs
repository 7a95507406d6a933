//! `swarmctl node drain`.

use std::time::Duration;

use clap_complete::ArgValueCandidates;

use super::change::{Wanted, set_availability};
use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::duration;
use crate::wait::{NodeGoal, WaitFlags, for_nodes};

/// Move all tasks away from nodes
///
/// Tasks of replicated services move to other nodes, and no new ones are placed on these until `swarmctl node activate`. A task of a
/// service with the update order start-first stops once its replacement runs, or when the deadline has passed; other tasks stop at
/// once. Waits until no task runs on the nodes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    /// Stop tasks after this time even if their replacements do not run yet (default: wait for them)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    deadline: Option<Duration>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let since = set_availability(session, &args.nodes, Wanted::Drained(args.deadline)).await?;
    for_nodes(session, &args.wait, &args.nodes, NodeGoal::Drained, since).await
}
