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

/// More than any history has: a bound for the parser.
const REVISION_MAX: u64 = 1_000_000_000_000;

/// Roll back a service to an earlier revision
///
/// Its tasks are replaced according to the rollback settings of the service. The number of replicas and the registry credentials
/// do not change. Without --to, the service is rolled back to the last revision before the present one that was rolled out
/// completely.
///
/// Example: swarmctl service rollback web --to 41 --reason "memory leak in 1.28"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,

    /// Revision to restore, as listed by `service revisions`
    #[arg(long, value_name = "REVISION", value_parser = number::within(1..=REVISION_MAX))]
    to: Option<u64>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let rollback = RollbackService { service: args.service.clone(), revision: args.to };
    let reply = session.execute_and_print(Command::RollbackService(rollback), &args.service).await?;
    wait::for_service(session, &args.wait, &args.service, Goal::Spec, reply.index).await
}
