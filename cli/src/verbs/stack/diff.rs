//! `swarmctl stack diff`.

use super::files::FileFlags;
use crate::apply;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::WaitFlags;

/// Show what `stack deploy` would change: the same as `stack deploy --dry-run`
///
/// A + is before what would be created, a ~ before what would be changed, and a - before what would be removed. Ends with 2 if anything
/// would change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the stack (default: the name that the files give)
    #[arg(value_name = "STACK")]
    stack: Option<String>,

    #[command(flatten)]
    files: FileFlags,

    /// Show also what `--prune` would remove
    #[arg(long)]
    prune: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let files = args.files.read()?;
    let stack = files.stack_name(args.stack.as_deref())?;
    let wanted = apply::Wanted { prune: args.prune, ..files.wanted(&stack, session)? };
    let plan = apply::plan(wanted, session).await?;
    apply::run(plan, None, &WaitFlags::default(), session).await
}
