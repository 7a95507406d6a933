//! `swarmctl task logs`.

use clap_complete::ArgValueCandidates;
use wire::v1::LogsRequest;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::verbs::logs::{Lines, show};

/// Show the logs of tasks, also of finished ones
///
/// Example: swarmctl task logs --since 10m --timestamps web.1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tasks: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    tasks: Vec<String>,

    #[command(flatten)]
    lines: Lines,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let request = args.lines.request(session.env.clock.now());
    show(&args.lines, LogsRequest { tasks: args.tasks.clone(), ..request }, session).await
}
