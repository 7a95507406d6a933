//! `swarmctl secret inspect`.

use clap_complete::ArgValueCandidates;

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, secret};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Show secrets without their data
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Secrets: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SECRET", add = ArgValueCandidates::new(completion::secrets))]
    secrets: Vec<String>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let secrets = session.manager.secrets(args.secrets.clone()).await?;
    for (position, secret) in secrets.iter().enumerate() {
        if session.globals.format == Format::Json {
            session.json(secret)?;
        } else {
            let gap = if position == 0 { "" } else { "\n" };
            let block = secret::block(secret, session.view());
            session.text(&format!("{gap}{block}"))?;
        }
    }
    Ok(())
}
