//! `swarmctl history redact`.

use wire::v1::RedactHistory;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Erase a value that must go from history, such as a password in a variable
///
/// What the frame at INDEX gave the field of a service goes from all frames that gave it the same, on every manager: from its history,
/// its archives, its checkpoints and its raft log. A keyed digest takes its place, and an event says who erased it, where and why. Hashes
/// of frames stay what they were, so that proofs go on to hold. Refused while the service, its rollback or a task that runs has the value.
/// Backups, exports, logs that were set aside and what was sent to sinks keep it.
///
/// Example: swarmctl history redact 12 env.PASSWORD --reason "it was a password"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Index of a frame that gave the field the value; `swarmctl blame service NAME --all` shows it
    #[arg(value_name = "INDEX")]
    index: u64,

    /// Field: env.NAME, labels.KEY, container.labels.KEY, args or command
    #[arg(value_name = "FIELD")]
    field: String,

    /// Service whose value is meant, where the frame gave several a value: an id, or a present name
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let Args { index, field, service } = args;
    let redact = RedactHistory { index: *index, field: field.clone(), service: service.clone() };
    session.execute_and_tell(Command::RedactHistory(redact), field).await?;
    Ok(())
}
