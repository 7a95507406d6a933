//! Reading of history: page by page, each frame verified to follow the one before it. All readers of history use this; so a frame
//! that was deleted, replaced or reverted is detected wherever it is read.

use bytes::Bytes;
use events::frame;

use super::chain::{Chain, damaged};
use super::entry::FrameLink;
use super::{LogError, LogStore};

/// How much of history is read at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    /// Maximum number of frames.
    pub frames: usize,
    /// Bytes of frames after which the page ends, but never before its first.
    pub bytes: usize,
}

impl PageSize {
    /// For readers of all of it.
    pub const WHOLE_HISTORY: Self = Self { frames: 4_096, bytes: 8 * 1024 * 1024 };
}

/// A reader of history.
#[derive(Debug, Clone)]
pub struct HistoryReader {
    /// `None` before the first page of a reader that starts in the middle.
    chain: Option<Chain>,
    next: u64,
}

impl HistoryReader {
    /// Reads the history after this frame, or all of history.
    pub fn after(last: Option<FrameLink>) -> Self {
        Self { chain: Some(Chain::after(last)), next: last.map_or(0, |frame| frame.index + 1) }
    }

    /// Reads from this index on. The first frame must follow the one that history has before it.
    pub fn starting_at(index: u64) -> Self {
        Self { chain: (index == 0).then(|| Chain::after(None)), next: index }
    }

    /// Reads from this index on, and trusts the first frame: for readers that have to continue after damage, or that verify the
    /// frame by the one that follows it.
    pub fn trusting(index: u64) -> Self {
        Self { chain: Some(if index == 0 { Chain::after(None) } else { Chain::anywhere() }), next: index }
    }

    /// The index from which the next page is read.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The frame that was read last, or that the reader started after.
    pub fn last(&self) -> Option<FrameLink> {
        self.chain.and_then(|chain| chain.last())
    }

    /// The next frames, up to index `to`; an empty page at the end of history, or of the requested part. After an error the same
    /// page is read again.
    ///
    /// # Errors
    /// When a frame is damaged or not the next link of the chain, when history ends before the last applied frame, or it cannot
    /// be read.
    pub fn page(&mut self, store: &dyn LogStore, to: u64, size: PageSize) -> Result<Vec<(u64, Bytes)>, LogError> {
        // Read before the frames: those applied meanwhile may be in the page or not.
        let end = store.applied()?.frame.filter(|frame| frame.index <= to);
        let mut page = store.history(self.next, size.frames, size.bytes)?;
        page.retain(|(index, _)| *index <= to);
        let mut chain = match self.chain {
            Some(chain) => chain,
            None => self.chain_before(store)?,
        };
        for (index, stored) in &page {
            chain.follow(*index, stored).map_err(|reason| damaged(*index, reason))?;
            let applied = end.filter(|frame| frame.index == *index);
            if applied.is_some() && applied != chain.last() {
                return Err(damaged(*index, "it is not the applied frame".into()));
            }
        }
        if let Some(missed) = end.filter(|frame| page.is_empty() && frame.index >= self.next) {
            let reason = format!("history ends here, but the frames up to {} were applied", missed.index);
            return Err(damaged(self.next, reason));
        }
        self.next = page.last().map_or(self.next, |(index, _)| index + 1);
        self.chain = Some(chain);
        Ok(page)
    }

    /// The chain up to where this reader starts.
    fn chain_before(&self, store: &dyn LogStore) -> Result<Chain, LogError> {
        let before = store.frame_before(self.next)?;
        Ok(Chain::after(before.map(|(index, stored)| FrameLink { index, hash: frame::hash(&stored) })))
    }

    /// Continues at a later index, after damage: its first frame is trusted.
    pub fn skip_to(&mut self, index: u64) {
        *self = Self::trusting(index);
    }
}

/// The stored bytes of the frame at this index; `None` if history has none there. It is a link of the chain: the frame after it
/// carries its hash, or it is the last applied frame.
///
/// # Errors
/// When that frame or the one after it is damaged, or history cannot be read.
pub fn frame_at(store: &dyn LogStore, index: u64) -> Result<Option<Bytes>, LogError> {
    let with_its_successor = PageSize { frames: 2, bytes: usize::MAX };
    let page = HistoryReader::trusting(index).page(store, u64::MAX, with_its_successor)?;
    Ok(page.into_iter().next().and_then(|(found, stored)| (found == index).then_some(stored)))
}

/// The result of a full verification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Number of frames.
    pub frames: u64,
    /// Their size in bytes, unsealed.
    pub bytes: u64,
    /// The last one.
    pub last: Option<FrameLink>,
}

/// Verifies the whole history, from its first to the last applied frame, and passes each frame to `visit`.
///
/// # Errors
/// The first damage, by index, or the error of `visit`.
pub fn verify_all<E: From<LogError>>(
    log: &dyn LogStore,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Verified, E> {
    let mut reader = HistoryReader::after(None);
    let mut verified = Verified::default();
    loop {
        let page = reader.page(log, u64::MAX, PageSize::WHOLE_HISTORY)?;
        if page.is_empty() {
            break;
        }
        for (index, stored) in &page {
            visit(*index, stored)?;
            verified.frames += 1;
            verified.bytes += stored.len() as u64;
        }
    }
    verified.last = reader.last();
    let applied = log.applied()?;
    if applied.frame != verified.last {
        let index = applied.frame.map_or(reader.next(), |frame| frame.index);
        return Err(damaged(index, "history does not end with the frame that was applied last".into()).into());
    }
    Ok(verified)
}

#[cfg(test)]
mod tests {
    use super::super::disk::{Change, Disk, Durability, Key, Table};
    use super::super::fixtures::{fill, frame};
    use super::super::{Membership, MemoryDisk, MemoryStore};
    use super::*;

    /// A loaded log of 20 frames, some of which may not be on disk yet.
    fn filled(disk: &MemoryDisk) -> MemoryStore {
        let store = MemoryStore::open(disk).unwrap();
        store.load().unwrap();
        store.initialize(&Membership::single(1)).unwrap();
        fill(&store, 20);
        store
    }

    /// Replaces the frame at `index` by one of another chain, correctly sealed.
    fn exchange(disk: &MemoryDisk, index: u64) {
        let other = MemoryStore::open(&MemoryDisk::default()).unwrap();
        let previous = Some(FrameLink { index: index - 1, hash: [7; 32] });
        let exchanged = other.put(Table::History, Key::at(index), &[], &frame(index, previous, 100)).unwrap();
        disk.write(vec![exchanged], Durability::Synced).unwrap();
    }

    #[test]
    fn who_begins_in_the_middle_takes_no_exchanged_frame() {
        let disk = MemoryDisk::default();
        let store = filled(&disk);
        let read = |from| HistoryReader::starting_at(from).page(&store, u64::MAX, PageSize::WHOLE_HISTORY);
        for from in [0, 2, 3, 12, 19] {
            assert_eq!(read(from).unwrap().first().unwrap().0, from.max(2), "from {from}");
        }
        assert_eq!(read(20).unwrap(), [], "behind the end");
        // The last one, which no other follows, and one in the middle, alone on its page.
        exchange(&disk, 12);
        let alone = PageSize { frames: 1, bytes: usize::MAX };
        let refused = HistoryReader::starting_at(12).page(&store, u64::MAX, alone).unwrap_err();
        assert!(matches!(refused, LogError::Damaged { index: 12, .. }), "{refused}");
        // Damage before it is no reason to trust the next one.
        assert!(matches!(read(13), Err(LogError::Damaged { index: 13, .. })));
        assert_eq!(read(14).unwrap().len(), 6);
        // A missing frame: the one before the gap is not the one that the next refers to.
        let gone = Change::DeleteRange { table: Table::History, from: Key::at(5), to: Key::at(6) };
        disk.write(vec![gone], Durability::Synced).unwrap();
        assert!(matches!(read(6), Err(LogError::Damaged { index: 6, .. })));
        let all_before = Change::DeleteRange { table: Table::History, from: Key::MIN, to: Key::at(8) };
        disk.write(vec![all_before], Durability::Synced).unwrap();
        assert!(matches!(read(8), Err(LogError::Damaged { index: 8, .. })), "it is not the first of all");
    }

    #[test]
    fn a_single_frame_is_the_one_at_its_index_and_a_link_of_the_chain() {
        let disk = MemoryDisk::default();
        let store = filled(&disk);
        let stored = |index| store.history(index, 1, 1).unwrap().pop().unwrap().1;
        for index in [10, 19] {
            assert_eq!(frame_at(&store, index).unwrap(), Some(stored(index)), "frame {index}");
        }
        assert_eq!(frame_at(&store, 20).unwrap(), None, "behind the end");
        for (index, reported) in [(12, 13), (19, 19)] {
            exchange(&disk, index);
            let refused = frame_at(&store, index).unwrap_err();
            assert!(matches!(refused, LogError::Damaged { index, .. } if index == reported), "{refused}");
        }
        let gone = Change::DeleteRange { table: Table::History, from: Key::at(5), to: Key::at(6) };
        disk.write(vec![gone], Durability::Synced).unwrap();
        assert_eq!(frame_at(&store, 5).unwrap(), None, "not the one after it");
    }
}
