//! `swarmctl cluster ls`.

use crate::failure::Failure;
use crate::format::cluster;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// List the cluster that the manager belongs to
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show the id only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let clusters = [session.manager.cluster(false).await?];
    let view = session.view();
    session.list(&clusters, args.quiet, |cluster| cluster.id.to_string(), |clusters| cluster::table(clusters, view))
}
