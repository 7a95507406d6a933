//! `swarmctl stack ps`.

use wire::v1::{LabelFilter, ListTasksRequest, Selection};

use super::services;
use crate::compose::STACK_LABEL;
use crate::failure::Failure;
use crate::format::task;
use crate::manager::Manager;
use crate::session::Session;

/// List the tasks of a stack, finished ones included
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the stack
    #[arg(value_name = "STACK")]
    stack: String,

    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    services::existing(&args.stack, session).await?;
    let label = LabelFilter { key: STACK_LABEL.to_owned(), value: Some(args.stack.clone()) };
    let select = Some(Selection { labels: vec![label], ..Selection::default() });
    let mut tasks = session.manager.tasks(ListTasksRequest { select, ..Default::default() }).await?.tasks;
    task::sort(&mut tasks);
    let view = session.view();
    session.list(&tasks, args.quiet, |task| task.id.to_string(), |tasks| task::table(tasks, view))
}
