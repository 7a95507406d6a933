//! The proof that a frame is part of a history, in the text form of C2SP's tlog-proof: the frame's stored bytes, its number, the
//! path to the root, and a checkpoint with that root.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use events::{Frame, codec, redaction};

use crate::checkpoint::Checkpoint;
use crate::note::{SignedNote, Verdict};
use crate::path::{continues, includes};
use crate::tree::{Hash, leaf};
use crate::verify::TrustedInputs;

/// The first line.
pub const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// Maximum length of a path: one hash per level.
const PATH_MAX: usize = 64;

/// A frame and its path to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// The number of the frame; the first of a cluster is 0.
    pub number: u64,
    /// The sibling hashes on the path to the root.
    pub path: Vec<Hash>,
    /// The frame's stored bytes.
    pub frame: Bytes,
    /// The checkpoint.
    pub checkpoint: SignedNote,
}

/// How a checkpoint is confirmed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// Names of the keys that signed it.
    pub signed: Vec<String>,
    /// Whether the same checkpoint was kept.
    pub kept: bool,
    /// The faults, one sentence each.
    pub faults: Vec<String>,
}

impl TrustedInputs {
    /// The trusted keys and kept checkpoints that confirm a checkpoint. If there are none, this is a fault.
    pub fn confirmation(&self, note: &SignedNote, checkpoint: &Checkpoint) -> Confirmation {
        let mut found = Confirmation::default();
        for key in &self.keys {
            match note.verdict(key) {
                Verdict::Signed => found.signed.push(key.name().to_owned()),
                Verdict::Forged => found.faults.push(format!("the signature of {} is forged", key.name())),
                Verdict::Unsigned => {}
            }
        }
        found.kept = self.checkpoints.contains(checkpoint);
        for kept in self.checkpoints.iter().filter(|kept| kept.size == checkpoint.size && *kept != checkpoint) {
            found
                .faults
                .push(format!("the first {} frames do not match those of the checkpoint that was kept", kept.size));
        }
        if found.signed.is_empty() && !found.kept {
            let sentence = "none of the trusted keys signed the checkpoint, and it does not match a kept one";
            found.faults.push(sentence.to_owned());
        }
        found
    }
}

impl InclusionProof {
    /// Verifies the proof; returns the checkpoint and the frame.
    ///
    /// # Errors
    /// A sentence on why the proof is invalid.
    pub fn verify(&self) -> Result<(Checkpoint, Frame), String> {
        let checkpoint: Checkpoint = self.checkpoint.text().parse()?;
        if !includes(&checkpoint.root, checkpoint.size, self.number, &leaf(&self.frame), &self.path) {
            let Checkpoint { size, .. } = checkpoint;
            return Err(format!("the frame is not number {} of the {size} frames of the checkpoint", self.number));
        }
        let frame = codec::decode_frame(&self.frame).map_err(|error| format!("the frame is damaged: {error}"))?;
        if redaction::original(&self.frame).is_some() {
            let index = frame.header.index;
            return Err(format!(
                "frame {index} was redacted: only an export with the frame that announces it is proof of it"
            ));
        }
        Ok((checkpoint, frame))
    }
}

/// Verifies the proof that a history continues a kept one.
///
/// # Errors
/// A sentence on why it is invalid.
pub fn verify_consistency(kept: &Checkpoint, new: &Checkpoint, path: &[Hash]) -> Result<(), String> {
    if kept.cluster != new.cluster {
        return Err(format!("this is the history of cluster {}, the checkpoint is of {}", new.cluster, kept.cluster));
    }
    if kept.size > new.size {
        let (was, is) = (kept.size, new.size);
        return Err(format!("history was rolled back: it has {is} frames, and the checkpoint that was kept has {was}"));
    }
    let holds = continues((kept.size, &kept.root), (new.size, &new.root), path);
    let sentence = || format!("the first {} frames do not match those of the checkpoint that was kept", kept.size);
    if holds { Ok(()) } else { Err(sentence()) }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}\nextra {}\nindex {}", BASE64_STANDARD.encode(&self.frame), self.number)?;
        for hash in &self.path {
            writeln!(f, "{}", BASE64_STANDARD.encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for InclusionProof {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or("the proof has no checkpoint")?;
        let mut lines = head.lines();
        if lines.next() != Some(HEADER) {
            return Err(format!("it is not a proof: the first line should be {HEADER}"));
        }
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.ok_or_else(|| format!("the proof has no line \"{name}\""))
        };
        let (extra, index) = (field("extra")?, field("index")?);
        let frame = BASE64_STANDARD.decode(extra).map_err(|_| "the frame in the proof is not base64")?.into();
        let number = index.parse().ok().filter(|number: &u64| number.to_string() == index);
        let number = number.ok_or_else(|| format!("\"{index}\" is not a frame number"))?;
        let path: Vec<Hash> = lines.map(hash).collect::<Result<_, _>>()?;
        if path.len() > PATH_MAX {
            return Err(format!("a path of {} hashes cannot be: {PATH_MAX} at most", path.len()));
        }
        Ok(Self { number, path, frame, checkpoint: checkpoint.parse()? })
    }
}

fn hash(line: &str) -> Result<Hash, String> {
    let decoded = BASE64_STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
    decoded.ok_or_else(|| "a line of the path is not a hash: 32 bytes in base64 are expected".to_owned())
}

#[cfg(test)]
mod tests;
