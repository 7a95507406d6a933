//! `swarmctl node ps`.

use clap_complete::ArgValueCandidates;
use wire::v1::ListTasksRequest;

use super::SELF;
use crate::completion;
use crate::failure::Failure;
use crate::format::task;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::values::filter::{self, Filter};

/// List the tasks on nodes, finished ones included
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids; self is the node that answers (default self)
    #[arg(value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,

    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    /// Show only what matches, such as desired-state=running or service=web; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::of_tasks)]
    filter: Vec<Filter>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let asked = filter::tasks(&args.filter)?;
    if asked.node.is_some() {
        return Err(filter::said_twice("node"));
    }
    let own = [SELF.to_owned()];
    let mut tasks = Vec::new();
    for node in super::named(if args.nodes.is_empty() { &own } else { &args.nodes }, session).await? {
        let request = ListTasksRequest { node: Some(node), ..asked.clone() };
        tasks.extend(session.manager.tasks(request).await?.tasks);
    }
    task::sort(&mut tasks);
    let view = session.view();
    session.list(&tasks, args.quiet, |task| task.id.to_string(), |tasks| task::table(tasks, view))
}
