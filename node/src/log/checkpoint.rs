//! Checkpoints on the disk: the chunks of a snapshot, one a part, then a manifest. A checkpoint exists when its manifest does, so one
//! that a crash cut short was never there.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use events::frame::FrameHash;
use serde::{Deserialize, Serialize};

use super::disk::{Change, Disk, Durability, Key, Table};
use super::store::Store;
use super::{CheckpointHead, CheckpointPart, LogError};

/// The newest may prove to be damaged.
pub(super) const NEWEST_KEPT: usize = 2;

/// The value at part 0.
#[derive(Serialize, Deserialize)]
struct Manifest {
    term: u64,
    frame_hash: FrameHash,
    bytes: u64,
}

/// Which of these checkpoints, oldest first, are kept no longer. The newest stay, for a start; of those before them the oldest in each
/// doubling of the distance to the newest, so that a state of the past is never further from one before it than about from now, and
/// there are about as many as the length of history has binary digits.
fn superfluous(indexes: &[u64]) -> Vec<u64> {
    let Some((newest, _)) = indexes.split_last() else { return Vec::new() };
    let thinned = &indexes[..indexes.len().saturating_sub(NEWEST_KEPT)];
    let doubling = |index: &u64| newest.saturating_sub(*index).checked_ilog2();
    let follows = |pair: &[u64]| (doubling(&pair[0]) == doubling(&pair[1])).then_some(pair[1]);
    thinned.windows(2).filter_map(follows).collect()
}

impl<D: Disk> Store<D> {
    pub(super) fn write_checkpoint(
        &self,
        head: CheckpointHead,
        chunks: &mut dyn Iterator<Item = Vec<u8>>,
    ) -> Result<(), LogError> {
        let table = Table::Checkpoint;
        // What an earlier attempt at this index left behind.
        let clear = Change::DeleteRange { table, from: Key::at(head.index), to: Key::at(head.index + 1) };
        self.disk.write(vec![clear], Durability::Unsynced)?;
        let mut bytes = 0;
        for (part, chunk) in (1..).zip(chunks) {
            bytes += chunk.len() as u64;
            let _sealing = self.seal.hold();
            let put = self.put(table, Key { index: head.index, part }, &[], &chunk)?;
            self.disk.write(vec![put], Durability::Unsynced)?;
        }
        let manifest = Manifest { term: head.term, frame_hash: head.frame_hash, bytes };
        let _sealing = self.seal.hold();
        let mut batch = vec![self.put_record(table, Key::at(head.index), &manifest)?];
        let mut all: Vec<u64> = self.checkpoints()?.into_iter().filter(|&index| index != head.index).collect();
        all.push(head.index);
        for index in superfluous(&all) {
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

    /// The same for a start, which can do without those that damage hides.
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
        // What the database itself cannot read would stop it one day: the table has to be made again.
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

    /// Reads the newest checkpoint that is intact, part by part. Damage is met on the way, and then the one before it begins.
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
        let manifest: Manifest =
            self.record(table, Key::at(index))?.ok_or_else(|| damaged("the manifest is missing"))?;
        let head = CheckpointHead { index, term: manifest.term, frame_hash: manifest.frame_hash };
        read(CheckpointPart::Begin { bytes: manifest.bytes });
        let mut bytes = 0;
        let mut parts = 1..;
        self.disk.scan(table, Key { index, part: 1 }, Key::at(index + 1), &mut |key, sealed| {
            if parts.next() != Some(key.part) {
                return Err(damaged("a part is missing"));
            }
            let chunk = self.unseal(table, key, sealed)?;
            bytes += chunk.len() as u64;
            read(CheckpointPart::Chunk(&chunk));
            Ok(ControlFlow::Continue(()))
        })?;
        if bytes != manifest.bytes {
            return Err(damaged("the last part is missing"));
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_checkpoints_are_the_sparser_they_are() {
        let mut kept: Vec<u64> = Vec::new();
        for index in (1..=1_000).map(|number| number * 10_000) {
            kept.push(index);
            let doomed = superfluous(&kept);
            kept.retain(|index| !doomed.contains(index));
            assert!(kept.len() <= 2 + 14, "{kept:?}");
            assert!(kept.ends_with(&[index]) && (index == 10_000 || kept.contains(&(index - 10_000))), "{kept:?}");
            // From any point back to the checkpoint before it is never much more than from there to the present.
            for pair in kept.windows(2) {
                let (gap, back) = (pair[1] - pair[0], index - pair[0]);
                assert!(gap <= back, "{pair:?} of {kept:?}");
            }
        }
        assert_eq!(kept.first(), Some(&10_000), "the oldest stays");
        assert!(kept.len() >= 8, "{kept:?}");
        assert!(superfluous(&[]).is_empty());
    }
}
