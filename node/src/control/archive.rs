//! Old history: moving it into archives on demand, verifying all of it, and its disk usage.

use std::sync::Arc;

use commands::Rejection;
use wire::v1::{ArchiveHistoryRequest, ArchivedRange, HistoryUse, VerifiedHistory};

use super::{Control, unreadable};
use crate::log::archive::RANGE;
use crate::log::{LogError, LogStore, Scrub, Scrubbed, Table};
use crate::manager::archiver;

impl Control {
    /// Moves history up to an index into archives, one after another.
    ///
    /// # Errors
    /// When this manager has no archive directory, or there is nothing to move.
    pub fn archive_history(&self, request: &ArchiveHistoryRequest) -> Result<Archiving, Rejection> {
        if self.store.archive_dir().is_none() {
            let missing = LogError::NoArchiveDir;
            return Err(Rejection::conflict("history", missing.to_string(), missing.hint()));
        }
        let archiving = Archiving { store: Arc::clone(&self.store), to: request.to.unwrap_or(u64::MAX) };
        if archiving.next_range().map_err(|error| unreadable(&error))?.is_none() {
            let sentence = "no history can be archived";
            let hint = format!(
                "{RANGE} indexes move together, once two checkpoints, the index and the tree of history are past them; `swarmctl \
                 cluster inspect` shows what is in archives"
            );
            return Err(Rejection::conflict("history", sentence, hint));
        }
        Ok(archiving)
    }

    /// Verifies all of history, step by step.
    pub fn verify_history(&self) -> Verification {
        let to = self.state.cluster.position.index;
        Verification { store: Arc::clone(&self.store), scrub: Scrub::begin(self.now, None), to }
    }

    /// The disk usage of this manager's history.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn history_use(&self) -> Result<HistoryUse, Rejection> {
        let store = &*self.store;
        let bytes = |table| store.table_bytes(table).map_err(|error| unreadable(&error));
        let archives = store.archives().map_err(|error| unreadable(&error))?;
        let absent = archives.iter().filter(|archived| !store.is_there(archived)).count();
        Ok(HistoryUse {
            history_bytes: bytes(Table::History)?,
            checkpoint_bytes: bytes(Table::Checkpoint)?,
            index_bytes: bytes(Table::Index)?,
            tree_bytes: bytes(Table::Tree)?,
            archive_dir: store.archive_dir().map(|dir| dir.display().to_string()),
            archives: archives.len() as u64,
            archived_frames: archives.iter().map(|archived| archived.frames).sum(),
            archive_bytes: archives.iter().map(|archived| archived.file_bytes).sum(),
            archived_to: archives.last().map(|archived| archived.last.index),
            absent: absent as u64,
        })
    }
}

/// History that is being archived.
pub struct Archiving {
    store: Arc<dyn LogStore>,
    to: u64,
}

impl Archiving {
    /// Creates the next archive; `None` once there is nothing left to move.
    ///
    /// # Errors
    /// When it cannot be created, or the log cannot be read or written.
    pub fn make_next(&mut self) -> Result<Option<ArchivedRange>, LogError> {
        let Some(range) = self.next_range()? else { return Ok(None) };
        let archived = self.store.archive(range)?;
        archiver::log_archived(&archived);
        Ok(Some(ArchivedRange {
            first: archived.start,
            last: archived.last.index,
            frames: archived.frames,
            bytes: archived.bytes,
            file_bytes: archived.file_bytes,
            file: archived.file_name(),
        }))
    }

    fn next_range(&self) -> Result<Option<std::ops::Range<u64>>, LogError> {
        Ok(self.store.archivable()?.filter(|range| range.end - 1 <= self.to))
    }
}

/// A verification of all of history. Read-only: the background verification does the repairs.
pub struct Verification {
    store: Arc<dyn LogStore>,
    scrub: Scrub,
    to: u64,
}

impl Verification {
    /// Verifies the next range; `None` at the end.
    pub fn step(&mut self) -> Option<VerifiedHistory> {
        let mut verified = VerifiedHistory { to: self.to, ..VerifiedHistory::default() };
        match self.scrub.step(&*self.store) {
            Scrubbed::Intact(frames) => verified.frames = frames,
            Scrubbed::Absent(absent) => verified.absent = Some(absent.to_string()),
            Scrubbed::Found(damage) => {
                self.scrub.skip_damage(&*self.store, &damage);
                verified.damage = Some(damage.to_string());
            }
            Scrubbed::Finished { .. } => return None,
        }
        verified.next = self.scrub.next();
        Some(verified)
    }
}
