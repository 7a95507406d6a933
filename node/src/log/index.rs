//! The index of history on disk: for each term the frames that have it, in blocks of one segment of history each, and the homes
//! of tasks. It covers whole segments from the first on; history after them is read without it. All of it can be rebuilt.

use std::ops::{ControlFlow, Range};

use projections::views::terms::TERMS_VERSION;
use serde::{Deserialize, Serialize};

use super::LogError;
use super::disk::{Change, Disk, Durability, Key, Table};
use super::entry::{decode_record, encode_record};
use super::store::Store;

/// Indexes in a segment. At most this many frames are not covered by the index, once it has caught up, and have to be read: a few
/// milliseconds per query with frames of usual size. A term that every frame has costs one block per segment.
pub const SEGMENT: u64 = 64;

/// Key of the record with the extent of the index. No term has this key.
const REACH: Key = Key::MIN;

/// The extent of the index, and the version of its terms.
#[derive(Serialize, Deserialize)]
struct Reach {
    version: u32,
    to: u64,
}

/// The frames of a segment that have a term.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Frames([u64; (SEGMENT / 64) as usize]);

impl Frames {
    /// Adds the frame at this index, which must be in the segment.
    pub fn add(&mut self, index: u64) {
        let bit = index % SEGMENT;
        self.0[(bit / 64) as usize] |= 1 << (bit % 64);
    }

    /// The frames in either set.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] | other.0[word]))
    }

    /// The frames in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(std::array::from_fn(|word| self.0[word] & other.0[word]))
    }

    /// The indexes of the frames in this segment, in order.
    pub fn indexes(self, segment: u32) -> impl DoubleEndedIterator<Item = u64> {
        let first = u64::from(segment) * SEGMENT;
        (0..SEGMENT).filter(move |bit| self.0[(bit / 64) as usize] >> (bit % 64) & 1 == 1).map(move |bit| first + bit)
    }

    /// One byte per frame: most terms are in few frames of a segment.
    fn encode(self) -> Vec<u8> {
        self.indexes(0).map(|bit| bit as u8).collect()
    }

    fn decode(stored: &[u8]) -> Self {
        let mut frames = Self::default();
        stored.iter().for_each(|bit| frames.add(u64::from(*bit)));
        frames
    }
}

/// The direction in which the blocks of a term are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Towards newer frames.
    Forward,
    /// Towards older frames.
    Backward,
}

/// The index entries of a segment.
#[derive(Debug, Default)]
pub struct SegmentIndex {
    /// The frames of each term.
    pub terms: Vec<(u64, Frames)>,
    /// Other values, by key: the homes of tasks.
    pub values: Vec<(u64, Vec<u8>)>,
}

/// The segment that an index is in.
pub fn segment_of(index: u64) -> u32 {
    u32::try_from(index / SEGMENT).unwrap_or(u32::MAX)
}

impl<D: Disk> Store<D> {
    pub(super) fn read_reach(&self) -> Result<u64, LogError> {
        let reach: Option<Reach> = self.record(Table::Index, REACH)?;
        Ok(reach.filter(|reach| reach.version == TERMS_VERSION).map_or(0, |reach| reach.to))
    }

    /// Everything up to this index was applied and is on disk.
    pub(super) fn written_to(&self) -> u64 {
        self.state().written.index
    }

    pub(super) fn next_segment(&self) -> Result<Option<Range<u64>>, LogError> {
        let from = self.read_reach()?;
        // Frames that are not on disk yet might be lost while their index is not.
        Ok(Some(from..from + SEGMENT).filter(|segment| self.written_to() + 1 >= segment.end))
    }

    pub(super) fn write_segment(&self, segment: &Range<u64>, index: SegmentIndex) -> Result<(), LogError> {
        let (table, part) = (Table::Index, segment_of(segment.start));
        let _sealing = self.seal.hold();
        let mut batch = Vec::with_capacity(index.terms.len() + index.values.len() + 2);
        if segment.start == 0 {
            // Leftovers of an older build or of an interrupted one.
            batch.push(Change::DeleteRange { table, from: Key::MIN, to: Key::MAX });
        }
        for (term, frames) in index.terms {
            batch.push(self.put(table, Key { index: term, part }, &[], &frames.encode())?);
        }
        for (key, value) in index.values {
            batch.push(self.put(table, Key::at(key), &[], &value)?);
        }
        batch.push(self.put(table, REACH, &[], &encode_record(&Reach { version: TERMS_VERSION, to: segment.end }))?);
        self.disk.write(batch, Durability::Unsynced)
    }

    pub(super) fn read_block(
        &self,
        term: u64,
        segments: Range<u32>,
        direction: Direction,
    ) -> Result<Option<(u32, Frames)>, LogError> {
        let table = Table::Index;
        let (from, to) = (Key { index: term, part: segments.start }, Key { index: term, part: segments.end });
        let found = match direction {
            Direction::Forward => {
                let mut first = None;
                self.disk.scan(table, from, to, &mut |key, sealed| {
                    first = Some((key, sealed));
                    Ok(ControlFlow::Break(()))
                })?;
                first
            }
            Direction::Backward => {
                let last = self.disk.last_key(table, to)?.filter(|key| *key >= from);
                match last {
                    Some(key) => self.disk.get(table, key)?.map(|sealed| (key, sealed)),
                    None => None,
                }
            }
        };
        let Some((key, sealed)) = found else { return Ok(None) };
        Ok(Some((key.part, Frames::decode(&self.unseal(table, key, sealed)?))))
    }

    pub(super) fn read_indexed_value(&self, key: u64) -> Result<Option<Vec<u8>>, LogError> {
        let key = Key::at(key);
        let Some(sealed) = self.disk.get(Table::Index, key)? else { return Ok(None) };
        Ok(Some(self.unseal(Table::Index, key, sealed)?.to_vec()))
    }

    pub(super) fn drop_index(&self) -> Result<(), LogError> {
        let all = Change::DeleteRange { table: Table::Index, from: Key::MIN, to: Key::MAX };
        self.disk.write(vec![all], Durability::Unsynced)
    }
}

/// Encodes a home for the index.
pub fn encode_value<T: Serialize>(value: &T) -> Vec<u8> {
    encode_record(value)
}

/// Decodes it.
///
/// # Errors
/// When it is damaged.
pub fn decode_value<T: for<'a> Deserialize<'a>>(key: u64, stored: &[u8]) -> Result<T, LogError> {
    decode_record(stored).map_err(|reason| LogError::Damaged { table: Table::Index, index: key, reason })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{fill, on_both};
    use super::super::{LogStore, Table};
    use super::*;

    fn frames(indexes: &[u64]) -> Frames {
        let mut frames = Frames::default();
        indexes.iter().for_each(|index| frames.add(*index));
        frames
    }

    fn block(store: &dyn LogStore, segments: Range<u32>, direction: Direction) -> Option<(u32, Vec<u64>)> {
        let (segment, frames) = store.index_block(7, segments, direction).unwrap()?;
        Some((segment, frames.indexes(segment).collect()))
    }

    #[test]
    fn frames_come_back_in_order() {
        let (first, last) = (SEGMENT, 2 * SEGMENT - 1);
        let some = frames(&[first + 44, first, last]);
        assert_eq!(some.indexes(1).collect::<Vec<_>>(), [first, first + 44, last]);
        assert_eq!(Frames::decode(&some.encode()), some);
        assert_eq!(some.and(frames(&[first + 44])).indexes(0).collect::<Vec<_>>(), [44]);
        assert_eq!(frames(&[1]).or(frames(&[2])), frames(&[1, 2]));
    }

    #[test]
    fn a_segment_is_due_once_the_disk_has_all_of_it_and_blocks_are_found_from_both_ends() {
        on_both(|machine| {
            let store = machine.start();
            fill(&*store, SEGMENT / 2);
            assert_eq!((store.indexed_to().unwrap(), store.segment_to_index().unwrap()), (0, None));
            fill(&*store, 3 * SEGMENT);
            let mut segments = Vec::new();
            while let Some(segment) = store.segment_to_index().unwrap() {
                let number = segment_of(segment.start);
                let terms = if number == 1 { Vec::new() } else { vec![(7, frames(&[segment.start + 5]))] };
                // Adjacent terms are never mistaken for it.
                let terms = [terms, vec![(6, frames(&[0])), (8, frames(&[1]))]].concat();
                let values = vec![(9, vec![number as u8])];
                store.save_index(&segment, SegmentIndex { terms, values }).unwrap();
                segments.push(number);
            }
            assert_eq!((segments, store.indexed_to().unwrap()), (vec![0, 1, 2], 3 * SEGMENT));
            let table = [
                (0..9, Direction::Forward, Some((0, vec![5]))),
                (1..9, Direction::Forward, Some((2, vec![2 * SEGMENT + 5]))),
                (3..9, Direction::Forward, None),
                (0..9, Direction::Backward, Some((2, vec![2 * SEGMENT + 5]))),
                (0..2, Direction::Backward, Some((0, vec![5]))),
                (1..2, Direction::Backward, None),
            ];
            for (segments, direction, expected) in table {
                assert_eq!(block(&*store, segments.clone(), direction), expected, "{segments:?} {direction:?}");
            }
            assert_eq!(store.indexed_value(9).unwrap(), Some(vec![2]));
            drop(store);
            let store = machine.start();
            assert_eq!(store.indexed_to().unwrap(), 3 * SEGMENT);
            store.discard_index().unwrap();
            assert_eq!((store.indexed_to().unwrap(), block(&*store, 0..9, Direction::Forward)), (0, None));
        });
    }

    #[test]
    fn damage_of_the_index_is_reported_and_does_not_prevent_a_start() {
        on_both(|machine| {
            let store = machine.start();
            fill(&*store, SEGMENT);
            let segment = store.segment_to_index().unwrap().unwrap();
            store.save_index(&segment, SegmentIndex { terms: vec![(7, frames(&[3]))], values: Vec::new() }).unwrap();
            drop(store);
            machine.flip_bit(Table::Index, 7);
            let store = machine.start();
            let damage = store.index_block(7, 0..9, Direction::Forward).unwrap_err();
            assert!(damage.is_of_a_cache() && damage.hint().contains("start swarmd again"), "{damage}");
        });
    }
}
