//! `swarmctl raft`.

use crate::failure::Failure;
use crate::format::{Format, raft};
use crate::manager::Manager;
use crate::session::Session;

/// Show the managers: the leader, the voters, and the progress of each in the log
///
/// Every manager shows the progress that the leader reported, which is at most half a second old. A manager that lags far behind
/// is catching up, or its disk or network is slow.
#[derive(Debug, clap::Args)]
pub struct Args {}

pub(super) async fn run<M: Manager>(_: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let view = session.manager.raft().await?;
    match session.globals.format {
        Format::Json => session.json(&view),
        Format::Table => session.text(&raft::show(&view, session.view())),
    }
}
