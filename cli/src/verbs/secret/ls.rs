//! `swarmctl secret ls`.

use crate::failure::Failure;
use crate::format::secret;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::values::filter::{self, Filter};

/// List the secrets
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    /// Show only what matches, such as name=db or label=team=blue; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::of_files)]
    filter: Vec<Filter>,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let mut secrets = session.manager.secrets(Vec::new()).await?;
    secrets.retain(|of| filter::selects(&args.filter, &of.id.to_string(), of.spec.annotations()));
    let view = session.view();
    session.list(&secrets, args.quiet, |secret| secret.id.to_string(), |secrets| secret::table(secrets, view))
}
