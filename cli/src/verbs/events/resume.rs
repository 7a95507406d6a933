//! `swarmctl events --resume`: each event once and in order, across several runs. A file stores the position of the last run; it
//! is replaced after the events before that position were written.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use events::ClusterId;
use serde::{Deserialize, Serialize};
use tokio_stream::StreamExt;
use wire::v1::{EventPosition, EventRecord, EventsRequest, Head};

use super::{shown, unwritable};
use crate::failure::{Failure, Kind};
use crate::format::{Format, event_lines};
use crate::manager::{EventStream, Manager};
use crate::session::Session;

/// Maximum number of events that are written before the position is stored.
const BATCH: usize = 256;
/// Larger than any position file.
const POSITION_BYTES_MAX: u64 = 4_096;

/// The position file and the output file.
#[derive(Debug, clap::Args)]
pub(super) struct Resume {
    /// Print each event once across several runs: continue after the position that an earlier run stored in FILE
    ///
    /// If the file does not exist, the first run starts at --from, or at the beginning. The position is stored after the output
    /// was flushed: as soon as there is nothing more to print, and after every 256 events. So events are printed once and in
    /// order, also if the manager stops or the command is ended by Ctrl-C or SIGTERM. Only if a run is killed between printing
    /// and storing, or its output fails, the next run repeats up to 256 events; with --output it repeats none. A position of
    /// another cluster, or of a cluster that was restored to an earlier point, is refused.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tail", "by_operation"])]
    resume: Option<PathBuf>,

    /// Append the events to this file instead of printing them; events that a killed run wrote beyond its position are truncated
    #[arg(long, value_name = "FILE", requires = "resume")]
    output: Option<PathBuf>,
}

impl Resume {
    /// The position file, if one is used.
    pub(super) fn file(&self) -> Option<&Path> {
        self.resume.as_deref()
    }
}

/// Prints the events after the position in `path`, until they end or the user interrupts.
pub(super) async fn run<M: Manager>(
    resume: &Resume,
    path: &Path,
    request: EventsRequest,
    session: &mut Session<'_, M>,
) -> Result<u64, Failure> {
    let cluster = session.manager.cluster(false).await?.id;
    let position = PositionFile::open(path, cluster)?;
    let output = resume.output.as_deref().map(|output| Output::open(output, &position)).transpose()?;
    position.require_no_output(output.is_some())?;
    let request = EventsRequest { after: position.after(), with_hash: Some(true), ..request };
    let mut history = session.manager.events(request).await?;
    let mut interrupt = std::mem::replace(&mut session.env.interrupt, Box::pin(std::future::pending()));
    let mut printer = Printer { position, output, last: None, unkept: 0, printed: 0, session };
    let ended = tokio::select! {
        biased;
        () = &mut interrupt => Err(interrupted(path)),
        ended = printer.print_all(&mut history) => ended,
    };
    printer.session.env.interrupt = interrupt;
    // An interrupt only comes during a wait, when everything is stored; a failure may come earlier.
    printer.keep()?;
    ended.map(|()| printer.printed).map_err(|failure| continued(failure, path))
}

/// Adds a hint that nothing is lost if the manager stops.
pub(super) fn continued(failure: Failure, path: &Path) -> Failure {
    if !matches!(failure.kind, Kind::Unreachable | Kind::Stopped) {
        return failure;
    }
    failure.hint(format!("once swarmd runs again, the same command continues after the position in {}", path.display()))
}

fn interrupted(path: &Path) -> Failure {
    let sentence = format!("stopped; {} has the position", path.display());
    Failure::new(Kind::Interrupted, sentence).hint("the same command continues after it")
}

/// Prints events and stores the position of the last one.
struct Printer<'a, 's, M> {
    position: PositionFile,
    output: Option<Output>,
    /// The last printed event, if its position is not stored yet.
    last: Option<EventPosition>,
    /// Number of events printed since the position was stored.
    unkept: usize,
    printed: u64,
    session: &'a mut Session<'s, M>,
}

impl<M: Manager> Printer<'_, '_, M> {
    async fn print_all(&mut self, history: &mut EventStream) -> Result<(), Failure> {
        self.heading()?;
        loop {
            let next = tokio::select! {
                biased;
                next = history.next(), if self.unkept < BATCH => next,
                // No event is available: the position is stored before waiting.
                () = std::future::ready(()), if self.last.is_some() => {
                    self.keep()?;
                    continue;
                }
            };
            let Some(record) = next else { return Ok(()) };
            self.print(record?)?;
        }
    }

    fn heading(&mut self) -> Result<(), Failure> {
        let is_wanted = self.output.as_ref().is_none_or(|output| output.bytes == 0);
        if self.session.globals.format == Format::Json || !is_wanted {
            return Ok(());
        }
        self.write(&event_lines::heading(self.session.env.width))
    }

    fn print(&mut self, mut record: EventRecord) -> Result<(), Failure> {
        let Some(frame_hash) = record.frame_hash.take() else {
            let sentence = "the manager does not send frame hashes: it is older than this swarmctl";
            return Err(Failure::new(Kind::Other, sentence).hint("update swarmd, or use --from instead of --resume"));
        };
        let frame = Head { index: record.index, frame_hash };
        self.write(&shown(&record, self.session)?)?;
        self.last = Some(EventPosition { frame, ordinal: record.ordinal });
        self.unkept += 1;
        self.printed += 1;
        Ok(())
    }

    fn write(&mut self, text: &str) -> Result<(), Failure> {
        match &mut self.output {
            Some(output) => output.append(text),
            None => self.session.text(text),
        }
    }

    /// Stores the position, after the output was flushed.
    fn keep(&mut self) -> Result<(), Failure> {
        let Some(last) = self.last.take() else { return Ok(()) };
        let output_bytes = match &self.output {
            Some(output) => Some(output.sync()?),
            None => {
                self.session.env.out.flush()?;
                None
            }
        };
        self.unkept = 0;
        self.position.keep(last, output_bytes)
    }
}

/// The position of an event.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    cluster: String,
    index: u64,
    ordinal: u32,
    /// The hash of its frame in hexadecimal digits, which commits to all of history up to it.
    frame_hash: String,
    /// Length of the output up to this event in bytes, if the output is a file.
    output_bytes: Option<u64>,
}

/// The position file, locked while this run uses it.
struct PositionFile {
    path: PathBuf,
    cluster: ClusterId,
    kept: Option<Position>,
    /// Its lock.
    held: Option<File>,
}

impl PositionFile {
    fn open(path: &Path, cluster: ClusterId) -> Result<Self, Failure> {
        let mut opened = Self { path: path.to_owned(), cluster, kept: None, held: None };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // If the position cannot be stored, this is reported before anything is printed.
                let tried = opened.open_temp().and_then(|_| std::fs::remove_file(opened.temp_path()));
                return tried.map(|()| opened).map_err(|error| unwritable(path, &error));
            }
            Err(error) => return Err(unreadable(path, &error)),
        };
        lock(&file, path)?;
        let mut text = String::new();
        let read = (&file).take(POSITION_BYTES_MAX).read_to_string(&mut text);
        let position = match read.map(|_| serde_json::from_str::<Position>(&text)) {
            Ok(Ok(position)) => position,
            Err(error) if error.kind() != ErrorKind::InvalidData => return Err(unreadable(path, &error)),
            Ok(Err(_)) | Err(_) => {
                let sentence = format!("{} is not a position that `swarmctl events --resume` kept", path.display());
                return Err(
                    Failure::new(Kind::Usage, sentence).hint("name another file; without one, a new one is made")
                );
            }
        };
        if position.cluster != cluster.to_string() {
            let sentence = format!(
                "{} is a position in cluster {}, but this is cluster {cluster}",
                path.display(),
                position.cluster
            );
            return Err(Failure::new(Kind::Conflict, sentence).hint("use one file for each cluster"));
        }
        opened.kept = Some(position);
        opened.held = Some(file);
        Ok(opened)
    }

    /// The event after which to continue.
    fn after(&self) -> Option<EventPosition> {
        let Position { index, ordinal, frame_hash, .. } = self.kept.as_ref()?;
        let frame = Head { index: *index, frame_hash: frame_hash.clone() };
        Some(EventPosition { frame, ordinal: *ordinal })
    }

    /// Refuses to print if earlier events went to a file.
    fn require_no_output(&self, has_output: bool) -> Result<(), Failure> {
        if has_output || self.kept.as_ref().is_none_or(|position| position.output_bytes.is_none()) {
            return Ok(());
        }
        let sentence = format!("{} is the position of a file that --output wrote", self.path.display());
        Err(Failure::new(Kind::Usage, sentence).hint("add --output with that file, or use another position file"))
    }

    /// Replaces the position file, durably.
    fn keep(&mut self, last: EventPosition, output_bytes: Option<u64>) -> Result<(), Failure> {
        let EventPosition { frame: Head { index, frame_hash }, ordinal } = last;
        let position = Position { cluster: self.cluster.to_string(), index, ordinal, frame_hash, output_bytes };
        let replaced = self.replace(&position);
        self.held = Some(replaced.map_err(|error| unwritable(&self.path, &error))?);
        self.kept = Some(position);
        Ok(())
    }

    /// The new file under a temporary name.
    fn open_temp(&self) -> std::io::Result<File> {
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.temp_path())
    }

    fn temp_path(&self) -> PathBuf {
        self.path.with_added_extension("part")
    }

    fn replace(&self, position: &Position) -> std::io::Result<File> {
        let mut file = self.open_temp()?;
        writeln!(file, "{}", serde_json::to_string(position)?)?;
        file.sync_all()?;
        file.try_lock()?;
        std::fs::rename(self.temp_path(), &self.path)?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()?;
        Ok(file)
    }
}

/// Ensures that only this run uses a position file.
fn lock(file: &File, path: &Path) -> Result<(), Failure> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            let sentence = format!("{} is in use by another swarmctl", path.display());
            Failure::new(Kind::Conflict, sentence).hint("stop that one, or use another position file")
        }
        TryLockError::Error(error) => unreadable(path, &error),
    })
}

/// The output file.
struct Output {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Output {
    /// Creates the file, or opens it and truncates it to the length at the position.
    fn open(path: &Path, position: &PositionFile) -> Result<Self, Failure> {
        let refuse = |sentence: String, hint: &str| Err(Failure::new(Kind::Conflict, sentence).hint(hint));
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = file.map_err(|error| unwritable(path, &error))?;
        let length = file.metadata().map_err(|error| unreadable(path, &error))?.len();
        let (name, kept) = (path.display(), position.path.display());
        let bytes = match position.kept.as_ref().map(|position| position.output_bytes) {
            None if length > 0 => {
                let hint = "name a new file, or the position file that belongs to it";
                return refuse(format!("{name} is not empty, and there is no position file {kept}"), hint);
            }
            None => 0,
            Some(None) => {
                let hint = "leave out --output, or use another position file";
                return refuse(
                    format!("{kept} is the position of events that were printed, not written to a file"),
                    hint,
                );
            }
            Some(Some(bytes)) if length < bytes => {
                let hint = "name the file that belongs to the position, or start again with new names for both";
                return refuse(
                    format!("{name} has {length} bytes, but {bytes} were written by the time of {kept}"),
                    hint,
                );
            }
            Some(Some(bytes)) => bytes,
        };
        let cut = file.set_len(bytes).and_then(|()| file.seek(SeekFrom::Start(bytes)));
        cut.map_err(|error| unwritable(path, &error))?;
        Ok(Self { file, path: path.to_owned(), bytes })
    }

    fn append(&mut self, text: &str) -> Result<(), Failure> {
        self.file.write_all(text.as_bytes()).map_err(|error| unwritable(&self.path, &error))?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Syncs the file to disk; returns its length.
    fn sync(&self) -> Result<u64, Failure> {
        self.file.sync_all().map_err(|error| unwritable(&self.path, &error))?;
        Ok(self.bytes)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Other, format!("cannot read {}: {error}", path.display())).hint("name a file that you may read")
}
