//! Replay of 1,000,000 events: the pure fold of frames in memory, and `swarmd replay` of a manager's history on disk.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use events::{Event, Frame, FrameHeader, Kind, NodeId, Reconciler, TaskReaped, TaskState, codec, frame};
use node::log::{AppliedFrame, Entry, EntryKind, LogStore, Membership, RocksStore};
use node::manager::fold::Folded;

use crate::clock::cpu_time;
use crate::figure::{Figure, Target};
use crate::fixture;

const RUNS: usize = 5;
const EVENTS: u64 = 1_000_000;
const NODES: u64 = 1_000;
const SERVICES: u64 = 100;
/// Number of tasks that exist at the same time; each has five events in its life.
const TASKS: u64 = 10_000;
/// Events per frame, as in a busy manager.
const FRAME_EVENTS: usize = 100;

/// The pure fold and the whole replay.
pub fn figures() -> Result<Vec<Figure>> {
    let frames = frames();
    let pure = (0..RUNS).map(|_| fold(&frames)).collect::<Result<_>>()?;
    let directory = tempfile::tempdir()?;
    write_history(directory.path(), &frames)?;
    let replays = (0..RUNS).map(|_| replay(directory.path())).collect::<Result<_>>()?;
    let what = "1,000,000 events of 1,000 nodes, 100 services and 10,000 tasks at a time, in frames of 100";
    let figure = |name: &str, runs, how| {
        let target = Target::AtLeast(300_000.0);
        Figure { name: name.to_owned(), runs, unit: "events/s", target, how: format!("{what}; {how}") }
    };
    Ok(vec![
        figure(
            "fold of frames in memory",
            pure,
            "decoding, checking the hash chain, folding, in processor time of the one thread",
        ),
        figure(
            "replay from the disk",
            replays,
            "what `swarmd replay` prints: also reading RocksDB and unsealing, in real time",
        ),
    ])
}

/// The stored bytes of all frames, each with the hash of the one before it. The first has index 2, as in any log.
fn frames() -> Vec<Bytes> {
    let mut stored: Vec<Bytes> = Vec::new();
    let mut pending: Vec<Kind> = Vec::new();
    let mut close = |kinds: Vec<Kind>| {
        let previous = stored.last().map(|bytes| frame::hash(bytes).to_vec()).unwrap_or_default();
        stored.push(encode(stored.len() as u64 + 2, previous, kinds));
    };
    close((0..NODES).flat_map(fixture::node).collect());
    close((0..SERVICES).map(|service| fixture::service(service, TASKS / SERVICES)).collect());
    let mut written = NODES * 3 + SERVICES;
    let mut number = 0;
    while written < EVENTS {
        pending.extend(task_lifetimes(number));
        number += INTERLEAVED_TASKS;
        while pending.len() >= FRAME_EVENTS {
            let rest = pending.split_off(FRAME_EVENTS);
            written += FRAME_EVENTS as u64;
            close(std::mem::replace(&mut pending, rest));
        }
    }
    stored
}

/// Number of tasks whose lives are interleaved.
const INTERLEAVED_TASKS: u64 = 20;

/// Events of new tasks from their creation until they run, and of the end of the tasks that they replace.
fn task_lifetimes(first: u64) -> Vec<Kind> {
    let at = fixture::time(first);
    let mut kinds = Vec::new();
    for task in first..first + INTERLEAVED_TASKS {
        if let Some(old) = task.checked_sub(TASKS) {
            kinds.push(fixture::reported(old, TaskState::Failed, Some(1), at));
            kinds.push(Kind::TaskReaped(TaskReaped { tasks: vec![fixture::task_id(old)] }));
        }
        let service = task % SERVICES;
        kinds.push(fixture::task(task, service, 3, task / SERVICES % (TASKS / SERVICES) + 1));
        kinds.push(fixture::assigned(task, task % NODES));
        kinds.push(fixture::reported(task, TaskState::Running, None, at));
    }
    kinds
}

fn encode(index: u64, previous_hash: Vec<u8>, kinds: Vec<Kind>) -> Bytes {
    let header = FrameHeader {
        format: frame::FORMAT,
        index,
        log_time: fixture::time(index),
        feature_level: frame::FEATURE_LEVEL,
        previous_hash,
        leader: Some(fixture::id::<NodeId>(0)),
        term: 1,
    };
    let events = kinds.into_iter().map(|kind| Event::by_reconciler(Reconciler::Replicated, kind)).collect();
    let entry = codec::encode_entry(&Frame { header, commands: Vec::new(), events }, Vec::new());
    let sections = codec::split_entry(&entry).expect("an entry that was just written can be split");
    Bytes::copy_from_slice(sections.frame)
}

fn fold(frames: &[Bytes]) -> Result<f64> {
    let mut folded = Folded::default();
    let mut events = 0;
    let started = cpu_time()?;
    for (index, bytes) in (2..).zip(frames) {
        events += folded.fold_frame(index, bytes)?.events.len();
    }
    let rate = events as f64 / (cpu_time()? - started).as_secs_f64();
    ensure!(events as u64 >= EVENTS, "all events are folded");
    Ok(rate)
}

fn write_history(state_dir: &std::path::Path, frames: &[Bytes]) -> Result<()> {
    let path = state_dir.join("raft");
    std::fs::create_dir(&path)?;
    let store = RocksStore::open(&path)?;
    store.load()?;
    store.initialize(&Membership::single(1))?;
    for (index, bytes) in (2..).zip(frames) {
        let entry = Entry { index, term: 1, kind: EntryKind::Frame, payload: bytes.clone() };
        store.append(vec![entry], None, false)?;
        store.apply(&[AppliedFrame { index, bytes: bytes.clone(), secrets: Vec::new() }], index)?;
    }
    Ok(store.sync()?)
}

/// The rate that `swarmd replay` prints.
fn replay(state_dir: &std::path::Path) -> Result<f64> {
    let mut out = Vec::new();
    node::manager::replay::replay(state_dir, None, &mut out).map_err(|failure| anyhow::anyhow!("{failure}"))?;
    let text = String::from_utf8(out)?;
    let line = text.lines().find(|line| line.starts_with("events")).context("replay tells its rate")?;
    let rate = line.split(", ").nth(1).and_then(|rate| rate.split(' ').next()).context("the rate is a number")?;
    Ok(rate.parse()?)
}
