//! `swarmctl cluster inspect`.

use crate::failure::Failure;
use crate::format::{Format, cluster};
use crate::manager::Manager;
use crate::session::Session;

/// Show the cluster's settings and join tokens
#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) async fn run<M: Manager>(_: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let cluster = session.manager.cluster().await?;
    match session.globals.format {
        Format::Json => session.json(&cluster),
        Format::Table => session.text(&cluster::block(&cluster, session.around.clock.now())),
    }
}
