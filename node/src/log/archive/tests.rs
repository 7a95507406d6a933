//! Archives on both kinds of disk: archived history reads as before, the next attempt completes an interrupted one, and missing
//! or damaged files are reported.

use std::os::unix::fs::symlink;

use events::VolatilePayload;
use tempfile::TempDir;

use super::super::fixtures::{Machine, Other, apply_secrets, fill};
use super::super::{
    CheckpointHead, Crash, HistoryReader, MemoryDisk, MemoryStore, PageSize, ResealPosition, RocksStore, Scrub,
    Scrubbed, SegmentIndex, frame_at, tree, verify_all,
};
use super::*;
use crate::security::{KeyLock, UnlockKey};

/// The end of the log in these tests: two whole ranges can be archived.
const TO: u64 = 11_000;

/// A manager with a directory for archives.
struct Shelf {
    log: Log,
    dir: TempDir,
}

enum Log {
    Memory(MemoryDisk),
    Rocks(TempDir),
}

impl Machine for Shelf {
    fn try_open(&self) -> Result<Arc<dyn LogStore>, LogError> {
        let dir = Some(self.dir.path().to_owned());
        Ok(match &self.log {
            Log::Memory(disk) => Arc::new(MemoryStore::open(disk)?.with_archives(dir)),
            Log::Rocks(log) => Arc::new(RocksStore::open(log.path())?.with_archives(dir)),
        })
    }

    fn tamper(&self, change: &dyn Fn(&dyn Disk) -> super::super::disk::Batch) {
        let Log::Memory(disk) = &self.log else { panic!("only a disk in memory is tampered with") };
        disk.write(change(disk), Durability::Synced).unwrap();
    }
}

impl Shelf {
    fn new(log: Log) -> Self {
        Self { log, dir: tempfile::tempdir().unwrap() }
    }

    fn in_memory() -> Self {
        Self::new(Log::Memory(MemoryDisk::default()))
    }

    fn disk(&self) -> &MemoryDisk {
        let Log::Memory(disk) = &self.log else { panic!("it is in memory") };
        disk
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A log with two ranges that can be archived.
    fn filled(&self) -> Arc<dyn LogStore> {
        let store = self.start();
        apply_secrets(&*store, vec![VolatilePayload::keep(format!("{ARCHIVE_KEY}7"), STANDARD.encode([7; 32]))]);
        fill(&*store, TO);
        for index in [TO - 20, TO - 10] {
            let head = CheckpointHead { index, term: 1, frame_hash: [0; 32] };
            store.save_checkpoint(head, &mut std::iter::once(b"a state".to_vec())).unwrap();
        }
        store.compact(TO - 20).unwrap();
        while let Some(segment) = store.segment_to_index().unwrap() {
            store.save_index(&segment, SegmentIndex::default()).unwrap();
        }
        while let Some((reach, leaves)) = tree::next_tile(&*store).unwrap() {
            store.save_tile(reach, &leaves).unwrap();
        }
        store
    }
}

fn archive_all(store: &dyn LogStore) -> Vec<Archived> {
    std::iter::from_fn(|| store.archivable().unwrap().map(|range| store.archive(range).unwrap())).collect()
}

fn all(store: &dyn LogStore) -> Vec<(u64, Bytes)> {
    let mut frames = Vec::new();
    let keep = |index: u64, stored: &[u8]| {
        frames.push((index, Bytes::copy_from_slice(stored)));
        Ok::<(), LogError>(())
    };
    verify_all(store, keep).unwrap();
    frames
}

#[test]
fn what_was_archived_reads_as_before() {
    for log in [Log::Memory(MemoryDisk::default()), Log::Rocks(tempfile::tempdir().unwrap())] {
        let shelf = Shelf::new(log);
        let store = shelf.filled();
        let (before, root) = (all(&*store), tree::TreeReader::open(&*store).unwrap().size());
        let table_before = store.table_bytes(Table::History).unwrap();
        let archived = archive_all(&*store);
        let bounds: Vec<_> = archived.iter().map(|archived| (archived.start, archived.last.index)).collect();
        assert_eq!((bounds, archived[0].frames), (vec![(0, 4_095), (4_096, 8_191)], 4_094));
        assert_eq!((store.archives().unwrap(), store.archivable().unwrap()), (archived.clone(), None));
        assert_eq!(shelf.files(), archived.iter().map(Archived::file_name).collect::<Vec<_>>());
        assert!(archived.iter().all(|archived| archived.file_bytes < archived.bytes), "they are compressed");
        let check = |store: &dyn LogStore| {
            assert!(all(store) == before, "each frame is what it was");
            for index in [0, 1, 2, 3, 4_095, 4_096, 4_097, 5_000, 8_191, 8_192, 8_193, TO - 1, TO] {
                let expected = before.iter().rfind(|(before, _)| *before < index);
                assert_eq!(store.frame_before(index).unwrap().as_ref(), expected, "before {index}");
                let expected = before.iter().find(|(at, _)| *at == index).map(|(_, stored)| stored.clone());
                assert_eq!(frame_at(store, index).unwrap(), expected, "at {index}");
                let page = PageSize { frames: 3, bytes: usize::MAX };
                let page = HistoryReader::starting_at(index).page(store, u64::MAX, page).unwrap();
                let first = before.iter().find(|(at, _)| *at >= index);
                assert_eq!(page.first(), first, "from {index}");
            }
            let in_bytes = store.history(3, usize::MAX, 500).unwrap();
            assert!((1..10).contains(&in_bytes.len()), "{} frames of 500 bytes in all", in_bytes.len());
        };
        check(&*store);
        assert!(store.table_bytes(Table::History).unwrap() < table_before, "the database gives room back");
        drop(store);
        // A start needs none of them; and a change of the unlock key does not affect them.
        let store = shelf.open();
        assert_eq!(store.load().unwrap().last_frame.unwrap().index, TO - 1);
        check(&*store);
        assert_eq!(tree::TreeReader::open(&*store).unwrap().size(), root);
    }
}

#[test]
fn another_unlock_key_leaves_archives_readable() {
    let shelf = Shelf::new(Log::Rocks(tempfile::tempdir().unwrap()));
    let store = shelf.filled();
    archive_all(&*store);
    let before = all(&*store);
    drop(store);
    let Log::Rocks(log) = &shelf.log else { panic!("it is on RocksDB") };
    let open = |lock: &KeyLock| {
        let store = RocksStore::open_with(log.path(), Default::default(), lock).unwrap();
        let store = store.with_archives(Some(shelf.dir.path().to_owned()));
        store.load().unwrap();
        store
    };
    let store = open(&KeyLock::default());
    let (file, unlock) = (store.key_file(log.path()), UnlockKey::generate().unwrap());
    file.rewrap(None, Some(&unlock)).unwrap();
    let mut at = Some(ResealPosition::default());
    while let Some(position) = at {
        at = store.reseal(position).unwrap();
    }
    store.purge().unwrap();
    file.destroy_older(Some(&unlock)).unwrap();
    drop((store, file));
    let lock = KeyLock::default();
    lock.set(Some(unlock));
    let store = open(&lock);
    assert_eq!(store.archives().unwrap().len(), 2);
    assert!(all(&store) == before);
}

#[test]
fn only_what_no_start_needs_may_be_archived() {
    let shelf = Shelf::in_memory();
    let store = shelf.start();
    fill(&*store, TO);
    assert_eq!(store.archivable().unwrap(), None, "raft entries and checkpoints do not reach past it");
    let store = Shelf::in_memory().filled();
    assert_eq!(store.archivable().unwrap(), Some(0..RANGE));
    store.discard_index().unwrap();
    assert_eq!(store.archivable().unwrap(), None, "the index would need the archive to be made");
    let refused = store.archive(RANGE..2 * RANGE).unwrap_err();
    assert!(matches!(refused, LogError::OutOfOrder { index: RANGE, .. }), "{refused}");
}

#[test]
fn a_crash_at_any_write_loses_nothing_and_the_next_attempt_finishes() {
    for crash in [Crash::Killed, Crash::PowerCut { kept_writes: 0 }] {
        for writes in 0.. {
            let shelf = Shelf::in_memory();
            let store = shelf.filled();
            let before = all(&*store);
            store.sync().unwrap();
            shelf.disk().fail_after(writes);
            let archived = store.archive(0..RANGE);
            drop(store);
            shelf.disk().crash(crash);
            let store = shelf.start();
            assert!(all(&*store) == before, "{crash:?} after {writes} writes");
            // If the file already exists, it is used.
            assert_eq!(archive_all(&*store).len(), if archived.is_ok() { 1 } else { 2 });
            assert!(all(&*store) == before);
            if archived.is_ok() {
                assert_eq!(writes, 1, "record and removal are one write");
                break;
            }
        }
    }
}

#[test]
fn a_file_that_was_cut_short_is_made_again() {
    let shelf = Shelf::in_memory();
    let store = shelf.filled();
    let name = archive_all(&*Shelf::in_memory().filled())[0].file_name();
    let path = shelf.dir.path().join(&name);
    std::fs::write(path.with_extension("archive.new"), b"half of it").unwrap();
    std::fs::write(&path, b"swarmlog arch. 1 and nothing else").unwrap();
    let before = all(&*store);
    assert_eq!(archive_all(&*store)[0].file_name(), name);
    assert!(all(&*store) == before);
    assert_eq!(shelf.files().len(), 2, "{:?}", shelf.files());
}

#[test]
fn obstacles_are_reported_and_nothing_is_moved() {
    let shelf = Shelf::in_memory();
    let store = shelf.filled();
    let before = all(&*store);
    let name = archive_all(&*Shelf::in_memory().filled())[0].file_name();
    // A full disk.
    let aside = shelf.dir.path().join(&name).with_extension("archive.new");
    symlink("/dev/full", &aside).unwrap();
    let refused = store.archive(0..RANGE).unwrap_err();
    assert!(refused.to_string().starts_with("cannot write the archive") && refused.is_of_an_archive(), "{refused}");
    assert!(refused.to_string().contains("No space left"), "{refused}");
    assert!(!aside.is_symlink(), "what is not finished is given up");
    drop(store);
    // A directory that was removed, none, and no key.
    let open = |dir: Option<PathBuf>| {
        let store = MemoryStore::open(shelf.disk()).unwrap().with_archives(dir);
        store.load().unwrap();
        store
    };
    let refused = open(Some(shelf.dir.path().join("gone"))).archive(0..RANGE).unwrap_err();
    assert!(matches!(refused, LogError::Archive { action: "write", .. }), "{refused}");
    let refused = open(None).archive(0..RANGE).unwrap_err();
    assert!(matches!(refused, LogError::NoArchiveDir), "{refused}");
    let store = open(Some(shelf.dir.path().to_owned()));
    let key = format!("{ARCHIVE_KEY}7");
    store.disk.write(vec![store.change_secret(&VolatilePayload::destroy(key)).unwrap()], Durability::Synced).unwrap();
    let refused = store.archive(0..RANGE).unwrap_err();
    assert!(matches!(refused, LogError::NoArchiveKey) && refused.hint().contains("--history-keep"), "{refused}");
    assert!(all(&store) == before && store.archives().unwrap().is_empty());
}

#[test]
fn missing_archives_are_reported_and_the_rest_can_be_read() {
    let shelf = Shelf::in_memory();
    let store = shelf.filled();
    let archived = archive_all(&*store);
    let path = shelf.dir.path().join(archived[0].file_name());
    let elsewhere = shelf.dir.path().join("elsewhere");
    std::fs::rename(&path, &elsewhere).unwrap();
    let refused = verify_all::<LogError>(&*store, |_, _| Ok(())).unwrap_err();
    assert!(matches!(refused, LogError::ArchiveAbsent { start: 0, .. }), "{refused}");
    assert_eq!(refused.to_string(), format!("frames 0 to 4095 were archived in {}, which is missing", path.display()));
    assert!(HistoryReader::starting_at(RANGE).page(&*store, u64::MAX, PageSize::WHOLE_HISTORY).is_ok());
    // The verification skips it, and resumes the chain after it.
    let mut scrub = Scrub::begin(Default::default(), None);
    assert!(matches!(scrub.step(&*store), Scrubbed::Absent(_)));
    assert!(matches!(scrub.step(&*store), Scrubbed::Intact(_)));
    std::fs::rename(&elsewhere, &path).unwrap();
    assert!(verify_all::<LogError>(&*store, |_, _| Ok(())).is_ok(), "it is read again once it is back");
}

#[test]
fn every_flipped_bit_and_every_cut_shows() {
    let shelf = Shelf::in_memory();
    let store = shelf.filled();
    let path = shelf.dir.path().join(archive_all(&*store)[0].file_name());
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 97).chain(whole.len() - 30..whole.len()) {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        for stored in [damaged, whole[..at].to_vec()] {
            std::fs::write(&path, &stored).unwrap();
            let found = verify_all::<LogError>(&*store, |_, _| Ok(())).unwrap_err();
            assert!(matches!(found, LogError::ArchiveDamaged { start: 0, .. }) && found.is_damage(), "{at}: {found}");
        }
    }
    // The file of another range, under this name.
    std::fs::copy(shelf.dir.path().join(store.archives().unwrap()[1].file_name()), &path).unwrap();
    assert!(matches!(verify_all::<LogError>(&*store, |_, _| Ok(())), Err(LogError::ArchiveDamaged { .. })));
}

#[test]
fn a_damaged_archive_is_made_again_of_what_another_manager_has() {
    let shelf = Shelf::in_memory();
    let store = shelf.filled();
    let path = shelf.dir.path().join(archive_all(&*store)[0].file_name());
    let flip = || {
        let mut stored = std::fs::read(&path).unwrap();
        stored[5_000] ^= 1;
        std::fs::write(&path, stored).unwrap();
    };
    flip();
    let mut scrub = Scrub::begin(Default::default(), None);
    let Scrubbed::Found(damage) = scrub.step(&*store) else { panic!("it is damaged") };
    // One that is behind is of no use; and the damaged file is kept.
    let behind = Shelf::in_memory().start();
    fill(&*behind, 100);
    assert!(scrub.clone().heal(&*store, &damage, &Other(behind)).is_err());
    assert_eq!(shelf.files().len(), 2, "{:?}", shelf.files());
    let whole = Shelf::in_memory().filled();
    let healed = scrub.heal(&*store, &damage, &Other(whole)).unwrap();
    assert_eq!((healed.first, healed.last, healed.frames), (0, 4_095, 4_094));
    assert!(verify_all::<LogError>(&*store, |_, _| Ok(())).is_ok());
    // If no manager can help, the pass continues after it.
    flip();
    let mut scrub = Scrub::begin(Default::default(), None);
    let Scrubbed::Found(damage) = scrub.step(&*store) else { panic!("it is damaged") };
    scrub.skip_damage(&*store, &damage);
    assert_eq!(scrub.progress().last_pass(), None);
    assert!(matches!(scrub.step(&*store), Scrubbed::Intact(_)));
}

#[test]
fn frames_in_archives_are_redacted_where_they_are() {
    for log in [Log::Memory(MemoryDisk::default()), Log::Rocks(tempfile::tempdir().unwrap())] {
        let shelf = Shelf::new(log);
        let store = shelf.filled();
        let (before, archived) = (all(&*store), archive_all(&*store));
        // In each of the archives, the last frame of one, which history holds as well, and one after them.
        let indexes = [7, 4_095, 5_000, TO - 5];
        let redacted = |index: u64, stored: &Bytes| -> Result<Bytes, LogError> {
            let hashes = [&[0x7a, 68, 0x0a, 32][..], &frame::hash(stored), &[0x12, 32], &frame::leaf(stored)].concat();
            let plain = if events::redaction::original(stored).is_some() { &stored[70..] } else { &stored[..] };
            let header = plain[..plain.len() - 100].to_vec();
            assert!(indexes.contains(&index));
            Ok([hashes, header, vec![b'-'; 100]].concat().into())
        };
        let of = |index: u64| before.iter().find(|(at, _)| *at == index).map(|(_, stored)| stored.clone()).unwrap();
        let announced = |index: u64| events::redaction::sha256(&redacted(index, &of(index)).unwrap());
        store.permit(&indexes.map(|index| (index, vec![announced(index)])).into()).unwrap();
        let redact = |_| {
            let in_database = store.redact_history(&indexes, &mut { redacted }).unwrap();
            in_database + store.redact_archives(&indexes, &mut { redacted }).unwrap()
        };
        // An unreachable archive does not block the others: the frame of the second one is redacted.
        let file = |name: &str| shelf.dir.path().join(name);
        let (first, away) = (file(&archived[0].file_name()), file("away"));
        std::fs::rename(&first, &away).unwrap();
        assert!(matches!(
            store.redact_archives(&indexes, &mut { redacted }),
            Err(LogError::ArchiveAbsent { start: 0, .. })
        ));
        std::fs::rename(&away, &first).unwrap();
        assert_eq!([1, 2].map(redact), [indexes.len() as u64, 0], "once is enough");
        assert_eq!(shelf.files(), archived.iter().map(Archived::file_name).collect::<Vec<_>>());
        drop(store);
        let store = shelf.start();
        let after = all(&*store);
        let changed: Vec<u64> =
            after.iter().zip(&before).filter(|(one, other)| one != other).map(|(one, _)| one.0).collect();
        assert_eq!(changed, indexes);
        for index in indexes {
            assert_eq!(frame_at(&*store, index).unwrap(), Some(redacted(index, &of(index)).unwrap()), "at {index}");
        }
        // An archive that another manager redacted is refused until this one has seen the announcement.
        let elsewhere = Shelf { log: Log::Memory(MemoryDisk::default()), dir: tempfile::tempdir().unwrap() };
        let other = elsewhere.filled();
        archive_all(&*other);
        for name in shelf.files() {
            std::fs::copy(shelf.dir.path().join(&name), elsewhere.dir.path().join(&name)).unwrap();
        }
        assert!(matches!(frame_at(&*other, 7), Err(LogError::ArchiveDamaged { start: 0, .. })));
        other.permit(&indexes.map(|index| (index, vec![announced(index)])).into()).unwrap();
        assert!(frame_at(&*other, 7).unwrap().is_some());
    }
}
