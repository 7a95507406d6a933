//! `swarmctl config inspect`.

use clap_complete::ArgValueCandidates;

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, config};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Show configs with their data
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Configs: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "CONFIG", add = ArgValueCandidates::new(completion::configs))]
    configs: Vec<String>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let configs = session.manager.configs(args.configs.clone()).await?;
    for (position, config) in configs.iter().enumerate() {
        if session.globals.format == Format::Json {
            session.json(config)?;
        } else {
            let gap = if position == 0 { "" } else { "\n" };
            let block = config::block(config, session.view());
            session.text(&format!("{gap}{block}"))?;
        }
    }
    Ok(())
}
