//! The contract of every log about secrets: store them beside history, and destroy them with the frame that says so.

use events::VolatilePayload;

use super::super::disk::{Change, Table};
use super::super::entry::AppliedFrame;
use super::super::fixtures::{apply_secrets, entry, fill, frame, frames, on_both};
use super::super::{LogError, LogStore, keyring};
use super::{all_history, checkpoint};

/// The secrets of a log: their names and values.
fn kept(store: &dyn LogStore) -> Vec<(String, Vec<u8>)> {
    let mut kept: Vec<_> = store
        .keyring()
        .unwrap()
        .into_iter()
        .map(|secret| (secret.key.clone(), secret.value.clone().unwrap()))
        .collect();
    kept.sort();
    kept
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    expected.iter().map(|(name, secret)| ((*name).to_owned(), secret.as_bytes().to_vec())).collect()
}

#[test]
fn secrets_are_kept_replaced_and_destroyed_with_their_frames() {
    on_both(|machine| {
        let store = machine.start();
        apply_secrets(&*store, vec![VolatilePayload::keep("b", "2"), VolatilePayload::keep("a", "1")]);
        assert_eq!(kept(&*store), pairs(&[("a", "1"), ("b", "2")]));
        apply_secrets(&*store, vec![VolatilePayload::destroy("a"), VolatilePayload::keep("b", "new")]);
        // Within one frame, the last operation counts.
        apply_secrets(&*store, vec![VolatilePayload::keep("c", "3"), VolatilePayload::destroy("c")]);
        apply_secrets(&*store, vec![VolatilePayload::destroy("d"), VolatilePayload::keep("d", "")]);
        assert_eq!(kept(&*store), pairs(&[("b", "new"), ("d", "")]));
        drop(store);
        let store = machine.open();
        store.load().unwrap();
        assert_eq!(kept(&*store), pairs(&[("b", "new"), ("d", "")]));
    });
}

#[test]
fn a_frame_that_is_refused_changes_no_secret() {
    on_both(|machine| {
        let store = machine.start();
        apply_secrets(&*store, vec![VolatilePayload::keep("a", "1")]);
        let secrets = vec![VolatilePayload::destroy("a"), VolatilePayload::keep("b", "2")];
        let unchained = AppliedFrame { index: 3, bytes: frame(3, None, 0), secrets };
        store.append(vec![entry(3, 1, "change")], None, true).unwrap();
        assert!(matches!(store.apply(&[unchained], 3), Err(LogError::Unchained { .. })));
        assert_eq!(kept(&*store), pairs(&[("a", "1")]));
    });
}

#[test]
fn secrets_need_no_checkpoint_and_no_raft_entries() {
    on_both(|machine| {
        let store = machine.start();
        apply_secrets(&*store, vec![VolatilePayload::keep("a", "1")]);
        fill(&*store, 60);
        checkpoint(&*store, 59);
        assert_eq!(store.compact(59).unwrap(), 60);
        drop(store);
        machine.remove_from(Table::Checkpoint, 0);
        let store = machine.open();
        assert_eq!((store.load().unwrap().checkpoint, store.whole_checkpoint(u64::MAX).unwrap()), (None, None));
        assert_eq!(kept(&*store), pairs(&[("a", "1")]));
        assert_eq!(all_history(&*store), (2..60).collect::<Vec<_>>());
    });
}

#[test]
fn secrets_of_frames_that_are_applied_again_end_the_same() {
    on_both(|machine| {
        let store = machine.start();
        let words = [
            VolatilePayload::keep("a", "1"),
            VolatilePayload::keep("b", "2"),
            VolatilePayload::destroy("a"),
            VolatilePayload::keep("b", "3"),
        ];
        words.iter().for_each(|word| apply_secrets(&*store, vec![word.clone()]));
        drop(store);
        // Frames 4 and 5 are torn off, their operations on secrets are not.
        machine.flip_bit(Table::History, 4);
        machine.flip_bit(Table::History, 5);
        let store = machine.open();
        let loaded = store.load().unwrap();
        assert_eq!((loaded.applied, kept(&*store)), (3, pairs(&[("b", "3")])));
        let again = frames(loaded.last_frame, 4, 6).into_iter().zip(&words[2..]);
        let again: Vec<_> = again.map(|(frame, word)| AppliedFrame { secrets: vec![word.clone()], ..frame }).collect();
        store.apply(&again, 5).unwrap();
        assert_eq!(kept(&*store), pairs(&[("b", "3")]));
    });
}

#[test]
fn a_damaged_secret_is_refused_with_a_hint() {
    let refused = |machine: &dyn super::super::fixtures::Machine| {
        let error = machine.open().load().unwrap_err();
        assert!(matches!(error, LogError::KeyringDamaged { .. }), "{error}");
        assert!(error.hint().contains("backup"));
        assert!(!error.to_string().contains("word"), "it must not say the secret: {error}");
    };
    let torn: [&dyn Fn(Vec<u8>) -> Vec<u8>; 3] =
        [&|value| value[..value.len() / 2].to_vec(), &|_| Vec::new(), &|mut value| {
            value[20] ^= 1;
            value
        }];
    for damage in torn {
        on_both(|machine| {
            let store = machine.start();
            apply_secrets(&*store, vec![VolatilePayload::keep("a", "a word"), VolatilePayload::keep("b", "b word")]);
            drop(store);
            machine.tamper(&|disk| {
                let (table, key) = (Table::Keyring, keyring::place("b"));
                let value = damage(disk.get(table, key).unwrap().unwrap());
                vec![Change::Put { table, key, value }]
            });
            refused(machine);
        });
    }
    // Another secret in its place.
    on_both(|machine| {
        let store = machine.start();
        apply_secrets(&*store, vec![VolatilePayload::keep("a", "a word"), VolatilePayload::keep("b", "b word")]);
        drop(store);
        machine.tamper(&|disk| {
            let table = Table::Keyring;
            let value = disk.get(table, keyring::place("a")).unwrap().unwrap();
            vec![Change::Put { table, key: keyring::place("b"), value }]
        });
        refused(machine);
    });
}
