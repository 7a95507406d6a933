//! A value on both kinds of disk: erased wherever the log held it, in whatever order that happens.

use events::codec;
use events::redaction::{Field, digest, redact};
use events::{
    Annotations, ContainerSpec, Event, Frame, FrameHeader, HistoryRedacted, Kind, Reconciler, RedactedBytes,
    ServiceCreated, ServiceId, ServiceSpec, ServiceSpecUpdated, StateHashRecorded, TaskSpec, UpdateCompleted,
};
use projections::{Cluster, FOLD_VERSION, snapshot};

use super::super::disk::place;
use super::super::fixtures::{MemoryMachine, entry};
use super::super::{
    AppliedFrame, CheckpointHead, Crash, FrameLink, LogStore, Membership, MemoryDisk, MemoryStore, RocksStore,
    frame_at, verify_all,
};
use super::*;
use crate::manager::fold::Folded;
use crate::manager::redactor::{Erased, erase};

const SERVICE: ServiceId = ServiceId::MAX;
const PASSWORD: &str = "correct horse battery staple";
/// The frame that introduced the value, and the one that announces its erasure.
const GIVEN: u64 = 3;
const ANNOUNCED: u64 = 9;

fn field() -> Field {
    Field::Env("PASSWORD".to_owned())
}

fn spec(password: &str) -> ServiceSpec {
    let container = ContainerSpec { env: vec![format!("PASSWORD={password}")], ..ContainerSpec::default() };
    let task = Some(TaskSpec { container: Some(container), ..TaskSpec::default() });
    let annotations = Some(Annotations { name: "web".to_owned(), ..Annotations::default() });
    ServiceSpec { annotations, task, ..ServiceSpec::default() }
}

/// A log, its state, and the bytes of the frame that introduced the value.
struct Log<S> {
    store: S,
    folded: Folded,
    given: Bytes,
}

impl<D: Disk> Log<Store<D>> {
    /// A log whose raft entries, history and checkpoints contain a value to erase.
    fn with_value(store: Store<D>) -> Self {
        store.load().unwrap();
        store.initialize(&Membership::single(1)).unwrap();
        let mut log = Self { store, folded: Folded::default(), given: Bytes::new() };
        let update = |value| {
            let updated = ServiceSpecUpdated { service: SERVICE, spec: spec(value), ..Default::default() };
            let completed = UpdateCompleted { service: SERVICE, rollback: None };
            vec![Kind::ServiceSpecUpdated(Box::new(updated)), Kind::UpdateCompleted(completed)]
        };
        log.add(Vec::new());
        let created = ServiceCreated { service: SERVICE, spec: spec(PASSWORD) };
        log.add(vec![Kind::ServiceCreated(Box::new(created))]);
        log.given = log.store.history(GIVEN, 1, 1).unwrap().remove(0).1;
        log.save_checkpoint();
        log.add(update("another"));
        log.save_checkpoint();
        log.add(update("a third"));
        log.add(Vec::new());
        log.save_checkpoint();
        log.record_hash();
        log.add(Vec::new());
        let digest = digest(&[7; 32]);
        let sha256 = redaction::sha256(&redact(&log.given, SERVICE, &field(), &digest).unwrap()).to_vec();
        let frames = vec![RedactedBytes { index: GIVEN, sha256 }];
        let redacted =
            HistoryRedacted { service: SERVICE, field: field().to_string(), digest, frames, revisions: vec![] };
        log.add(vec![Kind::HistoryRedacted(redacted)]);
        log.store.sync().unwrap();
        log
    }

    fn record_hash(&mut self) {
        let (at_index, hash) = (self.folded.cluster.position.index, self.folded.cluster.state_hash().to_vec());
        self.add(vec![Kind::StateHashRecorded(StateHashRecorded { at_index, hash, fold_version: Some(FOLD_VERSION) })]);
    }

    fn add(&mut self, kinds: Vec<Kind>) {
        let index = self.store.last_index() + 1;
        let previous_hash = self.folded.last_hash.map(Vec::from).unwrap_or_default();
        let header =
            FrameHeader { format: 1, feature_level: 1, index, previous_hash, term: 1, ..FrameHeader::default() };
        let events = kinds.into_iter().map(|kind| Event::by_reconciler(Reconciler::Replicated, kind)).collect();
        let carried = Bytes::from(codec::encode_entry(&Frame { header, commands: Vec::new(), events }, Vec::new()));
        let raft = super::super::Entry { payload: carried.clone(), ..entry(index, 1, "") };
        self.store.append(vec![raft], None, true).unwrap();
        let (frame, _) = self.folded.fold_entry(index, &carried).unwrap();
        self.store.apply(&[frame], index).unwrap();
    }

    fn save_checkpoint(&self) -> u64 {
        let end = self.folded.end().unwrap();
        let head = CheckpointHead { index: end.index, term: 1, frame_hash: end.hash };
        self.store.save_checkpoint(head, &mut snapshot::chunks(&self.folded.cluster)).unwrap();
        end.index
    }

    /// What the replica does when a checkpoint is due.
    fn checkpoint(&self) {
        let index = self.save_checkpoint();
        self.store.compact_redacted(index, self.folded.cluster.redacted_at()).unwrap();
    }

    /// The tables that contain the value.
    fn tables_with_value(&self) -> Vec<Table> {
        let has_it = |table: &Table| {
            let mut found = false;
            let mut look = |key, sealed| {
                let stored = self.store.seal.open(&place(*table, key), sealed).unwrap();
                found |= stored.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes());
                Ok(ControlFlow::Continue(()))
            };
            self.store.disk.scan(*table, Key::MIN, Key::MAX, &mut look).unwrap();
            found
        };
        Table::ALL.into_iter().filter(has_it).collect()
    }

    /// The state that a start folds from the log, from its first frame and as a start usually does.
    fn makes(&self) -> Cluster {
        let mut whole = Folded::default();
        whole.fold_history(&self.store, |_, _| {}).unwrap();
        let started = crate::manager::core::fold(&self.store, &self.store.load().unwrap()).unwrap();
        assert_eq!(started.cluster.state_hash(), whole.cluster.state_hash());
        assert!(started.unannounced.is_empty() && whole.unannounced.is_empty());
        whole.cluster
    }
}

#[test]
fn a_value_goes_from_every_table_and_the_state_stays() {
    fn check<D: Disk>(log: Log<Store<D>>) {
        assert_eq!(log.tables_with_value(), [Table::Raft, Table::History, Table::Checkpoint]);
        assert_eq!(erase(&log.store, &log.folded.cluster).unwrap(), Erased::InHistory);
        assert_eq!(log.tables_with_value(), [Table::Raft, Table::Checkpoint]);
        assert_eq!(log.makes().state_hash(), log.folded.cluster.state_hash());
        log.checkpoint();
        assert_eq!(log.tables_with_value(), [Table::Checkpoint]);
        assert_eq!(erase(&log.store, &log.folded.cluster).unwrap(), Erased::All { frames: 1 });
        assert_eq!(log.tables_with_value(), []);
        assert_eq!(erase(&log.store, &log.folded.cluster).unwrap(), Erased::Nothing);
        assert_eq!(log.makes().state_hash(), log.folded.cluster.state_hash());
        let verified = verify_all(&log.store, |_, _| Ok::<(), LogError>(())).unwrap();
        assert_eq!(verified.last, log.folded.end());
        let frame = codec::decode_frame(&frame_at(&log.store, GIVEN).unwrap().unwrap()).unwrap();
        let (_, spec) = codec::kinds(&frame).find_map(redaction::spec_set_by).unwrap();
        assert_eq!(field().value(spec), Some(digest(&[7; 32])));
        // Raft's log begins right after the announcement.
        assert_eq!(log.store.first_index(), ANNOUNCED + 1);
    }
    check(Log::with_value(MemoryStore::open(&MemoryDisk::default()).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    check(Log::with_value(RocksStore::open(dir.path()).unwrap()));
}

#[test]
fn nothing_of_it_is_left_in_the_files_of_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::with_value(RocksStore::open(dir.path()).unwrap());
    // Sealed values look random: the sealed bytes themselves must be gone.
    let sealed = |table, key| log.store.disk.get(table, key).unwrap().expect("a value");
    let noise = [
        sealed(Table::History, Key::at(GIVEN)),
        sealed(Table::Raft, Key::at(GIVEN)),
        sealed(Table::Checkpoint, Key { index: GIVEN, part: 1 }),
    ];
    let left = || {
        let files = std::fs::read_dir(dir.path().join("log"))
            .unwrap()
            .map(|file| file.unwrap().path())
            .filter(|path| path.is_file());
        let files: Vec<Vec<u8>> = files.map(|path| std::fs::read(path).unwrap()).collect();
        let is_left = |noise: &&Vec<u8>| files.iter().any(|file| file.windows(32).any(|window| *window == noise[..32]));
        noise.iter().filter(is_left).count()
    };
    assert_eq!(left(), noise.len(), "a value is found where it is");
    erase(&log.store, &log.folded.cluster).unwrap();
    log.checkpoint();
    assert_eq!(erase(&log.store, &log.folded.cluster).unwrap(), Erased::All { frames: 1 });
    assert_eq!(left(), 0);
}

#[test]
fn what_a_crash_cut_short_is_done_by_the_next_run() {
    let mut ends = 0;
    for writes in 0.. {
        let disk = MemoryDisk::default();
        let log = Log::with_value(MemoryStore::open(&disk).unwrap());
        disk.fail_after(writes);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            erase(&log.store, &log.folded.cluster).unwrap();
            log.checkpoint();
            erase(&log.store, &log.folded.cluster).unwrap()
        }));
        let Log { folded, given, .. } = log;
        disk.crash(Crash::PowerCut { kept_writes: 0 });
        let store = MemoryStore::open(&disk).unwrap();
        store.load().unwrap();
        let log = Log { store, folded, given };
        assert_eq!(log.makes().state_hash(), log.folded.cluster.state_hash(), "after {writes} writes");
        erase(&log.store, &log.folded.cluster).unwrap();
        log.checkpoint();
        erase(&log.store, &log.folded.cluster).unwrap();
        assert_eq!(log.tables_with_value(), [], "after {writes} writes");
        ends += u32::from(done.is_ok());
        if ends > 1 {
            return;
        }
    }
}

#[test]
fn history_takes_no_redacted_frame_without_a_permit_and_no_other_bytes_with_one() {
    let log = Log::with_value(MemoryStore::open(&MemoryDisk::default()).unwrap());
    let (store, redacted) =
        (&log.store, |value: &str| Bytes::from(redact(&log.given, SERVICE, &field(), value).unwrap()));
    let announced = redacted(&digest(&[7; 32]));
    let is_damage = |index| matches!(frame_at(store, index), Err(LogError::Damaged { table: Table::History, .. }));
    assert!(store.takes(GIVEN, &log.given).unwrap() && !store.takes(GIVEN, &announced).unwrap());
    store.repair_history(&[(GIVEN, announced.clone())]).unwrap();
    assert!(is_damage(GIVEN) && store.load().is_err(), "no permit");
    store.permit(&log.folded.cluster.redacted_frames()).unwrap();
    assert_eq!(frame_at(store, GIVEN).unwrap(), Some(announced.clone()));
    assert!(store.takes(GIVEN, &announced).unwrap() && !store.takes(GIVEN, &log.given).unwrap(), "it would come back");
    let forged = redacted("forged");
    assert!(!store.takes(GIVEN, &forged).unwrap());
    store.repair_history(&[(GIVEN, forged)]).unwrap();
    assert!(is_damage(GIVEN), "other bytes");
    // A new frame is never redacted.
    let next = store.last_index() + 1;
    store.append(vec![entry(next, 1, "")], None, true).unwrap();
    let refused = store.stage_apply(vec![AppliedFrame { index: next, bytes: announced, secrets: Vec::new() }], next);
    assert!(refused.is_err());
}

#[test]
fn fetched_history_is_redacted_where_it_says_so_itself() {
    let other = Log::with_value(MemoryStore::open(&MemoryDisk::default()).unwrap());
    erase(&other.store, &other.folded.cluster).unwrap();
    let frames = other.store.history(0, usize::MAX, usize::MAX).unwrap();
    let fetch = |permits| {
        let machine = MemoryMachine(MemoryDisk::default());
        let store = MemoryStore::open(&machine.0).unwrap();
        store.load().unwrap();
        store.initialize(&Membership::joining(2)).unwrap();
        store.write(vec![store.stage_fetched(frames.clone()).unwrap()]).unwrap();
        let install = super::super::Install { index: ANNOUNCED, term: 1, secrets: Vec::new(), permits };
        let hard_state = super::super::HardState { term: 1, vote: 0, commit: ANNOUNCED };
        store.write(vec![store.stage_install(install, Vec::new(), Some(hard_state)).unwrap()]).unwrap();
        drop(store);
        let again = MemoryStore::open(&machine.0).unwrap();
        again.load().map(|loaded| (again, loaded.last_frame))
    };
    let (store, last) = fetch(other.folded.cluster.redacted_frames()).unwrap();
    assert_eq!((store.history(0, usize::MAX, usize::MAX).unwrap(), last), (frames.clone(), other.folded.end()));
    assert!(matches!(fetch(Permits::new()), Err(LogError::Damaged { index: GIVEN, .. })));
    let mut folded = Folded::default();
    for (index, stored) in &frames[..frames.len() - 1] {
        folded.fold_frame(*index, stored).unwrap();
    }
    assert_eq!(folded.unannounced.indexes().collect::<Vec<_>>(), [GIVEN]);
    let last: Option<FrameLink> = folded.end();
    assert!(last.is_some_and(|last| last.index == ANNOUNCED - 1));
}
