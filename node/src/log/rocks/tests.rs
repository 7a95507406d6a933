//! Failures that only a real database has: files that are missing, damaged or in use.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use events::VolatilePayload;

use super::RocksStore;
use crate::log::fixtures::{Machine, Other, RocksMachine, entry, fill, frames};
use crate::log::{AppliedFrame, CheckpointHead, HardState, LogError, LogStore, Scrub, Scrubbed, Table, verify_all};

fn machine() -> RocksMachine {
    RocksMachine(tempfile::tempdir().unwrap())
}

/// The write-ahead log that is in use.
fn write_ahead_log(state_dir: &Path) -> PathBuf {
    let files = fs::read_dir(state_dir.join("log")).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.extension().is_some_and(|extension| extension == "log")).max().unwrap()
}

#[test]
fn a_log_in_use_is_refused() {
    let machine = machine();
    let _store = machine.start();
    let refused = machine.try_open().err().unwrap();
    assert!(matches!(refused, LogError::InUse(_)), "{refused}");
}

#[test]
fn a_log_without_its_key_is_refused() {
    let machine = machine();
    drop(machine.start());
    let key = machine.0.path().join("log.key");
    fs::remove_file(&key).unwrap();
    assert!(matches!(machine.try_open(), Err(LogError::KeyMissing(path)) if path == key));
    fs::write(&key, [1; 33]).unwrap();
    assert!(matches!(machine.open().load(), Err(LogError::Damaged { .. })), "another key opens nothing");
}

#[test]
fn a_missing_directory_is_reported() {
    let machine = machine();
    let refused = RocksStore::open(&machine.0.path().join("absent")).err().unwrap();
    assert!(matches!(refused, LogError::File { action: "create", .. }), "{refused}");
    let refused = RocksStore::open_read_only(machine.0.path()).err().unwrap();
    assert!(matches!(refused, LogError::NotInitialized), "{refused}");
}

#[test]
fn history_can_be_read_while_a_manager_writes() {
    let machine = machine();
    let store = machine.start();
    fill(&*store, 100);
    let reader = RocksStore::open_read_only(machine.0.path()).unwrap();
    assert_eq!(verify_all::<LogError>(&reader, |_, _| Ok(())).unwrap().frames, 98);
    let refused = reader.append(vec![entry(1, 1, "change")], None, false);
    assert!(matches!(refused, Err(LogError::Storage { .. })));
}

#[test]
fn a_flipped_bit_in_the_write_ahead_log_does_not_lose_commits_silently() {
    let machine = machine();
    let store = machine.start();
    fill(&*store, 20);
    fill(&*store, 40);
    let path = write_ahead_log(machine.0.path());
    let middle = usize::try_from(fs::metadata(&path).unwrap().len()).unwrap() / 2;
    fill(&*store, 60);
    drop(store);
    let mut stored = fs::read(&path).unwrap();
    stored[middle] ^= 1;
    fs::write(&path, &stored).unwrap();
    // RocksDB reads the log up to the bad record and opens; only the mark shows that there was more.
    let refused =
        RocksStore::open_to_verify(machine.0.path(), &Default::default()).unwrap().unwrap().examine().unwrap_err();
    assert!(matches!(refused, LogError::Shortened { known: 59, .. }), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), stored, "whoever can mend it finds all of it");
    stored[middle] ^= 1;
    fs::write(&path, &stored).unwrap();
    assert_eq!(machine.open().load().unwrap().last_index, 59);
}

#[test]
fn a_write_cut_short_by_a_power_cut_is_dropped() {
    let machine = machine();
    let store = machine.start();
    fill(&*store, 20);
    let path = write_ahead_log(machine.0.path());
    let durable = fs::metadata(&path).unwrap().len();
    store.append(vec![entry(20, 1, "never confirmed")], None, false).unwrap();
    drop(store);
    let stored = fs::read(&path).unwrap();
    for cut in [1, 10, stored.len() - usize::try_from(durable).unwrap() - 1] {
        let copy = tempfile::tempdir().unwrap();
        copy_state(machine.0.path(), copy.path());
        fs::write(write_ahead_log(copy.path()), &stored[..stored.len() - cut]).unwrap();
        let loaded = RocksStore::open(copy.path()).unwrap().load().unwrap();
        assert_eq!((loaded.last_index, loaded.applied, loaded.repaired_from), (19, 19, None));
    }
}

fn copy_state(from: &Path, to: &Path) {
    fs::create_dir(to.join("log")).unwrap();
    for name in ["log.key", "log.mark"] {
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
    for file in fs::read_dir(from.join("log")).unwrap().map(|file| file.unwrap()) {
        fs::copy(file.path(), to.join("log").join(file.file_name())).unwrap();
    }
}

#[test]
fn a_database_that_was_removed_is_missed() {
    let machine = machine();
    let store = machine.start();
    fill(&*store, 20);
    drop(store);
    fs::remove_dir_all(machine.0.path().join("log")).unwrap();
    assert!(matches!(machine.try_open(), Err(LogError::Lost { known: 19, .. })));
    assert!(!machine.0.path().join("log").exists(), "no other takes its place");
}

#[test]
fn a_damaged_database_is_refused_with_a_hint() {
    let machine = machine();
    drop(machine.start());
    fs::write(machine.0.path().join("log/CURRENT"), "garbage").unwrap();
    let refused = machine.try_open().err().unwrap();
    assert!(matches!(refused, LogError::Unreadable { .. }), "{refused}");
    assert!(refused.hint().contains("swarmd replay"));
}

#[test]
fn nothing_on_the_disk_can_be_read_without_the_key() {
    const SECRET: &str = "a word that nobody may read";
    let machine = machine();
    let store = machine.start();
    store.append(vec![entry(2, 1, SECRET)], Some(HardState::default()), true).unwrap();
    let head = CheckpointHead { index: 1, term: 1, frame_hash: [0; 32] };
    store.save_checkpoint(head, &mut std::iter::once(SECRET.into())).unwrap();
    let frame = AppliedFrame { secrets: vec![VolatilePayload::keep(SECRET, SECRET)], ..frames(None, 2, 3).remove(0) };
    store.apply(&[frame], 2).unwrap();
    drop(store);
    for file in fs::read_dir(machine.0.path().join("log")).unwrap().map(|file| file.unwrap().path()) {
        let stored = fs::read(&file).unwrap();
        assert!(!stored.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{}", file.display());
    }
}

#[test]
fn a_database_without_its_first_file_is_not_created_again() {
    let machine = machine();
    fill(&*machine.start(), 20);
    fs::remove_file(machine.0.path().join("log/CURRENT")).unwrap();
    for mark in [true, false] {
        if !mark {
            fs::remove_file(machine.0.path().join("log.mark")).unwrap();
        }
        let refused = machine.try_open().err().unwrap();
        assert!(matches!(&refused, LogError::Unreadable { reason, .. } if reason.contains("CURRENT")), "{refused}");
    }
}

#[test]
fn an_interrupted_first_start_is_repeated() {
    let machine = machine();
    // The key is created first, then the database without all tables, then the mark.
    drop(machine.open());
    fs::remove_dir_all(machine.0.path().join("log")).unwrap();
    fs::remove_file(machine.0.path().join("log.mark")).unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    drop(rocksdb::DB::open(&options, machine.0.path().join("log")).unwrap());
    fill(&*machine.start(), 20);
}

#[test]
fn a_log_without_one_of_its_tables_is_reported() {
    for table in Table::ALL.into_iter().filter(|table| !table.is_cache()) {
        let machine = machine();
        fill(&*machine.start(), 20);
        let path = machine.0.path().join("log");
        let names = || rocksdb::DB::list_cf(&rocksdb::Options::default(), &path).unwrap();
        let mut database = rocksdb::DB::open_cf(&rocksdb::Options::default(), &path, names()).unwrap();
        database.drop_cf(table.name()).unwrap();
        drop(database);
        for refused in [RocksStore::open_read_only(machine.0.path()).err(), RocksStore::open(machine.0.path()).err()] {
            let refused = refused.unwrap();
            assert!(
                matches!(&refused, LogError::TableMissing { table: reported, .. } if *reported == table),
                "{refused}"
            );
            assert!(refused.hint().contains("backup"));
        }
        assert!(!names().iter().any(|name| name == table.name()), "a start that is refused makes no table");
    }
}

/// A log whose history is in several files, none of which the database has opened, and the largest of them.
fn flushed() -> (RocksMachine, PathBuf) {
    let machine = machine();
    for to in [1_500, 3_000, 4_500] {
        // Each start moves what the previous one wrote into tables.
        fill(&*machine.start(), to);
    }
    let disk = RocksStore::open(machine.0.path()).unwrap().disk;
    let file = disk
        .files_of(Table::History)
        .into_iter()
        .max_by_key(|name| fs::metadata(machine.0.path().join("log").join(name)).unwrap().len());
    let path = machine.0.path().join("log").join(file.unwrap());
    (machine, path)
}

#[test]
fn a_damaged_file_of_history_is_healed_while_the_database_is_open() {
    let whole = RocksMachine(tempfile::tempdir().unwrap());
    let other = whole.start();
    fill(&*other, 4_500);
    let (machine, path) = flushed();
    let mut stored = fs::read(&path).unwrap();
    let middle = stored.len() / 3;
    stored[middle] ^= 1;
    fs::write(&path, stored).unwrap();

    let store = RocksStore::open(machine.0.path()).unwrap();
    store.load().unwrap();
    let reported = verify_all::<LogError>(&store, |_, _| Ok(())).unwrap_err();
    assert!(matches!(reported, LogError::Corrupt { table: Table::History, indexes: Some(_), .. }), "{reported}");
    let (mut scrub, mut healed) = (Scrub::begin(events::Timestamp::default(), None), Vec::new());
    while !scrub.is_finished() {
        if let Scrubbed::Found(damage) = scrub.step(&store) {
            healed.push(scrub.heal(&store, &damage, &Other(Arc::clone(&other))).unwrap());
        }
    }
    assert!(healed.len() == 1 && healed[0].frames > 100, "{healed:?}");
    assert_eq!(
        verify_all::<LogError>(&store, |_, _| Ok(())).unwrap(),
        verify_all::<LogError>(&*other, |_, _| Ok(())).unwrap()
    );
    // Neither the database's background work nor the next start reads the file again.
    fill(&store, 4_600);
    store.disk.compact(Table::History);
    fill(&store, 4_700);
    drop(store);
    let store = machine.open();
    assert_eq!(store.load().unwrap().applied, 4_699);
    assert_eq!(verify_all::<LogError>(&*store, |_, _| Ok(())).unwrap().frames, 4_698);
}
