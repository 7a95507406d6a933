//! `swarmctl audit checkpoint`.

use std::path::PathBuf;

use super::{deliver, require_agreement, tell_silent};
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Print a checkpoint of history, signed by the managers
///
/// A few lines of text that stand for all of history up to now, in the form of C2SP's tlog-checkpoint. Kept elsewhere, it shows later
/// that nothing before it was changed, left out or put back. The other managers sign it too if they answer and have the same frames;
/// one that has others is named, and the command ends with 1.
///
/// Example: swarmctl audit checkpoint -o /mnt/usb/2026-05-01.checkpoint
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write, which must not exist
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("it changes nothing in the cluster")?;
    let reply = session.manager.checkpoint().await?;
    tell_silent(&reply.others, session)?;
    deliver(&reply.note, args.output.as_ref(), &reply, session)?;
    require_agreement(&reply.others)
}
