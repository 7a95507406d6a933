//! `swarmctl service ls`.

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
    let mut services = session.manager.services(Vec::new()).await?;
    services.sort_by(|a, b| (a.spec.name(), a.id).cmp(&(b.spec.name(), b.id)));
    let now = session.around.clock.now();
    session.list(&services, args.quiet, |service| service.id.to_string(), |services| service::table(services, now))
}
