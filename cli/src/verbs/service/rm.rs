//! `swarmctl service rm`.

use clap_complete::ArgValueCandidates;
use wire::v1::RemoveService;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Remove services and stop their tasks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    services: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.require_services(&args.services).await?;
    for service in &args.services {
        let remove = RemoveService { service: service.clone() };
        session.execute_and_print(Command::RemoveService(remove), service).await?;
    }
    Ok(())
}
