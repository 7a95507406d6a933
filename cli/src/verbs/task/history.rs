//! `swarmctl task history`.

use tokio_stream::StreamExt;
use wire::v1::EventsRequest;

use crate::failure::{Failure, Kind};
use crate::format::place::{Stay, Stays};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Show all tasks that ever occupied a slot of a service, why each ended, and where its replacement was placed
///
/// Example: swarmctl task history web.1
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Slot: a service and a number, such as web.1, or a global service and a node, such as agent.n2
    #[arg(value_name = "PLACE")]
    place: String,

    /// Show ids only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let place = Some(args.place.clone());
    let request = EventsRequest { place, to: session.point_index(), ..Default::default() };
    let mut history = session.manager.events(request).await?;
    let mut stays = Stays::default();
    while let Some(record) = history.next().await {
        stays.add(&record?);
    }
    if stays.list().is_empty() {
        let failure = Failure::new(Kind::NotFound, format!("no task ever stood at {}", args.place));
        return Err(failure.hint("`swarmctl task ls --all` shows the places that have tasks"));
    }
    let view = session.view();
    session.list(stays.list(), args.quiet, Stay::id, |rows| Stays::table(rows, view))
}
