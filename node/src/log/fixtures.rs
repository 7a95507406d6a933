//! Shared fixtures of the log's tests: a machine of each kind, chained frames, and a manager that applies committed entries.

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use events::{Frame, FrameHeader, VolatilePayload};
use prost::Message;
use tempfile::TempDir;

use super::chain::Chain;
use super::disk::{Batch, Change, Disk, Durability, Key, Replace, Table, Visit};
use super::entry::{AppliedFrame, Entry, EntryKind, FrameLink};
use super::memory::{MemoryDisk, MemoryStore};
use super::raft::{Consensus, Progress, Write, write_all};
use super::rocks::RocksStore;
use super::store::Store;
use super::{HistoryReader, LogError, LogStore, Membership, OtherHistory, PageSize};
use crate::security::seal::Seal;

/// A machine with a disk on which the log can be opened repeatedly.
pub trait Machine {
    fn try_open(&self) -> Result<Arc<dyn LogStore>, LogError>;
    /// Changes the disk without the log; the log must not be open.
    fn tamper(&self, change: &dyn Fn(&dyn Disk) -> Batch);

    fn open(&self) -> Arc<dyn LogStore> {
        self.try_open().unwrap()
    }

    /// Opens the log of a single manager, and initializes it if it is empty.
    fn start(&self) -> Arc<dyn LogStore> {
        let store = self.open();
        if store.load().unwrap().membership.is_none() {
            store.initialize(&Membership::single(1)).unwrap();
        }
        store
    }

    fn flip_bit(&self, table: Table, index: u64) {
        self.tamper(&|disk| {
            let key = Key::at(index);
            let mut value = disk.get(table, key).unwrap().unwrap();
            let middle = value.len() / 2;
            value[middle] ^= 0x10;
            vec![Change::Put { table, key, value }]
        });
    }

    fn remove_from(&self, table: Table, index: u64) {
        self.tamper(&|_| vec![Change::DeleteRange { table, from: Key::at(index), to: Key::MAX }]);
    }
}

pub struct MemoryMachine(pub MemoryDisk);

impl Machine for MemoryMachine {
    fn try_open(&self) -> Result<Arc<dyn LogStore>, LogError> {
        Ok(Arc::new(MemoryStore::open(&self.0)?))
    }

    fn tamper(&self, change: &dyn Fn(&dyn Disk) -> Batch) {
        self.0.write(change(&self.0), Durability::Synced).unwrap();
    }
}

pub struct RocksMachine(pub TempDir);

impl Machine for RocksMachine {
    fn try_open(&self) -> Result<Arc<dyn LogStore>, LogError> {
        Ok(Arc::new(RocksStore::open(self.0.path())?))
    }

    fn tamper(&self, change: &dyn Fn(&dyn Disk) -> Batch) {
        let disk = RocksStore::open(self.0.path()).unwrap().disk;
        disk.write(change(&disk), Durability::Synced).unwrap();
    }
}

/// A disk whose writes hang while its gate is closed; reads still succeed.
#[derive(Clone, Default)]
pub struct HangingDisk {
    disk: MemoryDisk,
    gate: Arc<(Mutex<Gate>, Condvar)>,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    /// Writes that passed the gate.
    passed: usize,
}

impl HangingDisk {
    /// A log on this disk.
    pub fn store(&self) -> Arc<dyn LogStore> {
        Arc::new(Store::new(self.clone(), Seal::new(&[0; 32]).unwrap()))
    }

    /// Closes or opens the gate.
    pub fn close(&self, closed: bool) {
        self.gate.0.lock().unwrap().closed = closed;
        self.gate.1.notify_all();
    }

    /// Number of writes that were made.
    pub fn writes(&self) -> usize {
        self.gate.0.lock().unwrap().passed
    }

    /// Lets `writes` more writes succeed, and fails all later ones.
    pub fn fail_after(&self, writes: usize) {
        self.disk.fail_after(writes);
    }

    fn pass(&self) {
        let mut gate = self.gate.1.wait_while(self.gate.0.lock().unwrap(), |gate| gate.closed).unwrap();
        gate.passed += 1;
    }
}

impl Disk for HangingDisk {
    fn get(&self, table: Table, key: Key) -> Result<Option<Vec<u8>>, LogError> {
        self.disk.get(table, key)
    }

    fn scan(&self, table: Table, from: Key, to: Key, visit: &mut Visit<'_>) -> Result<(), LogError> {
        self.disk.scan(table, from, to, visit)
    }

    fn last_key(&self, table: Table, before: Key) -> Result<Option<Key>, LogError> {
        self.disk.last_key(table, before)
    }

    fn size_bytes(&self, table: Table) -> Result<u64, LogError> {
        self.disk.size_bytes(table)
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), LogError> {
        self.pass();
        self.disk.write(batch, durability)
    }

    fn drop_file(&self, table: Table, first: Key, last: Key) -> Result<(), LogError> {
        self.disk.drop_file(table, first, last)
    }

    fn replace(
        &self,
        table: Table,
        from: Key,
        bytes: usize,
        change: &mut Replace<'_>,
    ) -> Result<Option<Key>, LogError> {
        self.pass();
        self.disk.replace(table, from, bytes, change)
    }

    fn reclaim(&self, table: Table, from: Key, to: Key) -> Result<(), LogError> {
        self.disk.reclaim(table, from, to)
    }

    fn purge(&self) -> Result<(), LogError> {
        self.disk.purge()
    }

    fn sync(&self) -> Result<(), LogError> {
        self.disk.sync()
    }

    fn high_water_mark(&self) -> Option<u64> {
        self.disk.high_water_mark()
    }

    fn set_high_water_mark(&self, index: u64) -> Result<(), LogError> {
        self.disk.set_high_water_mark(index)
    }
}

/// Another manager's history, served in small pages.
pub struct Other(pub Arc<dyn LogStore>);

impl OtherHistory for Other {
    fn name(&self) -> String {
        "other".to_owned()
    }

    fn page(&self, from: u64) -> Result<Vec<(u64, Bytes)>, String> {
        let page = HistoryReader::starting_at(from).page(&*self.0, u64::MAX, PageSize { frames: 7, bytes: usize::MAX });
        page.map_err(|error| error.to_string())
    }
}

/// Runs a test on a fresh machine of each kind.
pub fn on_both(test: impl Fn(&dyn Machine)) {
    test(&MemoryMachine(MemoryDisk::default()));
    test(&RocksMachine(tempfile::tempdir().unwrap()));
}

/// An entry that carries `payload`.
pub fn entry(index: u64, term: u64, payload: &str) -> Entry {
    Entry { index, term, kind: EntryKind::Frame, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

/// The stored bytes of the frame at `index`, chained to `previous`, padded to some size.
pub fn frame(index: u64, previous: Option<FrameLink>, padding: usize) -> Bytes {
    let header = FrameHeader {
        index,
        previous_hash: previous.map_or(Vec::new(), |link| link.hash.to_vec()),
        // An unknown but harmless field of the frame.
        term: 1,
        ..FrameHeader::default()
    };
    let mut bytes = Frame { header, ..Frame::default() }.encode_to_vec();
    prost::encoding::bytes::encode(15, &vec![7_u8; padding], &mut bytes);
    bytes.into()
}

/// The frames `from..to`, chained to the previous frame.
pub fn frames(previous: Option<FrameLink>, from: u64, to: u64) -> Vec<AppliedFrame> {
    let mut chain = Chain::after(previous);
    let frames = (from..to).map(|index| {
        let bytes = frame(index, chain.last(), 100);
        chain.follow(index, &bytes).unwrap();
        AppliedFrame { index, bytes, secrets: Vec::new() }
    });
    frames.collect()
}

/// What a numbered proposal does to secrets: most store one of a few or update it, and some destroy one.
pub fn secrets_of(proposal: &[u8]) -> Vec<VolatilePayload> {
    let number = proposal.last().copied().unwrap_or_default();
    let name = format!("secret {}", number % 5);
    match number % 4 {
        0 => Vec::new(),
        1 => vec![VolatilePayload::destroy(name)],
        _ => vec![VolatilePayload::keep(name, proposal)],
    }
}

/// Applies the next frame, with these secrets.
pub fn apply_secrets(store: &dyn LogStore, secrets: Vec<VolatilePayload>) {
    let (last, applied) = (store.last_index(), store.applied().unwrap());
    store.append(vec![entry(last + 1, 1, "change")], None, true).unwrap();
    let frame = AppliedFrame { secrets, ..frames(applied.frame, last + 1, last + 2).remove(0) };
    store.apply(&[frame], last + 1).unwrap();
}

/// Appends and applies the indexes `2..to`, each with a frame.
pub fn fill(store: &dyn LogStore, to: u64) {
    let from = store.last_index() + 1;
    store.append((from..to).map(|index| entry(index, 1, "change")).collect(), None, true).unwrap();
    let applied = store.applied().unwrap();
    store.apply(&frames(applied.frame, applied.index + 1, to), to - 1).unwrap();
}

/// A manager whose frames are numbered proposals: the minimum of the turn loop.
pub struct Manager {
    pub store: Arc<dyn LogStore>,
    pub consensus: Consensus,
    chain: Chain,
    /// What was returned as committed and so may have been acknowledged, in order.
    pub committed: Vec<(u64, Bytes)>,
}

impl Manager {
    /// Starts from the log, with what history and raft return.
    pub fn start(machine: &dyn Machine, id: u64) -> Result<Self, LogError> {
        let store = machine.try_open()?;
        let mut loaded = store.load()?;
        if loaded.membership.is_none() {
            Consensus::bootstrap(&*store, id)?;
            loaded = store.load()?;
        }
        let consensus = Consensus::open(store.clone(), id, &loaded)?;
        Ok(Self { store, consensus, chain: Chain::after(loaded.last_frame), committed: Vec::new() })
    }

    /// Runs rounds until there is nothing left to do.
    pub fn settle(&mut self) -> Result<(), LogError> {
        while let Some(progress) = self.consensus.ready()? {
            self.take(progress)?;
        }
        Ok(())
    }

    /// Makes the writes of a round immediately.
    pub fn take(&mut self, mut progress: Progress) -> Result<(), LogError> {
        let mut writes: Vec<Write> = progress.write.take().into_iter().collect();
        writes.extend(self.apply(progress)?);
        let written = write_all(&*self.store, writes)?;
        written.round.into_iter().for_each(|round| self.consensus.written(round));
        Ok(())
    }

    /// Applies what a round committed.
    pub fn apply(&mut self, progress: Progress) -> Result<Option<Write>, LogError> {
        let mut frames = Vec::new();
        for committed in progress.committed {
            let bytes = frame(committed.index, self.chain.last(), committed.bytes.len());
            self.chain.follow(committed.index, &bytes).unwrap();
            let secrets = secrets_of(&committed.bytes);
            frames.push(AppliedFrame { index: committed.index, bytes, secrets });
            self.committed.push((committed.index, committed.bytes));
        }
        progress.committed_to.map(|applied| self.consensus.apply(frames, applied)).transpose()
    }
}
