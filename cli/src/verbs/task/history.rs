//! `swarmctl task history`.

use tokio_stream::StreamExt;
use wire::v1::EventsRequest;

use crate::failure::{Failure, Kind};
use crate::format::place::{SlotHistory, SlotTask};
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
    let mut slot_history = SlotHistory::default();
    while let Some(record) = history.next().await {
        slot_history.add(&record?);
    }
    if slot_history.list().is_empty() {
        let failure = Failure::new(Kind::NotFound, format!("there was never a task at {}", args.place));
        return Err(failure.hint("`swarmctl task ls --all` lists tasks with their slots"));
    }
    let view = session.view();
    session.list(slot_history.list(), args.quiet, SlotTask::id, |rows| SlotHistory::table(rows, view))
}
