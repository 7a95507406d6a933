//! Archives: old history in files of their own, in a directory that the operator configures. A file holds the unchanged frames of
//! 4,096 indexes, compressed and sealed. Each archive has a record in the log, which is written together with the removal of the
//! frames, after the file was made durable and read back. Readers of history read the files transparently, as long as they are
//! present.
//!
//! ```text
//! files          |0 .. 4,095|4,096 .. 8,191|
//! history                  ^              ^ <------ frames ------> applied
//! ```
//!
//! The last frame of each archive stays in the table of history as well, so that the chain continues from it without the file.
//! The key is the cluster's, from its keyring: changing the unlock key does not affect the files, every manager reads those of
//! every other, and a restored cluster reads the existing ones.

mod file;

use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use events::frame;
use projections::settings::ARCHIVE_KEY;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::chain::Chain;
use super::checkpoint::NEWEST_KEPT;
use super::disk::{Change, Disk, Durability, Key, Table};
use super::entry::FrameLink;
use super::heal::HealError;
use super::recover::VERIFIED_INDEXES;
use super::redaction::{self, Permits, Redact, UNANNOUNCED};
use super::store::Store;
use super::tail::Budget;
use super::{LogError, LogStore, TileStore};
use crate::security::seal::{DataKeys, Seal};

use file::{FileError, Id, Reader, Writer};

/// Indexes in an archive. Boundaries are multiples of it on every manager.
pub const RANGE: u64 = 4_096;
/// The first of the records in [`Table::Meta`] that describe archives, one per part: the number of its range.
const ARCHIVES: u64 = 10;
/// Frames that are read from history at a time, and their bytes.
const PAGE_FRAMES: usize = 512;
const PAGE_BYTES: usize = 1024 * 1024;

/// The contents of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// The first index of its range.
    pub start: u64,
    /// Its last frame.
    pub last: FrameLink,
    /// How many frames it has.
    pub frames: u64,
    /// Their bytes, unsealed.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

impl Archived {
    /// The name of its file, in the directory for archives.
    pub fn file_name(&self) -> String {
        self.id().file_name()
    }

    fn id(&self) -> Id {
        Id { start: self.start, last: self.last }
    }
}

/// The directory of a log's archives, and the key that opens them.
#[derive(Default)]
pub(super) struct Archives {
    dir: Option<PathBuf>,
    /// Created from the keys of the cluster, once there is one.
    seal: Mutex<Option<Arc<Seal>>>,
    /// Held while a file is written.
    pub(super) making: Mutex<()>,
}

/// Where the last frame before an index is stored.
pub(super) enum ArchivedBefore {
    /// In an archive: its index and its stored bytes.
    Frame(u64, Bytes),
    /// In the table of history, as the last one before this index.
    InHistory(u64),
}

/// Fetches a page of another manager's history from an index on, or returns why there is none.
pub type FetchPage<'a> = dyn FnMut(u64) -> Result<Vec<(u64, Bytes)>, String> + 'a;

/// Archiving of old history.
pub trait ArchiveStore: Send + Sync {
    /// The directory for archives, if this manager has one.
    fn archive_dir(&self) -> Option<&Path>;

    /// What was archived, oldest first.
    ///
    /// # Errors
    /// When a record is damaged or cannot be read.
    fn archives(&self) -> Result<Vec<Archived>, LogError>;

    /// Whether the file of an archive is in the directory.
    fn is_there(&self, archived: &Archived) -> bool;

    /// The indexes that can be archived next: a whole range that is needed neither for a start, nor for the index and the tree.
    ///
    /// # Errors
    /// When the log cannot be read.
    fn archivable(&self) -> Result<Option<Range<u64>>, LogError>;

    /// Moves the frames of such a range into a file: writes it, reads it back, and only then removes the frames from the
    /// database.
    ///
    /// # Errors
    /// When there is no directory or no key for archives, the file cannot be written, or the log cannot be read or written.
    fn archive(&self, range: Range<u64>) -> Result<Archived, LogError>;

    /// Rewrites the file of the archive that begins with this index, from another manager's history.
    ///
    /// # Errors
    /// When that history cannot repair it, or the file cannot be written.
    fn repair_archive(&self, start: u64, fetch: &mut FetchPage<'_>) -> Result<Archived, HealError>;
}

impl<D: Disk> ArchiveStore for Store<D> {
    fn archive_dir(&self) -> Option<&Path> {
        self.archives.dir.as_deref()
    }

    fn archives(&self) -> Result<Vec<Archived>, LogError> {
        let mut found = Vec::new();
        self.scan_archives(0, &mut |archived| {
            found.push(archived);
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn is_there(&self, archived: &Archived) -> bool {
        self.archives.dir.as_ref().is_some_and(|dir| dir.join(archived.file_name()).exists())
    }

    fn archivable(&self) -> Result<Option<Range<u64>>, LogError> {
        let (mut first, from) = (None, self.archived_to()?);
        self.disk.scan(Table::History, Key::at(from), Key::MAX, &mut |key, _| {
            first = Some(key.index);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(start) = first.map(|first| first / RANGE * RANGE) else { return Ok(None) };
        let range = start..start + RANGE;
        let bounds = [
            self.first_index(),
            self.readable_checkpoints()?.into_iter().rev().nth(NEWEST_KEPT - 1).unwrap_or(0),
            self.written_to().saturating_sub(VERIFIED_INDEXES),
            self.read_reach()?,
            self.tiles_reach()?.next,
        ];
        Ok(Some(range).filter(|range| bounds.into_iter().all(|bound| range.end <= bound)))
    }

    fn archive(&self, range: Range<u64>) -> Result<Archived, LogError> {
        let _alone = self.archives.making.lock().unwrap_or_else(PoisonError::into_inner);
        if self.archivable()?.as_ref() != Some(&range) {
            // Another thread archived it meanwhile, or it may not be archived.
            let last = self.archived_to()?;
            return Err(LogError::OutOfOrder { table: Table::History, index: range.start, last });
        }
        let after = self.link_before(range.start)?;
        let last = self.link_before(range.end)?.filter(|last| last.index >= range.start);
        let Some(last) = last else { return Err(missing_frames(range.start)) };
        let id = Id { start: range.start, last };
        // A file that was left by a crash, or by another log of this cluster, is equally good.
        let archived = match self.read_back(id, after) {
            Ok(archived) => archived,
            Err(_) => self.make(id, after, &mut |from| self.history(from, PAGE_FRAMES, PAGE_BYTES))?,
        };
        let (table, number) = (Table::History, number_of(range.start));
        let sealing = self.seal.hold();
        let batch = vec![
            self.put_record(Table::Meta, Key { index: ARCHIVES, part: number }, &archived)?,
            Change::DeleteRange { table, from: Key::at(range.start), to: Key::at(last.index) },
        ];
        self.disk.write(batch, Durability::Synced)?;
        // The rest may take the database some time, and other users of the seal need not wait for it.
        drop(sealing);
        self.disk.reclaim(table, Key::at(range.start), Key::at(last.index))?;
        Ok(archived)
    }

    fn repair_archive(&self, start: u64, fetch: &mut FetchPage<'_>) -> Result<Archived, HealError> {
        let _alone = self.archives.making.lock().unwrap_or_else(PoisonError::into_inner);
        let archived = self.archive_from(start).map_err(HealError::Around)?.ok_or(HealError::Elsewhere)?;
        let after = self.link_before(archived.start).map_err(HealError::Around)?;
        let mut silent = None;
        let made = self.make(archived.id(), after, &mut |from| {
            fetch(from).or_else(|why| {
                silent = Some(why);
                Ok(Vec::new())
            })
        });
        match (made, silent) {
            (Ok(made), _) => Ok(made),
            (Err(_), Some(why)) => Err(HealError::Silent(why)),
            (Err(error), None) => Err(HealError::Stuck(error)),
        }
    }
}

impl<D: Disk> Store<D> {
    /// The same log, with its archives in this directory.
    #[must_use]
    pub fn with_archives(mut self, dir: Option<PathBuf>) -> Self {
        self.archives.dir = dir;
        self
    }

    /// Frames from an index on, from the archive that holds the first of them; `None` where history itself holds it.
    pub(super) fn archived_history(
        &self,
        from: u64,
        frames_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<(u64, Bytes)>>, LogError> {
        let Some(archived) = self.archive_from(from)? else { return Ok(None) };
        let mut frames = self.open_archive(archived.id(), |reader| reader.frames_from(from))?;
        self.require_permits(archived.id(), &frames)?;
        let mut budget = Budget::new(bytes_max as u64);
        let within = frames.iter().take(frames_max).take_while(|(_, stored)| budget.allows(stored.len())).count();
        frames.truncate(within);
        Ok(Some(frames))
    }

    /// The last frame before an index, if an archive holds it and history does not.
    pub(super) fn archived_before(&self, before: u64) -> Result<ArchivedBefore, LogError> {
        let archived = self.archive_from(before.saturating_sub(1))?;
        // After the last frame of an archive, that one is in history too.
        let Some(archived) = archived.filter(|archived| archived.start < before && before <= archived.last.index)
        else {
            return Ok(ArchivedBefore::InHistory(before));
        };
        let found = self.open_archive(archived.id(), |reader| reader.frame_before(before))?;
        self.require_permits(archived.id(), found.as_slice())?;
        Ok(found
            .map_or(ArchivedBefore::InHistory(archived.start), |(index, stored)| ArchivedBefore::Frame(index, stored)))
    }

    /// Rejects frames of an archive that are redacted without a permit.
    fn require_permits(&self, id: Id, frames: &[(u64, Bytes)]) -> Result<(), LogError> {
        // Read after the frames: a permit is always written before the frame that it is for.
        let permits = self.permits()?;
        permitted(&permits, frames).map_err(|error| archive_error(self.archives.dir.as_deref(), id, error))
    }

    /// Index after the last archive; 0 if there is none.
    pub(super) fn archived_to(&self) -> Result<u64, LogError> {
        let last = self.disk.last_key(Table::Meta, Key::at(ARCHIVES + 1))?.filter(|key| key.index == ARCHIVES);
        Ok(last.map_or(0, |key| (u64::from(key.part) + 1) * RANGE))
    }

    /// The first archive that has a frame from this index on.
    fn archive_from(&self, index: u64) -> Result<Option<Archived>, LogError> {
        let mut first = None;
        self.scan_archives(number_of(index), &mut |archived| {
            if archived.last.index < index {
                return ControlFlow::Continue(());
            }
            first = Some(archived);
            ControlFlow::Break(())
        })?;
        Ok(first)
    }

    fn scan_archives(&self, from: u32, visit: &mut dyn FnMut(Archived) -> ControlFlow<()>) -> Result<(), LogError> {
        let (from, to) = (Key { index: ARCHIVES, part: from }, Key::at(ARCHIVES + 1));
        self.disk.scan(Table::Meta, from, to, &mut |key, sealed| Ok(visit(self.decode(Table::Meta, key, sealed)?)))
    }

    /// Rewrites the file of an archive with the frames to redact. Returns how many of them still had to be redacted.
    pub(super) fn redact_archive(
        &self,
        archived: &Archived,
        indexes: &[u64],
        redact: &mut Redact<'_>,
    ) -> Result<u64, LogError> {
        let is_in = |index: &&u64| (archived.start..=archived.last.index).contains(*index);
        let mut differing = BTreeSet::new();
        for index in indexes.iter().filter(is_in) {
            let frames = self.open_archive(archived.id(), |reader| reader.frames_from(*index))?;
            if let Some((found, stored)) = frames.first().filter(|(found, _)| found == index)
                && redact(*found, stored)? != *stored
            {
                differing.insert(*index);
            }
        }
        if differing.is_empty() {
            return Ok(0);
        }
        self.make(archived.id(), self.link_before(archived.start)?, &mut |from| {
            let mut frames = self.open_archive(archived.id(), |reader| reader.frames_from(from))?;
            for (index, stored) in frames.iter_mut().filter(|(index, _)| differing.contains(index)) {
                *stored = redact(*index, stored)?;
            }
            Ok(frames)
        })?;
        Ok(differing.len() as u64)
    }

    fn link_before(&self, index: u64) -> Result<Option<FrameLink>, LogError> {
        let before = self.frame_before(index)?;
        Ok(before.map(|(index, stored)| FrameLink { index, hash: frame::hash(&stored) }))
    }

    /// Writes the file of an archive from pages of frames that start at an index, and reads it back.
    fn make(
        &self,
        id: Id,
        after: Option<FrameLink>,
        page: &mut dyn FnMut(u64) -> Result<Vec<(u64, Bytes)>, LogError>,
    ) -> Result<Archived, LogError> {
        let dir = self.archives.dir.as_deref().ok_or(LogError::NoArchiveDir)?;
        let seal = self.archive_seal()?;
        let failed = |error| archive_error(Some(dir), id, error);
        let written = (|| {
            let (mut writer, mut next) = (Writer::begin(dir, id, &seal).map_err(failed)?, id.start);
            while next <= id.last.index {
                let mut frames = page(next)?;
                frames.retain(|(index, _)| *index <= id.last.index);
                let Some((last, _)) = frames.last() else { return Err(missing_frames(next)) };
                next = last + 1;
                frames.iter().try_for_each(|(index, stored)| writer.add(*index, stored)).map_err(failed)?;
            }
            writer.finish().map_err(failed)
        })();
        if written.is_err() {
            Writer::discard(dir, id);
        }
        written?;
        self.read_back(id, after)
    }

    /// Reads a whole archive, which must form a chain from one frame to the other.
    fn read_back(&self, id: Id, after: Option<FrameLink>) -> Result<Archived, LogError> {
        let (mut chain, mut frames, mut bytes, mut next) = (Chain::after(after), 0, 0, id.start);
        let permits = self.permits()?;
        let file_bytes = self.open_archive(id, |reader| {
            loop {
                let block = reader.frames_from(next)?;
                permitted(&permits, &block)?;
                let Some((last, _)) = block.last() else { break };
                next = last + 1;
                for (index, stored) in &block {
                    let unchained = |reason| FileError::Damaged(format!("frame {index}: {reason}"));
                    chain.follow(*index, stored).map_err(unchained)?;
                    (frames, bytes) = (frames + 1, bytes + stored.len() as u64);
                }
            }
            if chain.last() != Some(id.last) {
                return Err(FileError::Damaged("it does not end with its last frame".to_owned()));
            }
            reader.bytes()
        })?;
        Ok(Archived { start: id.start, last: id.last, frames, bytes, file_bytes })
    }

    fn open_archive<T>(&self, id: Id, read: impl FnOnce(&Reader<'_>) -> Result<T, FileError>) -> Result<T, LogError> {
        let dir = self.archives.dir.as_deref();
        let seal = self.archive_seal()?;
        let opened = dir.ok_or(FileError::Absent).and_then(|dir| Reader::open(dir, id, &seal));
        opened.and_then(|reader| read(&reader)).map_err(|error| archive_error(dir, id, error))
    }

    /// The seal for archives: it seals with the first of the cluster's keys, and opens with all of them.
    fn archive_seal(&self) -> Result<Arc<Seal>, LogError> {
        let mut known = self.archives.seal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seal) = known.as_ref() {
            return Ok(Arc::clone(seal));
        }
        let mut keys = Zeroizing::new(Vec::new());
        for secret in self.read_keyring()?.iter().filter(|secret| secret.key.starts_with(ARCHIVE_KEY)) {
            let key = secret.value.as_deref().and_then(|text| STANDARD.decode(text).ok()).map(Zeroizing::new);
            let key = key.and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok());
            keys.push(key.ok_or(LogError::KeyringDamaged { reason: "a key of archives is malformed".to_owned() })?);
        }
        if keys.is_empty() {
            return Err(LogError::NoArchiveKey);
        }
        let seal = Arc::new(Seal::with(&DataKeys::of(keys))?);
        *known = Some(Arc::clone(&seal));
        Ok(seal)
    }
}

/// Rejects frames of a file that are redacted without a permit.
fn permitted(permits: &Permits, frames: &[(u64, Bytes)]) -> Result<(), FileError> {
    match frames.iter().find(|(index, stored)| !redaction::takes(permits, *index, stored, false)) {
        Some((index, _)) => Err(FileError::Damaged(format!("frame {index}: {UNANNOUNCED}"))),
        None => Ok(()),
    }
}

fn number_of(index: u64) -> u32 {
    u32::try_from(index / RANGE).unwrap_or(u32::MAX)
}

fn missing_frames(index: u64) -> LogError {
    super::chain::damaged(index, "frames that are to be archived are missing".to_owned())
}

fn archive_error(dir: Option<&Path>, id: Id, error: FileError) -> LogError {
    let name = id.file_name();
    let path = dir.map_or_else(|| PathBuf::from(&name), |dir| dir.join(&name));
    let Id { start, last } = id;
    match error {
        FileError::Absent => LogError::ArchiveAbsent { start, last, path },
        FileError::Io(action, source) => LogError::Archive { action, path, source },
        FileError::Damaged(reason) => LogError::ArchiveDamaged { start, last, path, reason },
        FileError::Seal(error) => error.into(),
    }
}

#[cfg(test)]
mod tests;
