//! `swarmctl sink inspect`.

use clap_complete::ArgValueCandidates;

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, sink};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Show sinks: their filters, their progress, and their last error
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sinks: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SINK", add = ArgValueCandidates::new(completion::sinks))]
    sinks: Vec<String>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let sinks = session.manager.sinks(args.sinks.clone()).await?;
    for (position, sink) in sinks.iter().enumerate() {
        if session.globals.format == Format::Json {
            session.json(sink)?;
        } else {
            let gap = if position == 0 { "" } else { "\n" };
            let block = sink::block(sink, session.view());
            session.text(&format!("{gap}{block}"))?;
        }
    }
    Ok(())
}
