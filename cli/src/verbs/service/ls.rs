//! `swarmctl service ls`.

use wire::v1::ListServicesRequest;

use crate::failure::Failure;
use crate::format::service;
use crate::manager::Manager;
use crate::session::Session;

/// List the services
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let services = session.manager.list_services(ListServicesRequest::default()).await?;
    let view = session.view();
    session.list(&services, args.quiet, |service| service.id.to_string(), |services| service::table(services, view))
}
