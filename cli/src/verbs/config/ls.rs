//! `swarmctl config ls`.

use crate::failure::Failure;
use crate::format::config;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// List the configs
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
    let configs = session.manager.configs(Vec::new()).await?;
    let view = session.view();
    session.list(&configs, args.quiet, |config| config.id.to_string(), |configs| config::table(configs, view))
}
