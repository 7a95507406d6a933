//! What needs old history once it is archived: a start without checkpoints, a state of the past, a manager that joins. If the
//! archive is present, all of them work as before; if it is missing, each of them reports that, and everything that does not need
//! it continues.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use commands::SecretText;
use events::{ClusterSpec, Timestamp};

use super::tests::{ask, lead};
use super::*;
use crate::log::disk::{Change, Disk, Durability, Key};
use crate::log::{Archived, MemoryDisk, MemoryStore, PageSize, tree};
use crate::manager::archiver::archive_next;
use crate::manager::indexer::add_segment;
use crate::manager::past::{Past, PastError};
use crate::manager::replica::HistoryAsked;

/// Commands that yield one whole archive, and as much history after it as a start verifies.
const COMMANDS: u64 = 4_800;

/// A disk whose oldest history is archived, and the hashes of the states at that time.
struct Machine {
    disk: MemoryDisk,
    dir: tempfile::TempDir,
    now: [u8; 16],
    early: [u8; 16],
    archived: Archived,
}

/// An hour, after which history is old.
const KEEP_NS: u64 = 3_600_000_000_000;
/// An index inside the archive.
const EARLY: u64 = 1_000;

impl Machine {
    fn make() -> Self {
        let (disk, dir) = (MemoryDisk::default(), tempfile::tempdir().unwrap());
        let store: Arc<dyn LogStore> =
            Arc::new(MemoryStore::open(&disk).unwrap().with_archives(Some(dir.path().to_owned())));
        let mut leader = lead(&store, COMMANDS);
        let spec = ClusterSpec { history_keep_ns: Some(KEEP_NS), ..ClusterSpec::default() };
        let archive_key = Some(SecretText(STANDARD.encode([7; 32])));
        let update = commands::UpdateCluster { spec, version: None, unlock_key: None, archive_key };
        ask(&mut leader, &store, COMMANDS + 1, Command::UpdateCluster(update));
        while add_segment(&*store).unwrap() {}
        while let Some((reach, leaves)) = tree::next_tile(&*store).unwrap() {
            store.save_tile(reach, &leaves).unwrap();
        }
        let early = at(&store, EARLY).unwrap();
        assert_eq!(archive_next(&*store, leader.cluster()).unwrap(), None, "nothing is old yet");
        // An hour later by the log's time.
        let mut cluster = leader.cluster().clone();
        cluster.position.time = Timestamp::from_unix_ns(cluster.position.time.unix_ns() + KEEP_NS as i64);
        let archived = archive_next(&*store, &cluster).unwrap().expect("a range is old enough");
        assert_eq!(archive_next(&*store, &cluster).unwrap(), None, "the rest may be needed by a start");
        Self { disk, dir, now: leader.cluster().state_hash(), early, archived }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(self.archived.file_name())
    }

    fn open(&self) -> Arc<dyn LogStore> {
        let store = MemoryStore::open(&self.disk).unwrap().with_archives(Some(self.dir.path().to_owned()));
        Arc::new(store)
    }

    /// Starts on this disk: the hash of the state, or why the start is refused.
    fn start(&self) -> Result<[u8; 16], Failure> {
        let store = self.open();
        let loaded = store.load().unwrap();
        fold(&*store, &loaded).map(|folded| folded.cluster.state_hash())
    }

    fn lose_checkpoints(&self) {
        let all = Change::DeleteRange { table: Table::Checkpoint, from: Key::MIN, to: Key::MAX };
        self.disk.write(vec![all], Durability::Synced).unwrap();
    }
}

/// The hash of the state after the frame at an index.
fn at(store: &Arc<dyn LogStore>, index: u64) -> Result<[u8; 16], PastError> {
    Past::of(Arc::clone(store)).at(index, &|| false).map(|past| past.published.cluster.state_hash())
}

#[test]
fn old_history_is_read_from_its_archive_or_the_missing_one_is_reported() {
    let machine = Machine::make();
    let elsewhere = machine.file().with_extension("elsewhere");
    let size = PageSize { frames: 100, bytes: usize::MAX };
    let joiner = HistoryAsked { peer: 2, after: None, to: u64::MAX };
    let missing = format!("were archived in {}, which is missing", machine.file().display());
    assert_eq!(machine.start().unwrap(), machine.now);
    // Without the file: a start has its checkpoints, and the present needs no archive.
    std::fs::rename(machine.file(), &elsewhere).unwrap();
    assert_eq!(machine.start().unwrap(), machine.now);
    let store = machine.open();
    store.load().unwrap();
    let newest = store.checkpoint_before(u64::MAX).unwrap().expect("a checkpoint");
    assert_ne!(at(&store, newest).unwrap(), machine.early, "the states since then need no archive");
    machine.lose_checkpoints();
    for refused in [
        at(&store, EARLY).unwrap_err().to_string(),
        joiner.answer(&*store, size).unwrap_err().to_string(),
        machine.start().unwrap_err().sentence,
    ] {
        assert!(refused.contains(&missing), "{refused}");
    }
    assert!(machine.start().unwrap_err().hint.contains("--history-archive"));
    // With it, everything works.
    std::fs::rename(&elsewhere, machine.file()).unwrap();
    assert_eq!(at(&store, EARLY).unwrap(), machine.early);
    assert_eq!(machine.start().unwrap(), machine.now, "folded from all of history");
    let page = joiner.answer(&*store, size).unwrap();
    assert!(matches!(page, PeerMessage::History { frames, .. } if !frames.is_empty()));
}
