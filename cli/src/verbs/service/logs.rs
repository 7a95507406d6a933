//! `swarmctl service logs`.

use clap_complete::ArgValueCandidates;
use wire::v1::LogsRequest;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::verbs::logs::{Lines, show};

/// Show the logs of services
///
/// Lines of all tasks are ordered by time; with `--follow` they are shown as they arrive. Missing lines, such as those of a node
/// that is down, are reported in a warning.
///
/// Example: swarmctl service logs --follow --tail 10 web
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,

    #[command(flatten)]
    lines: Lines,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let request = args.lines.request(session.env.clock.now());
    show(&args.lines, LogsRequest { services: args.services.clone(), ..request }, session).await
}
