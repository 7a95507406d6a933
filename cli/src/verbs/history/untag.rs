//! `swarmctl history untag`.

use wire::v1::UntagHistory;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Remove tags from points of history; the history itself is not changed
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tags
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    for name in &args.names {
        let untag = UntagHistory { name: name.clone() };
        session.execute_and_print(Command::UntagHistory(untag), name).await?;
    }
    Ok(())
}
