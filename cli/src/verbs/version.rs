//! `swarmctl version`.

use serde::Serialize;
use wire::v1::VersionReply;

use crate::failure::Failure;
use crate::format::{Format, block::Block};
use crate::manager::Manager;
use crate::session::Session;

/// Show the versions of this program and of the manager
#[derive(Debug, clap::Args)]
pub struct Args {}

#[derive(Serialize)]
struct Versions<'a> {
    client: &'static str,
    server: Option<&'a VersionReply>,
}

pub(super) async fn run<M: Manager>(_: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let client = env!("CARGO_PKG_VERSION");
    // Our own version is shown even if no manager answers.
    let server = session.manager.version().await;
    match session.globals.format {
        Format::Json => session.json(&Versions { client, server: server.as_ref().ok() })?,
        Format::Table => {
            let mut block = Block::default();
            block.field("Client", client);
            if let Ok(server) = &server {
                block.field("Manager", &server.version).field("Feature level", server.feature_level);
                block.field("Node", format!("{} ({})", server.hostname, server.node_id));
            }
            session.text(&block.render(session.env.width))?;
        }
    }
    server.map(|_| ())
}
