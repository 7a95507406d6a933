//! The resource usage of tasks, for `task stats` and `service stats`.

use tokio_stream::StreamExt;
use wire::v1::{UsagePart, UsageRequest};

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::format::usage::Readings;
use crate::manager::Manager;
use crate::session::Session;

/// Moves the cursor to the first line, and clears the screen below.
const REDRAW: &[u8] = b"\x1b[H\x1b[J";
/// Minimum time between two redraws: readings of several nodes arrive one after the other.
const REDRAW_MIN: std::time::Duration = std::time::Duration::from_millis(500);

/// How long to show usage.
#[derive(Debug, clap::Args)]
pub struct Watching {
    /// Show the usage over one second, and exit
    #[arg(long)]
    no_stream: bool,
}

impl Watching {
    /// The request for a manager.
    pub fn request(&self) -> UsageRequest {
        UsageRequest { follow: !self.no_stream, ..UsageRequest::default() }
    }
}

/// Shows the requested usage.
pub async fn show<M: Manager>(request: UsageRequest, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let follow = request.follow;
    let mut parts = session.manager.usage(request).await?;
    let (mut readings, mut drawn) = (Readings::default(), None);
    while let Some(part) = parts.next().await {
        let has_readings = take(part?, &mut readings, session)?;
        let now = session.env.clock.now();
        let is_due = drawn.is_none_or(|drawn| now.since(drawn) >= REDRAW_MIN);
        if follow && has_readings && is_due {
            readings.forget_stale();
            draw(&readings, true, session)?;
            drawn = Some(now);
        }
    }
    if follow {
        return Err(Failure::new(Kind::Stopped, "the manager was stopped, which ends the readings"));
    }
    draw(&readings, false, session)
}

/// Handles a part of the stream; returns whether it contains readings.
fn take<M: Manager>(part: UsagePart, readings: &mut Readings, session: &mut Session<'_, M>) -> Result<bool, Failure> {
    for warning in part.warnings {
        session.note(&format!("warning: {warning}"))?;
    }
    part.sources.into_iter().for_each(|source| readings.learn(source));
    let has_readings = !part.readings.is_empty();
    part.readings.into_iter().for_each(|reading| readings.take(reading));
    Ok(has_readings)
}

/// Shows the newest readings; on a terminal they replace the ones before.
fn draw<M: Manager>(readings: &Readings, again: bool, session: &mut Session<'_, M>) -> Result<(), Failure> {
    match session.globals.format {
        Format::Json => readings.json().iter().try_for_each(|row| session.json(row))?,
        Format::Table => {
            if again && session.env.width.is_some() {
                session.env.out.write_all(REDRAW)?;
            }
            session.text(&readings.table(session.view()))?;
        }
    }
    Ok(session.env.out.flush()?)
}
