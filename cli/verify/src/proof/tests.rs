//! Proofs of a few frames, intact and tampered with.

use std::convert::Infallible;

use events::{ClusterId, FrameHeader, Id};
use prost::Message;

use super::*;
use crate::note::{Signer, VerifierKey};
use crate::path::{Nodes, inclusion, root};
use crate::tree::parent;

struct Frames(Vec<Bytes>);

impl Nodes for Frames {
    type Error = Infallible;

    fn node(&mut self, level: u32, number: u64) -> Result<Hash, Infallible> {
        if level == 0 {
            return Ok(leaf(&self.0[number as usize]));
        }
        Ok(parent(&self.node(level - 1, number * 2)?, &self.node(level - 1, number * 2 + 1)?))
    }
}

fn frames(count: u64) -> Frames {
    let frame = |index| {
        let header = FrameHeader { index, format: events::frame::FORMAT, feature_level: 1, ..FrameHeader::default() };
        Frame { header, ..Frame::default() }.encode_to_vec().into()
    };
    Frames((2..count + 2).map(frame).collect())
}

fn signer() -> Signer {
    Signer::new("swarmlog/a/b", &[1; 32]).expect("a signer")
}

fn checkpoint(frames: &mut Frames) -> Checkpoint {
    let size = frames.0.len() as u64;
    let Ok(root) = root(frames, size);
    Checkpoint { cluster: ClusterId::from_bits(7), size, root }
}

fn proof(number: u64, size: u64) -> InclusionProof {
    let mut frames = frames(size);
    let checkpoint = SignedNote::new(checkpoint(&mut frames).to_string()).signed_by(&signer());
    let Ok(path) = inclusion(&mut frames, number, size);
    InclusionProof { number, path, frame: frames.0[number as usize].clone(), checkpoint }
}

#[test]
fn a_proof_is_read_as_it_is_written_and_holds() {
    let proof = proof(4, 11);
    let text = proof.to_string();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{text}");
    assert!(text.contains("\nindex 4\n") && text.contains("\n\nswarmlog/"), "{text}");
    assert_eq!(text.parse().as_ref(), Ok(&proof));
    let (checkpoint, frame) = proof.verify().expect("it holds");
    assert_eq!((checkpoint.size, frame.header.index), (11, 6));
}

#[test]
fn what_was_changed_in_a_proof_shows() {
    let whole = proof(4, 11);
    let mut other_frame = whole.clone();
    other_frame.frame = frames(11).0[5].clone();
    let mut other_number = whole.clone();
    other_number.number = 5;
    let mut other_path = whole.clone();
    other_path.path[1] = [0; 32];
    for changed in [other_frame, other_number, other_path] {
        let why = changed.verify().expect_err("it does not hold");
        assert!(why.contains("of the 11 frames of the checkpoint"), "{why}");
    }
    let text = whole.to_string();
    for (broken, why) in [
        (text.replace("tlog-proof@v1", "tlog-proof@v2"), "it is not a proof"),
        (text.replace("extra ", "extra  "), "not base64"),
        (text.replace("\nextra ", "\nmore "), "no line \"extra\""),
        (text.replace("index 4", "index 04"), "not a frame number"),
        (text.replace("\n\n", "\n"), "no checkpoint"),
        (text.replace("\nindex 4\n", "\nindex 4\nAAAA\n"), "is not a hash"),
    ] {
        let refused = broken.parse::<InclusionProof>().expect_err(why);
        assert!(refused.contains(why), "{why}: {refused}");
    }
}

#[test]
fn a_checkpoint_counts_with_a_trusted_signature_or_if_it_was_kept() {
    let (proof, key) = (proof(4, 11), signer().key().clone());
    let (said, _) = proof.verify().expect("it holds");
    let stranger = Signer::new("stranger", &[2; 32]).expect("a signer").key().clone();
    let forged: SignedNote = {
        let other = SignedNote::new("another\n").signed_by(&signer()).to_string();
        let signature = other.lines().last().expect("a signature").to_owned();
        format!("{}\n{signature}\n", proof.checkpoint.text()).parse().expect("a note")
    };
    let confirmation = |keys: &[VerifierKey], checkpoints: &[Checkpoint], note: &SignedNote| {
        let known = TrustedInputs { keys: keys.to_vec(), checkpoints: checkpoints.to_vec(), heads: Vec::new() };
        let Confirmation { signed, kept, faults } = known.confirmation(note, &said);
        (signed.len(), kept, faults.join("; "))
    };
    let none = String::new;
    assert_eq!(confirmation(std::slice::from_ref(&key), &[], &proof.checkpoint), (1, false, none()));
    assert_eq!(confirmation(&[], std::slice::from_ref(&said), &proof.checkpoint), (0, true, none()));
    for trusted in [&[][..], &[stranger]] {
        let (_, _, faults) = confirmation(trusted, &[], &proof.checkpoint);
        assert!(faults.contains("none of the trusted keys"), "{faults}");
    }
    let (_, _, faults) = confirmation(&[key], &[], &forged);
    assert!(faults.contains("the signature of swarmlog/a/b is forged"), "{faults}");
    let other = Checkpoint { root: [0; 32], ..said.clone() };
    let (_, _, faults) = confirmation(&[], &[other], &proof.checkpoint);
    assert!(faults.contains("the first 11 frames do not match those"), "{faults}");
}

#[test]
fn a_history_that_was_put_back_or_rewritten_or_is_anothers_is_told() {
    let (mut old, mut new) = (frames(5), frames(11));
    let (kept, now) = (checkpoint(&mut old), checkpoint(&mut new));
    let Ok(path) = crate::path::consistency(&mut new, 5, 11);
    assert_eq!(verify_consistency(&kept, &now, &path), Ok(()));
    let rewritten = Checkpoint { root: [0; 32], ..kept.clone() };
    let another = Checkpoint { cluster: ClusterId::from_bits(8), ..kept.clone() };
    for (kept, now, why) in [
        (&now, &kept, "history was rolled back: it has 5 frames, and the checkpoint that was kept has 11"),
        (&rewritten, &now, "the first 5 frames do not match those of the checkpoint"),
        (&another, &now, "this is the history of cluster"),
    ] {
        let error = verify_consistency(kept, now, &path).expect_err(why);
        assert!(error.contains(why), "{error}");
    }
}
