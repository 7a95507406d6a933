//! `swarmctl audit checkpoint`.

use std::path::PathBuf;

use super::{deliver, report_missing_signatures, require_agreement};
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Print a checkpoint of history, signed by the managers
///
/// A few lines of text that commit to all of history up to now, in the form of C2SP's tlog-checkpoint. Kept elsewhere, it can
/// show later that nothing before it was changed, removed or restored to an earlier state. Other managers also sign it if they
/// answer and have the same frames; one that has different frames is named, and the command exits with 1.
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
    report_missing_signatures(&reply.others, session)?;
    deliver(&reply.note, args.output.as_ref(), &reply, session)?;
    require_agreement(&reply.others)
}
