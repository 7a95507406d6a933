//! `swarmctl node rm`.

use clap_complete::ArgValueCandidates;
use wire::v1::RemoveNode;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Remove nodes from the cluster
///
/// A removed node's certificate is refused from then on; it can join again only with a join token.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    /// Remove a node even if it is ready
    #[arg(short, long)]
    force: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.require_nodes(&args.nodes).await?;
    for node in &args.nodes {
        let remove = RemoveNode { node: node.clone(), force: args.force };
        session.execute_and_print(Command::RemoveNode(remove), node).await?;
    }
    Ok(())
}
