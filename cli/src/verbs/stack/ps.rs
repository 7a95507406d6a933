//! `swarmctl stack ps`.

use wire::v1::{LabelFilter, ListTasksRequest};

use super::services;
use crate::compose::STACK_LABEL;
use crate::failure::Failure;
use crate::format::task;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::values::filter::{self, Filter};

/// List the tasks of a stack, finished ones included
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the stack
    #[arg(value_name = "STACK")]
    stack: String,

    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    /// Show only what matches, such as desired-state=running or node=worker-1; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::of_tasks)]
    filter: Vec<Filter>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    services::existing(&args.stack, session).await?;
    let label = LabelFilter { key: STACK_LABEL.to_owned(), value: Some(args.stack.clone()) };
    let asked = filter::tasks(&args.filter)?;
    let mut select = asked.select.clone().unwrap_or_default();
    select.labels.push(label);
    let mut tasks = session.manager.tasks(ListTasksRequest { select: Some(select), ..asked }).await?.tasks;
    task::sort(&mut tasks);
    let view = session.view();
    session.list(&tasks, args.quiet, |task| task.id.to_string(), |tasks| task::table(tasks, view))
}
