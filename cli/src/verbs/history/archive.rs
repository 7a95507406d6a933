//! `swarmctl history archive`.

use tokio_stream::StreamExt;
use wire::v1::{ArchiveHistoryRequest, ArchivedRange};

use crate::failure::Failure;
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::point::{self, Point};
use crate::values::size;

/// Move old history of the manager that answers into archives now
///
/// Frames are moved in units of 4,096 indexes, except those that the manager needs to start. With
/// `cluster update --history-keep`, every manager does this automatically; each needs a directory (`swarmd --history-archive`).
/// Archived history is read as before.
///
/// Example: swarmctl history archive --to "2025-12-31 23:59"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Keep history after this point in place: an index, a time such as 03:12 or 2h ago, or a tag
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    to: Option<Point>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("it changes nothing but where the manager keeps its history")?;
    let to = match &args.to {
        Some(point) => Some(session.find_point(point).await?.index),
        None => None,
    };
    let mut archives = session.manager.archive_history(ArchiveHistoryRequest { to }).await?;
    while let Some(made) = archives.next().await {
        let made = made?;
        match session.globals.format {
            Format::Json => session.json(&made)?,
            Format::Table => session.line(&line(&made))?,
        }
    }
    Ok(())
}

fn line(made: &ArchivedRange) -> String {
    let ArchivedRange { first, last, bytes, file_bytes, file, .. } = made;
    format!("{file}: indexes {first} to {last}, {} of {}", size::show(*file_bytes), size::show(*bytes))
}
