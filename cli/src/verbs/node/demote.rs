//! `swarmctl node demote`.

use clap_complete::ArgValueCandidates;
use events::Role;

use super::change::set_role;
use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::WaitFlags;

/// Demote managers to workers
///
/// The node stops replicating the log; its tasks keep running. A demotion is refused if the remaining managers would have no
/// quorum. Waits until the nodes are workers.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    set_role(session, &args.nodes, Role::Worker, &args.wait).await
}
