//! `swarmctl service scale`.

use clap_complete::ArgValueCandidates;
use wire::v1::ScaleService;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::scale::{self, Scale};
use crate::wait::{self, Goal, WaitFlags};

/// Change the number of tasks of replicated services
///
/// Example: swarmctl service scale web=6 db=2
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Services with their new numbers of tasks
    #[arg(required = true, value_name = "SERVICE=REPLICAS", value_parser = scale::parse, add = ArgValueCandidates::new(completion::services))]
    services: Vec<Scale>,

    #[command(flatten)]
    wait: WaitFlags,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let services: Vec<String> = args.services.iter().map(|scale| scale.service.clone()).collect();
    session.require_services(&services).await?;
    let mut asked = Vec::new();
    for Scale { service, replicas } in &args.services {
        refuse_repetition(session, service, *replicas).await?;
        let scale = ScaleService { service: service.clone(), replicas: *replicas };
        let reply = session.execute_and_tell(Command::ScaleService(scale), service).await?;
        asked.push((service, reply.index));
    }
    for (service, index) in asked {
        wait::for_service(session, &args.wait, service, Goal::Count, index).await?;
    }
    Ok(())
}

/// A scaling that changes nothing, of a service whose update is paused, says so, as an update does.
async fn refuse_repetition<M: Manager>(
    session: &mut Session<'_, M>,
    service: &str,
    replicas: u64,
) -> Result<(), Failure> {
    let present = session.service(service).await?;
    let paused = wait::paused_update(session, &present).await?;
    paused.filter(|_| present.spec.replicas() == Some(replicas)).map_or(Ok(()), Err)
}
