//! Checkpoints on disk: the chunks of a snapshot, one per part, then a manifest. A checkpoint exists once its manifest does, so
//! an interrupted one never counts.

use std::ops::{ControlFlow, RangeInclusive};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use events::frame::FrameHash;
use serde::{Deserialize, Serialize};

use super::disk::{Change, Disk, Durability, Key, Table};
use super::entry::decode_record;
use super::store::Store;
use super::{CheckpointHead, CheckpointPart, LogError};

/// More than one, because the newest may turn out to be damaged.
pub(super) const NEWEST_KEPT: usize = 2;

/// The value at part 0.
#[derive(Serialize, Deserialize)]
struct Manifest {
    term: u64,
    frame_hash: FrameHash,
    bytes: u64,
    /// Total size of the parts, compressed.
    packed_bytes: u64,
}

/// The manifest of a checkpoint with uncompressed parts, as older builds wrote them.
#[derive(Serialize, Deserialize)]
struct PlainManifest {
    term: u64,
    frame_hash: FrameHash,
    bytes: u64,
}

/// The fastest level: states are written often, and the next levels save little more.
const LEVEL: i32 = 1;
/// A compressed part is preceded by its uncompressed length.
const LENGTH_BYTES: usize = 4;

/// Bytes that checkpoints for states of the past may take, in addition to the newest.
const PAST_BYTES: u64 = 512 * 1024 * 1024;
/// The minimum, whatever their size, and the maximum number of these.
const PAST_KEPT: RangeInclusive<u64> = 4..=64;

/// Returns the checkpoints to delete, of these, oldest first. The newest are kept, for a start; of the earlier ones as many as
/// fit at the size of the newest, spread as evenly as possible: any state of the past is a checkpoint and a bounded part of
/// history away. The first one after the archives is kept as well: states from there on need no archive.
fn superfluous(indexes: &[u64], bytes: u64, archived_to: u64) -> Vec<u64> {
    let room = (PAST_BYTES / bytes.max(1)).clamp(*PAST_KEPT.start(), *PAST_KEPT.end());
    let mut past = indexes.to_vec();
    let newest = past.split_off(indexes.len().saturating_sub(NEWEST_KEPT));
    let after_archives = indexes.iter().copied().find(|index| *index + 1 >= archived_to);
    let mut superfluous = Vec::new();
    while past.len() as u64 > room {
        // The history to fold without it, to reach the next one.
        let gap = |place: &usize| {
            let before = place.checked_sub(1).map_or(0, |before| past[before]);
            past.get(place + 1).or(newest.first()).map_or(0, |after| after - before)
        };
        let may_go = |place: &usize| Some(past[*place]) != after_archives;
        let Some(narrowest) = (0..past.len()).filter(may_go).min_by_key(gap) else { break };
        superfluous.push(past.remove(narrowest));
    }
    superfluous
}

impl<D: Disk> Store<D> {
    pub(super) fn write_checkpoint(
        &self,
        head: CheckpointHead,
        chunks: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> Result<(), LogError> {
        let table = Table::Checkpoint;
        // Leftovers of an earlier attempt at this index.
        let clear = Change::DeleteRange { table, from: Key::at(head.index), to: Key::at(head.index + 1) };
        self.disk.write(vec![clear], Durability::Unsynced)?;
        let (mut bytes, mut packed_bytes) = (0, 0);
        for (part, chunk) in (1..).zip(chunks) {
            let packed = pack(&chunk)?;
            bytes += chunk.len() as u64;
            packed_bytes += packed.len() as u64;
            let _sealing = self.seal.hold();
            let put = self.put(table, Key { index: head.index, part }, &[], &packed)?;
            self.disk.write(vec![put], Durability::Unsynced)?;
        }
        let manifest = Manifest { term: head.term, frame_hash: head.frame_hash, bytes, packed_bytes };
        let _sealing = self.seal.hold();
        let mut batch = vec![self.put_record(table, Key::at(head.index), &manifest)?];
        let mut all: Vec<u64> = self.checkpoints()?.into_iter().filter(|&index| index != head.index).collect();
        all.push(head.index);
        for index in superfluous(&all, packed_bytes, self.archived_to()?) {
            batch.push(Change::DeleteRange { table, from: Key::at(index), to: Key::at(index + 1) });
        }
        self.disk.write(batch, Durability::Synced)
    }

    /// The indexes of all checkpoints, oldest first.
    pub(super) fn checkpoints(&self) -> Result<Vec<u64>, LogError> {
        let mut found = Vec::new();
        self.list_checkpoints(&mut found)?;
        Ok(found)
    }

    /// The same for a start, which can do without those that are hidden by damage.
    pub(super) fn readable_checkpoints(&self) -> Result<Vec<u64>, LogError> {
        let mut found = Vec::new();
        match self.list_checkpoints(&mut found) {
            Err(error) if error.is_of_a_checkpoint() => self.note_damaged_checkpoint(&error),
            listed => listed?,
        }
        Ok(found)
    }

    fn note_damaged_checkpoint(&self, error: &LogError) {
        tracing::warn!(%error, "a checkpoint is damaged; an older one or the history is used");
        // A table that the database itself cannot read would stop it sooner or later: it must be rebuilt.
        if matches!(error, LogError::Corrupt { .. }) {
            self.checkpoints_corrupt.store(true, Ordering::Relaxed);
        }
    }

    fn list_checkpoints(&self, found: &mut Vec<u64>) -> Result<(), LogError> {
        let mut next = Some(Key::MIN);
        while let Some(from) = next.take() {
            self.disk.scan(Table::Checkpoint, from, Key::MAX, &mut |key, _| {
                if key.part == 0 {
                    found.push(key.index);
                }
                // Parts are skipped, not read.
                next = Some(Key::at(key.index + 1));
                Ok(ControlFlow::Break(()))
            })?;
        }
        Ok(())
    }

    /// Reads the newest intact checkpoint, part by part. Damage may only show on the way; then the previous checkpoint is read
    /// from its beginning.
    pub(super) fn read_checkpoint(
        &self,
        at_most: u64,
        read: &mut dyn FnMut(CheckpointPart<'_>),
    ) -> Result<Option<CheckpointHead>, LogError> {
        let mut damage = None;
        for &index in self.readable_checkpoints()?.iter().rev().filter(|&&index| index <= at_most) {
            match self.read_checkpoint_at(index, read) {
                Ok(head) => return Ok(Some(head)),
                Err(error) if error.is_of_a_checkpoint() => {
                    self.note_damaged_checkpoint(&error);
                    damage = damage.or(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        damage.map_or(Ok(None), Err)
    }

    fn read_checkpoint_at(
        &self,
        index: u64,
        read: &mut dyn FnMut(CheckpointPart<'_>),
    ) -> Result<CheckpointHead, LogError> {
        let table = Table::Checkpoint;
        let damaged = |reason: &str| LogError::Damaged { table, index, reason: reason.into() };
        let (manifest, is_packed) = self.manifest(index)?.ok_or_else(|| damaged("the manifest is missing"))?;
        let head = CheckpointHead { index, term: manifest.term, frame_hash: manifest.frame_hash };
        read(CheckpointPart::Begin { bytes: manifest.bytes });
        let mut bytes = 0;
        let mut parts = 1..;
        self.disk.scan(table, Key { index, part: 1 }, Key::at(index + 1), &mut |key, sealed| {
            if parts.next() != Some(key.part) {
                return Err(damaged("a part is missing"));
            }
            let stored = self.unseal(table, key, sealed)?;
            let chunk = if is_packed { unpack(&stored).map_err(|reason| damaged(&reason))? } else { stored };
            bytes += chunk.len() as u64;
            read(CheckpointPart::Chunk(&chunk));
            Ok(ControlFlow::Continue(()))
        })?;
        if bytes != manifest.bytes {
            return Err(damaged("the last part is missing"));
        }
        Ok(head)
    }

    /// The manifest of a checkpoint, and whether its parts are compressed.
    fn manifest(&self, index: u64) -> Result<Option<(Manifest, bool)>, LogError> {
        let (table, key) = (Table::Checkpoint, Key::at(index));
        let Some(sealed) = self.disk.get(table, key)? else { return Ok(None) };
        let stored = self.unseal(table, key, sealed)?;
        if let Ok(manifest) = decode_record(&stored) {
            return Ok(Some((manifest, true)));
        }
        let plain: PlainManifest =
            decode_record(&stored).map_err(|reason| LogError::Damaged { table, index, reason })?;
        let PlainManifest { term, frame_hash, bytes } = plain;
        Ok(Some((Manifest { term, frame_hash, bytes, packed_bytes: bytes }, false)))
    }
}

fn pack(chunk: &[u8]) -> Result<Vec<u8>, LogError> {
    let failed = |reason: String| LogError::Storage { action: "compress a checkpoint", reason };
    let length = u32::try_from(chunk.len()).map_err(|error| failed(error.to_string()))?;
    let packed = zstd::bulk::compress(chunk, LEVEL).map_err(|error| failed(error.to_string()))?;
    Ok([&length.to_le_bytes(), packed.as_slice()].concat())
}

fn unpack(stored: &[u8]) -> Result<Bytes, String> {
    let (length, packed) = stored.split_first_chunk::<LENGTH_BYTES>().ok_or("a part is truncated")?;
    let unpacked = zstd::bulk::decompress(packed, u32::from_le_bytes(*length) as usize);
    unpacked.map(Bytes::from).map_err(|error| format!("a part: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_of_the_past_are_spread_evenly_over_it_as_many_as_there_is_room_for() {
        for (bytes, room) in [(0, 64), (1 << 20, 64), (64 << 20, 8), (1 << 40, 4)] {
            let mut kept: Vec<u64> = Vec::new();
            for index in (1..=1_000).map(|number| number * 10_000) {
                kept.push(index);
                let doomed = superfluous(&kept, bytes, 0);
                kept.retain(|index| !doomed.contains(index));
                assert!(kept.len() <= NEWEST_KEPT + room, "{kept:?}");
                assert!(kept.ends_with(&[index]) && (index == 10_000 || kept.contains(&(index - 10_000))), "{kept:?}");
                // No gap in history is more than three times as long as with equal gaps.
                let from_start = std::iter::once(0).chain(kept.iter().copied()).collect::<Vec<_>>();
                let longest = from_start.windows(2).map(|pair| pair[1] - pair[0]).max();
                let alike = (index / room as u64).max(10_000);
                assert!(longest <= Some(3 * alike), "{longest:?} of {kept:?}");
            }
            assert_eq!(kept.len(), NEWEST_KEPT + room, "{kept:?}");
        }
        assert!(superfluous(&[], 1, 0).is_empty());
    }

    #[test]
    fn the_first_checkpoint_after_the_archives_stays() {
        let mut kept: Vec<u64> = Vec::new();
        for index in (1..=200).map(|number| number * 10_000) {
            kept.push(index);
            let doomed = superfluous(&kept, 1 << 40, 615_000);
            kept.retain(|index| !doomed.contains(index));
        }
        assert!(kept.contains(&620_000) && kept.len() == NEWEST_KEPT + 4, "{kept:?}");
    }
}
