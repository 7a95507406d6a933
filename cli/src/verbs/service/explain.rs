//! `swarmctl service explain`.

use clap_complete::ArgValueCandidates;
use wire::v1::ExplainPlacementRequest;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Explain where one more task of a service would go, or why nowhere
///
/// Shows what the scheduler says of every node now: how many nodes each condition refuses, and the best of the others.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.explain(ExplainPlacementRequest { task: None, service: Some(args.service.clone()) }).await
}
