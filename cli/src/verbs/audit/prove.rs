//! `swarmctl audit prove`.

use std::path::PathBuf;

use super::{deliver, report_missing_signatures, require_agreement};
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;

/// Prove that a frame is in history
///
/// Prints the frame with all its events, the hashes that lead from it to the root of history, and a checkpoint with that root,
/// signed by the managers, in the form of C2SP's tlog-proof. `audit verify` and `swarmlog-verify` can verify it anywhere; they
/// need only the managers' keys.
///
/// Example: swarmctl audit prove 1234 -o deploy-of-may.tlog-proof
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Index of the frame, as `swarmctl events` shows it
    #[arg(value_name = "INDEX")]
    index: u64,

    /// File to write, which must not exist
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("it changes nothing in the cluster")?;
    let reply = session.manager.prove_frame(args.index).await?;
    report_missing_signatures(&reply.others, session)?;
    deliver(&reply.proof, args.output.as_ref(), &reply, session)?;
    require_agreement(&reply.others)
}
