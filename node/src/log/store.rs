//! The log on a disk: where everything is stored, and what is written together. The only implementation of [`LogStore`]; RocksDB
//! and the simulated disk differ only below [`Disk`].

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use events::{VolatilePayload, redaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::archive::Archives;
use super::chain::{Chain, damaged};
use super::checkpoint::NEWEST_KEPT;
use super::disk::{Batch, Change, Disk, Durability, Key, Table, place};
use super::entry::{Applied, AppliedFrame, Cut, Entry, FrameLink, HardState, Membership, decode_record, encode_record};
use super::redaction::{KnownPermits, Permits, unannounced};
use super::tail::{Budget, Tail};
use super::{
    CheckpointHead, CheckpointPart, Direction, Frames, Install, Loaded, LogError, LogStore, ResealPosition,
    ScrubProgress, SegmentIndex, Staged,
};
use crate::security::seal::Seal;

/// The records of [`Table::Meta`]. Numbers are never reused.
pub(super) const HARD_STATE: Key = Key::at(1);
pub(super) const MEMBERSHIP: Key = Key::at(2);
pub(super) const APPLIED: Key = Key::at(3);
pub(super) const CUT: Key = Key::at(4);
/// Older formats of [`ScrubProgress`] had the numbers 5 and 6.
const SCRUB: Key = Key::at(8);
/// The last frame of fetched history, while that does not count as applied.
pub(super) const FETCHED: Key = Key::at(7);

/// A new cluster's log starts as if this one entry had already been compacted: so a manager that joins, whose log is empty, finds
/// that it does not reach back to the beginning and starts from a state, which contains the members.
pub(super) const BEGINNING: Cut = Cut { index: 1, term: 1 };

/// The log on a disk.
pub struct Store<D> {
    pub(crate) disk: D,
    pub(super) seal: Arc<Seal>,
    state: Mutex<State>,
    /// Whether the database could not read some of its checkpoints.
    pub(super) checkpoints_corrupt: AtomicBool,
    pub(super) archives: Archives,
    pub(super) permits: KnownPermits,
}

/// State that needs no read from disk. It is ahead of the disk by what is staged and not written yet.
#[derive(Default)]
pub(super) struct State {
    pub tail: Tail,
    pub applied: Applied,
    /// What was applied last, as recorded on disk.
    pub(super) written: Applied,
    /// Frames of history that are not on disk yet, fetched ones last.
    unwritten: VecDeque<(u64, Bytes)>,
    /// The last frame that was fetched and does not count as applied.
    fetched: Option<FrameLink>,
    /// Whether the log was verified, so that its applied index is known.
    pub(super) loaded: bool,
}

/// The effect of a staged write.
pub(super) enum Step {
    Append {
        entries: Vec<Entry>,
        /// Whether they replace others.
        replaces: bool,
        hard_state: Option<HardState>,
        sync: bool,
    },
    Apply {
        frames: Vec<AppliedFrame>,
        applied: Applied,
        /// History after this index was fetched, and is discarded.
        discards: Option<u64>,
    },
    Fetch {
        frames: Vec<(u64, Bytes)>,
        last: FrameLink,
    },
    Install {
        applied: Applied,
        cut: Cut,
        secrets: Vec<VolatilePayload>,
        permits: Permits,
        entries: Vec<Entry>,
        hard_state: Option<HardState>,
    },
}

impl State {
    /// The initial state, all of which is on disk.
    pub(super) fn new(tail: Tail, applied: Applied) -> Self {
        Self { tail, applied, written: applied, unwritten: VecDeque::new(), fetched: None, loaded: true }
    }

    /// Frames staged up to this index that count as applied.
    pub(super) fn unwritten(&self) -> VecDeque<(u64, Bytes)> {
        let counts = |(index, _): &&(u64, Bytes)| !self.loaded || *index <= self.applied.index;
        self.unwritten.iter().filter(counts).cloned().collect()
    }

    fn forget_unwritten(&mut self, to: u64) {
        while self.unwritten.front().is_some_and(|(index, _)| *index <= to) {
            self.unwritten.pop_front();
        }
    }

    /// Records that a step is on disk.
    fn take_written(&mut self, step: &Step) {
        match step {
            Step::Append { entries, .. } => self.take_written_entries(entries),
            Step::Apply { applied, .. } => {
                self.written = *applied;
                self.forget_unwritten(applied.index);
                self.tail.forget(applied.index);
            }
            Step::Fetch { last, .. } => self.forget_unwritten(last.index),
            Step::Install { applied, entries, .. } => {
                self.written = *applied;
                self.take_written_entries(entries);
            }
        }
    }

    fn take_written_entries(&mut self, entries: &[Entry]) {
        if let Some(last) = entries.last() {
            self.tail.set_written(last.index, last.term);
        }
    }
}

impl<D: Disk> Store<D> {
    pub(super) fn new(disk: D, seal: Seal) -> Self {
        Self {
            disk,
            seal: Arc::new(seal),
            state: Mutex::default(),
            checkpoints_corrupt: AtomicBool::new(false),
            archives: Archives::default(),
            permits: KnownPermits::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(&self, table: Table, key: Key, head: &[u8], body: &[u8]) -> Result<Change, LogError> {
        Ok(Change::Put { table, key, value: self.seal.seal(&place(table, key), head, body)? })
    }

    pub(super) fn put_record<T: Serialize>(&self, table: Table, key: Key, record: &T) -> Result<Change, LogError> {
        self.put(table, key, &[], &encode_record(record))
    }

    pub(super) fn unseal(&self, table: Table, key: Key, sealed: Vec<u8>) -> Result<Bytes, LogError> {
        self.seal.open(&place(table, key), sealed).ok_or_else(|| LogError::Damaged {
            table,
            index: key.index,
            reason: "the value was not sealed there with this data key".into(),
        })
    }

    pub(super) fn record<T: DeserializeOwned>(&self, table: Table, key: Key) -> Result<Option<T>, LogError> {
        let Some(sealed) = self.disk.get(table, key)? else { return Ok(None) };
        self.decode(table, key, sealed).map(Some)
    }

    /// Decodes the record in a sealed value.
    pub(super) fn decode<T: DeserializeOwned>(&self, table: Table, key: Key, sealed: Vec<u8>) -> Result<T, LogError> {
        let stored = self.unseal(table, key, sealed)?;
        let damaged = |reason| LogError::Damaged { table, index: key.index, reason };
        decode_record(&stored).map_err(damaged)
    }

    pub(super) fn entry(&self, key: Key, sealed: Vec<u8>) -> Result<Entry, LogError> {
        let stored = self.unseal(Table::Raft, key, sealed)?;
        let damaged = |reason| LogError::Damaged { table: Table::Raft, index: key.index, reason };
        Entry::decode(key.index, stored).map_err(damaged)
    }

    /// Adds the changes of a step to a batch.
    fn add_step(&self, step: &Step, batch: &mut Batch) -> Result<(), LogError> {
        let table = Table::History;
        match step {
            Step::Append { entries, replaces, hard_state, sync: _ } => {
                if let Some(first) = entries.first().filter(|_| *replaces) {
                    batch.push(Change::DeleteRange { table: Table::Raft, from: Key::at(first.index), to: Key::MAX });
                }
                self.add_entries(entries, *hard_state, batch)?;
            }
            Step::Apply { frames, applied, discards } => {
                if let Some(from) = discards {
                    batch.push(Change::DeleteRange { table, from: Key::at(from + 1), to: Key::MAX });
                    batch.push(Change::DeleteRange { table: Table::Meta, from: FETCHED, to: FETCHED.next() });
                }
                for AppliedFrame { index, bytes, secrets } in frames {
                    batch.push(self.put(table, Key::at(*index), &[], bytes)?);
                    for secret in secrets {
                        batch.push(self.change_secret(secret)?);
                    }
                }
                batch.push(self.put_record(Table::Meta, APPLIED, applied)?);
            }
            Step::Fetch { frames, last } => {
                for (index, bytes) in frames {
                    batch.push(self.put(table, Key::at(*index), &[], bytes)?);
                }
                batch.push(self.put_record(Table::Meta, FETCHED, last)?);
            }
            Step::Install { applied, cut, secrets, permits, entries, hard_state } => {
                for table in [Table::Raft, Table::Keyring] {
                    batch.push(Change::DeleteRange { table, from: Key::MIN, to: Key::MAX });
                }
                for secret in secrets {
                    batch.push(self.change_secret(secret)?);
                }
                batch.push(Change::DeleteRange { table: Table::Meta, from: FETCHED, to: FETCHED.next() });
                batch.push(self.put_record(Table::Meta, APPLIED, applied)?);
                batch.push(self.put_record(Table::Meta, CUT, cut)?);
                batch.extend(self.put_permits(permits)?);
                self.add_entries(entries, *hard_state, batch)?;
            }
        }
        Ok(())
    }

    fn add_entries(&self, entries: &[Entry], hard_state: Option<HardState>, batch: &mut Batch) -> Result<(), LogError> {
        for entry in entries {
            batch.push(self.put(Table::Raft, Key::at(entry.index), &entry.head(), &entry.payload)?);
        }
        if let Some(hard_state) = hard_state {
            batch.push(self.put_record(Table::Meta, HARD_STATE, &hard_state)?);
        }
        Ok(())
    }

    fn entries_on_disk(&self, from: u64, to: u64, bytes_max: u64) -> Result<Vec<Entry>, LogError> {
        let mut entries = Vec::new();
        let mut budget = Budget::new(bytes_max);
        self.disk.scan(Table::Raft, Key::at(from), Key::at(to), &mut |key, sealed| {
            let entry = self.entry(key, sealed)?;
            if !budget.allows(entry.payload.len()) {
                return Ok(ControlFlow::Break(()));
            }
            expect_index(entry.index, from + entries.len() as u64)?;
            entries.push(entry);
            Ok(ControlFlow::Continue(()))
        })?;
        if entries.is_empty() && from < to {
            return Err(missing_entry(from));
        }
        Ok(entries)
    }

    /// Removes raft entries up to an index, as far as a checkpoint covers them.
    pub(super) fn cut(&self, to: u64, covered: u64) -> Result<u64, LogError> {
        let to = to.min(covered).min(self.state().written.index);
        let first = self.state().tail.first();
        if to < first {
            return Ok(first);
        }
        let _sealing = self.seal.hold();
        let cut = Cut { index: to, term: self.term(to)?.ok_or_else(|| missing_entry(to))? };
        let batch = vec![
            self.put_record(Table::Meta, CUT, &cut)?,
            Change::DeleteRange { table: Table::Raft, from: Key::at(first), to: Key::at(to + 1) },
        ];
        // Synced, and with it the history that replaces them: the entries are removed only when the frames are safe.
        self.disk.write(batch, Durability::Synced)?;
        self.state().tail.compact(cut);
        Ok(to + 1)
    }
}

impl<D: Disk> LogStore for Store<D> {
    fn load(&self) -> Result<Loaded, LogError> {
        self.recover()
    }

    fn initialize(&self, membership: &Membership) -> Result<(), LogError> {
        let mut state = self.state();
        if self.disk.get(Table::Meta, CUT)?.is_some() {
            return Err(LogError::Initialized);
        }
        let beginning = if membership.voters.is_empty() { Cut::default() } else { BEGINNING };
        let hard_state = HardState { term: beginning.term, vote: 0, commit: beginning.index };
        let applied = Applied { index: beginning.index, frame: None };
        let batch = vec![
            self.put_record(Table::Meta, HARD_STATE, &hard_state)?,
            self.put_record(Table::Meta, MEMBERSHIP, membership)?,
            self.put_record(Table::Meta, APPLIED, &applied)?,
            self.put_record(Table::Meta, CUT, &beginning)?,
        ];
        self.disk.write(batch, Durability::Synced)?;
        *state = State::new(Tail::new(beginning, beginning.index), applied);
        Ok(())
    }

    fn reset_to_single_voter(&self, raft_id: u64, replaces: u64) -> Result<(), LogError> {
        let last = self.state().tail.last();
        let before: HardState = self.record(Table::Meta, HARD_STATE)?.ok_or(LogError::NotInitialized)?;
        let membership = Membership { replaces: Some(replaces), ..Membership::single(raft_id) };
        let hard_state = HardState { term: before.term + 1, vote: 0, commit: last };
        let batch = vec![
            self.put_record(Table::Meta, MEMBERSHIP, &membership)?,
            self.put_record(Table::Meta, HARD_STATE, &hard_state)?,
        ];
        self.disk.write(batch, Durability::Synced)
    }

    fn stage_append(&self, entries: Vec<Entry>, hard_state: Option<HardState>, sync: bool) -> Result<Staged, LogError> {
        let mut state = self.state();
        let (first, last) = (entries.first().map(|entry| entry.index), state.tail.last());
        if let Some(index) = first.filter(|first| *first < state.tail.first() || *first > last + 1) {
            return Err(LogError::OutOfOrder { table: Table::Raft, index, last });
        }
        for (entry, following) in entries.iter().zip(first.unwrap_or(0)..) {
            if entry.index != following {
                return Err(LogError::OutOfOrder { table: Table::Raft, index: entry.index, last: following - 1 });
            }
        }
        state.tail.append(entries.clone());
        let replaces = first.is_some_and(|first| first <= last);
        Ok(Staged(Step::Append { entries, replaces, hard_state, sync }))
    }

    fn stage_apply(&self, frames: Vec<AppliedFrame>, applied: u64) -> Result<Staged, LogError> {
        let mut state = self.state();
        let mut chain = Chain::after(state.applied.frame);
        for AppliedFrame { index, bytes, .. } in &frames {
            chain.follow(*index, bytes).map_err(|reason| LogError::Unchained { index: *index, reason })?;
            if redaction::original(bytes).is_some() {
                return Err(unannounced(*index));
            }
        }
        let last = state.applied.index;
        // Only entries that are durable in the raft log are ever applied.
        if applied < chain.last().map_or(last, |frame| frame.index.max(last)) || applied > state.tail.written() {
            return Err(LogError::OutOfOrder { table: Table::History, index: applied, last });
        }
        let discards = state.fetched.take().map(|_| last);
        if discards.is_some() {
            state.unwritten.retain(|(index, _)| *index <= last);
        }
        state.applied = Applied { index: applied, frame: chain.last() };
        state.unwritten.extend(frames.iter().map(|frame| (frame.index, frame.bytes.clone())));
        Ok(Staged(Step::Apply { frames, applied: state.applied, discards }))
    }

    fn stage_fetched(&self, frames: Vec<(u64, Bytes)>) -> Result<Staged, LogError> {
        let mut state = self.state();
        let mut chain = Chain::after(state.fetched.or(state.applied.frame));
        for (index, bytes) in &frames {
            chain.follow(*index, bytes).map_err(|reason| LogError::Unchained { index: *index, reason })?;
        }
        let applied = state.applied.index;
        let last = chain.last().filter(|last| last.index > applied && !frames.is_empty());
        let last = last.ok_or(LogError::OutOfOrder { table: Table::History, index: applied, last: applied })?;
        state.fetched = Some(last);
        state.unwritten.extend(frames.iter().cloned());
        Ok(Staged(Step::Fetch { frames, last }))
    }

    fn stage_install(
        &self,
        install: Install,
        entries: Vec<Entry>,
        hard_state: Option<HardState>,
    ) -> Result<Staged, LogError> {
        let Install { index, term, secrets, permits } = install;
        self.know_permits(&permits)?;
        let mut state = self.state();
        let Some(last) = state.fetched.filter(|last| last.index == index) else {
            let last = state.fetched.map_or(state.applied.index, |last| last.index);
            return Err(LogError::OutOfOrder { table: Table::History, index, last });
        };
        let (applied, cut) = (Applied { index, frame: Some(last) }, Cut { index, term });
        (state.applied, state.fetched, state.tail) = (applied, None, Tail::new(cut, index));
        state.tail.append(entries.clone());
        Ok(Staged(Step::Install { applied, cut, secrets, permits, entries, hard_state }))
    }

    fn fetched(&self) -> Option<FrameLink> {
        self.state().fetched
    }

    fn reseal(&self, at: ResealPosition) -> Result<Option<ResealPosition>, LogError> {
        self.reseal_page(at)
    }

    fn purge(&self) -> Result<(), LogError> {
        self.disk.purge()
    }

    fn write(&self, staged: Vec<Staged>) -> Result<(), LogError> {
        let _sealing = self.seal.hold();
        let (mut batch, mut durability, mut applied) = (Batch::new(), Durability::Unsynced, None);
        for Staged(step) in &staged {
            self.add_step(step, &mut batch)?;
            match step {
                Step::Append { sync: true, .. } => durability = Durability::Synced,
                Step::Append { .. } | Step::Fetch { .. } => {}
                Step::Apply { applied: newest, .. } => applied = Some(newest.index),
                Step::Install { applied: newest, .. } => {
                    (applied, durability) = (Some(newest.index), Durability::Synced);
                }
            }
        }
        if !batch.is_empty() || durability == Durability::Synced {
            self.disk.write(batch, durability)?;
        }
        if let Some(applied) = applied {
            self.disk.set_high_water_mark(applied)?;
        }
        let mut state = self.state();
        staged.iter().for_each(|Staged(step)| state.take_written(step));
        Ok(())
    }

    fn note_durable(&self, known: u64) -> Result<(), LogError> {
        self.disk.set_high_water_mark(known)
    }

    fn writes_wait(&self) -> bool {
        let state = self.state();
        !state.unwritten.is_empty() || state.tail.written() < state.tail.last()
    }

    fn entries(&self, from: u64, to: u64, bytes_max: u64) -> Result<Vec<Entry>, LogError> {
        let (in_memory, oldest) = {
            let state = self.state();
            (state.tail.entries(from, to, bytes_max), state.tail.in_memory())
        };
        // Later entries on disk may have been replaced in memory; the caller asks again for them.
        in_memory.map_or_else(|| self.entries_on_disk(from, to.min(oldest), bytes_max), Ok)
    }

    fn term(&self, index: u64) -> Result<Option<u64>, LogError> {
        {
            let state = self.state();
            let known = state.tail.term(index);
            if known.is_some() || index < state.tail.first() || index > state.tail.last() {
                return Ok(known);
            }
        }
        let key = Key::at(index);
        let sealed = self.disk.get(Table::Raft, key)?.ok_or_else(|| missing_entry(index))?;
        Ok(Some(self.entry(key, sealed)?.term))
    }

    fn first_index(&self) -> u64 {
        self.state().tail.first()
    }

    fn last_index(&self) -> u64 {
        self.state().tail.last()
    }

    fn applied(&self) -> Result<Applied, LogError> {
        let known = self.state().applied;
        if known.index > 0 { Ok(known) } else { self.record(Table::Meta, APPLIED).map(Option::unwrap_or_default) }
    }

    fn history(&self, from: u64, frames_max: usize, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, LogError> {
        self.read_frames(from, frames_max, bytes_max)
    }

    fn table_bytes(&self, table: Table) -> Result<u64, LogError> {
        self.disk.size_bytes(table)
    }

    fn frame_before(&self, index: u64) -> Result<Option<(u64, Bytes)>, LogError> {
        self.read_frame_before(index)
    }

    fn keyring(&self) -> Result<Vec<VolatilePayload>, LogError> {
        self.read_keyring()
    }

    fn save_checkpoint(&self, head: CheckpointHead, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError> {
        self.write_checkpoint(head, chunks)
    }

    fn checkpoint_before(&self, at_most: u64) -> Result<Option<u64>, LogError> {
        let at_most = at_most.min(self.written_to());
        Ok(self.readable_checkpoints()?.into_iter().rfind(|index| *index <= at_most))
    }

    fn load_checkpoint(
        &self,
        at_most: u64,
        read: &mut dyn FnMut(CheckpointPart<'_>),
    ) -> Result<Option<CheckpointHead>, LogError> {
        let applied = self.state().written.index;
        self.read_checkpoint(applied.min(at_most), read)
    }

    fn compact(&self, to: u64) -> Result<u64, LogError> {
        // The older one of those that a start uses: if the newer turns out to be damaged, the data that a start needs instead
        // still exists.
        self.cut(to, self.checkpoints()?.into_iter().rev().take(NEWEST_KEPT).min().unwrap_or(0))
    }

    fn indexed_to(&self) -> Result<u64, LogError> {
        self.read_reach()
    }

    fn segment_to_index(&self) -> Result<Option<Range<u64>>, LogError> {
        self.next_segment()
    }

    fn save_index(&self, segment: &Range<u64>, index: SegmentIndex) -> Result<(), LogError> {
        self.write_segment(segment, index)
    }

    fn index_block(
        &self,
        term: u64,
        segments: Range<u32>,
        direction: Direction,
    ) -> Result<Option<(u32, Frames)>, LogError> {
        self.read_block(term, segments, direction)
    }

    fn indexed_value(&self, key: u64) -> Result<Option<Vec<u8>>, LogError> {
        self.read_indexed_value(key)
    }

    fn discard_index(&self) -> Result<(), LogError> {
        self.drop_index()
    }

    fn scrub_progress(&self) -> Result<Option<ScrubProgress>, LogError> {
        self.record(Table::Meta, SCRUB)
    }

    fn save_scrub_progress(&self, progress: ScrubProgress) -> Result<(), LogError> {
        let _sealing = self.seal.hold();
        let record = self.put_record(Table::Meta, SCRUB, &progress)?;
        self.disk.write(vec![record], Durability::Unsynced)
    }

    fn repair_history(&self, frames: &[(u64, Bytes)]) -> Result<(), LogError> {
        let (table, written) = (Table::History, self.state().written.index);
        if let Some((index, _)) = frames.iter().find(|(index, _)| *index > written) {
            return Err(LogError::OutOfOrder { table, index: *index, last: written });
        }
        let _sealing = self.seal.hold();
        let batch = frames.iter().map(|(index, stored)| self.put(table, Key::at(*index), &[], stored));
        self.disk.write(batch.collect::<Result<_, _>>()?, Durability::Synced)
    }

    fn drop_history_file(&self, first: u64, last: u64) -> Result<(), LogError> {
        self.disk.drop_file(Table::History, Key::at(first), Key::at(last))
    }

    fn sync(&self) -> Result<(), LogError> {
        self.disk.sync()
    }
}

pub(super) fn expect_index(index: u64, expected: u64) -> Result<(), LogError> {
    if index == expected { Ok(()) } else { Err(missing_entry(expected)) }
}

pub(super) fn missing_entry(index: u64) -> LogError {
    LogError::Damaged { table: Table::Raft, index, reason: "the entry is missing".into() }
}

pub(super) fn missing_record(key: Key) -> LogError {
    LogError::Damaged { table: Table::Meta, index: key.index, reason: "the record is missing".into() }
}

pub(super) fn beyond_applied(index: u64, applied: u64) -> LogError {
    damaged(index, format!("history continues after the last applied index {applied}"))
}
