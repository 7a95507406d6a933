//! `swarmctl service stats`.

use clap_complete::ArgValueCandidates;
use wire::v1::UsageRequest;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::verbs::usage::{Watching, show};

/// Show the CPU, memory, network and disk usage of the running tasks of services
///
/// 100 % is one processor. New tasks are added, and ended tasks are removed from the table.
///
/// Example: swarmctl service stats web
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,

    #[command(flatten)]
    watching: Watching,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    show(UsageRequest { services: args.services.clone(), ..args.watching.request() }, session).await
}
