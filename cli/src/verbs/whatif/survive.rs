//! `swarmctl whatif survive`.

use wire::v1::SurviveRequest;

use crate::failure::Failure;
use crate::format::{Format, survive};
use crate::manager::Manager;
use crate::session::Session;

/// Show for each node whether all tasks still fit if that node is lost
///
/// With --by, the same for each value of a node label, such as a rack or a zone. Exits with 2 if a loss leaves tasks without a
/// node.
///
/// Example: swarmctl whatif survive --by rack
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Key of a node label: all nodes with the same value are lost together
    #[arg(long, value_name = "LABEL")]
    by: Option<String>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let reply = session.manager.survive(SurviveRequest { label: args.by.clone() }).await?;
    session.leaves_tasks_over |= reply.losses.iter().any(|loss| !loss.unplaced.is_empty());
    match session.globals.format {
        Format::Json => session.json(&reply),
        Format::Table => session.text(&survive::text(&reply, args.by.as_deref(), session.view())),
    }
}
