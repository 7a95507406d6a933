//! Tests how a manager judges the checkpoints of others.

use events::Id;

use crate::log::MemoryDisk;
use crate::log::fixtures::{Machine, MemoryMachine, fill};
use crate::log::tree::next_tile;

use super::*;

fn checkpoint(root: u8) -> Checkpoint {
    Checkpoint { cluster: ClusterId::from_bits(7), size: 12, root: [root; 32] }
}

fn somebody(seed: u8) -> Signer {
    Signer::new(format!("swarmlog/a/{seed}"), &[seed; 32]).expect("a signer")
}

fn signed(checkpoint: &Checkpoint, by: u8) -> String {
    SignedNote::new(checkpoint.to_string()).signed_by(&somebody(by)).to_string()
}

#[test]
fn another_history_is_noticed_and_a_signature_counts_only_with_the_key_in_the_log() {
    let (own, key) = (checkpoint(1), somebody(2).key().to_string());
    let judged = |key: Option<&str>, answer: Result<String, String>| judge(&own, key, answer);
    let agrees = judged(Some(&key), Ok(signed(&own, 2)));
    assert!(matches!(agrees, CosignResponse::Agrees(note, _) if note.to_string() == signed(&own, 2)));
    // The signature is irrelevant: the connection authenticates that manager.
    for by in [2, 3] {
        let other = checkpoint(9);
        assert_eq!(judged(Some(&key), Ok(signed(&other, by))), CosignResponse::Differs(other));
    }
    let elsewhere = Checkpoint { cluster: ClusterId::from_bits(8), ..own.clone() };
    let shorter = Checkpoint { size: 11, ..own.clone() };
    let silent = [
        (Some(key.as_str()), Ok(signed(&own, 3)), "does not match its audit key"),
        (Some(key.as_str()), Ok(own.to_string()), "does not match its audit key"),
        (None, Ok(signed(&own, 2)), "not in the log yet"),
        (Some("nothing"), Ok(signed(&own, 2)), "is not a verifier key"),
        (Some(key.as_str()), Ok(signed(&elsewhere, 2)), "another origin"),
        (Some(key.as_str()), Ok(signed(&shorter, 2)), "another origin"),
        (Some(key.as_str()), Ok("nothing".to_owned()), "the checkpoint has no"),
        (Some(key.as_str()), Err("it is gone".to_owned()), "it is gone"),
    ];
    for (key, answer, why) in silent {
        let cosigned = judged(key, answer);
        assert!(matches!(&cosigned, CosignResponse::Silent(reason) if reason.contains(why)), "{why}: {cosigned:?}");
    }
}

#[test]
fn a_damaged_tree_is_made_again_and_damaged_history_is_left_alone() {
    let machine = MemoryMachine(MemoryDisk::default());
    let store = machine.start();
    fill(&*store, 600);
    while let Some((reach, leaves)) = next_tile(&*store).expect("read") {
        store.save_tile(reach, &leaves).expect("written");
    }
    machine.flip_bit(Table::Tree, 1);
    let mut tree = TreeReader::open(&*store).expect("a tree");
    let damage = path::root(&mut tree, 300).expect_err("a damaged tile");
    let refusal = unread(&*store, damage);
    assert!(refusal.sentence.contains("is being made again"), "{refusal:?}");
    assert_eq!(store.tiles_reach().expect("read").leaves, 0);
    assert!(TreeReader::open(&*store).is_ok_and(|tree| tree.size() == 598), "it answers from history meanwhile");

    machine.flip_bit(Table::History, 300);
    let damage = TreeReader::open(&*store).err().expect("damaged history");
    let TreeError::Log(damage) = damage else { panic!("history is damaged, not behind") };
    let refusal = unread(&*store, damage);
    assert!(refusal.sentence.contains("damaged at index 300 (history)"), "{refusal:?}");
}
