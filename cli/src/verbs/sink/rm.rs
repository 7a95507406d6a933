//! `swarmctl sink rm`.

use clap_complete::ArgValueCandidates;
use wire::v1::RemoveSink;
use wire::v1::command_request::Command;

use crate::completion;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Remove sinks; data that was already sent is not affected
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sinks: names, ids or unique prefixes of ids
    #[arg(required = true, value_name = "SINK", add = ArgValueCandidates::new(completion::sinks))]
    sinks: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.require_sinks(&args.sinks).await?;
    for sink in &args.sinks {
        let asked = RemoveSink { sink: sink.clone() };
        session.execute_and_print(Command::RemoveSink(asked), sink).await?;
    }
    Ok(())
}
