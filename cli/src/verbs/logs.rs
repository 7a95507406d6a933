//! The output of tasks, for `service logs` and `task logs`: their shared flags and the display.

use std::collections::BTreeMap;
use std::io::Write;

use events::{TaskId, Timestamp};
use tokio_stream::StreamExt;
use wire::v1::{LogBatch, LogSource, LogStream, LogsPart, LogsRequest};

use crate::failure::{Failure, Kind};
use crate::format::log::{JsonLine, Style};
use crate::format::{Format, escape};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::start::{self, Place, Start};
use crate::values::tail;

/// The selected lines and their format.
#[derive(Debug, clap::Args)]
pub struct Lines {
    /// Continue with new lines, also of tasks that start later, until Ctrl-C or until the manager stops
    #[arg(short, long)]
    follow: bool,

    /// Show only this many last lines of each task, or `all`
    #[arg(long, value_name = "NUMBER", default_value = "all", value_parser = tail::parse)]
    tail: tail::Tail,

    /// Show only lines since this time: 2026-01-31T12:00:00+01:00, "2026-01-31 12:00" or 2026-01-31 (UTC where there is no
    /// offset), 03:12 (the last one, UTC), 1h30m or 2d (ago), today, yesterday
    #[arg(long, value_name = "TIME", value_parser = start::parse_time)]
    since: Option<Start>,

    /// Show only lines until this time, written as for --since
    #[arg(long, value_name = "TIME", value_parser = start::parse_time)]
    until: Option<Start>,

    /// Show the timestamp of each line
    #[arg(short, long)]
    timestamps: bool,

    /// Show the labels and variables that the log driver's options `labels` and `env` name
    #[arg(long)]
    details: bool,

    /// Show the lines exactly as they were printed, without names
    #[arg(long)]
    raw: bool,
}

impl Lines {
    /// The request for a manager.
    pub fn request(&self, now: Timestamp) -> LogsRequest {
        let time = |start: Option<Start>| match start.map(|start| start.at(now)) {
            Some(Place::Time(time)) => Some(time),
            // The flag's parser refuses an index.
            Some(Place::Index(_)) | None => None,
        };
        LogsRequest {
            services: Vec::new(),
            tasks: Vec::new(),
            follow: self.follow,
            tail: self.tail.0,
            since: time(self.since),
            until: time(self.until),
            details: Some(self.details),
        }
    }
}

/// Shows the requested lines.
pub async fn show<M: Manager>(
    lines: &Lines,
    request: LogsRequest,
    session: &mut Session<'_, M>,
) -> Result<(), Failure> {
    let (json, ids) = (session.globals.format == Format::Json, session.globals.no_resolve);
    let coloured = session.env.coloured;
    let style = Style::new(lines.timestamps, lines.details, lines.raw, ids, coloured);
    let mut screen = Screen { style, json, sources: BTreeMap::new() };
    let mut parts = session.manager.logs(request).await?;
    while let Some(part) = parts.next().await {
        screen.show(part.map_err(|failure| resumable(failure, &screen))?, session)?;
    }
    if lines.follow && lines.until.is_none() {
        let failure = Failure::new(Kind::Stopped, "the manager was stopped, which ends the logs");
        return Err(resumable(failure, &screen));
    }
    Ok(())
}

/// Adds a hint how to continue when a manager is back.
fn resumable(failure: Failure, screen: &Screen) -> Failure {
    match screen.style.last() {
        Some(last) if matches!(failure.kind, Kind::Unreachable | Kind::Stopped) => failure.hint(format!(
            "once swarmd runs again, or at another manager, the same command with `--since {last}` continues where this one ended"
        )),
        Some(_) | None => failure,
    }
}

/// The state of the display.
struct Screen {
    style: Style,
    json: bool,
    sources: BTreeMap<TaskId, LogSource>,
}

impl Screen {
    fn show<M: Manager>(&mut self, part: LogsPart, session: &mut Session<'_, M>) -> Result<(), Failure> {
        for warning in part.warnings {
            session.note(&format!("warning: {warning}"))?;
        }
        for source in part.sources {
            self.style.learn(&source);
            self.sources.insert(source.task, source);
        }
        // Lines are collected into few writes, since there may be millions.
        let (mut text, mut stream) = (Vec::new(), LogStream::Stdout);
        for batch in part.batches {
            for line in &batch.lines {
                if line.stream() != stream && !self.json {
                    write(&mut text, stream, session)?;
                    stream = line.stream();
                }
                self.line(&batch, line, &mut text)?;
            }
        }
        write(&mut text, stream, session)?;
        Ok(session.env.out.flush()?)
    }

    fn line(&mut self, batch: &LogBatch, line: &wire::v1::LogLine, text: &mut Vec<u8>) -> Result<(), Failure> {
        let source = self.sources.get(&batch.task);
        if self.json {
            let line = serde_json::to_string(&JsonLine::new(source, line)).map_err(std::io::Error::from)?;
            return Ok(writeln!(text, "{}", escape::json(&line))?);
        }
        self.style.line(source, line, text);
        Ok(())
    }
}

/// Lines that a task wrote to its standard error go to our standard error.
fn write<M: Manager>(text: &mut Vec<u8>, stream: LogStream, session: &mut Session<'_, M>) -> Result<(), Failure> {
    match stream {
        LogStream::Stdout => session.env.out.write_all(text)?,
        LogStream::Stderr => session.env.err.write_all(text)?,
    }
    text.clear();
    Ok(())
}
