//! `swarmctl config ls`.

use crate::failure::Failure;
use crate::format::config;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::values::filter::{self, Filter};

/// List the configs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    /// Show only what matches, such as name=web or label=team=blue; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::of_files)]
    filter: Vec<Filter>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let mut configs = session.manager.configs(Vec::new()).await?;
    configs.retain(|of| filter::selects(&args.filter, &of.id.to_string(), of.spec.annotations()));
    let view = session.view();
    session.list(&configs, args.quiet, |config| config.id.to_string(), |configs| config::table(configs, view))
}
