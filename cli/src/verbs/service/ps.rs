//! `swarmctl service ps`.

use clap_complete::ArgValueCandidates;
use wire::v1::ListTasksRequest;

use crate::completion;
use crate::failure::Failure;
use crate::format::task;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::values::filter::{self, Filter};

/// List the tasks of services, finished ones included
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,

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
    let asked = filter::tasks(&args.filter)?;
    if asked.service.is_some() {
        return Err(filter::said_twice("service"));
    }
    let mut tasks = Vec::new();
    for service in &args.services {
        let request = ListTasksRequest { service: Some(service.clone()), ..asked.clone() };
        tasks.extend(session.manager.tasks(request).await?.tasks);
    }
    task::sort(&mut tasks);
    let view = session.view();
    session.list(&tasks, args.quiet, |task| task.id.to_string(), |tasks| task::table(tasks, view))
}
