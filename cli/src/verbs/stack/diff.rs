//! `swarmctl stack diff`.

use super::files::FileFlags;
use crate::apply;
use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::wait::WaitFlags;

/// Show what `stack deploy` would change: the same as `stack deploy --dry-run`
///
/// `+` marks objects that would be created, `~` those that would be changed, and `-` those that would be removed. Exits with 2 if
/// anything would change.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the stack (default: the name in the files)
    #[arg(value_name = "STACK")]
    stack: Option<String>,

    #[command(flatten)]
    files: FileFlags,

    /// Also show what `--prune` would remove
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
