//! What a manager makes of the others' checkpoints.

use events::Id;

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
    assert!(matches!(agrees, Testimony::Agrees(note, _) if note.to_string() == signed(&own, 2)));
    // Signed or not: what it says comes over a connection with that manager's certificate.
    for by in [2, 3] {
        let other = checkpoint(9);
        assert_eq!(judged(Some(&key), Ok(signed(&other, by))), Testimony::Differs(other));
    }
    let elsewhere = Checkpoint { cluster: ClusterId::from_bits(8), ..own.clone() };
    let shorter = Checkpoint { size: 11, ..own.clone() };
    let silent = [
        (Some(key.as_str()), Ok(signed(&own, 3)), "not by the audit key"),
        (Some(key.as_str()), Ok(own.to_string()), "not by the audit key"),
        (None, Ok(signed(&own, 2)), "not in the log yet"),
        (Some("nothing"), Ok(signed(&own, 2)), "is no verifier key"),
        (Some(key.as_str()), Ok(signed(&elsewhere, 2)), "of something else"),
        (Some(key.as_str()), Ok(signed(&shorter, 2)), "of something else"),
        (Some(key.as_str()), Ok("nothing".to_owned()), "the checkpoint has no"),
        (Some(key.as_str()), Err("it is gone".to_owned()), "it is gone"),
    ];
    for (key, answer, why) in silent {
        let testimony = judged(key, answer);
        assert!(matches!(&testimony, Testimony::Silent(told) if told.contains(why)), "{why}: {testimony:?}");
    }
}
