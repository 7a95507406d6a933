//! `swarmctl task ls`.

use wire::v1::ListTasksRequest;

use crate::failure::Failure;
use crate::format::task;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::values::filter::{self, Filter};

/// List the tasks that should run
///
/// A desired state in a filter lists tasks with that state, finished ones included.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show finished tasks as well
    #[arg(short, long)]
    all: bool,

    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    /// Show only what matches, such as service=web or node=worker-1; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::of_tasks)]
    filter: Vec<Filter>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let mut tasks = session.manager.tasks(request(args)?).await?.tasks;
    task::sort(&mut tasks);
    let view = session.view();
    session.list(&tasks, args.quiet, |task| task.id.to_string(), |tasks| task::table(tasks, view))
}

fn request(args: &Args) -> Result<ListTasksRequest, Failure> {
    let asked = filter::tasks(&args.filter)?;
    // A filter for a state includes all tasks with that state.
    Ok(ListTasksRequest { live: Some(!args.all && asked.desired.is_none()), ..asked })
}
