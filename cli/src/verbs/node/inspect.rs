//! `swarmctl node inspect`.

use clap_complete::ArgValueCandidates;
use wire::v1::ListTasksRequest;

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, node, task};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Show nodes with their tasks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    /// Show finished tasks as well
    #[arg(short, long)]
    all: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let nodes = super::named(&args.nodes, session).await?;
    let nodes = session.manager.nodes(nodes).await?;
    for (position, node) in nodes.iter().enumerate() {
        if session.globals.format == Format::Json {
            session.json(node)?;
            continue;
        }
        let request = ListTasksRequest { node: Some(node.id.to_string()), ..Default::default() };
        let mut tasks = session.manager.tasks(request).await?.tasks;
        // Tasks that are stopping are on the node as well.
        tasks.retain(|task| args.all || !task.status.state().is_terminal());
        task::sort(&mut tasks);
        let gap = if position == 0 { "" } else { "\n" };
        let block = node::block(node, session.view());
        session.text(&format!("{gap}{block}"))?;
        if !tasks.is_empty() {
            session.text(&format!("\n{}", task::table(&tasks, session.view())))?;
        }
    }
    Ok(())
}
