//! Crashes at every point and at random ones: what was returned as committed is never lost, and history always agrees with it.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::chain::Chain;
use super::fixtures::{Machine, Manager, MemoryMachine, entry, secrets_of};
use super::memory::{Crash, MemoryDisk};
use super::{CheckpointHead, LogError, LogStore};

/// Number of random schedules, each with its own seed, which a failure prints.
const SEEDS: u64 = 200;
const LIVES: usize = 6;

/// What was acknowledged to clients, over all runs of a manager.
#[derive(Default)]
struct Answers {
    committed: BTreeMap<u64, Bytes>,
    last_proposal: u64,
}

impl Answers {
    /// Records what was committed; no index is acknowledged twice with different contents.
    fn note(&mut self, manager: &mut Manager) {
        for (index, bytes) in manager.committed.drain(..) {
            let before = self.committed.insert(index, bytes.clone());
            assert!(before.is_none_or(|before| before == bytes), "index {index} changed");
        }
    }

    /// Everything that was ever acknowledged is in history, which is one chain, and the keyring has the last value of each
    /// secret.
    fn check(&self, store: &dyn LogStore) {
        let history = store.history(0, usize::MAX, usize::MAX).unwrap();
        let mut chain = Chain::after(None);
        for (index, stored) in &history {
            chain.follow(*index, stored).unwrap();
        }
        let indexes: Vec<_> = history.iter().map(|(index, _)| *index).collect();
        assert!(self.committed.keys().eq(&indexes), "answered {:?}, history {indexes:?}", self.committed.keys());
        let mut secrets = BTreeMap::new();
        for secret in self.committed.values().flat_map(|proposal| secrets_of(proposal)) {
            match secret.value.clone() {
                Some(value) => secrets.insert(secret.key.clone(), value),
                None => secrets.remove(&secret.key),
            };
        }
        let kept =
            store.keyring().unwrap().into_iter().filter_map(|secret| Some((secret.key.clone(), secret.value.clone()?)));
        assert_eq!(kept.collect::<BTreeMap<_, _>>(), secrets);
    }
}

/// One run of a manager: proposals in batches, with occasional checkpoints and compactions, until the disk fails.
fn live(machine: &MemoryMachine, answers: &mut Answers, rng: &mut StdRng) -> Result<(), LogError> {
    let mut manager = Manager::start(machine, 1)?;
    let result = (|| {
        manager.settle()?;
        for _ in 0..10 {
            for _ in 0..rng.random_range(1..8) {
                answers.last_proposal += 1;
                let bytes = answers.last_proposal.to_be_bytes().to_vec();
                manager.consensus.propose(bytes).expect("a single voter leads");
            }
            manager.settle()?;
            if rng.random_ratio(1, 4) {
                let index = manager.store.applied()?.index;
                let head = CheckpointHead { index, term: 1, frame_hash: [0; 32] };
                manager
                    .store
                    .save_checkpoint(head, &mut std::iter::once(answers.last_proposal.to_be_bytes().to_vec()))?;
                manager.store.compact(index.saturating_sub(rng.random_range(0..5)))?;
            }
        }
        Ok(())
    })();
    answers.note(&mut manager);
    result
}

/// Starts on a disk that works again and checks that nothing is missing.
fn recover(machine: &MemoryMachine, answers: &mut Answers) {
    let mut manager = Manager::start(machine, 1).unwrap();
    manager.settle().unwrap();
    answers.note(&mut manager);
    answers.check(&*manager.store);
    let checkpoint = manager.store.whole_checkpoint(u64::MAX).unwrap();
    assert!(checkpoint.is_none_or(|checkpoint| checkpoint.head.index <= manager.store.applied().unwrap().index));
}

#[test]
fn a_crash_at_any_write_loses_nothing_that_was_committed() {
    for crash in [Crash::Killed, Crash::PowerCut { kept_writes: 0 }, Crash::TornHistory] {
        for writes in 0.. {
            let machine = MemoryMachine(MemoryDisk::default());
            let mut answers = Answers::default();
            machine.0.fail_after(writes);
            let ended = live(&machine, &mut answers, &mut StdRng::seed_from_u64(1));
            machine.0.crash(crash);
            recover(&machine, &mut answers);
            if ended.is_ok() {
                assert!(writes > 20, "a life of {writes} writes tests nothing");
                break;
            }
        }
    }
}

#[test]
fn many_lives_with_random_crashes_lose_nothing_that_was_committed() {
    for seed in 0..SEEDS {
        let mut rng = StdRng::seed_from_u64(seed);
        let machine = MemoryMachine(MemoryDisk::default());
        let mut answers = Answers::default();
        for life in 0..LIVES {
            machine.0.fail_after(rng.random_range(0..60));
            let ended = live(&machine, &mut answers, &mut rng);
            let crash = match rng.random_range(0..3) {
                0 => Crash::Killed,
                1 => Crash::PowerCut { kept_writes: rng.random_range(0..=machine.0.unsynced_writes()) },
                _ => Crash::TornHistory,
            };
            println!("seed {seed} life {life}: {:?}, then {crash:?}", ended.map_err(|error| error.to_string()));
            machine.0.crash(crash);
            recover(&machine, &mut answers);
        }
    }
}

#[test]
fn an_unsynced_tail_is_applied_again_after_a_power_cut() {
    let machine = MemoryMachine(MemoryDisk::default());
    let mut answers = Answers::default();
    let mut manager = Manager::start(&machine, 1).unwrap();
    manager.settle().unwrap();
    for _ in 0..3 {
        manager.consensus.propose(b"change".to_vec()).unwrap();
        manager.settle().unwrap();
    }
    answers.note(&mut manager);
    drop(manager);
    machine.0.crash(Crash::PowerCut { kept_writes: 0 });
    let loaded = machine.open().load().unwrap();
    // The last synced write made the history of the two before it durable as well.
    assert_eq!((loaded.applied, loaded.last_index), (4, 5));
    recover(&machine, &mut answers);
}

#[test]
fn what_a_start_has_read_survives_a_power_cut() {
    let machine = MemoryMachine(MemoryDisk::default());
    let store = machine.start();
    store.append(vec![entry(2, 1, "written, not synced")], None, false).unwrap();
    machine.0.crash(Crash::Killed);
    assert_eq!(machine.open().load().unwrap().last_index, 2);
    machine.0.crash(Crash::PowerCut { kept_writes: 0 });
    assert_eq!(machine.open().load().unwrap().last_index, 2);
}
