//! `swarmctl service revisions`.

use clap_complete::ArgValueCandidates;
use tokio_stream::StreamExt;
use wire::v1::EventsRequest;

use crate::completion;
use crate::failure::Failure;
use crate::format::revision;
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// The kinds of event that set the spec of a service.
const KINDS: [&str; 2] = ["service_created", "service_spec_updated"];

/// Show the revisions of a service, oldest first
///
/// Each change of a service, except of its number of replicas, creates a revision; `service rollback --to` restores one. The last
/// one is current.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,

    /// Show the numbers of the revisions only
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    at: At,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let service = session.service(&args.service).await?;
    let request = EventsRequest {
        object: Some(service.id.to_string()),
        kinds: KINDS.map(str::to_owned).into(),
        to: session.point_index(),
        with_before: Some(true),
        ..Default::default()
    };
    let mut history = session.manager.events(request).await?;
    let mut records = Vec::new();
    while let Some(record) = history.next().await {
        records.push(record?);
    }
    let view = session.view();
    session.list(&records, args.quiet, |record| record.index.to_string(), |records| revision::table(records, view))
}
