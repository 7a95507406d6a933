//! `swarmctl history verify`.

use events::Timestamp;
use serde::Serialize;
use tokio_stream::StreamExt;

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::manager::Manager;
use crate::session::Session;

/// How often progress is shown.
const SHOWN_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// Verify the history of the manager that answers, with its archives
///
/// The manager reads every frame: each must be unchanged and follow the one before. An archive that is missing from the manager's
/// directory is named and skipped. Exits with 1 if something is damaged. `audit verify --live` performs the same checks on this
/// machine.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The findings as JSON.
#[derive(Default, Serialize)]
struct Summary {
    frames: u64,
    /// Index of the last frame.
    to: u64,
    damage: Vec<String>,
    absent: Vec<String>,
}

pub(super) async fn run<M: Manager>(_: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("it changes nothing in the cluster")?;
    let mut steps = session.manager.verify_history().await?;
    let (mut summary, mut shown): (Summary, Timestamp) = (Summary::default(), session.env.clock.now());
    while let Some(step) = steps.next().await {
        let step = step?;
        summary.frames += step.frames;
        summary.to = step.to;
        summary.damage.extend(step.damage);
        summary.absent.extend(step.absent);
        let now = session.env.clock.now();
        if now.since(shown) >= SHOWN_EVERY {
            shown = now;
            session.note(&format!("index {} of {}", step.next.saturating_sub(1), step.to))?;
        }
    }
    match session.globals.format {
        Format::Json => session.json(&summary)?,
        Format::Table => session.text(&text(&summary))?,
    }
    if summary.damage.is_empty() {
        return Ok(());
    }
    let failure = Failure::new(Kind::Other, format!("history is damaged in {} places", summary.damage.len()));
    Err(failure.hint("the weekly verification repairs it from another manager; see the manager's log"))
}

fn text(summary: &Summary) -> String {
    let Summary { frames, to, damage, absent } = summary;
    let lines = damage.iter().map(|what| format!("damaged: {what}"));
    let lines = lines.chain(absent.iter().map(|what| format!("not verified: {what}")));
    let lines = lines.chain([format!("{frames} frames up to index {to} are intact")]);
    lines.map(|line| line + "\n").collect()
}
