//! Flipped bits in old history: a manager detects them and repairs them from another one. And flipped bits in a checkpoint, which
//! a start ignores.

use std::fs;
use std::path::{Path, PathBuf};

use events::{Annotations, CommandId, ConfigSpec, Id, Timestamp};
use node::log::{CheckpointHead, LogError, LogStore, RocksStore, Scrub, verify_all};
use wire::v1::command_request::Command;
use wire::v1::{CommandRequest, CreateConfig};

use super::cluster::{Cluster, MANAGER};
use super::quorum::{create_at_any, managers};
use super::units::Executor;

/// Number of frames in history: a start verifies the last 1,000 itself.
const FRAMES: u64 = 1_100;
/// Position of the flipped bit: in the first frames.
const FLIPPED_AT: usize = 10_000;

/// Creates this many frames, one per command.
pub(super) fn fill(cluster: &Cluster, frames: u64) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut client = wire::connect(&cluster.socket(MANAGER)).await.expect("a connection");
        for number in 1..=frames {
            let name = format!("c{number}");
            let spec =
                ConfigSpec { annotations: Some(Annotations { name, ..Annotations::default() }), ..Default::default() };
            let command = Some(Command::CreateConfig(CreateConfig { spec, data: b"data".to_vec() }));
            let id = CommandId::from_bits(u128::from(number));
            client.execute(CommandRequest { id, command, ..CommandRequest::default() }).await.expect("taken");
        }
    });
}

/// Makes a stopped manager verify all of its history after its next start. Normally it would not: this looks as if it had a
/// checkpoint, and the last pass was long ago. Opening the log moves its contents into table files.
fn make_due(log: &Path) {
    let store = save_checkpoint(log);
    store.save_scrub_progress(Scrub::begin(Timestamp::default(), None).progress()).expect("saved");
}

/// Saves a checkpoint at the end of a stopped manager's log.
pub(super) fn save_checkpoint(log: &Path) -> RocksStore {
    let store = RocksStore::open(log).expect("a log");
    let loaded = store.load().expect("a log that is intact");
    let folded = node::manager::core::fold(&store, &loaded).expect("a state");
    let (last, term) = (loaded.last_frame.expect("frames"), loaded.hard_state.term);
    let head = CheckpointHead { index: last.index, term, frame_hash: last.hash };
    store.save_checkpoint(head, &mut projections::snapshot::chunks(&folded.cluster)).expect("a checkpoint");
    store
}

/// The first file of a table of the log. RocksDB writes the table's name into its files.
fn file_of(table: &str, log: &Path) -> PathBuf {
    let files = fs::read_dir(log.join("log")).expect("a log").map(|file| file.expect("a file").path());
    let name = format!("name{table}").into_bytes();
    let named = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "sst")
            && fs::read(path).expect("read").windows(name.len()).any(|window| window == name)
    };
    files.filter(named).min().expect("a file of the table")
}

fn flip_a_bit(file: &Path) {
    let mut bytes = fs::read(file).expect("read");
    bytes[FLIPPED_AT] ^= 0x10;
    fs::write(file, bytes).expect("written");
}

fn frames(log: &Path) -> Result<u64, LogError> {
    let store = RocksStore::open_read_only(log).expect("a log");
    verify_all::<LogError>(&store, |_, _| Ok(())).map(|verified| verified.frames)
}

#[test]
fn a_flipped_bit_in_old_history_is_healed_from_another_manager() {
    let mut cluster = managers(&["m2", "m3"]);
    fill(&cluster, FRAMES);
    let log = cluster.state_dir("m3").join("raft");
    cluster.until("m3 to have all of it", || frames(&log).is_ok_and(|frames| frames > FRAMES));
    assert_eq!(cluster.end("m3"), Some(0));
    make_due(&log);
    flip_a_bit(&file_of("history", &log));
    let damage = frames(&log).expect_err("it is damaged");
    assert!(matches!(damage, LogError::Corrupt { .. }), "{damage}");

    cluster.resume("m3");
    cluster.until("it to be healed", || cluster.log("m3").contains("the damage is healed"));
    assert!(cluster.log("m3").contains("history is damaged"), "{}", cluster.log("m3"));
    create_at_any(&cluster, &["m3"], "after");
    assert_eq!(cluster.end("m3"), Some(0));
    assert!(frames(&log).expect("all of it is whole") > FRAMES);
}

#[test]
fn a_flipped_bit_in_a_checkpoint_costs_a_warning() {
    let mut cluster = Cluster::start(Executor::Process, &[]);
    fill(&cluster, FRAMES);
    let before = cluster.inspect()["id"].clone();
    let log = cluster.state_dir(MANAGER).join("raft");
    assert_eq!(cluster.end(MANAGER), Some(0));
    make_due(&log);
    // Opening the log again moves the checkpoint into a file.
    drop(RocksStore::open(&log).expect("a log"));
    flip_a_bit(&file_of("checkpoint", &log));

    cluster.resume(MANAGER);
    cluster.await_manager();
    let log_text = cluster.log(MANAGER);
    assert!(log_text.contains("a checkpoint is damaged; an older one or the history is used"), "{log_text}");
    assert_eq!(cluster.inspect()["id"], before);
    assert_eq!(cluster.list("config ls").len() as u64, FRAMES);
    cluster.create("after", "--replicas 0");
}
