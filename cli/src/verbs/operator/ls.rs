//! `swarmctl operator ls`.

use crate::failure::Failure;
use crate::format::operator;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// List the operators that have a certificate
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let operators = session.manager.operators().await?;
    let view = session.view();
    session.list(
        &operators,
        args.quiet,
        |operator| operator.id.to_string(),
        |operators| operator::table(operators, view),
    )
}
