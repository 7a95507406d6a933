//! `swarmctl service scale`.

use std::collections::BTreeSet;

use clap_complete::ArgValueCandidates;
use wire::v1::command_request::Command;
use wire::v1::{ScaleService, ServiceView};

use crate::completion;
use crate::failure::{Failure, Kind};
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
    let mut services = Vec::new();
    for Scale { service, .. } in &args.services {
        services.push(session.service(service).await?);
    }
    refuse_twice(&services)?;
    let mut asked = Vec::new();
    for (Scale { service, replicas }, present) in args.services.iter().zip(services) {
        refuse_repetition(session, &present, *replicas).await?;
        let scale = ScaleService { service: service.clone(), replicas: *replicas };
        let reply = session.execute_and_print(Command::ScaleService(scale), service).await?;
        asked.push((service, reply.index));
    }
    for (service, index) in asked {
        wait::for_service(session, &args.wait, service, Goal::Count, index).await?;
    }
    Ok(())
}

/// Refuses two numbers for one service, even if given for different references.
fn refuse_twice(services: &[ServiceView]) -> Result<(), Failure> {
    let mut seen = BTreeSet::new();
    match services.iter().find(|service| !seen.insert(service.id)) {
        None => Ok(()),
        Some(twice) => {
            let sentence = format!("service {} is named twice", twice.spec.name());
            Err(Failure::new(Kind::Usage, sentence).hint("give one number of replicas for each service"))
        }
    }
}

/// Refuses a scaling that changes nothing while the service's update is paused, as an update does.
async fn refuse_repetition<M: Manager>(
    session: &mut Session<'_, M>,
    present: &ServiceView,
    replicas: u64,
) -> Result<(), Failure> {
    let paused = wait::paused_update(session, present).await?;
    paused.filter(|_| present.spec.replicas() == Some(replicas)).map_or(Ok(()), Err)
}
