//! Frames from which a value was erased. History accepts them if a permit has the hash of their bytes: the permit is recorded
//! before the frame is rewritten, and comes from the event that announced the redaction. Every read checks it, so that an
//! attacker with write access cannot pass off another frame as a redacted one.
//!
//! A value is completely erased once its frames were rewritten, in the table of history and in archives, the checkpoints between
//! them and the announcement are gone, the raft log starts after the announcement, and the database has dropped the deleted data.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use events::frame::FrameHash;
use events::redaction;

use super::LogError;
use super::archive::ArchiveStore;
use super::chain::damaged;
use super::checkpoint::NEWEST_KEPT;
use super::disk::{Change, Disk, Durability, Key, Table};
use super::store::Store;

/// The records of [`Table::Meta`] with the announcement up to which everything is erased, in the database and in archives.
const REDACTED: Key = Key::at(11);
const ARCHIVES_REDACTED: Key = Key::at(12);
/// From this number on, that table holds permits, one per frame: no other record has such a number.
const PERMITS: u64 = 1 << 63;
/// Bytes of frames that are rewritten at a time.
const BATCH_BYTES: usize = 1024 * 1024;

/// The hashes that the bytes of redacted frames may have, by index. A frame from which several values were erased one after the
/// other has several.
pub type Permits = BTreeMap<u64, Vec<FrameHash>>;

/// The permits of a log, once they were read.
pub(super) type KnownPermits = Mutex<Option<Arc<Permits>>>;

/// The reason to reject a redacted frame without a permit.
pub(super) const UNANNOUNCED: &str = "a value was erased from it, and no redaction announces that";

/// The announcements up to which values are erased. An archive may be unreachable for long, and must not block the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedactedTo {
    /// In the database: history, checkpoints, raft entries.
    pub database: u64,
    /// In the files of archives.
    pub archives: u64,
}

impl RedactedTo {
    /// The announcement up to which values are erased everywhere.
    pub fn everywhere(self) -> u64 {
        self.database.min(self.archives)
    }
}

/// Redacts the frame at an index. It must return the same bytes each time.
pub type Redact<'a> = dyn FnMut(u64, &Bytes) -> Result<Bytes, LogError> + 'a;

/// Erasure of values from the log.
pub trait RedactionStore: Send + Sync {
    /// Records which redacted frames history accepts, durably.
    ///
    /// # Errors
    /// When the write fails.
    fn permit(&self, permits: &Permits) -> Result<(), LogError>;

    /// Whether the frame at this index may have these bytes: the original ones if it has no permit, and those of its permit
    /// otherwise.
    ///
    /// # Errors
    /// When the permits cannot be read.
    fn takes(&self, index: u64, stored: &[u8]) -> Result<bool, LogError>;

    /// Rewrites frames of the table of history that have a permit, durably. Returns how many still had to be redacted.
    ///
    /// # Errors
    /// When a frame cannot be read or written.
    fn redact_history(&self, indexes: &[u64], redact: &mut Redact<'_>) -> Result<u64, LogError>;

    /// The same for the files of all reachable archives.
    ///
    /// # Errors
    /// When an archive cannot be read or written, after the others were processed.
    fn redact_archives(&self, indexes: &[u64], redact: &mut Redact<'_>) -> Result<u64, LogError>;

    /// Removes the checkpoints of the states in a range of indexes, once there is a later one. Returns whether none is left in
    /// the range.
    ///
    /// # Errors
    /// When they cannot be read, or the write fails.
    fn drop_checkpoints(&self, range: Range<u64>) -> Result<bool, LogError>;

    /// Removes raft entries like [`LogStore::compact`](super::LogStore::compact), but for those before a redaction's
    /// announcement, which contain erased values, does not wait for a second checkpoint.
    ///
    /// # Errors
    /// When the write fails.
    fn compact_redacted(&self, to: u64, redacted_at: u64) -> Result<u64, LogError>;

    /// The announcement up to which everything is erased here.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn redacted_to(&self) -> Result<RedactedTo, LogError>;

    /// Records the announcement up to which everything is erased here.
    ///
    /// # Errors
    /// When the write fails.
    fn save_redacted_to(&self, to: RedactedTo) -> Result<(), LogError>;
}

impl<D: Disk> RedactionStore for Store<D> {
    fn permit(&self, permits: &Permits) -> Result<(), LogError> {
        let known = self.permits()?;
        if permits.iter().all(|(index, hashes)| known.get(index) == Some(hashes)) {
            return Ok(());
        }
        let _sealing = self.seal.hold();
        self.disk.write(self.put_permits(permits)?, Durability::Synced)?;
        self.know_permits(permits)
    }

    fn takes(&self, index: u64, stored: &[u8]) -> Result<bool, LogError> {
        let permits = self.permits()?;
        Ok(takes(&permits, index, stored, true))
    }

    fn redact_history(&self, indexes: &[u64], redact: &mut Redact<'_>) -> Result<u64, LogError> {
        let _alone = self.archives.making.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rewritten, mut batch, mut bytes, permits) = (0, Vec::new(), 0, self.permits()?);
        for index in indexes {
            // The last frame of an archive is here as well.
            let Some(sealed) = self.disk.get(Table::History, Key::at(*index))? else { continue };
            let stored = self.frame(&permits, Key::at(*index), sealed)?;
            let redacted = redact(*index, &stored)?;
            if redacted == stored {
                continue;
            }
            bytes += redacted.len();
            batch.push((*index, redacted));
            rewritten += 1;
            if bytes >= BATCH_BYTES {
                self.put_frames(&std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.put_frames(&batch)?;
        Ok(rewritten)
    }

    fn redact_archives(&self, indexes: &[u64], redact: &mut Redact<'_>) -> Result<u64, LogError> {
        let _alone = self.archives.making.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rewritten, mut failed) = (0, None);
        for archived in self.archives()? {
            match self.redact_archive(&archived, indexes, redact) {
                Ok(frames) => rewritten += frames,
                Err(error) if error.is_of_an_archive() => failed = failed.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(rewritten), Err)
    }

    fn drop_checkpoints(&self, range: Range<u64>) -> Result<bool, LogError> {
        let all = self.checkpoints()?;
        if !all.iter().any(|index| range.contains(index)) {
            return Ok(true);
        }
        if all.last().is_none_or(|newest| *newest < range.end) {
            return Ok(false);
        }
        let (table, from, to) = (Table::Checkpoint, Key::at(range.start), Key::at(range.end));
        self.disk.write(vec![Change::DeleteRange { table, from, to }], Durability::Synced)?;
        Ok(true)
    }

    fn compact_redacted(&self, to: u64, redacted_at: u64) -> Result<u64, LogError> {
        let mut newest = self.checkpoints()?.into_iter().rev().take(NEWEST_KEPT);
        let (newest, older) = (newest.next().unwrap_or(0), newest.next());
        // If the newest turns out to be damaged, a start folds history instead.
        let needs_older = older.filter(|older| newest < redacted_at || redacted_at <= *older);
        self.cut(to, needs_older.unwrap_or(newest))
    }

    fn redacted_to(&self) -> Result<RedactedTo, LogError> {
        Ok(RedactedTo {
            database: self.record(Table::Meta, REDACTED)?.unwrap_or_default(),
            archives: self.record(Table::Meta, ARCHIVES_REDACTED)?.unwrap_or_default(),
        })
    }

    fn save_redacted_to(&self, to: RedactedTo) -> Result<(), LogError> {
        let _sealing = self.seal.hold();
        let records = vec![
            self.put_record(Table::Meta, REDACTED, &to.database)?,
            self.put_record(Table::Meta, ARCHIVES_REDACTED, &to.archives)?,
        ];
        self.disk.write(records, Durability::Synced)
    }
}

impl<D: Disk> Store<D> {
    /// The changes that store these permits.
    pub(super) fn put_permits(&self, permits: &Permits) -> Result<Vec<Change>, LogError> {
        let put = |(index, hashes)| self.put_record(Table::Meta, Key::at(PERMITS | index), hashes);
        permits.iter().map(put).collect()
    }

    /// Makes reads accept frames with these permits from now on.
    pub(super) fn know_permits(&self, permits: &Permits) -> Result<(), LogError> {
        let mut all = Arc::unwrap_or_clone(self.permits()?);
        all.extend(permits.iter().map(|(index, hashes)| (*index, hashes.clone())));
        *self.permits.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(all));
        Ok(())
    }

    /// All permits. Must be called before a table is scanned.
    pub(super) fn permits(&self) -> Result<Arc<Permits>, LogError> {
        let mut known = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(permits) = known.as_ref() {
            return Ok(Arc::clone(permits));
        }
        let mut permits = Permits::new();
        self.disk.scan(Table::Meta, Key::at(PERMITS), Key::MAX, &mut |key, sealed| {
            permits.insert(key.index & !PERMITS, self.decode(Table::Meta, key, sealed)?);
            Ok(ControlFlow::Continue(()))
        })?;
        let permits = Arc::new(permits);
        *known = Some(Arc::clone(&permits));
        Ok(permits)
    }

    /// The frame in a sealed value of history. The permits may be older than the frame.
    pub(super) fn frame(&self, permits: &Permits, key: Key, sealed: Vec<u8>) -> Result<Bytes, LogError> {
        let stored = self.unseal(Table::History, key, sealed)?;
        let is_taken = takes(permits, key.index, &stored, false) || {
            let permits = self.permits()?;
            takes(&permits, key.index, &stored, false)
        };
        if is_taken { Ok(stored) } else { Err(unannounced(key.index)) }
    }

    fn put_frames(&self, frames: &[(u64, Bytes)]) -> Result<(), LogError> {
        let _sealing = self.seal.hold();
        let batch = frames.iter().map(|(index, stored)| self.put(Table::History, Key::at(*index), &[], stored));
        let batch: Vec<Change> = batch.collect::<Result<_, _>>()?;
        if batch.is_empty() { Ok(()) } else { self.disk.write(batch, Durability::Synced) }
    }
}

/// Whether a frame is valid in history at an index. The original bytes are always valid, unless the check is strict: then a frame
/// with an erased value is not.
pub(super) fn takes(permits: &Permits, index: u64, stored: &[u8], is_strict: bool) -> bool {
    let permitted = permits.get(&index);
    if redaction::original(stored).is_none() {
        return !is_strict || permitted.is_none();
    }
    permitted.is_some_and(|hashes| hashes.contains(&redaction::sha256(stored)))
}

/// The error for a redacted frame without a permit.
pub(super) fn unannounced(index: u64) -> LogError {
    damaged(index, UNANNOUNCED.to_owned())
}

#[cfg(test)]
mod tests;
