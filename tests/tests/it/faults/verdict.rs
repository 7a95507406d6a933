//! The final checks of clients' answers, of every manager's history, and of the disks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use events::{Kind, NodeId, Timestamp};
use node::log::{LogStore, RocksStore};
use tests::linearizability::{Action, Operation, check};
use tests::quorum::oracle::Oracle;

use super::clients::Journal;
use super::machines::{MANAGERS, Machines};

/// The interval of full checks of the state, in frames.
const CHECK_FRAMES: u64 = 1_000;

/// The histories of all managers, which are stopped: they are the same, contain everything that was acknowledged, each command
/// once, and have one leader per term.
pub fn histories(machines: &Machines, journal: &Journal) -> Oracle {
    let stores: Vec<Arc<dyn LogStore>> = (0..MANAGERS).map(|number| store(&machines.state_dir(number))).collect();
    let frames: Vec<Vec<(u64, Bytes)>> =
        stores.iter().map(|store| store.history(0, usize::MAX, usize::MAX).expect("history")).collect();
    assert!(frames.iter().all(|history| !history.is_empty()), "nothing to compare");
    let longest = (0..MANAGERS).max_by_key(|number| frames[*number].len()).unwrap_or(0);
    let mut oracle = Oracle::checking_every(CHECK_FRAMES);
    oracle.read(NodeId::default(), &stores[longest]);
    let acknowledged = journal.acknowledged.lock().expect("no panic");
    for (command, index, name) in acknowledged.iter() {
        assert_eq!(oracle.effect(*command), Some(*index), "{name} was acknowledged");
        oracle.acknowledge(*command, *index);
    }
    for (number, store) in stores.iter().enumerate() {
        assert_eq!(oracle.compare(NodeId::default(), store), frames[number].len(), "m{number}: one history");
    }
    subscription(journal, &frames[longest]);
    no_worker_was_lost(&frames[longest]);
    oracle
}

fn store(state_dir: &Path) -> Arc<dyn LogStore> {
    let store = RocksStore::open_to_verify(&state_dir.join("raft"), &Default::default()).expect("a log");
    Arc::new(store.expect("a log"))
}

/// A subscriber received every event of history once, in order.
fn subscription(journal: &Journal, history: &[(u64, Bytes)]) {
    let subscribed = journal.subscribed.lock().expect("no panic");
    let Some((last, _)) = subscribed.last().copied() else { panic!("nobody could subscribe") };
    let places = history.iter().filter(|(index, _)| *index < last).flat_map(|(index, stored)| {
        let events = events::codec::decode_frame(stored).expect("a frame").events.len();
        (0..events as u32).map(|ordinal| (*index, ordinal))
    });
    let expected: Vec<(u64, u32)> = places.collect();
    let got = &subscribed[..expected.len().min(subscribed.len())];
    let differs = expected.iter().zip(got).find(|(expected, got)| expected != got);
    assert!(
        differs.is_none() && got.len() == expected.len(),
        "{differs:?}: {} of {} events",
        got.len(),
        expected.len()
    );
}

/// Only managers are ever down: workers must not be lost because their manager is.
fn no_worker_was_lost(history: &[(u64, Bytes)]) {
    let (mut names, mut lost, mut lines) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (index, stored) in history {
        let frame = events::codec::decode_frame(stored).expect("a frame");
        for kind in frame.events.into_iter().filter_map(|event| event.kind) {
            let at = frame.header.log_time;
            if let Kind::NodeJoined(joined) = kind {
                names.insert(joined.node, joined.hostname);
            } else if let Kind::NodeDeclaredDown(down) = &kind {
                let worker = names.get(&down.node).filter(|name| name.starts_with('w'));
                lost.extend(worker.map(|name| format!("frame {index}, {at}: {name}")));
                lines.push(format!("{index} {at} {kind:?}"));
            } else if matches!(kind, Kind::NodeRegistered(_) | Kind::NodeDisconnected(_) | Kind::LeadershipAssumed(_)) {
                lines.push(format!("{index} {at} {kind:?}"));
            }
        }
    }
    assert!(
        lost.is_empty(),
        "workers that were declared down, though nothing happened to them: {lost:?}\n{names:?}\n{}",
        lines.join("\n")
    );
}

/// The results that clients saw at registers are linearizable.
pub fn registers(journal: &Journal) {
    let mut operations = journal.operations.lock().expect("no panic").clone();
    let keys: BTreeSet<u64> = operations.iter().map(|operation| operation.key).collect();
    assert!(!keys.is_empty(), "no register was used");
    let begin = Some(Timestamp::from_unix_ns(0));
    operations.extend(keys.into_iter().map(|key| Operation {
        key,
        action: Action::Write(0),
        called: Timestamp::from_unix_ns(0),
        answered: begin,
    }));
    check(&operations).unwrap_or_else(|violation| panic!("{violation}"));
}

/// A secret is not in any file or log of any machine.
pub fn no_secret_in_clear(dir: &Path, secret: &str) {
    let mut files = 0;
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))).expect("an entry");
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() && path.extension().is_none_or(|ending| ending != "img") {
                files += 1;
                let bytes = std::fs::read(&path).expect("read");
                let shown = contains(&bytes, secret.as_bytes());
                assert!(!shown, "{} holds the secret in clear", path.display());
            }
        }
    }
    assert!(files > 20, "{files} files: nothing was looked at");
}

fn contains(bytes: &[u8], secret: &[u8]) -> bool {
    let candidates = bytes.iter().enumerate().filter(|(_, byte)| **byte == secret[0]);
    candidates.into_iter().any(|(at, _)| bytes[at..].starts_with(secret))
}
