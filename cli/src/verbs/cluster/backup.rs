//! `swarmctl cluster backup`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use events::{SecretText, Timestamp};
use serde::Serialize;
use tokio_stream::StreamExt;
use wire::v1::BackupPart;

use crate::failure::{Failure, Kind};
use crate::format::Format;
use crate::manager::{BackupStream, Manager};
use crate::session::Session;
use crate::values::size;

/// How often progress is shown.
const SHOWN_EVERY: std::time::Duration = std::time::Duration::from_secs(2);

/// Write a backup of the cluster to a file
///
/// The backup contains the whole history and all secrets as of one moment; the cluster keeps running. It is encrypted with the
/// passphrase and cannot be read or restored without it; keep both, in different places. The manager verifies its history while
/// it is read. `swarmd restore FILE` creates a manager from it.
///
/// Example: swarmctl cluster backup /backups/monday --passphrase-file /root/backup.passphrase
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write; it must not exist
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// File with the passphrase, of at least 12 bytes; - for standard input
    #[arg(long, value_name = "PATH", required = true)]
    passphrase_file: PathBuf,
}

/// The result as JSON.
#[derive(Serialize)]
struct Written<'a> {
    file: &'a Path,
    index: u64,
    bytes: u64,
}

pub(super) async fn run<M: Manager>(args: &Args, session: &mut Session<'_, M>) -> Result<(), Failure> {
    session.refuse_trial("a backup changes nothing in the cluster")?;
    let passphrase = passphrase(&args.passphrase_file)?;
    let mut target = Target::create(&args.file)?;
    let mut parts = session.manager.backup(passphrase).await?;
    let last = write(&mut parts, &mut target, session).await?;
    let (index, bytes) = (last.to, target.bytes);
    target.finish()?;
    match session.globals.format {
        Format::Json => session.json(&Written { file: &args.file, index, bytes }),
        Format::Table => {
            session.note(&format!("backup up to frame {index}: {}", size::show(bytes)))?;
            session.line(&args.file.display().to_string())
        }
    }
}

async fn write<M: Manager>(
    parts: &mut BackupStream,
    target: &mut Target,
    session: &mut Session<'_, M>,
) -> Result<BackupPart, Failure> {
    let mut shown: Timestamp = session.env.clock.now();
    while let Some(part) = parts.next().await {
        let part = part?;
        target.append(&part.data)?;
        if part.last {
            return Ok(part);
        }
        let now = session.env.clock.now();
        if now.since(shown) >= SHOWN_EVERY {
            shown = now;
            session.note(&format!("frame {} of {}", part.index, part.to))?;
        }
    }
    let failure =
        Failure::new(Kind::Unreachable, "the manager stopped before the backup was complete; nothing is kept");
    Err(failure.hint("ask another manager, or try again"))
}

fn passphrase(path: &Path) -> Result<SecretText, Failure> {
    let read = match path == Path::new("-") {
        true => wire::read_passphrase(std::io::stdin()),
        false => File::open(path).and_then(wire::read_passphrase),
    };
    read.map_err(|error| {
        let failure = Failure::new(Kind::Usage, format!("cannot read the passphrase: {}: {error}", path.display()));
        failure
            .hint("set --passphrase-file to a readable file that contains only the passphrase, or - for standard input")
    })
}

/// The output file, under a temporary name until it is complete.
struct Target {
    file: File,
    path: PathBuf,
    temp_path: PathBuf,
    bytes: u64,
    finished: bool,
}

impl Target {
    fn create(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            let failure = Failure::new(Kind::Usage, "a backup is written to a file, not to standard output");
            return Err(failure.hint("name a file: it gets its name only when the backup is complete"));
        }
        if path.exists() {
            let failure = Failure::new(Kind::Exists, format!("{} exists already", path.display()));
            return Err(failure.hint("a backup does not overwrite files: choose another name"));
        }
        let temp_path = path.with_added_extension("part");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temp_path);
        let file = file.map_err(|error| unwritable(&temp_path, &error))?;
        Ok(Self { file, path: path.to_owned(), temp_path, bytes: 0, finished: false })
    }

    fn append(&mut self, data: &[u8]) -> Result<(), Failure> {
        self.file.write_all(data).map_err(|error| unwritable(&self.temp_path, &error))?;
        self.bytes += data.len() as u64;
        Ok(())
    }

    /// Renames the complete file to its final name, durably.
    fn finish(mut self) -> Result<(), Failure> {
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named = self.file.sync_all().and_then(|()| std::fs::rename(&self.temp_path, &self.path));
        let named = named.and_then(|()| File::open(directory)?.sync_all());
        named.map_err(|error| unwritable(&self.path, &error))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished {
            // An incomplete file under this name is not mistaken for a backup.
            let _ = std::fs::remove_file(&self.temp_path);
        }
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::new(Kind::Other, format!("cannot write {}: {error}", path.display()));
    failure.hint("choose a file in a writable directory, on a disk with enough space")
}
