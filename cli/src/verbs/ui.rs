//! `swarmctl ui`.

use crate::failure::Failure;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Show services, nodes, tasks and history on one screen, now and at any point of the past
///
/// Keys are as in k9s: `:` for a command, `/` for a filter, `d` to describe, `l` for logs, esc to go back, and `?` for all of
/// them. Left, right, page up and page down move through history. Read-only. Needs a terminal of at least 80x24.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    crate::ui::run(&args.at, session).await
}
