//! `swarmctl events export`.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use tokio_stream::StreamExt;
use wire::v1::{EventRecord, EventsRequest};

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::format::export::{EventPlace, ExportFormat, Exporter, Redaction};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::start::{self, Start};

use super::place;

/// Write history to a file that other tools read
///
/// The events that there are now are written one a line, oldest first, and streamed: the file may be larger than the memory. An export
/// that was cut short continues after its last whole line with --resume, and so does one of yesterday.
///
/// Example: swarmctl events export --from 2026-01-01 --redact env history.csv
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write; its ending (.jsonl or .csv) says the format where --as does not
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// How events are written
    #[arg(long = "as", value_name = "FORMAT", value_enum)]
    written_as: Option<ExportFormat>,

    /// Start at this index, or at this time, written as for `swarmctl events`
    #[arg(long, visible_alias = "since", value_name = "INDEX|TIME", value_parser = start::parse)]
    from: Option<Start>,

    /// End with this index, or at this time
    #[arg(long, value_name = "INDEX|TIME", value_parser = start::parse)]
    until: Option<Start>,

    /// Leave these values out; may be repeated
    #[arg(long, value_name = "WHAT", value_enum)]
    redact: Vec<Redaction>,

    /// Continue the file after its last whole line; without a file, begin one
    #[arg(long, conflicts_with = "from")]
    resume: bool,
}

/// What was written.
#[derive(Serialize)]
struct Written<'a> {
    file: &'a Path,
    events: u64,
    last: Option<u64>,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    let format = format(args)?;
    let cluster = session.manager.cluster(false).await?.id;
    let exporter = Exporter { format, cluster, redact: args.redact.clone() };
    let mut target = Target::open(&args.file, &exporter, args.resume)?;
    let after = target.last;
    let now = session.around.clock.now();
    let (from, since) = place(args.from, now);
    let (to, until) = place(args.until, now);
    // A frame may have been written in part.
    let from = from.or(after.map(|(index, _)| index));
    let reason = session.globals.reason.clone();
    let request = EventsRequest { from, since, to, until, reason, with_before: Some(true), ..Default::default() };
    let written = write(request, &exporter, &mut target, session).await;
    // What came before a failure is kept: it is where to go on.
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

/// The format that is asked for, or that the file's name says.
fn format(args: &Args) -> Result<ExportFormat, Failure> {
    let ending = args.file.extension().and_then(|ending| ending.to_str());
    match (args.written_as, ending) {
        (Some(format), _) => Ok(format),
        (None, Some("jsonl" | "ndjson")) => Ok(ExportFormat::Jsonl),
        (None, Some("csv")) => Ok(ExportFormat::Csv),
        (None, _) => {
            let sentence = format!("the name {} says no format", args.file.display());
            Err(Failure::new(Kind::Usage, sentence).hint("add --as jsonl, --as csv or --as cloudevents"))
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
    failure.hint(format!("repeat the command with --resume: it continues {} after its last line", file.display()))
}

/// The file that is written.
struct Target {
    file: BufWriter<File>,
    path: PathBuf,
    /// The last event in it.
    last: Option<EventPlace>,
}

impl Target {
    /// A new file, or one to continue: what follows its last whole line is cut off.
    fn open(path: &Path, exporter: &Exporter, resume: bool) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| unwritable(path, &error);
        if !resume && path.exists() {
            let failure = Failure::new(Kind::Exists, format!("{} exists already", path.display()));
            return Err(failure.hint("add --resume to continue it, or choose another name"));
        }
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = file.map_err(failed)?;
        let (last, end) = last_line(&file, path, exporter)?;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed)?;
        let mut target = Self { file: BufWriter::new(file), path: path.to_owned(), last };
        if let Some(heading) = exporter.heading().filter(|_| end == 0) {
            target.line(heading)?;
        }
        Ok(target)
    }

    /// Writes an event, unless the file has it; whether it did.
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

/// The event of the last whole line of a file, and where that line ends.
fn last_line(file: &File, path: &Path, exporter: &Exporter) -> Result<(Option<EventPlace>, u64), Failure> {
    let (mut reader, mut line) = (BufReader::new(file), Vec::new());
    let (mut last, mut end) = (None, 0);
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| unwritable(path, &error))?;
        if line.pop() != Some(b'\n') {
            return Ok((last, end));
        }
        let text = std::str::from_utf8(&line).ok();
        let place = text.and_then(|text| exporter.place(text));
        let is_heading = end == 0 && text.is_some() && text == exporter.heading();
        if place <= last && !is_heading {
            let sentence = format!("{} is no export in this format: byte {end} begins no line of it", path.display());
            let failure = Failure::new(Kind::Usage, sentence);
            return Err(failure.hint("say the format of the file with --as, or choose another name"));
        }
        (last, end) = (place, end + read as u64);
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Kind::Other, format!("cannot write {}: {error}", path.display()));
    failure.hint("name a file in a directory that you may write, on a disk with room for it")
}
