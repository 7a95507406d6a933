//! `swarmctl stack services`.

use wire::v1::ServiceSummary;

use crate::apply;
use crate::failure::{Failure, Kind};
use crate::format::service;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// List the services of a stack
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the stack
    #[arg(value_name = "STACK")]
    stack: String,

    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let services = existing(&args.stack, session).await?;
    let view = session.view();
    session.list(&services, args.quiet, |service| service.id.to_string(), |services| service::table(services, view))
}

/// The services of an existing stack.
pub(super) async fn existing<M: Manager>(
    stack: &str,
    session: &mut Session<'_, M>,
) -> Result<Vec<ServiceSummary>, Failure> {
    let services = apply::in_stack(stack, session).await?;
    if services.is_empty() {
        let failure = Failure::new(Kind::NotFound, format!("there is no stack \"{stack}\""));
        return Err(failure.hint("`swarmctl stack ls` lists what there is"));
    }
    Ok(services)
}
