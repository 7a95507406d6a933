//! The start: verifies the contents of the disk before anything relies on them. Raft aborts the process on an impossible state,
//! so such states are found here first and reported in a sentence; a torn tail of history is cut off, as the raft entries can
//! repeat it. Nothing is changed before everything has been verified.

use std::ops::ControlFlow;

use super::chain::{Chain, damaged};
use super::disk::{Change, Disk, Durability, Key, Table};
use super::entry::{Applied, Cut, FrameLink, HardState, Membership};
use super::store::{
    APPLIED, CUT, FETCHED, HARD_STATE, MEMBERSHIP, State, Store, beyond_applied, expect_index, missing_record,
};
use super::tail::Tail;
use super::{Loaded, LogError};

/// How far back a start verifies history, in indexes. This covers many times what a crash may have interrupted; `swarmd replay`
/// verifies all of it.
pub(super) const VERIFIED_INDEXES: u64 = 1_000;

struct Meta {
    hard_state: HardState,
    membership: Membership,
    applied: Applied,
    cut: Cut,
}

impl<D: Disk> Store<D> {
    /// Verifies the log, and cuts off a torn tail of history.
    pub(super) fn recover(&self) -> Result<Loaded, LogError> {
        let loaded = self.examine()?;
        if let Some(torn) = loaded.repaired_from {
            self.cut_history(torn)?;
        }
        if self.has_fetched()? {
            self.discard_fetched(loaded.applied)?;
        }
        if loaded.membership.is_some() {
            // What has been read may be reported as committed from now on, so a power failure must not lose it.
            self.disk.sync()?;
        }
        Ok(loaded)
    }

    /// Verifies the log and returns what a start would use, without changing anything: a torn tail of history counts as cut off.
    /// From then on this store can be read as if it had been loaded.
    ///
    /// # Errors
    /// When an irreparable part is damaged, or the log ends before an index that was durable.
    pub fn examine(&self) -> Result<Loaded, LogError> {
        let Some(meta) = self.read_meta()? else {
            return self.empty();
        };
        let last = self.verify_entries(&meta)?;
        self.verify_reach(&meta, last)?;
        let (applied, repaired_from) = self.verify_history(&meta)?;
        self.read_keyring()?;
        let checkpoint = self.readable_checkpoints()?.into_iter().rev().find(|&index| index <= applied.index);
        *self.state() = State::new(Tail::new(meta.cut, last), applied);
        // Raft sees a commit before it records it; every applied entry had been committed.
        let commit = meta.hard_state.commit.max(applied.index);
        Ok(Loaded {
            hard_state: HardState { commit, ..meta.hard_state },
            membership: Some(meta.membership),
            applied: applied.index,
            first_index: meta.cut.index + 1,
            last_index: last,
            last_frame: applied.frame,
            checkpoint,
            repaired_from,
        })
    }

    /// Verifies that the raft log is complete and reaches as far as what was durable. Only reads, so that it also works for a log
    /// that another process is writing.
    ///
    /// # Errors
    /// When something is missing or damaged, with the index.
    pub fn verify_durable(&self) -> Result<(), LogError> {
        match self.read_meta()? {
            Some(meta) => self.verify_reach(&meta, self.verify_entries(&meta)?),
            None => self.empty().map(drop),
        }
    }

    /// A log that was never initialized; or one that was entirely lost.
    fn empty(&self) -> Result<Loaded, LogError> {
        if let Some(known) = self.disk.high_water_mark() {
            return Err(shortened(0, known, "high-water mark"));
        }
        for table in Table::ALL {
            if self.disk.last_key(table, Key::MAX)?.is_some() {
                return Err(missing_record(CUT));
            }
        }
        Ok(Loaded {
            hard_state: HardState::default(),
            membership: None,
            applied: 0,
            first_index: 1,
            last_index: 0,
            last_frame: None,
            checkpoint: None,
            repaired_from: None,
        })
    }

    /// The records, which were first written together: all or none exist.
    fn read_meta(&self) -> Result<Option<Meta>, LogError> {
        let Some(cut) = self.record(Table::Meta, CUT)? else { return Ok(None) };
        Ok(Some(Meta {
            hard_state: self.record(Table::Meta, HARD_STATE)?.ok_or_else(|| missing_record(HARD_STATE))?,
            membership: self.record(Table::Meta, MEMBERSHIP)?.ok_or_else(|| missing_record(MEMBERSHIP))?,
            applied: self.record(Table::Meta, APPLIED)?.ok_or_else(|| missing_record(APPLIED))?,
            cut,
        }))
    }

    /// Verifies that every raft entry opens, none is missing between the first and the last, and terms never decrease. Returns
    /// the last index. Checkpoints keep the number of entries small.
    fn verify_entries(&self, meta: &Meta) -> Result<u64, LogError> {
        let mut last = meta.cut;
        self.disk.scan(Table::Raft, Key::MIN, Key::MAX, &mut |key, sealed| {
            expect_index(key.index, last.index + 1)?;
            let term = self.entry(key, sealed)?.term;
            if term < last.term || term > meta.hard_state.term {
                let reason = format!(
                    "the entry is of term {term}, the one before it of {}, and term {} is the newest",
                    last.term, meta.hard_state.term
                );
                return Err(LogError::Damaged { table: Table::Raft, index: key.index, reason });
            }
            last = Cut { index: key.index, term };
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(last.index)
    }

    /// Verifies that the raft log reaches as far as every record about it requires.
    fn verify_reach(&self, meta: &Meta, last: u64) -> Result<(), LogError> {
        let witnesses = [
            (meta.hard_state.commit, "commit index"),
            (meta.applied.index, "applied index"),
            (self.disk.high_water_mark().unwrap_or(0), "high-water mark"),
        ];
        match witnesses.into_iter().max_by_key(|(known, _)| *known) {
            Some((known, witness)) if known > last => Err(shortened(last, known, witness)),
            Some(_) | None => Ok(()),
        }
    }

    /// Verifies that the end of history opens, is chained and reaches the last applied index; otherwise finds where to cut it
    /// back to.
    fn verify_history(&self, meta: &Meta) -> Result<(Applied, Option<u64>), LogError> {
        let applied = meta.applied;
        // History that was fetched for a state from which this manager did not start does not count.
        let end = if self.has_fetched()? { Key::at(applied.index + 1) } else { Key::MAX };
        let last = self.disk.last_key(Table::History, end)?.map_or(0, |key| key.index);
        if last > applied.index {
            return Err(beyond_applied(last, applied.index));
        }
        let read = self.read_history_end(last.saturating_sub(VERIFIED_INDEXES), end)?;
        match (read.torn, applied.frame) {
            (None, frame) if frame == read.intact => Ok((applied, None)),
            (Some(torn), _) => applied_before(torn, meta, read.intact).map(|applied| (applied, Some(torn))),
            (None, frame) => {
                let end = read.intact.map_or(0, |intact| intact.index);
                let Some(lost) = frame.filter(|frame| frame.index > end) else {
                    return Err(damaged(end, "history does not end with the frame that was applied last".into()));
                };
                tracing::warn!(index = lost.index, "frames that were applied are missing from the end of history");
                applied_before(end + 1, meta, read.intact).map(|applied| (applied, Some(end + 1)))
            }
        }
    }

    /// Reads history from an index to its end. A value that does not open is a torn tail if no intact one follows it, and damage
    /// otherwise; a frame that opens but is not chained was put there deliberately.
    fn read_history_end(&self, from: u64, end: Key) -> Result<HistoryEnd, LogError> {
        let mut chain = if from == 0 { Chain::after(None) } else { Chain::anywhere() };
        let (mut torn, permits): (Option<(u64, LogError)>, _) = (None, self.permits()?);
        self.disk.scan(Table::History, Key::at(from), end, &mut |key, sealed| {
            match (self.frame(&permits, key, sealed), torn.take()) {
                (Ok(_), Some((_, error))) => return Err(error),
                (Ok(stored), None) => {
                    chain.follow(key.index, &stored).map_err(|reason| damaged(key.index, reason))?;
                }
                (Err(_), earlier @ Some(_)) => torn = earlier,
                (Err(error), None) => torn = Some((key.index, error)),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let torn = torn.map(|(index, _)| index);
        match (chain.last(), torn) {
            (None, Some(index)) if from > 0 => Err(damaged(index, format!("no frame from index {from} on is intact"))),
            (intact, torn) => Ok(HistoryEnd { intact, torn }),
        }
    }

    fn has_fetched(&self) -> Result<bool, LogError> {
        Ok(self.record::<FrameLink>(Table::Meta, FETCHED)?.is_some())
    }

    /// Drops fetched history that does not count; the manager that offered the state offers it again.
    fn discard_fetched(&self, applied: u64) -> Result<(), LogError> {
        let batch = vec![
            Change::DeleteRange { table: Table::History, from: Key::at(applied + 1), to: Key::MAX },
            Change::DeleteRange { table: Table::Meta, from: FETCHED, to: FETCHED.next() },
        ];
        self.disk.write(batch, Durability::Synced)
    }

    /// Drops history from `torn` on, which the raft entries repeat.
    fn cut_history(&self, torn: u64) -> Result<(), LogError> {
        let applied = self.state().applied;
        let batch = vec![
            Change::DeleteRange { table: Table::History, from: Key::at(torn), to: Key::MAX },
            // A state that is ahead of history cannot be the base for the next frames.
            Change::DeleteRange { table: Table::Checkpoint, from: Key::at(applied.index + 1), to: Key::MAX },
            self.put_record(Table::Meta, APPLIED, &applied)?,
        ];
        self.disk.write(batch, Durability::Synced)?;
        tracing::warn!(index = torn, "dropped the incomplete end of history; it is restored from raft entries");
        Ok(())
    }
}

/// The applied index once history is cut off at `torn`, provided that raft entries cover the removed part.
fn applied_before(torn: u64, meta: &Meta, intact: Option<FrameLink>) -> Result<Applied, LogError> {
    if torn <= meta.cut.index {
        let reason = format!("it is torn, and the raft entries up to index {} are cut already", meta.cut.index);
        return Err(damaged(torn, reason));
    }
    let index = intact.map_or(0, |frame| frame.index).max(meta.cut.index);
    Ok(Applied { index, frame: intact })
}

struct HistoryEnd {
    /// The last intact frame.
    intact: Option<FrameLink>,
    /// The index of the first value after it.
    torn: Option<u64>,
}

fn shortened(last: u64, known: u64, witness: &'static str) -> LogError {
    LogError::Shortened { last, known, witness }
}
