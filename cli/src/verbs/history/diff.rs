//! `swarmctl history diff`.

use std::time::Duration;

use tokio_stream::StreamExt;
use wire::v1::{CompareRequest, EventsRequest, PointView};

use crate::failure::Failure;
use crate::format::difference::Row;
use crate::format::{Format, RecordNames, event_lines};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::point::{self, Point};
use crate::values::start::Start;

/// Show what changed between two points of history, object by object, and the commands in between
///
/// The cluster's settings, nodes, operators, configs, secrets and services are compared field by field; for each slot of a
/// service, its former task is compared with its present one.
///
/// Example: swarmctl history diff 03:00 03:30
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The earlier point: an index, or a time such as 2026-01-31T12:00:00Z, "2026-01-31 12:00" (UTC), 03:12 (the last one, UTC),
    /// "yesterday 14:00", 2h ago, or a tag
    #[arg(value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    from: Point,

    /// The later point, written in the same way (default now)
    #[arg(value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    to: Option<Point>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let from = session.find_point(&args.from).await?;
    let now = Point::Start(Start::Ago(Duration::ZERO));
    let to = session.find_point(args.to.as_ref().unwrap_or(&now)).await?;
    let is_table = session.globals.format == Format::Table;
    let mut pages = session.manager.compare(CompareRequest { from: from.index, to: to.index }).await?;
    if is_table {
        session.text(&format!("From {}, to {}:\n\n", point(&from), point(&to)))?;
    }
    let (mut are_same, ids, width) = (true, session.globals.no_resolve, session.env.width);
    while let Some(page) = pages.next().await {
        for difference in page?.differences {
            are_same = false;
            let row = Row::of(difference);
            if is_table { session.text(&row.text(ids, width))? } else { session.json(&row)? }
        }
    }
    if are_same && is_table {
        session.text("no differences\n")?;
    }
    commands(&from, &to, session).await
}

fn point(of: &PointView) -> String {
    format!("index {}, {}", of.index, of.log_time)
}

/// The commands between two points.
async fn commands<M: Manager>(from: &PointView, to: &PointView, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let request = EventsRequest {
        from: Some(from.index + 1),
        to: Some(to.index),
        asked: Some(true),
        with_before: Some(true),
        ..Default::default()
    };
    let mut history = session.manager.events(request).await?;
    let (is_table, width, mut is_first) = (session.globals.format == Format::Table, session.env.width, true);
    while let Some(record) = history.next().await {
        let record = record?;
        if !is_table {
            session.json(&record)?;
            continue;
        }
        if std::mem::take(&mut is_first) {
            session.text(&format!("\n{}", event_lines::heading(width)))?;
        }
        let names = if session.globals.no_resolve { RecordNames::none() } else { RecordNames::with(&record) };
        session.text(&event_lines::line(&record, names, width))?;
    }
    Ok(())
}
