//! `swarmctl task ls`.

use wire::v1::ListTasksRequest;

use crate::failure::Failure;
use crate::format::task;
use crate::manager::Manager;
use crate::session::Session;

/// List the tasks that should run
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show finished tasks as well
    #[arg(short, long)]
    all: bool,

    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let request = ListTasksRequest { live: Some(!args.all), ..Default::default() };
    let mut tasks = session.manager.tasks(request).await?.tasks;
    task::sort(&mut tasks);
    let view = session.view();
    session.list(&tasks, args.quiet, |task| task.id.to_string(), |tasks| task::table(tasks, view))
}
