//! How a start reads the disk: with a checkpoint, without one, and with damage.

use std::ops::ControlFlow;

use commands::{InitialiseCluster, SecretText};
use events::{ClusterSpec, NodeDescription, SessionId, Timestamp};
use projections::settings::token_key;
use projections::{FOLD_VERSION, snapshot};

use super::*;
use crate::log::disk::{Change, Disk, Durability, Key};
use crate::log::{CheckpointHead, Crash, MemoryDisk, MemoryStore, write_all};

/// So short that a few frames cause both.
const INTERVALS: Intervals = Intervals { checkpoint_frames: 20, checkpoint_bytes: u64::MAX, hash_frames: 7 };

/// A disk that a manager has used.
struct Machine {
    disk: MemoryDisk,
    store: Arc<dyn LogStore>,
    leader: Replica,
}

impl Machine {
    /// A cluster whose join token was rotated `count` times, one frame each.
    fn with_frames(count: u64) -> Self {
        let disk = MemoryDisk::default();
        let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&disk).unwrap());
        let leader = lead(&store, count);
        Self { disk, store, leader }
    }

    /// Folds the disk as another start would.
    fn start(&self) -> Result<Folded, Failure> {
        self.disk.crash(Crash::Killed);
        let store = MemoryStore::open(&self.disk).unwrap();
        let loaded = store.load()?;
        fold(&store, &loaded)
    }

    /// The same, and asserts that every part of the state equals that of the manager.
    fn starts_the_same(&self) -> Folded {
        let folded = self.start().unwrap();
        assert_eq!(folded.cluster.state_hash(), self.leader.cluster().state_hash());
        assert!(snapshot::chunks(&folded.cluster).eq(snapshot::chunks(self.leader.cluster())));
        assert_eq!(folded.keyring, *self.leader.keyring());
        assert_eq!(folded.last_hash, self.store.applied().unwrap().frame.map(|frame| frame.hash));
        let faults = projections::check::check(&folded.cluster);
        assert!(faults.is_empty(), "{faults:?}");
        for number in 1..=10 {
            let actor = actor(number).record(Some(node()));
            let answer = |cluster: &Cluster| cluster.requests.answer(&actor, CommandId::from_bits(number.into()));
            assert!(answer(&folded.cluster).is_some(), "command {number} is remembered");
            assert_eq!(answer(&folded.cluster), answer(self.leader.cluster()));
        }
        folded
    }

    fn change(&self, batch: Vec<Change>) {
        self.disk.write(batch, Durability::Synced).unwrap();
    }

    /// Flips a bit of each value in a range of keys.
    fn damage(&self, table: Table, from: Key, to: Key) {
        let mut batch = Vec::new();
        let mut turn = |key, mut value: Vec<u8>| {
            let middle = value.len() / 2;
            value[middle] ^= 1;
            batch.push(Change::Put { table, key, value });
            Ok(ControlFlow::Continue(()))
        };
        self.disk.scan(table, from, to, &mut turn).unwrap();
        assert!(!batch.is_empty(), "there is something to damage");
        self.change(batch);
    }
}

/// Creates a cluster and rotates its join token `count` times, one frame each.
pub(crate) fn lead(store: &Arc<dyn LogStore>, count: u64) -> Replica {
    store.load().unwrap();
    Consensus::bootstrap(&**store, raft_id(node())).unwrap();
    let consensus = Consensus::open(Arc::clone(store), raft_id(node()), &store.load().unwrap()).unwrap();
    let mut leader = Replica::new(node(), "0.1.0", consensus, Folded::default(), INTERVALS);
    advance(&mut leader, store);
    ask(&mut leader, store, 1, Command::InitialiseCluster(Box::new(cluster())));
    for number in 2..=count {
        let token = SecretText(format!("token {number}"));
        let role = if number % 3 == 0 { Role::Manager } else { Role::Worker };
        ask(
            &mut leader,
            store,
            number,
            Command::RotateJoinToken(commands::RotateJoinToken { role, token, secret_sha256: [number as u8; 32] }),
        );
    }
    leader
}

pub(super) fn ask(leader: &mut Replica, store: &Arc<dyn LogStore>, number: u64, command: Command) {
    let id = CommandId::from_bits(number.into());
    let actor = actor(number);
    leader.submit(number, Request::named(id, actor, command)).unwrap();
    while leader.has_work(time(number)) {
        let judged = leader.turn(time(number)).answers;
        let rejected = judged.iter().find(|(_, outcome)| matches!(outcome, Outcome::Rejected(_)));
        assert_eq!(rejected, None);
        advance(leader, store);
    }
    if let Some(job) = leader.take_checkpoint() {
        job.run(store).unwrap();
    }
}

/// Makes all writes immediately.
fn advance(leader: &mut Replica, store: &Arc<dyn LogStore>) {
    loop {
        let writes = leader.advance().unwrap().writes;
        if writes.is_empty() {
            return;
        }
        leader.written(write_all(&**store, writes).unwrap());
    }
}

pub(crate) fn node() -> NodeId {
    NodeId::from_bits(1)
}

/// The actor of a command: the manager creates the cluster, and a user changes it.
fn actor(number: u64) -> Actor {
    if number == 1 { Actor::Manager(node()) } else { Actor::Operator("somebody".to_owned()) }
}

fn time(number: u64) -> Timestamp {
    Timestamp::from_unix_ns(1_767_225_600_000_000_000 + number as i64 * 1_000_000)
}

pub(crate) fn cluster() -> InitialiseCluster {
    InitialiseCluster {
        cluster: ClusterId::from_bits(7),
        spec: ClusterSpec::default(),
        root_cert_pem: "a root".to_owned(),
        root_digest: "a digest".to_owned(),
        root_key_pem: SecretText("a key".to_owned()),
        worker_token: (SecretText("worker token".to_owned()), [1; 32]),
        manager_token: (SecretText("manager token".to_owned()), [2; 32]),
        node: node(),
        raft_id: raft_id(node()),
        audit_key: None,
        feature_level_max: events::frame::FEATURE_LEVEL,
        hostname: "m1".to_owned(),
        addr: "10.0.0.1:4242".to_owned(),
        cert_pem: "a certificate".to_owned(),
        cert_not_after: time(1_000_000_000),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_died_says_what_of() {
    let machine = Machine::with_frames(3);
    machine.disk.crash(Crash::Killed);
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&machine.disk).unwrap());
    let loaded = store.load().unwrap();
    let folded = fold(&*store, &loaded).unwrap();
    let consensus = Consensus::open(Arc::clone(&store), raft_id(node()), &loaded).unwrap();
    machine.disk.fail_after(0);
    let leader = Replica::new(node(), "0.1.0", consensus, folded, INTERVALS);
    let (handle, thread) = driver::spawn(leader, Arc::clone(&store)).unwrap();
    let core = Core {
        handle,
        store,
        node: node(),
        raft_id: 1,
        thread,
        key_file: None,
        scrubber: None,
        indexer: None,
        archiver: None,
        redactor: None,
        journal: None,
        began_after: 0,
    };
    // A waiting caller only learns that the core is gone.
    let waiting = core.wait_for_leadership().await.unwrap_err();
    assert_eq!(waiting.sentence, "the core ended while it started");
    let died = core.end().await.unwrap_err();
    assert!(died.sentence.contains("write to the log") && died.hint.contains("disk"), "{died}");
}

/// Starts a core on a disk and creates the cluster if there is none yet. An error of the core is returned.
async fn begin(disk: &MemoryDisk, certificates: &CertificateStore, drawn: u128) -> Result<NodeId, Failure> {
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(disk).unwrap());
    let core = start_on(store, None, Begin::Founder(NodeId::from_bits(drawn)), |_, _| {}, None)?;
    let (node, started) = (core.node, core.ensure_cluster(certificates, "m1", "10.0.0.1:4242").await);
    core.end().await?;
    started.map(|()| node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_interrupted_at_any_write_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let certificates = CertificateStore::new(dir.path());
    for crash in [Crash::Killed, Crash::PowerCut { kept_writes: 0 }] {
        for writes in 0.. {
            let disk = MemoryDisk::default();
            disk.fail_after(writes);
            let first = begin(&disk, &certificates, 0xaaaa_0000_0000_0000_0000_bbbb).await;
            disk.crash(crash);
            let again = begin(&disk, &certificates, 0xcccc_0000_0000_0000_0000_dddd).await.unwrap();
            let third = begin(&disk, &certificates, 0xeeee).await.unwrap();
            assert_eq!(again, third, "{writes} writes, then {crash:?}: always the same node");
            let Ok(first) = first else { continue };
            assert_eq!(first, again, "what was started whole stays");
            assert!(writes > 4, "a first start of {writes} writes tests nothing");
            break;
        }
    }
}

/// The ids of nodes that join, one per frame, in one future of a log.
fn joiners(machine: &Machine, epoch: u64, number: u64) -> Vec<String> {
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&machine.disk.copy()).unwrap());
    let loaded = store.load().unwrap();
    let consensus = Consensus::open(Arc::clone(&store), raft_id(node()), &loaded).unwrap();
    let folded = fold(&*store, &loaded).unwrap();
    let mut leader = Replica::new(node(), "0.1.0", consensus, folded, INTERVALS).in_epoch(epoch);
    advance(&mut leader, &store);
    let secret_sha256 = leader.cluster().settings.token_sha256(Role::Worker).try_into().unwrap();
    for joiner in 0..5 {
        let (hostname, addr) = (format!("w{joiner}"), "10.0.0.2".to_owned());
        let (id, actor) = (CommandId::from_bits(1_000 + joiner), Actor::Joiner("10.0.0.2".to_owned()));
        let command = Command::JoinNode(commands::JoinNode { secret_sha256, hostname, addr });
        leader.submit(1, Request::named(id, actor, command)).unwrap();
        leader.turn(time(number));
        advance(&mut leader, &store);
    }
    leader.cluster().nodes.iter().map(|(id, _)| id).filter(|id| *id != node()).map(|id| id.to_string()).collect()
}

#[test]
fn two_futures_of_one_backup_share_no_id() {
    let machine = Machine::with_frames(3);
    let futures = [(1, 100), (2, 100), (1, 101)].map(|(epoch, number)| joiners(&machine, epoch, number));
    let all: std::collections::BTreeSet<_> = futures.iter().flatten().collect();
    assert_eq!((futures[0].len(), all.len()), (5, 15), "another run, or the same one at another time: {futures:?}");
    assert_eq!(joiners(&machine, 1, 100), futures[0]);
}

#[test]
fn a_start_with_a_checkpoint_and_one_without_make_the_same_state() {
    let machine = Machine::with_frames(70);
    let with = machine.starts_the_same();
    assert!(with.checkpoint > 20 && machine.store.first_index() > 20, "raft entries were cut");
    machine.change(vec![Change::DeleteRange { table: Table::Checkpoint, from: Key::MIN, to: Key::MAX }]);
    let without = machine.starts_the_same();
    assert_eq!(without.checkpoint, 0);
    assert_eq!(without.keyring.text(token_key(Role::Worker)), Some("token 70"));
}

#[test]
fn a_damaged_checkpoint_costs_only_time() {
    let machine = Machine::with_frames(70);
    machine.damage(Table::Checkpoint, Key::MIN, Key::MAX);
    assert_eq!(machine.starts_the_same().checkpoint, 0);
}

#[test]
fn a_checkpoint_of_another_fold_version_costs_only_time() {
    let machine = Machine::with_frames(70);
    let mut newest = machine.store.whole_checkpoint(u64::MAX).unwrap().unwrap();
    // After its length, a snapshot starts with its fold version.
    newest.chunks[0][4] += 1;
    let foreign = snapshot::read(&newest.chunks).unwrap_err();
    assert_eq!(foreign, snapshot::SnapshotError::FoldVersion(FOLD_VERSION + 1));
    machine.store.save_checkpoint(newest.head, &mut newest.chunks.iter().cloned()).unwrap();
    let mut older = machine.starts_the_same().checkpoint;
    assert!(older > 0 && older < newest.head.index, "the one before it is as good, and saves most of the time");
    while older > 0 {
        let head = CheckpointHead { index: older, ..newest.head };
        machine.store.save_checkpoint(head, &mut newest.chunks.iter().cloned()).unwrap();
        let next = machine.starts_the_same().checkpoint;
        assert!(next < older, "the one before that, and in the end all of history: {next}");
        older = next;
    }
}

#[test]
fn a_checkpoint_that_is_cut_short_costs_only_time() {
    let machine = Machine::with_frames(70);
    let newest = machine.store.whole_checkpoint(u64::MAX).unwrap().unwrap();
    let half = newest.chunks.iter().take(newest.chunks.len() / 2).cloned();
    machine.store.save_checkpoint(newest.head, &mut half.into_iter()).unwrap();
    let older = machine.starts_the_same().checkpoint;
    assert!(older > 0 && older < newest.head.index, "{older}");
}

#[test]
fn a_manager_that_started_without_a_checkpoint_takes_one_soon() {
    let machine = Machine::with_frames(70);
    machine.change(vec![Change::DeleteRange { table: Table::Checkpoint, from: Key::MIN, to: Key::MAX }]);
    let folded = machine.start().unwrap();
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&machine.disk).unwrap());
    let consensus = Consensus::open(Arc::clone(&store), raft_id(node()), &store.load().unwrap()).unwrap();
    let mut leader = Replica::new(node(), "0.1.0", consensus, folded, INTERVALS);
    leader.take_checkpoint().expect("one is due").run(&store).unwrap();
    assert_eq!(store.load().unwrap().checkpoint, Some(leader.cluster().position.index));
    assert!(leader.take_checkpoint().is_none(), "the next one is not due yet");
}

#[test]
fn damaged_history_ends_only_a_start_that_needs_it() {
    let machine = Machine::with_frames(1_100);
    machine.damage(Table::History, Key::at(30), Key::at(31));
    assert!(machine.starts_the_same().checkpoint > 1_000);
    machine.damage(Table::Checkpoint, Key::MIN, Key::MAX);
    let refused = machine.start().unwrap_err();
    assert!(refused.sentence.starts_with("the log is damaged at index 30 (history)"), "{refused}");
    assert!(refused.hint.contains("swarmd replay"), "{refused}");
}

#[test]
fn history_without_one_of_its_frames_is_no_chain() {
    let machine = Machine::with_frames(1_100);
    let (from, to) = (Key::at(30), Key::at(31));
    machine.change(vec![
        Change::DeleteRange { table: Table::History, from, to },
        Change::DeleteRange { table: Table::Checkpoint, from: Key::MIN, to: Key::MAX },
    ]);
    let refused = machine.start().unwrap_err();
    let expected =
        "the log is damaged at index 31 (history): it does not carry the hash of the frame before it, frame 29";
    assert_eq!(refused.sentence, expected);
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    let machine = Machine::with_frames(30);
    machine.change(vec![Change::DeleteRange { table: Table::Keyring, from: Key::MIN, to: Key::MAX }]);
    let refused = machine.start().unwrap_err();
    assert!(refused.sentence.contains("join-token/worker") && refused.hint.contains("backup"), "{refused}");
}

#[test]
fn a_damaged_secret_ends_the_start() {
    let machine = Machine::with_frames(30);
    machine.damage(Table::Keyring, Key::MIN, Key::MAX);
    let refused = machine.start().unwrap_err();
    assert!(refused.sentence.contains("keyring is damaged") && refused.hint.contains("backup"), "{refused}");
}

#[test]
fn a_due_timer_does_not_wake_the_thread_while_no_turn_may_propose() {
    let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&MemoryDisk::default()).unwrap());
    let mut leader = lead(&store, 1);
    let description = Box::new(NodeDescription { hostname: "m1".to_owned(), ..NodeDescription::default() });
    let (session, addr) = (SessionId::from_bits(5), "10.0.0.1:4242".to_owned());
    ask(
        &mut leader,
        &store,
        1,
        Command::RegisterNode(commands::RegisterNode { node: node(), session, description, addr }),
    );
    let due = leader.next_wake().expect("a node may fall silent");
    let mut number = 2;
    while leader.next_wake().is_some() {
        let token = SecretText(format!("token {number}"));
        let command = Command::RotateJoinToken(commands::RotateJoinToken {
            role: Role::Worker,
            token,
            secret_sha256: [u8::try_from(number).unwrap(); 32],
        });
        let (id, actor) = (CommandId::from_bits(number.into()), actor(number));
        leader.submit(number, Request::named(id, actor, command)).unwrap();
        leader.turn(time(number));
        number += 1;
    }
    assert!(number > 2 && !leader.has_work(due), "the disk has to be waited for");
    advance(&mut leader, &store);
    assert_eq!(leader.next_wake(), Some(due));
    assert!(leader.has_work(due));
}
