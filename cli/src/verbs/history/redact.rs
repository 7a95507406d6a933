//! `swarmctl history redact`.

use wire::v1::RedactHistory;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Erase a value from history, such as a password in a variable
///
/// Erases the value that the frame at INDEX gave the field of a service from all frames that gave it the same value, on every
/// manager: from its history, archives, checkpoints and raft log. A keyed digest replaces the value, and an event records who
/// erased it, where and why. Hashes of frames do not change, so proofs remain valid. Refused while the service, its rollback spec
/// or a running task has the value. Backups, exports, logs that were moved aside and data that was sent to sinks keep it.
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

    /// Service, if the frame gave several services a value: an id, or a present name
    #[arg(long, value_name = "SERVICE")]
    service: Option<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let Args { index, field, service } = args;
    let redact = RedactHistory { index: *index, field: field.clone(), service: service.clone() };
    session.execute_and_print(Command::RedactHistory(redact), field).await?;
    if session.is_trial() {
        return Ok(());
    }
    session.note("each manager erases it from its disk now; its log reports when it is done")
}
