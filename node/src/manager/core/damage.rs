//! Real files of a log, damaged in every way: a start is either refused and changes nothing, or restores the same state.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::tests::lead;
use super::*;
use crate::log::RocksStore;

/// Offsets tried in each file, spread evenly if it has more records.
const PLACES_MAX: usize = 24;
/// Block size of a write-ahead log and a manifest: records are split into fragments with a header each.
const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;

/// A state directory with the log of a manager that ran for a while and was restarted in between, and the hash of its state.
struct Pristine {
    dir: tempfile::TempDir,
    state: [u8; 16],
}

impl Pristine {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = state_dir::log(dir.path());
        fs::create_dir_all(&log).unwrap();
        let store: Arc<dyn LogStore> = Arc::new(RocksStore::open(&log).unwrap());
        drop(lead(&store, 60));
        drop(store);
        // Each start moves what the previous one wrote into tables, and writes to a new file.
        for _ in 0..2 {
            let store = RocksStore::open(&log).unwrap();
            let loaded = store.load().unwrap();
            store.append(Vec::new(), Some(loaded.hard_state), true).unwrap();
        }
        let state = read_in(dir.path()).unwrap().folded.unwrap().cluster.state_hash();
        Self { dir, state }
    }

    fn files(&self) -> Vec<PathBuf> {
        contents(self.dir.path()).into_keys().filter(|path| !path.ends_with("lock")).collect()
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for path in contents(self.dir.path()).into_keys() {
            let to = copy.path().join(&path);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(self.dir.path().join(&path), to).unwrap();
        }
        copy
    }
}

fn read_in(dir: &Path) -> Result<Read, Failure> {
    read(&StateDir::open(dir).unwrap(), None)
}

/// Every file below a directory, with a hash of its contents.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn collect(dir: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir.join(below)).unwrap().map(|entry| entry.unwrap()) {
            let path = below.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                collect(dir, &path, found);
            } else {
                found.insert(path, Sha256::digest(fs::read(entry.path()).unwrap()).to_vec());
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(dir, Path::new(""), &mut found);
    found
}

/// Where the records of a file begin, and where it ends. For a table, whose blocks only RocksDB can locate: some offsets.
fn boundaries(name: &str, bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() && !name.ends_with(".sst") {
        found.push(at);
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        let header = bytes.get(at..at + HEADER_BYTES).filter(|_| left >= HEADER_BYTES);
        at += header.map_or(left, |header| HEADER_BYTES + usize::from(u16::from_le_bytes([header[4], header[5]])));
    }
    if name.ends_with(".sst") {
        found.extend((0..PLACES_MAX).map(|part| bytes.len() * part / PLACES_MAX));
    }
    let step = found.len().div_ceil(PLACES_MAX).max(1);
    found.into_iter().step_by(step).chain([bytes.len()]).collect()
}

/// The file cut off at an offset, and with a bit flipped after it.
fn damages(bytes: &[u8], at: usize) -> Vec<Vec<u8>> {
    let mut turned = bytes.to_vec();
    let bit = at + (bytes.len() - at).min(HEADER_BYTES + 2) / 2;
    turned.get_mut(bit).into_iter().for_each(|byte| *byte ^= 0x10);
    [bytes[..at].to_vec(), turned].into_iter().filter(|damaged| damaged != bytes).collect()
}

/// Starts on a directory: returns whether the start succeeds, with the same state and a repaired log; otherwise nothing may have
/// changed.
fn judge(dir: &Path, state: [u8; 16]) -> Result<bool, String> {
    // The lock file is created before anything is read.
    drop(StateDir::open(dir).unwrap());
    let before = contents(dir);
    let read = match read_in(dir) {
        Ok(read) => read,
        Err(_) if contents(dir) == before => return Ok(false),
        Err(refused) => return Err(format!("it was refused and changed something: {refused}")),
    };
    if contents(dir) != before {
        return Err("reading changed something".to_owned());
    }
    let checkpoints = read.checkpoints;
    let folded = read.folded.ok_or("it was taken for a new log")?;
    if folded.cluster.state_hash() != state {
        return Err("another state".to_owned());
    }
    let opened = RocksStore::open_with(&state_dir::log(dir), checkpoints, &Default::default())
        .map_err(|error| error.to_string())?;
    let loaded = opened.load().map_err(|error| error.to_string())?;
    let again = fold(&opened, &loaded).map_err(|failure| failure.sentence)?;
    if again.cluster.state_hash() == state { Ok(true) } else { Err("another state once it was opened".to_owned()) }
}

#[test]
fn a_start_on_damaged_files_is_refused_and_changes_nothing_or_loses_nothing() {
    let pristine = Pristine::make();
    assert_eq!(judge(pristine.copy().path(), pristine.state), Ok(true), "without damage");
    let (mut wrong, mut refused, mut tried) = (Vec::new(), 0, 0);
    for file in pristine.files() {
        let name = file.to_string_lossy().into_owned();
        let bytes = fs::read(pristine.dir.path().join(&file)).unwrap();
        for at in boundaries(&name, &bytes) {
            for (number, damaged) in damages(&bytes, at).into_iter().enumerate() {
                let copy = pristine.copy();
                fs::write(copy.path().join(&file), damaged).unwrap();
                tried += 1;
                match judge(copy.path(), pristine.state) {
                    Ok(goes_on) => refused += usize::from(!goes_on),
                    Err(why) => wrong.push(format!("{name} at {at} ({number}): {why}")),
                }
            }
        }
    }
    println!("{tried} damages, {refused} refused");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 20 && refused < tried, "{refused} of {tried} were refused");
}

/// The tables that contain checkpoints.
fn checkpoint_tables(dir: &Path) -> Vec<PathBuf> {
    let log = state_dir::log(dir);
    let store = RocksStore::open_read_only(&log).unwrap();
    store.disk.files_of(Table::Checkpoint).into_iter().map(|name| log.join("log").join(name)).collect()
}

#[test]
fn a_bit_turned_in_a_table_of_checkpoints_costs_only_time() {
    let pristine = Pristine::make();
    let tables = checkpoint_tables(pristine.dir.path());
    assert!(!tables.is_empty(), "checkpoints are in tables");
    for table in tables {
        let table = table.strip_prefix(pristine.dir.path()).unwrap();
        let bytes = fs::read(pristine.dir.path().join(table)).unwrap();
        let places = (0..PLACES_MAX).map(|part| bytes.len() * part / PLACES_MAX);
        // The end of a table locates everything in it.
        for at in places.chain((1..8).map(|back| bytes.len() - back * 8)) {
            let copy = pristine.copy();
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(copy.path().join(table), damaged).unwrap();
            assert_eq!(judge(copy.path(), pristine.state), Ok(true), "{} at {at}", table.display());
        }
    }
}

#[test]
fn damage_found_by_a_compaction_is_reported_and_discarded_if_it_is_in_a_checkpoint() {
    for table in [Table::Checkpoint, Table::History] {
        let pristine = Pristine::make();
        let log = state_dir::log(pristine.dir.path());
        let store = RocksStore::open_read_only(&log).unwrap();
        let files: Vec<_> = store.disk.files_of(table).iter().map(|name| log.join("log").join(name)).collect();
        drop(store);
        let store = RocksStore::open(&log).unwrap();
        let loaded = store.load().unwrap();
        for file in files {
            let mut bytes = fs::read(&file).unwrap();
            bytes[16] ^= 0x10;
            fs::write(&file, bytes).unwrap();
        }
        store.disk.compact(table);
        let ended = store.append(Vec::new(), Some(loaded.hard_state), true).unwrap_err();
        assert!(matches!(&ended, LogError::Corrupt { table: reported, .. } if *reported == table), "{ended}");
        drop(store);
        let again = judge(pristine.dir.path(), pristine.state);
        assert_eq!(again, Ok(table == Table::Checkpoint), "{table}");
        let expected = if table == Table::Checkpoint { "start swarmd again" } else { "restore the directory" };
        assert!(ended.hint().contains(expected), "{}", ended.hint());
    }
}
