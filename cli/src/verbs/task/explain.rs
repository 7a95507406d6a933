//! `swarmctl task explain`.

use clap_complete::ArgValueCandidates;
use events::TaskId;
use serde::Serialize;
use tokio_stream::StreamExt;
use wire::v1::{EventsRequest, ExplainPlacementRequest, FindPointRequest, PlacementExplanation};

use crate::completion;
use crate::failure::Failure;
use crate::format::chain::{Chain, Link};
use crate::format::{Format, placing};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::at::At;
use crate::verbs::explain;

/// Maximum number of tasks to explain: the task, and its predecessors in the same slot.
const TASKS_MAX: usize = 4;

/// Explain why a task is on its node, or on none
///
/// Shows the scheduler's view of every node now, or at the point given with --at, as if the task had no node yet: how many nodes
/// each condition rejects, and the best of the others. Then the causes, from history: why the task and its predecessors in the
/// same slot were created, placed, moved and stopped, and by which commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Task: a name, an id or a unique prefix of an id
    #[arg(value_name = "TASK", add = ArgValueCandidates::new(completion::tasks))]
    task: String,

    #[command(flatten)]
    at: At,
}

#[derive(Serialize)]
struct Explained<'a> {
    #[serde(flatten)]
    placement: &'a PlacementExplanation,
    /// The causes, oldest first.
    chain: &'a [Link],
}

pub(in crate::verbs) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.at(&args.at).await?;
    let request = ExplainPlacementRequest { task: Some(args.task.clone()), service: None };
    let placement =
        session.manager.explain_placement(request).await.map_err(|failure| of_the_past(failure, &args.task))?;
    let mut text = placing::block(&placement, None, session.view());
    let links = match &placement.task {
        Some(task) => chain(task.id, session).await?,
        None => Vec::new(),
    };
    if session.globals.format == Format::Json {
        return session.json(&Explained { placement: &placement, chain: &links });
    }
    if !links.is_empty() {
        text.push('\n');
        text.extend(links.iter().map(Link::text));
    }
    session.text(&text)
}

/// A slot has had other tasks; other names of a task appear only in its own events.
fn of_the_past(failure: Failure, task: &str) -> Failure {
    let reading = if task.contains('.') { "task history" } else { "events --object" };
    explain::of_the_past(failure, &format!("swarmctl {reading} {task}"))
}

/// The causes that led to a task, oldest first. Selects the point where it was last placed: the present is not read after that.
async fn chain<M: Manager>(task: TaskId, session: &mut Session<'_, M>) -> Result<Vec<Link>, Failure> {
    let (mut links, mut next, mut placed_at) = (Vec::new(), Some(task), None);
    for position in 0..TASKS_MAX {
        let Some(of) = next else { break };
        let mut part = chain_of(of, session).await?;
        if position == 0 {
            placed_at = part.placed_at;
        }
        next = part.replaces;
        part.links.append(&mut links);
        links = part.links;
    }
    // A task stops while its replacement already exists.
    links.sort_by_key(|link| link.index);
    if let Some(index) = placed_at {
        session.manager.go_to(FindPointRequest { index: Some(index), ..Default::default() }).await?;
        let request = ExplainPlacementRequest { task: Some(task.to_string()), service: None };
        let then = session.manager.explain_placement(request).await?;
        let placed = links.iter_mut().filter(|link| link.is_placement_of(task));
        placed.for_each(|link| link.choose(&then));
    }
    Ok(links)
}

async fn chain_of<M: Manager>(task: TaskId, session: &mut Session<'_, M>) -> Result<Chain, Failure> {
    let request = EventsRequest {
        object: Some(task.to_string()),
        to: session.point_index(),
        with_before: Some(true),
        ..Default::default()
    };
    let mut history = session.manager.events(request).await?;
    let mut chain = Chain::default();
    while let Some(record) = history.next().await {
        chain.add(task, &record?);
    }
    Ok(chain)
}
