//! `swarmctl cluster unlock-key`.

use serde::Serialize;
use wire::v1::RotateUnlockKey;
use wire::v1::command_request::Command;

use crate::failure::Failure;
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;

/// Show the unlock key, or replace it
///
/// This key is needed to restart a manager of a cluster with autolock. Do not keep it on a manager's disk. The history records
/// that it was read, and by whom.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Replace the key on every manager, and show the new one
    #[arg(long)]
    rotate: bool,
}

/// The result as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    unlock_key: &'a str,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if args.rotate {
        session.execute(Command::RotateUnlockKey(RotateUnlockKey {})).await?;
    }
    if session.is_trial() && args.rotate { Ok(()) } else { show(session).await }
}

/// Shows the key.
pub(super) async fn show<M: Manager>(session: &mut Session<'_, M>) -> Result<(), Failure> {
    let key = session.manager.unlock_key().await?;
    match session.globals.format {
        Format::Json => session.json(&Shown { unlock_key: &key.unlock_key }),
        Format::Table => session.line(&key.unlock_key),
    }
}
