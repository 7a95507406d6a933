//! `swarmctl operator ls`.

use crate::failure::Failure;
use crate::format::operator;
use crate::manager::Manager;
use crate::session::Session;

/// List the operators that have a certificate
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let operators = session.manager.operators().await?;
    let view = session.view();
    session.list(
        &operators,
        args.quiet,
        |operator| operator.id.to_string(),
        |operators| operator::table(operators, view),
    )
}
