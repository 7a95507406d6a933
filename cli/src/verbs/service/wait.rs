//! `swarmctl service wait`.

use clap_complete::ArgValueCandidates;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::{self, Goal, WaitFlags};

/// Wait until a job has finished, or until a service has converged
///
/// For a job, prints the exit code: 0, or that of the task that failed last. Exits with an error if tasks failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let service = session.service(&args.service).await?;
    let is_job = service.spec.is_job();
    let waited = wait::for_service(session, &args.wait, &args.service, Goal::Run, service.meta.version).await;
    if is_job && let Some(code) = wait::exit_code(session, &args.service, &waited).await? {
        session.line(&code.to_string())?;
    }
    waited
}
