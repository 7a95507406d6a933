//! `swarmctl node activate`.

use clap_complete::ArgValueCandidates;

use super::change::{Wanted, set_availability};
use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Let paused or drained nodes accept tasks again
///
/// Tasks that moved to other nodes stay there; new tasks may be placed on these nodes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Nodes: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "NODE", add = ArgValueCandidates::new(completion::nodes))]
    nodes: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    set_availability(session, &args.nodes, Wanted::Active).await.map(drop)
}
