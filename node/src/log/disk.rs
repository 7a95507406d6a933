//! The log's interface to a disk: ordered tables of opaque values, atomic batches, and syncing. RocksDB and the simulated disk
//! implement it; everything that interprets the values is above it.

use std::fmt;
use std::ops::ControlFlow;

use super::LogError;

/// A table of the log; RocksDB calls it a column family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Raft entries, by index.
    Raft,
    /// The few records about the state of the log.
    Meta,
    /// Applied frames, by the index of their raft entry.
    History,
    /// Snapshots of the projections, by index and part.
    Checkpoint,
    /// Secrets, by a hash of their names.
    Keyring,
    /// Which frames of history have a term, by a hash of the term and by segments of history.
    Index,
    /// Tiles of the tree of frames, by their numbers and levels.
    Tree,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 7] =
        [Self::Raft, Self::Meta, Self::History, Self::Checkpoint, Self::Keyring, Self::Index, Self::Tree];

    /// The name of the table, on disk and in messages. Values are sealed with it: it never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raft => "raft",
            Self::Meta => "meta",
            Self::History => "history",
            Self::Checkpoint => "checkpoint",
            Self::Keyring => "keyring",
            Self::Index => "index",
            Self::Tree => "tree",
        }
    }

    /// Whether all of its contents can be rebuilt from history.
    pub const fn is_cache(self) -> bool {
        match self {
            Self::Checkpoint | Self::Index | Self::Tree => true,
            Self::Raft | Self::Meta | Self::History | Self::Keyring => false,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The position of a value in its table: only numbers, so that keys reveal nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// A raft index; for [`Table::Meta`] the number of the record, for [`Table::Keyring`] most of the hash, for [`Table::Index`]
    /// the hash, for [`Table::Tree`] the number of the tile.
    pub index: u64,
    /// The part of the value, the rest of the hash, the segment of history, or the level of the tile; 0 if values have no parts.
    pub part: u32,
}

impl Key {
    /// Sorts before every key.
    pub const MIN: Self = Self { index: 0, part: 0 };
    /// Sorts after every key in use.
    pub const MAX: Self = Self { index: u64::MAX, part: u32::MAX };
    /// Bytes of an encoded key.
    pub const BYTES: usize = 12;

    /// The key of a value without parts.
    pub const fn at(index: u64) -> Self {
        Self { index, part: 0 }
    }

    /// The key after this one.
    pub const fn next(self) -> Self {
        match self.part.checked_add(1) {
            Some(part) => Self { index: self.index, part },
            None => Self::at(self.index.saturating_add(1)),
        }
    }

    /// The stored form, which has the same order as the keys.
    pub fn encode(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.index.to_be_bytes());
        bytes[8..].copy_from_slice(&self.part.to_be_bytes());
        bytes
    }

    /// Reads the stored form; `None` if these bytes are not a key.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (index, part) = bytes.split_first_chunk::<8>()?;
        Some(Self { index: u64::from_be_bytes(*index), part: u32::from_be_bytes(part.try_into().ok()?) })
    }
}

/// The position for which a value is sealed: the table's name, padded, and the key.
pub fn place(table: Table, key: Key) -> [u8; PLACE_BYTES] {
    let mut place = [0; PLACE_BYTES];
    let name = table.name().as_bytes();
    place[..name.len()].copy_from_slice(name);
    place[PLACE_BYTES - Key::BYTES..].copy_from_slice(&key.encode());
    place
}

/// The longest table name and a key.
const PLACE_BYTES: usize = 16 + Key::BYTES;

/// One step of a [`Batch`].
#[derive(Debug, Clone)]
pub enum Change {
    /// Writes a value.
    Put {
        /// Its table.
        table: Table,
        /// Its place.
        key: Key,
        /// The sealed value.
        value: Vec<u8>,
    },
    /// Removes the values at `from` up to, but not including, `to`.
    DeleteRange {
        /// Their table.
        table: Table,
        /// The first place.
        from: Key,
        /// The place after the last one.
        to: Key,
    },
}

/// Changes that happen together or not at all.
pub type Batch = Vec<Change>;

/// When a write counts as complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it, and every write before it, survives a power failure.
    Synced,
    /// When the operating system has it: it survives the end of the process.
    Unsynced,
}

/// What [`Disk::scan`] does with each value: continue, or stop. Must not call the disk.
pub type Visit<'a> = dyn FnMut(Key, Vec<u8>) -> Result<ControlFlow<()>, LogError> + 'a;

/// What [`Disk::replace`] does with each value: keep it, or replace it. Must not call the disk.
pub type Replace<'a> = dyn FnMut(Key, &[u8]) -> Result<Option<Vec<u8>>, LogError> + 'a;

/// Ordered tables on a storage medium. Writes survive a crash in the order in which they were made: if one of them survives, so
/// does every write before it, in any table.
pub trait Disk: Send + Sync {
    /// The value at a key.
    ///
    /// # Errors
    /// When it cannot be read.
    fn get(&self, table: Table, key: Key) -> Result<Option<Vec<u8>>, LogError>;

    /// Visits the values from `from` up to, but not including, `to`, in order, as they were when the scan began.
    ///
    /// # Errors
    /// When a value cannot be read, or `visit` fails.
    fn scan(&self, table: Table, from: Key, to: Key, visit: &mut Visit<'_>) -> Result<(), LogError>;

    /// The last key of a table that is less than `before`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn last_key(&self, table: Table, before: Key) -> Result<Option<Key>, LogError>;

    /// The approximate size of a table in bytes, without reading it.
    ///
    /// # Errors
    /// When the medium cannot tell.
    fn size_bytes(&self, table: Table) -> Result<u64, LogError>;

    /// Applies all changes of a batch, or none.
    ///
    /// # Errors
    /// When the write fails; the medium is then in an unknown state.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), LogError>;

    /// Removes a damaged file of a table with all its values, identified by its first and last key, without reading it.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn drop_file(&self, table: Table, first: Key, last: Key) -> Result<(), LogError>;

    /// Replaces values of a table from `from` on, until this many bytes were read: with what `change` returns, if it returns
    /// something. No other write comes between reading a value and replacing it. Nothing is synced. Returns the key to continue
    /// at; `None` at the end of the table.
    ///
    /// # Errors
    /// When a value cannot be read or written, or `change` fails.
    fn replace(&self, table: Table, from: Key, bytes: usize, change: &mut Replace<'_>)
    -> Result<Option<Key>, LogError>;

    /// Frees the space of values that were removed between these keys.
    ///
    /// # Errors
    /// When the medium does not confirm it.
    fn reclaim(&self, table: Table, from: Key, to: Key) -> Result<(), LogError>;

    /// Makes every write so far durable, and removes from the medium what was deleted or replaced.
    ///
    /// # Errors
    /// When the medium does not confirm it.
    fn purge(&self) -> Result<(), LogError>;

    /// Makes every write so far durable.
    ///
    /// # Errors
    /// When the medium does not confirm it.
    fn sync(&self) -> Result<(), LogError>;

    /// The high-water mark when the disk was opened: an index that was durable at some time, stored apart from the tables so that
    /// their loss is detected. May be too low after a power failure, never too high.
    fn high_water_mark(&self) -> Option<u64>;

    /// Raises the high-water mark; a lower value has no effect.
    ///
    /// # Errors
    /// When it could not be written.
    fn set_high_water_mark(&self, index: u64) -> Result<(), LogError>;
}
