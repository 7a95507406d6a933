//! `swarmctl service explain`.

use clap_complete::ArgValueCandidates;
use serde::Serialize;
use tokio_stream::StreamExt;
use wire::v1::{EventRecord, EventsRequest, ExplainPlacementRequest, PlacementExplanation};

use crate::completion;
use crate::failure::Failure;
use crate::format::{Format, RecordNames, placing, story};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;

/// Commands about the service that are shown, the last ones.
const COMMANDS_SHOWN: u64 = 5;

/// Explain where one more task of a service would go, or why nowhere
///
/// Shows what the scheduler says of every node now, or at the point given with --at: how many nodes each condition refuses, and the best
/// of the others. Then the last commands that made the service what it is.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Service: a name, an id or a unique prefix of an id
    #[arg(value_name = "SERVICE", add = ArgValueCandidates::new(completion::services))]
    service: String,

    #[command(flatten)]
    at: At,
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    placement: &'a PlacementExplanation,
    /// The last commands about it, oldest first.
    commands: &'a [EventRecord],
}

pub(in crate::verbs) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let request = ExplainPlacementRequest { task: None, service: Some(args.service.clone()) };
    let placement = session.manager.explain_placement(request).await?;
    let request = EventsRequest {
        // By its id: a config or a secret may have the same name.
        object: Some(session.service(&args.service).await?.id.to_string()),
        asked: Some(true),
        tail: Some(COMMANDS_SHOWN),
        to: session.point_index(),
        with_before: Some(true),
        ..Default::default()
    };
    let mut history = session.manager.events(request).await?;
    let mut commands = Vec::new();
    while let Some(record) = history.next().await {
        commands.push(record?);
    }
    if session.globals.format == Format::Json {
        return session.json(&Explained { placement: &placement, commands: &commands });
    }
    let (mut text, width) = (placing::block(&placement, session.view()), session.around.width);
    if !commands.is_empty() {
        text.push_str(&format!("\n{}", story::heading(width)));
    }
    for record in &commands {
        let names = if session.globals.no_resolve { RecordNames::none() } else { RecordNames::with(record) };
        text.push_str(&story::line(record, names, width));
    }
    session.text(&text)
}
