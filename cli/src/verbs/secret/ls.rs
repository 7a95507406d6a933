//! `swarmctl secret ls`.

use crate::failure::Failure;
use crate::format::secret;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// List the secrets
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
    let secrets = session.manager.secrets(Vec::new()).await?;
    let view = session.view();
    session.list(&secrets, args.quiet, |secret| secret.id.to_string(), |secrets| secret::table(secrets, view))
}
