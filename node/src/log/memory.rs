//! A disk in memory for the simulation and for tests. It outlives the store that is opened on it, as a disk outlives a process,
//! and it can crash: unsynced writes are then lost, entirely or in part.

use std::collections::BTreeMap;
use std::mem;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::LogError;
use super::disk::{Batch, Change, Disk, Durability, Key, Replace, Table, Visit};
use super::store::Store;
use crate::security::seal::Seal;

/// A log on a [`MemoryDisk`].
pub type MemoryStore = Store<MemoryDisk>;

impl MemoryStore {
    /// Opens the log on `disk`. All simulated disks share one data key: they hold nothing worth protecting.
    ///
    /// # Errors
    /// When the operating system provides no randomness.
    pub fn open(disk: &MemoryDisk) -> Result<Self, LogError> {
        Ok(Self::new(disk.clone(), Seal::new(&[0; 32])?))
    }
}

/// What a crash leaves of the unsynced writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// All of them: the process was killed, but the operating system had received them.
    Killed,
    /// The first few: the power failed.
    PowerCut {
        /// Their number, 0 for none.
        kept_writes: usize,
    },
    /// Those up to the last one that adds to history, and of that one's last frame only the first half.
    TornHistory,
}

/// The disk; clones are the same disk.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>);

type Tables = BTreeMap<(Table, Key), Vec<u8>>;

#[derive(Default)]
struct State {
    /// What reads see.
    written: Tables,
    /// What survives a power failure.
    durable: Tables,
    /// The batches that turn `durable` into `written`.
    unsynced: Vec<Batch>,
    mark: Option<u64>,
    /// How many more writes and syncs succeed.
    writes_left: Option<usize>,
}

impl MemoryDisk {
    /// Crashes the machine. Stores that are still open on this disk must no longer be used. The disk works again.
    pub fn crash(&self, crash: Crash) {
        let state = &mut *self.state();
        let mut unsynced = mem::take(&mut state.unsynced);
        match crash {
            Crash::Killed => {}
            Crash::PowerCut { kept_writes } => unsynced.truncate(kept_writes),
            Crash::TornHistory => tear_history(&mut unsynced),
        }
        state.written = state.durable.clone();
        for batch in &unsynced {
            change(&mut state.written, batch);
        }
        state.unsynced = unsynced;
        state.writes_left = None;
    }

    /// Another disk with the same contents: a backup.
    pub fn copy(&self) -> Self {
        let state = self.state();
        let (written, mark) = (state.written.clone(), state.mark);
        Self(Arc::new(Mutex::new(State { durable: written.clone(), written, mark, ..State::default() })))
    }

    /// Lets `count` more writes and syncs succeed, and fails all later ones until the next crash.
    pub fn fail_after(&self, count: usize) {
        self.state().writes_left = Some(count);
    }

    /// How many writes a power failure could lose.
    pub fn unsynced_writes(&self) -> usize {
        self.state().unsynced.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn spend_write(&mut self) -> Result<(), LogError> {
        match &mut self.writes_left {
            None => Ok(()),
            Some(0) => {
                Err(LogError::Storage { action: "write to the log", reason: "the simulated disk failed".into() })
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn write(&mut self, batch: Batch) -> Result<(), LogError> {
        self.spend_write()?;
        change(&mut self.written, &batch);
        self.unsynced.push(batch);
        Ok(())
    }

    fn sync(&mut self) {
        for batch in mem::take(&mut self.unsynced) {
            change(&mut self.durable, &batch);
        }
    }
}

impl Disk for MemoryDisk {
    fn get(&self, table: Table, key: Key) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.state().written.get(&(table, key)).cloned())
    }

    fn scan(&self, table: Table, from: Key, to: Key, visit: &mut Visit<'_>) -> Result<(), LogError> {
        let state = self.state();
        for key in keys(&state.written, table, from, to) {
            if let ControlFlow::Break(()) = visit(key, state.written[&(table, key)].clone())? {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, table: Table, before: Key) -> Result<Option<Key>, LogError> {
        let state = self.state();
        Ok(state.written.range((table, Key::MIN)..(table, before)).next_back().map(|(&(_, key), _)| key))
    }

    fn size_bytes(&self, table: Table) -> Result<u64, LogError> {
        let state = self.state();
        let values =
            keys(&state.written, table, Key::MIN, Key::MAX).map(|key| state.written[&(table, key)].len() as u64);
        Ok(values.sum())
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), LogError> {
        let mut state = self.state();
        state.write(batch)?;
        match durability {
            Durability::Synced => state.sync(),
            Durability::Unsynced => {}
        }
        Ok(())
    }

    fn drop_file(&self, table: Table, first: Key, last: Key) -> Result<(), LogError> {
        self.write(vec![Change::DeleteRange { table, from: first, to: last.next() }], Durability::Synced)
    }

    fn replace(
        &self,
        table: Table,
        from: Key,
        bytes: usize,
        change: &mut Replace<'_>,
    ) -> Result<Option<Key>, LogError> {
        let mut state = self.state();
        let (mut batch, mut read, mut next) = (Batch::new(), 0, None);
        for key in keys(&state.written, table, from, Key::MAX) {
            if read >= bytes {
                next = Some(key);
                break;
            }
            let value = &state.written[&(table, key)];
            read += value.len();
            batch.extend(change(key, value)?.map(|value| Change::Put { table, key, value }));
        }
        if !batch.is_empty() {
            state.write(batch)?;
        }
        Ok(next)
    }

    fn reclaim(&self, _table: Table, _from: Key, _to: Key) -> Result<(), LogError> {
        Ok(())
    }

    fn purge(&self) -> Result<(), LogError> {
        self.sync()
    }

    fn sync(&self) -> Result<(), LogError> {
        let mut state = self.state();
        state.spend_write()?;
        state.sync();
        Ok(())
    }

    fn high_water_mark(&self) -> Option<u64> {
        self.state().mark
    }

    fn set_high_water_mark(&self, index: u64) -> Result<(), LogError> {
        let mut state = self.state();
        state.spend_write()?;
        state.mark = state.mark.max(Some(index));
        Ok(())
    }
}

fn keys(tables: &Tables, table: Table, from: Key, to: Key) -> impl Iterator<Item = Key> {
    // An empty range is valid and contains nothing.
    tables.range((table, from)..(table, to.max(from))).map(|(&(_, key), _)| key)
}

fn change(tables: &mut Tables, batch: &Batch) {
    for step in batch {
        match step {
            Change::Put { table, key, value } => {
                tables.insert((*table, *key), value.clone());
            }
            Change::DeleteRange { table, from, to } => {
                let doomed: Vec<_> = keys(tables, *table, *from, *to).collect();
                for key in doomed {
                    tables.remove(&(*table, key));
                }
            }
        }
    }
}

/// Truncates the last frame of the last write that adds to history to half; later writes are lost.
fn tear_history(unsynced: &mut Vec<Batch>) {
    let adds_frame = |change: &Change| matches!(change, Change::Put { table: Table::History, .. });
    let torn = unsynced.iter().rposition(|batch| batch.iter().any(adds_frame));
    unsynced.truncate(torn.map_or(0, |at| at + 1));
    let last_frame = unsynced.last_mut().into_iter().flatten().rfind(|change| adds_frame(change));
    if let Some(Change::Put { value, .. }) = last_frame {
        value.truncate(value.len() / 2);
    }
}
