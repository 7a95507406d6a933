//! `swarmctl service explain`.

use clap_complete::ArgValueCandidates;
use serde::Serialize;
use tokio_stream::StreamExt;
use wire::v1::{EventRecord, EventsRequest, ExplainPlacementRequest, PlacementExplanation};

use crate::completion;
use crate::failure::Failure;
use crate::format::job::Job;
use crate::format::{Format, RecordNames, event_lines, placing};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::verbs::explain;

/// Maximum number of commands that are shown; the last ones.
const COMMANDS_SHOWN: u64 = 5;
/// Maximum number of skipped runs that are shown; the last ones.
const SKIPPED_SHOWN: u64 = 5;

/// Explain where the next task of a service would be placed, or why nowhere
///
/// Shows the scheduler's view of every node now, or at the point given with --at: how many nodes each condition rejects, and the
/// best of the others. For a job also its current and next run, what it waits for, and which runs were skipped. Then the last
/// commands that changed the service.
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
    /// The last skipped runs of a job, oldest first.
    skipped: &'a [EventRecord],
    /// The last commands about it, oldest first.
    commands: &'a [EventRecord],
}

pub(in crate::verbs) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let request = ExplainPlacementRequest { task: None, service: Some(args.service.clone()) };
    let of_the_past = |failure| explain::of_the_past(failure, &format!("swarmctl events --object {}", args.service));
    let placement = session.manager.explain_placement(request).await.map_err(of_the_past)?;
    let service = session.service(&args.service).await?;
    let about = EventsRequest {
        // By id: a config or a secret may have the same name.
        object: Some(service.id.to_string()),
        to: session.point_index(),
        ..Default::default()
    };
    let skipped = match service.spec.is_job() {
        true => {
            let kinds = vec!["run_skipped".to_owned()];
            read(EventsRequest { kinds, tail: Some(SKIPPED_SHOWN), ..about.clone() }, session).await?
        }
        false => Vec::new(),
    };
    let asked = EventsRequest { asked: Some(true), tail: Some(COMMANDS_SHOWN), with_before: Some(true), ..about };
    let commands = read(asked, session).await?;
    if session.globals.format == Format::Json {
        return session.json(&Explained { placement: &placement, skipped: &skipped, commands: &commands });
    }
    let job = service.spec.is_job().then_some(Job { service, skipped });
    let (mut text, width) = (placing::block(&placement, job.as_ref(), session.view()), session.env.width);
    if !commands.is_empty() {
        text.push_str(&format!("\n{}", event_lines::heading(width)));
    }
    for record in &commands {
        let names = if session.globals.no_resolve { RecordNames::none() } else { RecordNames::with(record) };
        text.push_str(&event_lines::line(record, names, width));
    }
    session.text(&text)
}

async fn read<M: Manager>(request: EventsRequest, session: &mut Session<'_, M>) -> Result<Vec<EventRecord>, Failure> {
    let mut history = session.manager.events(request).await?;
    let mut records = Vec::new();
    while let Some(record) = history.next().await {
        records.push(record?);
    }
    Ok(records)
}
