//! `swarmctl task stats`.

use clap_complete::ArgValueCandidates;
use wire::v1::UsageRequest;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::verbs::usage::{Watching, show};

/// Show the CPU, memory, network and disk usage of running tasks
///
/// 100 % is one processor. Values that an executor cannot measure are shown as `--`; the network usage of a plain process is that
/// of its host.
///
/// Example: swarmctl task stats --no-stream web.1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tasks: names, ids or unique prefixes of ids; all running tasks if none are given
    #[arg(value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    tasks: Vec<String>,

    #[command(flatten)]
    watching: Watching,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    show(UsageRequest { tasks: args.tasks.clone(), ..args.watching.request() }, session).await
}
