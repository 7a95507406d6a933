//! `swarmctl node promote`.

use clap_complete::ArgValueCandidates;
use events::Role;

use super::change::set_role;
use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::WaitFlags;

/// Promote nodes to managers
///
/// The node gets a new certificate, fetches the log and votes once it has caught up; its tasks keep running. Three or five
/// managers survive the loss of one or two. Waits until the nodes vote.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    set_role(session, &args.nodes, Role::Manager, &args.wait).await
}
