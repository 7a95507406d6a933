//! `swarmctl node ls`.

use wire::v1::ListNodesRequest;

use crate::failure::Failure;
use crate::format::node;
use crate::manager::Manager;
use crate::session::Session;

/// List the nodes
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let nodes = session.manager.list_nodes(ListNodesRequest::default()).await?;
    let width = session.around.width;
    session.list(&nodes, args.quiet, |node| node.id.to_string(), |nodes| node::table(nodes, width))
}
