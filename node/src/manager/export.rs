//! `swarmd export`: writes the stored frames of a manager's history to one file, while the manager runs or afterwards, for
//! `swarmlog-verify` and any program that has the schema.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::daemon::config::STATE_DIR;
use crate::daemon::failure::{Failure, code};
use crate::daemon::start_settings::StartSettings;
use crate::daemon::{state_dir, state_dir_kind, unlock};
use crate::log::{HistoryReader, PageSize, RocksStore};
use crate::security::KeyLock;

/// Arguments of `swarmd export`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The manager's state directory.
    #[arg(short = 'd', long, default_value = STATE_DIR)]
    state_dir: PathBuf,
    /// File with the cluster's unlock key, where the manager's keys are locked.
    #[arg(long, value_name = "PATH")]
    unlock_key_file: Option<PathBuf>,
    /// File to write; it must not exist.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Writes all frames of history, each with its length as a protobuf varint in front. Secrets are not in them.
///
/// # Errors
/// When the log cannot be read, a frame is damaged, or the file cannot be written.
pub fn export(args: &Args, out: &mut impl Write) -> Result<(), Failure> {
    let keys = KeyLock::default();
    keys.set(args.unlock_key_file.as_deref().map(unlock::read_key).transpose()?);
    let Some(store) = RocksStore::open_to_verify(&state_dir::log(&args.state_dir), &keys)? else {
        return Err(state_dir_kind::no_log(&args.state_dir));
    };
    let store = store.with_archives(StartSettings::archives_of(&args.state_dir)?);
    let mut target = BufWriter::new(create(&args.file)?);
    let failed = |error: std::io::Error| unwritable(&args.file, &error);
    let (mut reader, mut frames) = (HistoryReader::after(None), 0_u64);
    loop {
        let page = reader.page(&store, u64::MAX, PageSize::WHOLE_HISTORY)?;
        if page.is_empty() {
            break;
        }
        for (_, stored) in page {
            target.write_all(&length(stored.len())).and_then(|()| target.write_all(&stored)).map_err(failed)?;
            frames += 1;
        }
    }
    store.verify_durable()?;
    target.flush().and_then(|()| target.get_ref().sync_all()).map_err(failed)?;
    let last = reader.last().map_or(0, |frame| frame.index);
    let summary = writeln!(out, "{frames} frames, the last at index {last}, are in {}", args.file.display());
    summary.map_err(|error| Failure::new(format!("cannot write the result: {error}"), ""))
}

fn length(bytes: usize) -> Vec<u8> {
    let mut written = Vec::new();
    prost::encoding::encode_varint(bytes as u64, &mut written);
    written
}

fn create(path: &Path) -> Result<File, Failure> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    created.map_err(|error| unwritable(path, &error).with_code(code::USAGE))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    let hint = "name a file that does not exist, in a directory that you may write, on a disk with room for it";
    Failure::new(format!("cannot write {}: {error}", path.display()), hint)
}
