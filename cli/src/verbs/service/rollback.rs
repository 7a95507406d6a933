//! `swarmctl service rollback`.

use clap_complete::ArgValueCandidates;
use wire::v1::RollbackService;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::number;
use crate::wait::{self, Goal, WaitFlags};

/// More than any history has: only a bound for what is read as a number.
const REVISION_MAX: u64 = 1_000_000_000_000;

/// Put an earlier revision of a service back
///
/// Its tasks are replaced as the rollback settings of the service say. The number of replicas and the registry credentials stay.
/// Without --to it goes back to the last revision that was rolled out completely before the present one.
///
/// Example: swarmctl service rollback web --to 41 --reason "memory leak in 1.28"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,

    /// Revision to put back, as `service revisions` lists them
    #[arg(long, value_name = "REVISION", value_parser = number::within(1..=REVISION_MAX))]
    to: Option<u64>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let rollback = RollbackService { service: args.service.clone(), revision: args.to };
    let reply = session.execute_and_tell(Command::RollbackService(rollback), &args.service).await?;
    wait::for_service(session, &args.wait, &args.service, Goal::Spec, reply.index).await
}
