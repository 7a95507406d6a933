//! The end of the raft log, with its newest entries in memory: raft reads back what it has just written, to return it as
//! committed, and this saves reading and unsealing it from disk.

use std::collections::VecDeque;

use super::entry::{Cut, Entry};

/// Bytes of payload that are kept; raft also returns committed entries in pieces of this size.
pub(super) const BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Tail {
    cut: Cut,
    last: u64,
    /// Entries up to here are on disk; later ones are only in memory, and are kept there until they are written.
    written: u64,
    /// The entries up to `last`, as far back as they are kept.
    recent: VecDeque<Entry>,
    recent_bytes: usize,
}

impl Tail {
    pub fn new(cut: Cut, last: u64) -> Self {
        Self { cut, last, written: last, recent: VecDeque::new(), recent_bytes: 0 }
    }

    pub fn first(&self) -> u64 {
        self.cut.index + 1
    }

    pub fn last(&self) -> u64 {
        self.last
    }

    /// The last index on disk.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The first index in memory; from there on the disk may have entries that were replaced since.
    pub fn in_memory(&self) -> u64 {
        self.recent.front().map_or(self.last + 1, |entry| entry.index)
    }

    /// Adds entries to write, replacing those from their first index on.
    pub fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first().map(|entry| entry.index) else { return };
        while self.recent.back().is_some_and(|entry| entry.index >= first) {
            self.recent_bytes -= self.recent.pop_back().map_or(0, |entry| entry.payload.len());
        }
        self.written = self.written.min(first - 1);
        for entry in entries {
            self.last = entry.index;
            self.recent_bytes += entry.payload.len();
            self.recent.push_back(entry);
        }
        self.trim();
    }

    /// Records that the entries up to this one are on disk, unless it was replaced since.
    pub fn set_written(&mut self, index: u64, term: u64) {
        if self.term(index) == Some(term) {
            self.written = self.written.max(index);
        }
        self.trim();
    }

    /// The entries `from..to` if all of them are in memory, cut after `bytes_max` bytes but never before the first.
    pub fn entries(&self, from: u64, to: u64, bytes_max: u64) -> Option<Vec<Entry>> {
        let oldest = self.recent.front()?.index;
        let start = usize::try_from(from.checked_sub(oldest)?).ok()?;
        let end = usize::try_from(to.checked_sub(oldest)?).ok()?;
        let wanted = (start <= end && end <= self.recent.len()).then(|| self.recent.range(start..end))?;
        let mut budget = Budget::new(bytes_max);
        Some(wanted.take_while(|entry| budget.allows(entry.payload.len())).cloned().collect())
    }

    /// The term at an index, if it is known without the disk.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.cut.index {
            return Some(self.cut.term);
        }
        let at = index.checked_sub(self.recent.front()?.index)?;
        self.recent.get(usize::try_from(at).ok()?).map(|entry| entry.term)
    }

    /// Drops entries up to `index` from memory: they were applied, and are not read again soon.
    pub fn forget(&mut self, index: u64) {
        let index = index.min(self.written);
        while self.recent.front().is_some_and(|entry| entry.index <= index) {
            self.forget_oldest();
        }
    }

    /// Drops entries up to the cut, which are removed from the disk.
    pub fn compact(&mut self, cut: Cut) {
        self.forget(cut.index);
        self.cut = cut;
    }

    fn trim(&mut self) {
        while self.recent_bytes > BYTES_MAX && self.in_memory() <= self.written {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        self.recent_bytes -= self.recent.pop_front().map_or(0, |entry| entry.payload.len());
    }
}

/// Admits values until their bytes are used up, but always the first.
pub(super) struct Budget {
    left: u64,
    untouched: bool,
}

impl Budget {
    pub fn new(bytes_max: u64) -> Self {
        Self { left: bytes_max, untouched: true }
    }

    pub fn allows(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let allowed = self.untouched || bytes <= self.left;
        self.untouched = false;
        self.left = self.left.saturating_sub(bytes);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::entry::EntryKind;
    use super::*;

    fn entries(range: std::ops::Range<u64>, term: u64) -> Vec<Entry> {
        let payload = Bytes::from(vec![0; 10]);
        range.map(|index| Entry { index, term, kind: EntryKind::Frame, payload: payload.clone() }).collect()
    }

    #[test]
    fn a_new_leaders_entries_replace_the_old_ones() {
        let mut tail = Tail::new(Cut { index: 1, term: 1 }, 1);
        tail.append(entries(2..8, 1));
        tail.append(entries(5..7, 2));
        assert_eq!(tail.last(), 6);
        assert_eq!((tail.term(1), tail.term(4), tail.term(5), tail.term(7)), (Some(1), Some(1), Some(2), None));
        assert_eq!(tail.recent_bytes, 50);
    }

    #[test]
    fn what_was_forgotten_is_left_to_the_disk() {
        let mut tail = Tail::new(Cut { index: 1, term: 1 }, 1);
        tail.append(entries(2..8, 1));
        tail.set_written(7, 1);
        tail.forget(4);
        assert_eq!(tail.entries(4, 8, u64::MAX), None);
        assert_eq!(tail.entries(5, 8, u64::MAX), Some(entries(5..8, 1)));
        assert_eq!(tail.entries(5, 8, 25), Some(entries(5..7, 1)));
        assert_eq!(tail.entries(5, 8, 0), Some(entries(5..6, 1)));
        assert_eq!(tail.entries(5, 9, u64::MAX), None);
        tail.forget(7);
        assert_eq!((tail.last(), tail.recent_bytes), (7, 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut tail = Tail::new(Cut::default(), 0);
        for index in 1..=20 {
            let payload = Bytes::from(vec![0; 1024 * 1024]);
            tail.append(vec![Entry { index, term: 1, kind: EntryKind::Frame, payload }]);
            tail.set_written(index, 1);
        }
        assert_eq!(tail.recent.len(), 8);
        assert_eq!(tail.last(), 20);
    }

    #[test]
    fn what_the_disk_does_not_have_stays_in_memory() {
        let mut tail = Tail::new(Cut { index: 1, term: 1 }, 1);
        let payload = Bytes::from(vec![0; BYTES_MAX]);
        tail.append(
            (2..5).map(|index| Entry { index, term: 1, kind: EntryKind::Frame, payload: payload.clone() }).collect(),
        );
        tail.forget(4);
        assert_eq!((tail.in_memory(), tail.written()), (2, 1));
        tail.set_written(3, 1);
        assert_eq!((tail.in_memory(), tail.written()), (4, 3));
        // A write that completes after its entries were replaced does not count for the new ones.
        tail.append(entries(4..6, 2));
        tail.set_written(4, 1);
        assert_eq!(tail.written(), 3);
        tail.set_written(5, 2);
        assert_eq!(tail.written(), 5);
    }
}
