//! Reading history: page after page, each frame checked to follow the one before it. Everybody who reads history reads it so;
//! a frame that was deleted, exchanged or put back to an older one shows wherever it is met.

use bytes::Bytes;

use super::chain::{Chain, damaged};
use super::entry::FrameLink;
use super::{LogError, LogStore};

/// How much of history is read at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    /// The most frames.
    pub frames: usize,
    /// Bytes of frames after which the page ends, but never before its first.
    pub bytes: usize,
}

impl PageSize {
    /// For those who read all of it.
    pub const WHOLE_HISTORY: Self = Self { frames: 4_096, bytes: 8 * 1024 * 1024 };
}

/// One reader's way through history.
#[derive(Debug, Clone)]
pub struct HistoryReader {
    chain: Chain,
    next: u64,
}

impl HistoryReader {
    /// Reads what comes after this frame, or all of history.
    pub fn after(last: Option<FrameLink>) -> Self {
        Self { chain: Chain::after(last), next: last.map_or(0, |frame| frame.index + 1) }
    }

    /// Reads from this index on. The first frame is taken on trust, unless it is the first of all.
    pub fn starting_at(index: u64) -> Self {
        let chain = if index == 0 { Chain::after(None) } else { Chain::anywhere() };
        Self { chain, next: index }
    }

    /// The index from which the next page is read.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The frame that was read last, or given to begin after.
    pub fn last(&self) -> Option<FrameLink> {
        self.chain.last()
    }

    /// The next frames, none of them after index `to`; an empty page where history, or what was asked for of it, ends. After
    /// an error the same page is read again.
    ///
    /// # Errors
    /// When a frame is damaged or not the next link of the chain, when history ends before the frame that was applied last,
    /// or it cannot be read.
    pub fn page(&mut self, store: &dyn LogStore, to: u64, size: PageSize) -> Result<Vec<(u64, Bytes)>, LogError> {
        // Asked before the frames: those that are applied meanwhile may be in the page or not.
        let end = store.applied()?.frame.filter(|frame| frame.index <= to);
        let mut page = store.history(self.next, size.frames, size.bytes)?;
        page.retain(|(index, _)| *index <= to);
        let mut chain = self.chain;
        for (index, stored) in &page {
            chain.follow(*index, stored).map_err(|reason| damaged(*index, reason))?;
            let applied = end.filter(|frame| frame.index == *index);
            if applied.is_some() && applied != chain.last() {
                return Err(damaged(*index, "it is not the frame that was applied there".into()));
            }
        }
        if let Some(missed) = end.filter(|frame| page.is_empty() && frame.index >= self.next) {
            let reason = format!("history ends here, but the frames up to {} were applied", missed.index);
            return Err(damaged(self.next, reason));
        }
        self.next = page.last().map_or(self.next, |(index, _)| index + 1);
        self.chain = chain;
        Ok(page)
    }

    /// Goes on at a later index, after damage: its first frame is taken on trust.
    pub fn skip_to(&mut self, index: u64) {
        *self = Self::starting_at(index);
    }
}

/// The stored bytes of the frame at this index; nothing if history has none there. It is a link of the chain: the frame after it
/// carries its hash, or it is the one that was applied last.
///
/// # Errors
/// When that frame or the one after it is damaged, or history cannot be read.
pub fn frame_at(store: &dyn LogStore, index: u64) -> Result<Option<Bytes>, LogError> {
    let with_its_successor = PageSize { frames: 2, bytes: usize::MAX };
    let page = HistoryReader::starting_at(index).page(store, u64::MAX, with_its_successor)?;
    Ok(page.into_iter().next().and_then(|(found, stored)| (found == index).then_some(stored)))
}

/// What a full verification read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many frames.
    pub frames: u64,
    /// Their size in bytes, unsealed.
    pub bytes: u64,
    /// The last one.
    pub last: Option<FrameLink>,
}

/// Verifies the whole history, from its first frame to what was applied last, and hands each frame to `visit`.
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

    #[test]
    fn a_single_frame_is_the_one_at_its_index_and_a_link_of_the_chain() {
        let disk = MemoryDisk::default();
        let store = MemoryStore::open(&disk).unwrap();
        store.load().unwrap();
        store.initialize(&Membership::single(1)).unwrap();
        fill(&store, 20);
        let stored = |index| store.history(index, 1, 1).unwrap().pop().unwrap().1;
        for index in [10, 19] {
            assert_eq!(frame_at(&store, index).unwrap(), Some(stored(index)), "frame {index}");
        }
        assert_eq!(frame_at(&store, 20).unwrap(), None, "behind the end");
        // Of the same index, but in another chain.
        let other = MemoryStore::open(&MemoryDisk::default()).unwrap();
        for (index, told) in [(12, 13), (19, 19)] {
            let previous = Some(FrameLink { index: index - 1, hash: [7; 32] });
            let exchanged = other.put(Table::History, Key::at(index), &[], &frame(index, previous, 100)).unwrap();
            disk.write(vec![exchanged], Durability::Synced).unwrap();
            let refused = frame_at(&store, index).unwrap_err();
            assert!(matches!(refused, LogError::Damaged { index, .. } if index == told), "{refused}");
        }
        let gone = Change::DeleteRange { table: Table::History, from: Key::at(5), to: Key::at(6) };
        disk.write(vec![gone], Durability::Synced).unwrap();
        assert_eq!(frame_at(&store, 5).unwrap(), None, "not the one after it");
    }
}
