//! `swarmctl service ls`.

use wire::v1::ListServicesRequest;

use crate::failure::Failure;
use crate::format::service;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::values::filter::{self, Filter};

/// List the services
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    /// Show only what matches, such as name=web or label=team=blue; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::of_services)]
    filter: Vec<Filter>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let services = session.manager.list_services(request(&args.filter)?).await?;
    let view = session.view();
    session.list(&services, args.quiet, |service| service.id.to_string(), |services| service::table(services, view))
}

fn request(filters: &[Filter]) -> Result<ListServicesRequest, Failure> {
    let mode = filter::one(filters, "mode", |filter| if let Filter::Mode(mode) = filter { Some(*mode) } else { None })?;
    Ok(ListServicesRequest { select: filter::selection(filters), mode: mode.map(Into::into) })
}
