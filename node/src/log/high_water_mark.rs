//! The high-water mark: a file of 16 bytes beside the database that holds the highest index whose entry was confirmed as durable.
//! RocksDB opens without an error after it dropped the rest of its own log at the first bad record; this file detects that. The
//! leader's record counts as well: an index that it considers durable here is recorded, and every later start refuses a log that
//! ends before it.
//!
//! It is overwritten in place and never synced: the end of the process does not harm it, and after a power failure it may be too
//! low, so that it detects less.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::LogError;

const BYTES: usize = 16;

pub(super) struct Mark {
    file: File,
    path: PathBuf,
    opened_with: Option<u64>,
    /// The highest index since then. Locked while the file is written, so that the file never decreases.
    highest: Mutex<u64>,
}

/// The index in a file that another process may be writing; `None` if the file does not exist or is unreadable.
pub(super) fn read(path: &Path) -> Result<Option<u64>, LogError> {
    match std::fs::read(path) {
        Ok(stored) => Ok(stored.try_into().ok().and_then(decode)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LogError::File { action: "read", path: path.to_owned(), source }),
    }
}

impl Mark {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let failed = |source| LogError::File { action: "open", path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut stored = [0; BYTES];
        let opened_with = if length < BYTES as u64 {
            None
        } else {
            file.read_exact_at(&mut stored, 0).map_err(failed)?;
            decode(stored)
        };
        if opened_with.is_none() && length > 0 {
            tracing::warn!(path = %path.display(), "the log's high-water mark is unreadable and is written again");
        }
        Ok(Self { file, path: path.to_owned(), opened_with, highest: Mutex::default() })
    }

    /// The index that the file held when it was opened.
    pub fn opened_with(&self) -> Option<u64> {
        self.opened_with
    }

    /// Raises the mark, unless it has already been raised further since it was opened.
    pub fn set(&self, index: u64) -> Result<(), LogError> {
        // A failed write leaves the mark in the file intact.
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        *highest = index.max(*highest);
        let written = self.file.write_all_at(&encode(*highest), 0);
        written.map_err(|source| LogError::File { action: "write", path: self.path.clone(), source })
    }
}

/// The index and its complement, so that a torn write is not mistaken for an index.
fn encode(index: u64) -> [u8; BYTES] {
    (u128::from(index) << 64 | u128::from(!index)).to_be_bytes()
}

fn decode(stored: [u8; BYTES]) -> Option<u64> {
    let stored = u128::from_be_bytes(stored);
    let (index, complement) = ((stored >> 64) as u64, stored as u64);
    (index == !complement).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_there_again_after_opening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.mark");
        let mark = Mark::open(&path).unwrap();
        assert_eq!(mark.opened_with(), None);
        mark.set(41).unwrap();
        mark.set(42).unwrap();
        mark.set(40).unwrap();
        assert_eq!(Mark::open(&path).unwrap().opened_with(), Some(42));
        assert_eq!(read(&path).unwrap(), Some(42));
        assert_eq!(read(&directory.path().join("other")).unwrap(), None);
    }

    #[test]
    fn a_torn_mark_is_no_witness() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.mark");
        let mut stored = encode(0x0102);
        stored[7] = 0;
        for torn in [stored.as_slice(), &stored[..9], &[]] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(read(&path).unwrap(), None);
            assert_eq!(Mark::open(&path).unwrap().opened_with(), None);
        }
    }
}
