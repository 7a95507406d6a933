//! A manager's disk: one RocksDB with a column family for each table, and the high-water mark beside it.
//!
//! All column families share one write-ahead log, which guarantees that writes survive in their order, as [`Disk`] requires: the
//! log is synced as a whole, and a start reads it up to its first bad record.

mod files;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::properties::{CUR_SIZE_ALL_MEM_TABLES, LIVE_SST_FILES_SIZE};
use rocksdb::{
    BlockBasedOptions, BottommostLevelCompaction, Cache, ColumnFamily, ColumnFamilyDescriptor, CompactOptions, DB,
    DBCompressionType, DBRecoveryMode, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::LogError;
use super::disk::{Batch, Change, Disk, Durability, Key, Replace, Table, Visit};
use super::high_water_mark::{self, Mark};
use super::store::Store;
use crate::security::KeyLock;
use crate::security::seal::{DataKeys, KeyFile, Seal};

/// Bytes in memory before a table's newest values become a file. Small, so that a manager needs little memory; at 20,000 commands
/// a second a buffer still lasts about a second.
const WRITE_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Bytes in the write buffers of all tables.
const WRITE_BUFFERS_BYTES: usize = 16 * 1024 * 1024;
/// Step by which a buffer grows, so that an idle table costs little.
const ARENA_BLOCK_BYTES: usize = 64 * 1024;
/// Bytes of blocks, filters and indexes kept in memory, for all tables. History is read in order: a larger cache would not help.
const BLOCK_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes in the write-ahead log, all of which a start reads.
const WAL_BYTES: u64 = 32 * 1024 * 1024;
/// Limit of open files, for a history that only grows.
const OPEN_FILES: i32 = 128;
/// One flush and one compaction at a time: the fsync of the raft log needs the CPU as well.
const BACKGROUND_JOBS: i32 = 2;
/// Size of RocksDB's own info log, of which it keeps the newest files.
const INFO_LOG_BYTES: usize = 1024 * 1024;
const INFO_LOG_FILES: usize = 2;

/// What to do with the table of checkpoints when the log is opened. It is a cache: history can rebuild it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checkpoints {
    /// Keep it.
    #[default]
    Keep,
    /// Rebuild it without reading it: the database cannot read all of its files.
    Discard,
}

/// A log on RocksDB.
pub type RocksStore = Store<RocksDisk>;

impl RocksStore {
    /// Opens the log in an existing state directory, or creates it there together with its data key. RocksDB then permanently
    /// drops everything after the first bad record of its own log: callers that need it must read it first.
    ///
    /// # Errors
    /// When another process uses it, the key is missing or damaged, or the files cannot be used.
    pub fn open(state_dir: &Path) -> Result<Self, LogError> {
        Self::open_with(state_dir, Checkpoints::Keep, &KeyLock::default())
    }

    /// The same; checkpoints are also discarded if a manager stopped because of their files.
    ///
    /// # Errors
    /// When another process uses it, the key is missing or damaged, or the files cannot be used.
    pub fn open_with(state_dir: &Path, checkpoints: Checkpoints, lock: &KeyLock) -> Result<Self, LogError> {
        let paths = Paths::of(state_dir);
        let is_initialized = paths.is_initialized()?;
        if is_initialized {
            paths.require_database()?;
            if !paths.is_only_created()? {
                paths.require_tables().map(drop)?;
            }
        }
        let keys = DataKeys::load(&paths.key, !is_initialized, lock.key().as_ref())?;
        if checkpoints == Checkpoints::Discard || exists(&paths.corrupt_checkpoints)? {
            RocksDisk::discard_checkpoints(&paths)?;
        }
        let disk = RocksDisk::open(&paths)?;
        Ok(Self::new(disk, Seal::with(&keys)?))
    }

    /// The file of the data keys that this log uses.
    pub fn key_file(&self, state_dir: &Path) -> KeyFile {
        KeyFile::new(Paths::of(state_dir).key, Arc::clone(&self.seal))
    }

    /// Opens the log of a state directory to read its history, even while another process writes it, and however damaged the rest
    /// of it is. Nothing on disk changes.
    ///
    /// # Errors
    /// When there is no log, the key is missing or damaged, or the files cannot be read.
    pub fn open_read_only(state_dir: &Path) -> Result<Self, LogError> {
        Self::open_locked_read_only(state_dir, &KeyLock::default())
    }

    fn open_locked_read_only(state_dir: &Path, lock: &KeyLock) -> Result<Self, LogError> {
        let paths = Paths::of(state_dir);
        if !paths.is_initialized()? {
            return Err(LogError::NotInitialized);
        }
        paths.require_database()?;
        let tables = paths.require_tables()?;
        let keys = DataKeys::load(&paths.key, false, lock.key().as_ref())?;
        let disk = RocksDisk::open_read_only(&paths, tables)?;
        Ok(Self::new(disk, Seal::with(&keys)?))
    }

    /// Opens a log before it is used, to read it first. `None` if no log was initialized, or the initialization was interrupted
    /// before anything was written to it. Nothing on disk changes.
    ///
    /// # Errors
    /// When there is a log, and it cannot be read.
    pub fn open_to_verify(state_dir: &Path, lock: &KeyLock) -> Result<Option<Self>, LogError> {
        let paths = Paths::of(state_dir);
        if !paths.is_initialized()? || (exists(&paths.current())? && paths.is_only_created()?) {
            return Ok(None);
        }
        Self::open_locked_read_only(state_dir, lock).map(Some)
    }

    /// What to do with the checkpoints, after they have been read.
    pub fn checkpoint_action(&self) -> Checkpoints {
        let corrupt =
            self.disk.without.contains(&Table::Checkpoint) || self.checkpoints_corrupt.load(Ordering::Relaxed);
        if corrupt { Checkpoints::Discard } else { Checkpoints::Keep }
    }

    /// Whether a log was ever initialized in a state directory, however little of it is left. Opens nothing.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn is_initialized(state_dir: &Path) -> Result<bool, LogError> {
        Paths::of(state_dir).is_initialized()
    }
}

/// The files of the log in a state directory.
#[derive(Clone)]
struct Paths {
    database: PathBuf,
    key: PathBuf,
    mark: PathBuf,
    /// Exists if a manager stopped because it found damage in the files of its checkpoints.
    corrupt_checkpoints: PathBuf,
}

impl Paths {
    fn of(state_dir: &Path) -> Self {
        Self {
            database: state_dir.join("log"),
            key: state_dir.join("log.key"),
            mark: state_dir.join("log.mark"),
            corrupt_checkpoints: state_dir.join("log.corrupt-checkpoints"),
        }
    }

    /// RocksDB writes this file last when it creates a database.
    fn current(&self) -> PathBuf {
        self.database.join("CURRENT")
    }

    fn is_initialized(&self) -> Result<bool, LogError> {
        Ok(exists(&self.current())? || high_water_mark::read(&self.mark)?.is_some() || self.holds_values()?)
    }

    /// Whether the database's directory has files that are only written after its creation.
    fn holds_values(&self) -> Result<bool, LogError> {
        self.any_file(|ending, _| ending == "log" || ending == "sst")
    }

    /// Whether a condition holds for any of the database's files, by file extension and size in bytes.
    fn any_file(&self, such: impl Fn(&str, u64) -> bool) -> Result<bool, LogError> {
        let failed = |source| LogError::File { action: "read", path: self.database.clone(), source };
        let entries = match std::fs::read_dir(&self.database) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let Some(ending) = path.extension().and_then(|ending| ending.to_str()) else { continue };
            if such(ending, std::fs::metadata(&path).map_err(failed)?.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether nothing was ever written to the database: then tables may be missing, as its creation adds them one by one. The
    /// mark is created after all of them.
    fn is_only_created(&self) -> Result<bool, LogError> {
        Ok(!exists(&self.mark)? && !self.any_file(|ending, bytes| ending == "sst" || (ending == "log" && bytes > 0))?)
    }

    /// Requires the database of an initialized log. RocksDB would create a new one if it finds none.
    fn require_database(&self) -> Result<(), LogError> {
        if exists(&self.current())? {
            return Ok(());
        }
        match high_water_mark::read(&self.mark)? {
            Some(known) if !self.holds_values()? => Err(LogError::Lost { path: self.database.clone(), known }),
            Some(_) | None => {
                let reason = "its file CURRENT is missing".to_owned();
                Err(LogError::Unreadable { path: self.database.clone(), reason })
            }
        }
    }

    /// The existing tables. RocksDB would create missing ones, empty; only caches may be missing.
    fn require_tables(&self) -> Result<Vec<Table>, LogError> {
        let names = DB::list_cf(&Options::default(), &self.database);
        let names = names.map_err(|error| not_opened(&self.database, error))?;
        let is_there = |table: &Table| names.iter().any(|name| name == table.name());
        match Table::ALL.into_iter().find(|table| !table.is_cache() && !is_there(table)) {
            Some(table) => Err(LogError::TableMissing { path: self.database.clone(), table }),
            None => Ok(Table::ALL.into_iter().filter(is_there).collect()),
        }
    }
}

fn exists(path: &Path) -> Result<bool, LogError> {
    path.try_exists().map_err(|source| LogError::File { action: "look for", path: path.to_owned(), source })
}

/// RocksDB as a [`Disk`].
pub struct RocksDisk {
    db: DB,
    /// Held by every writer: nothing comes between reading a value and replacing it.
    writing: Mutex<()>,
    /// `None` when opened read-only.
    mark: Option<Mark>,
    /// The mark before the database was opened.
    known: Option<u64>,
    paths: Paths,
    /// Missing caches, or those that cannot be opened: they read as empty.
    without: Vec<Table>,
}

impl RocksDisk {
    fn open(paths: &Paths) -> Result<Self, LogError> {
        let db = DB::open_cf_descriptors(&database_options(), &paths.database, column_families(&Table::ALL));
        let db = db.map_err(|error| not_opened(&paths.database, error))?;
        let mark = Mark::open(&paths.mark)?;
        let (known, paths) = (mark.opened_with(), paths.clone());
        Ok(Self { db, writing: Mutex::default(), known, mark: Some(mark), paths, without: Vec::new() })
    }

    fn open_read_only(paths: &Paths, mut tables: Vec<Table>) -> Result<Self, LogError> {
        // Before the database, which another process may extend meanwhile.
        let known = high_water_mark::read(&paths.mark)?;
        if exists(&paths.corrupt_checkpoints)? {
            tables.retain(|table| !table.is_cache());
        }
        let open = |tables: &[Table]| {
            DB::open_cf_descriptors_read_only(&database_options(), &paths.database, column_families(tables), false)
        };
        let db = match open(&tables) {
            Err(error) if error.kind() == ErrorKind::Corruption && tables.iter().any(|table| table.is_cache()) => {
                tables.retain(|table| !table.is_cache());
                let db = open(&tables).map_err(|_| not_opened(&paths.database, error.clone()))?;
                tracing::warn!(%error, "the checkpoints cannot be opened; the state is folded from history");
                db
            }
            db => db.map_err(|error| not_opened(&paths.database, error))?,
        };
        let without = Table::ALL.into_iter().filter(|table| !tables.contains(table)).collect();
        Ok(Self { db, writing: Mutex::default(), mark: None, known, paths: paths.clone(), without })
    }

    /// Recreates the tables of checkpoints, of the index and of the tree. Everything else has been read before, so RocksDB need
    /// not insist on files that it is about to delete.
    fn discard_checkpoints(paths: &Paths) -> Result<(), LogError> {
        let failed = |error| not_opened(&paths.database, error);
        let mut options = database_options();
        options.set_paranoid_checks(false);
        let mut still = Options::default();
        // Nothing may read the files meanwhile.
        still.set_disable_auto_compactions(true);
        let families = Table::ALL.map(|table| match table {
            Table::Checkpoint | Table::Index | Table::Tree => ColumnFamilyDescriptor::new(table.name(), still.clone()),
            Table::Raft | Table::Meta | Table::History | Table::Keyring => {
                ColumnFamilyDescriptor::new(table.name(), table_options(&Cache::new_lru_cache(BLOCK_CACHE_BYTES)))
            }
        });
        let mut db = DB::open_cf_descriptors(&options, &paths.database, families).map_err(failed)?;
        for table in Table::ALL.into_iter().filter(|table| table.is_cache()) {
            db.drop_cf(table.name()).map_err(failed)?;
        }
        drop(db);
        tracing::warn!("the checkpoints, the index and the tree of history are discarded and rebuilt from history");
        match std::fs::remove_file(&paths.corrupt_checkpoints) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(LogError::File { action: "remove", path: paths.corrupt_checkpoints.clone(), source: error })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The error of a database call. Damage is reported as such, whichever operation found it: RocksDB also fails a write because
    /// of what one of its own compactions has read.
    fn failed(&self, action: &'static str, table: Option<Table>, error: rocksdb::Error) -> LogError {
        let is_damage = error.kind() == ErrorKind::Corruption;
        let reason = error.into_string();
        if !is_damage {
            let of = table.map_or(String::new(), |table| format!("{table}: "));
            return LogError::Storage { action, reason: format!("{of}{reason}") };
        }
        let file = self.file_in(&reason);
        let Some(table) = file.as_ref().map(|file| file.table).or(table) else {
            return LogError::Unreadable { path: self.paths.database.clone(), reason };
        };
        if table.is_cache() && self.mark.is_some() {
            // Without this marker the next start would fail in the same way.
            if let Err(error) = std::fs::write(&self.paths.corrupt_checkpoints, &reason) {
                tracing::error!(%error, "cannot note that a cache is damaged");
            }
        }
        let indexes = file.map(|file| (file.first.index, file.last.index));
        LogError::Corrupt { table, reason, indexes }
    }

    fn reads_as_empty(&self, table: Table) -> bool {
        self.without.contains(&table)
    }

    fn family(&self, table: Table) -> Result<&ColumnFamily, LogError> {
        self.db.cf_handle(table.name()).ok_or_else(|| LogError::Storage {
            action: "use the log",
            reason: format!("column family {table} is missing"),
        })
    }
}

impl Disk for RocksDisk {
    fn get(&self, table: Table, key: Key) -> Result<Option<Vec<u8>>, LogError> {
        if self.reads_as_empty(table) {
            return Ok(None);
        }
        let value = self.db.get_cf(self.family(table)?, key.encode());
        value.map_err(|error| self.failed("read the log", Some(table), error))
    }

    fn scan(&self, table: Table, from: Key, to: Key, visit: &mut Visit<'_>) -> Result<(), LogError> {
        if from >= to || self.reads_as_empty(table) {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_range(from.encode().to_vec()..to.encode().to_vec());
        // A scan reads each block once: caching it would only evict blocks that are read again.
        options.fill_cache(false);
        for pair in self.db.iterator_cf_opt(self.family(table)?, options, IteratorMode::Start) {
            let (key, value) = pair.map_err(|error| self.failed("read the log", Some(table), error))?;
            if let ControlFlow::Break(()) = visit(decode_key(table, &key)?, value.into_vec())? {
                break;
            }
        }
        Ok(())
    }

    fn last_key(&self, table: Table, before: Key) -> Result<Option<Key>, LogError> {
        if self.reads_as_empty(table) {
            return Ok(None);
        }
        let mut options = ReadOptions::default();
        options.set_iterate_range(..before.encode().to_vec());
        let last = self.db.iterator_cf_opt(self.family(table)?, options, IteratorMode::End).next();
        let last = last.transpose().map_err(|error| self.failed("read the log", Some(table), error))?;
        last.map(|(key, _)| decode_key(table, &key)).transpose()
    }

    fn size_bytes(&self, table: Table) -> Result<u64, LogError> {
        let family = self.family(table)?;
        let property = |name| {
            let value = self.db.property_int_value_cf(family, name);
            value.map(Option::unwrap_or_default).map_err(|error| self.failed("read the log", Some(table), error))
        };
        Ok(property(LIVE_SST_FILES_SIZE)? + property(CUR_SIZE_ALL_MEM_TABLES)?)
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), LogError> {
        let mut writes = WriteBatch::default();
        for change in batch {
            match change {
                Change::Put { table, key, value } => writes.put_cf(self.family(table)?, key.encode(), value),
                Change::DeleteRange { table, from, to } => {
                    writes.delete_range_cf(self.family(table)?, from.encode(), to.encode());
                }
            }
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.db.write_opt(writes, &write_options(durability));
        written.map_err(|error| self.failed("write to the log", None, error))
    }

    fn drop_file(&self, table: Table, first: Key, last: Key) -> Result<(), LogError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.drop_file_of(table, first, last)
    }

    fn replace(
        &self,
        table: Table,
        from: Key,
        bytes: usize,
        change: &mut Replace<'_>,
    ) -> Result<Option<Key>, LogError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut writes, mut read, mut next) = (WriteBatch::default(), 0, None);
        self.scan(table, from, Key::MAX, &mut |key, value| {
            if read >= bytes {
                next = Some(key);
                return Ok(ControlFlow::Break(()));
            }
            read += value.len();
            if let Some(value) = change(key, &value)? {
                writes.put_cf(self.family(table)?, key.encode(), value);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        if !writes.is_empty() {
            let written = self.db.write_opt(writes, &write_options(Durability::Unsynced));
            written.map_err(|error| self.failed("write to the log", None, error))?;
        }
        Ok(next)
    }

    fn reclaim(&self, table: Table, from: Key, to: Key) -> Result<(), LogError> {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        let (from, to) = (from.encode(), to.encode());
        self.db.compact_range_cf_opt(self.family(table)?, Some(from), Some(to), &options);
        Ok(())
    }

    fn purge(&self) -> Result<(), LogError> {
        let mut options = CompactOptions::default();
        // Without this, a file without deletions would only be moved.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        options.set_exclusive_manual_compaction(false);
        for table in Table::ALL {
            let family = self.family(table)?;
            let flushed = self.db.flush_cf(family);
            flushed.map_err(|error| self.failed("sync the log", Some(table), error))?;
            self.db.compact_range_cf_opt(family, None::<&[u8]>, None::<&[u8]>, &options);
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), LogError> {
        let synced = self.db.flush_wal(true);
        synced.map_err(|error| self.failed("sync the log", None, error))
    }

    fn high_water_mark(&self) -> Option<u64> {
        self.known
    }

    fn set_high_water_mark(&self, index: u64) -> Result<(), LogError> {
        self.mark.as_ref().map_or(Ok(()), |mark| mark.set(index))
    }
}

/// The only place that defines how a write reaches the disk. RocksDB does not sync by default.
fn write_options(durability: Durability) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(false);
    options.set_sync(match durability {
        Durability::Synced => true,
        Durability::Unsynced => false,
    });
    options
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // Opens with a torn end of the write-ahead log, which a power failure leaves; the high-water mark and the hash chain detect
    // whether more than that was lost.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // A write-ahead log that disappeared, or is shorter than when it was synced, is refused.
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_paranoid_checks(true);
    options.set_max_total_wal_size(WAL_BYTES);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_max_subcompactions(1);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(INFO_LOG_BYTES);
    options.set_keep_log_file_num(INFO_LOG_FILES);
    // No thread for statistics, which are not used.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options
}

/// Tables that are created or opened; they share one cache.
fn column_families(tables: &[Table]) -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    tables.iter().map(move |table| ColumnFamilyDescriptor::new(table.name(), table_options(&cache)))
}

fn table_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    // Charged to the cache, or their memory would grow with history.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_arena_block_size(ARENA_BLOCK_BYTES);
    // Sealed values do not compress: compressing them costs time and saves nothing.
    options.set_compression_type(DBCompressionType::None);
    options
}

fn decode_key(table: Table, key: &[u8]) -> Result<Key, LogError> {
    Key::decode(key).ok_or_else(|| LogError::Storage {
        action: "read the log",
        reason: format!("{table} holds a key of {} bytes", key.len()),
    })
}

fn not_opened(path: &Path, error: rocksdb::Error) -> LogError {
    let kind = error.kind();
    let reason = error.into_string();
    // RocksDB reports this only in its message: for another process, and for this one.
    let says = |words: &str| reason.contains(words);
    match kind {
        ErrorKind::IOError if says("While lock file") || says("lock hold by current process") => {
            LogError::InUse(path.to_owned())
        }
        ErrorKind::IOError if says("No such file") => LogError::Unreadable { path: path.to_owned(), reason },
        ErrorKind::Corruption => LogError::Unreadable { path: path.to_owned(), reason },
        // These kinds are reported as damage; all others by their message.
        _ => LogError::Storage { action: "open the log", reason },
    }
}

#[cfg(test)]
impl RocksDisk {
    /// The names of the files that a table is in.
    pub fn files_of(&self, table: Table) -> Vec<String> {
        let files = self.db.live_files().unwrap().into_iter().filter(|file| file.column_family_name == table.name());
        files.map(|file| file.name.trim_start_matches('/').to_owned()).collect()
    }

    /// Compacts a table now, as the database would do eventually.
    pub fn compact(&self, table: Table) {
        let mut options = CompactOptions::default();
        // Without this a single file would only be moved, unread.
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.family(table).unwrap(), None::<&[u8]>, None::<&[u8]>, &options);
    }
}

#[cfg(test)]
mod tests;
