//! `swarmctl task explain`.

use clap_complete::ArgValueCandidates;
use wire::v1::ExplainPlacementRequest;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Explain why a task is on its node, or on none
///
/// Shows what the scheduler says of every node now, as if the task had no node yet: how many nodes each condition refuses, and the
/// best of the others.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Task: a name, an id or a unique prefix of an id
    #[arg(value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    task: String,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.explain(ExplainPlacementRequest { task: Some(args.task.clone()), service: None }).await
}
