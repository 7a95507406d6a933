//! `swarmctl sink ls`.

use crate::failure::Failure;
use crate::format::sink;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// List the sinks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let sinks = session.manager.sinks(Vec::new()).await?;
    let view = session.view();
    session.list(&sinks, args.quiet, |sink| sink.id.to_string(), |sinks| sink::table(sinks, view))
}
