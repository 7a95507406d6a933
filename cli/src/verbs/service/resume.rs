//! `swarmctl service resume`.

use clap_complete::ArgValueCandidates;
use wire::v1::ResumeUpdate;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{self, Goal, WaitFlags};

/// Resume the paused update or rollback of a service
///
/// Failures before the pause no longer count.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let resume = ResumeUpdate { service: args.service.clone() };
    let reply = session.execute_and_print(Command::ResumeUpdate(resume), &args.service).await?;
    wait::for_service(session, &args.wait, &args.service, Goal::Spec, reply.index).await
}
