//! `swarmctl events export`.

mod frames;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio_stream::StreamExt;
use wire::v1::{EventRecord, EventsRequest};

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::format::export::{EventPlace, ExportFormat, Exporter};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::point::{self, Point};
use crate::values::redact::{self, Redact};

use super::{range, unwritable};

/// Export history to a file for other tools
///
/// Writes the existing events, one per line, oldest first. The output is streamed: the file may be larger than memory. With
/// --resume, an interrupted or earlier export continues after its last complete line. With --as proto, the frames themselves are
/// written, together with a checkpoint with which `audit verify` and `swarmlog-verify` verify them.
///
/// Example: swarmctl events export --from 2026-01-01 --redact env history.csv
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write; its extension (.jsonl, .csv or .sql) sets the format if --as is not given
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Format of the file
    #[arg(long = "as", value_name = "FORMAT", value_enum)]
    written_as: Option<FileFormat>,

    /// Start at this index, at this time, or at a tag, written as for `swarmctl events`
    #[arg(long, visible_alias = "since", value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    from: Option<Point>,

    /// End with this index, at this time, or at a tag
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    until: Option<Point>,

    /// Redact these values; may be repeated. The file states the redactions, and --resume requires the same ones
    #[arg(long, value_name = "WHAT", value_enum)]
    redact: Vec<Redact>,

    /// Continue the file after its last complete line; without a file, start one
    #[arg(long, conflicts_with = "from")]
    resume: bool,
}

/// Size of the write buffer in bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FileFormat {
    /// One JSON object per line, as `swarmctl events --format json` prints them
    Jsonl,
    /// Comma-separated values with a header; the event itself is JSON in the last column
    Csv,
    /// One CloudEvent (specification 1.0, structured JSON) per line
    Cloudevents,
    /// SQL for `sqlite3 history.db < FILE`: a table for each kind of event, a view of all events, and a view of when and where
    /// tasks ran
    Sql,
    /// The stored bytes of all frames, each preceded by its length, and FILE.checkpoint, signed by the managers
    Proto,
}

impl FileFormat {
    /// The format of event lines; `None` for frames.
    fn of_lines(self) -> Option<ExportFormat> {
        match self {
            Self::Jsonl => Some(ExportFormat::Jsonl),
            Self::Csv => Some(ExportFormat::Csv),
            Self::Cloudevents => Some(ExportFormat::Cloudevents),
            Self::Sql => Some(ExportFormat::Sql),
            Self::Proto => None,
        }
    }
}

/// The result as JSON.
#[derive(Serialize)]
struct Written<'a> {
    file: &'a Path,
    events: u64,
    last: Option<u64>,
}

/// The result for frames as JSON.
#[derive(Serialize)]
struct WrittenFrames<'a> {
    file: &'a Path,
    checkpoint: &'a Path,
    frames: u64,
    last: Option<u64>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let Some(format) = format(args)?.of_lines() else { return write_frames(args, session).await };
    let (from, until) = (session.start(args.from.as_ref()).await?, session.start(args.until.as_ref()).await?);
    let range = range(from, until, session.env.clock.now())?;
    let cluster = session.manager.cluster(false).await?.id;
    let exporter = Exporter { format, cluster, redact: redact::together(&args.redact) };
    let mut target = Target::open(&args.file, &exporter, args.resume)?;
    let after = target.last;
    // The last frame may have been written in part.
    let from = range.from.or(after.map(|(index, _)| index));
    let reason = session.globals.reason.clone();
    let request = EventsRequest { from, reason, with_before: Some(true), ..range };
    let written = write(request, &exporter, &mut target, session).await;
    // Events that were received before a failure are kept: the export continues after them.
    let synced = target.finish();
    let events = written.map_err(|failure| resumable(failure, &args.file))?;
    synced?;
    match session.globals.format {
        Format::Json => session.json(&Written { file: &args.file, events, last: target.last.map(|(index, _)| index) }),
        Format::Table => {
            session.note(&format!("{events} events written"))?;
            session.line(&args.file.display().to_string())
        }
    }
}

/// Writes frames instead of events.
async fn write_frames<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    if args.from.is_some() || args.until.is_some() || !args.redact.is_empty() {
        let sentence = "frames are exported completely and from the first one on, so that they can be verified";
        let hint = "leave out --from, --until and --redact, or write events with another --as";
        return Err(Failure::new(Kind::Usage, sentence).hint(hint));
    }
    require_new(&args.file, args.resume)?;
    let written = frames::export(&args.file, args.resume, session).await;
    let frames::Written { frames, last, checkpoint } = written.map_err(|failure| resumable(failure, &args.file))?;
    match session.globals.format {
        Format::Json => session.json(&WrittenFrames { file: &args.file, checkpoint: &checkpoint, frames, last }),
        Format::Table => {
            session.note(&format!("{frames} frames written, and {}", checkpoint.display()))?;
            session.line(&args.file.display().to_string())
        }
    }
}

/// Refuses to overwrite a file.
fn require_new(path: &Path, resume: bool) -> Result<(), Failure> {
    if resume || !path.exists() {
        return Ok(());
    }
    let failure = Failure::new(Kind::Exists, format!("{} exists already", path.display()));
    Err(failure.hint("add --resume to continue it, or choose another name"))
}

/// The requested format, or the one of the file's extension.
fn format(args: &Args) -> Result<FileFormat, Failure> {
    let ending = args.file.extension().and_then(|ending| ending.to_str());
    match (args.written_as, ending) {
        (Some(format), _) => Ok(format),
        (None, Some("jsonl" | "ndjson")) => Ok(FileFormat::Jsonl),
        (None, Some("csv")) => Ok(FileFormat::Csv),
        (None, Some("sql")) => Ok(FileFormat::Sql),
        (None, _) => {
            let sentence = format!("the name {} has no known extension", args.file.display());
            Err(Failure::new(Kind::Usage, sentence)
                .hint("add --as jsonl, --as csv, --as cloudevents, --as sql or --as proto"))
        }
    }
}

async fn write<M: Manager>(
    request: EventsRequest,
    exporter: &Exporter,
    target: &mut Target,
    session: &mut Session<'_, M>,
) -> Result<u64, Failure> {
    let mut history = session.manager.events(request).await?;
    let mut events = 0;
    while let Some(record) = history.next().await {
        events += u64::from(target.append(exporter, &record?)?);
    }
    Ok(events)
}

fn resumable(failure: Failure, file: &Path) -> Failure {
    if !matches!(failure.kind, Kind::Unreachable | Kind::Stopped) {
        return failure;
    }
    failure
        .hint(format!("repeat the command with --resume: it continues {} after the last complete one", file.display()))
}

/// The output file.
struct Target {
    file: BufWriter<File>,
    path: PathBuf,
    /// The last event in it.
    last: Option<EventPlace>,
}

impl Target {
    /// Creates a file, or opens one to continue it: an incomplete last line is truncated.
    fn open(path: &Path, exporter: &Exporter, resume: bool) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| unwritable(path, &error);
        require_new(path, resume)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = file.map_err(failed)?;
        let (last, end) = last_line(&file, path, exporter)?;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed)?;
        let mut target = Self { file: BufWriter::with_capacity(WRITE_BYTES, file), path: path.to_owned(), last };
        if let Some(heading) = exporter.heading().filter(|_| end == 0) {
            target.line(&heading)?;
        }
        Ok(target)
    }

    /// Writes an event unless the file contains it; returns whether it was written.
    fn append(&mut self, exporter: &Exporter, record: &EventRecord) -> Result<bool, Failure> {
        let place = (record.index, record.ordinal);
        if self.last.is_some_and(|last| place <= last) {
            return Ok(false);
        }
        let line = exporter.line(record).map_err(|error| unwritable(&self.path, &error.into()))?;
        self.line(&line)?;
        self.last = Some(place);
        Ok(true)
    }

    fn line(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.file, "{line}").map_err(|error| unwritable(&self.path, &error))
    }

    fn finish(&mut self) -> Result<(), Failure> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| unwritable(&self.path, &error))
    }
}

/// The event of the last complete line of a file, and the offset of that line's end.
fn last_line(file: &File, path: &Path, exporter: &Exporter) -> Result<(Option<EventPlace>, u64), Failure> {
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    let (mut last, mut end) = (None, 0);
    let heading = exporter.heading();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| unwritable(path, &error))?;
        if line.pop() != Some(b'\n') {
            return Ok((last, end));
        }
        let text = std::str::from_utf8(&line).ok();
        if let Some(flags) = text.filter(|_| end == 0).and_then(|first| exporter.other_flags(first)) {
            return Err(otherwise_redacted(path, &flags));
        }
        let place = text.and_then(|text| exporter.place(text));
        let is_heading = end == 0 && text.is_some() && text == heading.as_deref();
        if place <= last && !is_heading {
            let sentence =
                format!("{} is not an export in this format: byte {end} does not start a line of it", path.display());
            let failure = Failure::new(Kind::Usage, sentence);
            return Err(failure.hint("set the format of the file with --as, or choose another name"));
        }
        (last, end) = (place, end + read as u64);
    }
}

/// Refuses to continue a file with different redactions.
fn otherwise_redacted(path: &Path, flags: &str) -> Failure {
    let name = path.display();
    if flags.is_empty() {
        let failure =
            Failure::new(Kind::Usage, format!("{name} was written without --redact, or by an older swarmctl"));
        return failure.hint("choose another name: continuing a file does not redact what it already contains");
    }
    let failure = Failure::new(Kind::Usage, format!("{name} was written with {flags}"));
    failure.hint(format!("continue it with {flags} only, or choose another name"))
}
