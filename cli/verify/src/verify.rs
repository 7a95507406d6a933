//! Verifies an export, and reports the findings.

use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use events::frame::{self, FrameHash};
use events::redaction::Unannounced;
use events::{Frame, Kind, codec};
use projections::{Cluster, FOLD_VERSION};

use crate::checkpoint::Checkpoint;
use crate::frames::FrameReader;
use crate::note::VerifierKey;
use crate::tree::{Hash, Tree};

/// Maximum number of faults that are described; further ones are counted.
const NAMED_MAX: usize = 100;

/// Trusted knowledge from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct TrustedInputs {
    /// Keys of managers and witnesses.
    pub keys: Vec<VerifierKey>,
    /// Checkpoints that were kept.
    pub checkpoints: Vec<Checkpoint>,
    /// Log heads that were noted, as `swarmctl cluster inspect` shows them: the index of a frame and its hash.
    pub heads: Vec<(u64, FrameHash)>,
}

/// The findings.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The number of frames.
    pub frames: u64,
    /// The index of the first frame.
    pub first: u64,
    /// The index and hash of the last frame.
    pub head: Option<(u64, FrameHash)>,
    /// The number of state hashes that were compared; and of those that were not, because they are of another fold version, or of
    /// a state with values that were erased from history since.
    pub hashes: (u64, u64),
    /// The number of frames from which a value was erased, as announced by a later frame.
    pub redacted: u64,
    /// The number of heads and checkpoints that were compared.
    pub compared: u64,
    /// The root of the tree over them.
    pub root: Hash,
    /// The checkpoint of everything that was read, if that starts with the first frame of a cluster and has no faults.
    pub checkpoint: Option<Checkpoint>,
    /// The faults, one sentence each.
    pub faults: Vec<String>,
    /// The number of further faults.
    pub more: u64,
}

impl Report {
    fn fault(&mut self, sentence: String) {
        if self.faults.len() < NAMED_MAX {
            self.faults.push(sentence);
        } else {
            self.more += 1;
        }
    }
}

/// Verifies an export from its first byte to its last. Memory is bounded by a frame and the state of the cluster.
///
/// # Errors
/// When the file cannot be read. A truncated file is a fault.
pub fn verify(export: impl Read, known: &TrustedInputs) -> io::Result<Report> {
    let (mut frames, mut verifier) = (FrameReader::new(export), Verifier::new(known.clone()));
    loop {
        let place = format!("byte {}, ", frames.offset());
        match frames.next_frame() {
            Ok(Some(stored)) => verifier.take(&place, &stored),
            Ok(None) => break,
            Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) => {
                verifier.damaged(&place, &error.to_string());
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(verifier.finish())
}

/// The state that results from the frames.
enum Fold {
    /// No frame was read yet.
    NotBegun,
    Known(Box<Cluster>),
    /// The export starts in the middle, or has a fault: the state is not known.
    Unknown,
}

/// Verifies frames one by one, from any source.
pub struct Verifier {
    known: TrustedInputs,
    report: Report,
    tree: Tree,
    fold: Fold,
    redacted: Unannounced,
}

impl Verifier {
    /// A verifier for frames, starting with the next one.
    pub fn new(known: TrustedInputs) -> Self {
        Self {
            known,
            report: Report::default(),
            tree: Tree::default(),
            fold: Fold::NotBegun,
            redacted: Unannounced::default(),
        }
    }

    /// The index of the last frame that was verified.
    pub fn last(&self) -> u64 {
        self.report.head.map_or(0, |(index, _)| index)
    }

    /// Records that the next data is not a frame. `place` is its location, or empty.
    pub fn damaged(&mut self, place: &str, why: &str) {
        let after = self.after();
        self.report.fault(format!("{place}after {after}: {why}"));
        self.fold = Fold::Unknown;
    }

    fn after(&self) -> String {
        self.report.head.map_or_else(|| "no frame".to_owned(), |(index, _)| format!("frame {index}"))
    }

    /// Verifies the next frame, given its stored bytes. `place` is their location, or empty.
    pub fn take(&mut self, place: &str, stored: &Bytes) {
        let frame = match codec::decode_frame(stored) {
            Ok(frame) => frame,
            Err(error) => return self.damaged(place, &format!("the frame is damaged: {error}")),
        };
        let index = frame.header.index;
        if self.report.frames == 0 {
            self.begin(&frame);
        }
        if let Some(fault) = self.unchained(&frame) {
            self.report.fault(fault);
            self.fold = Fold::Unknown;
        }
        self.fold_frame(&frame);
        self.report.redacted += self.redacted.take(&frame, stored);
        self.tree.add(stored);
        let hash = frame::hash(stored);
        self.report.frames += 1;
        self.report.head = Some((index, hash));
        self.compare_head(index, hash);
        self.compare_checkpoints();
    }

    fn begin(&mut self, frame: &Frame) {
        self.report.first = frame.header.index;
        let is_first = frame.header.previous_hash.is_empty();
        self.fold = if is_first { Fold::Known(Box::default()) } else { Fold::Unknown };
    }

    /// Why a frame does not follow the one before it.
    fn unchained(&self, frame: &Frame) -> Option<String> {
        let (index, (last, hash)) = (frame.header.index, self.report.head?);
        if index <= last {
            return Some(format!("frame {index} is out of order: it comes after frame {last}"));
        }
        if frame.header.previous_hash == hash {
            return None;
        }
        let missing = if index == last + 1 { "" } else { ", or frames between them are missing" };
        Some(format!("frame {index} does not contain the hash of frame {last}: that was changed{missing}"))
    }

    /// Compares the recorded hash of the state, and applies the frame.
    fn fold_frame(&mut self, frame: &Frame) {
        let Fold::Known(cluster) = &mut self.fold else { return };
        for kind in codec::kinds(frame) {
            let Kind::StateHashRecorded(recorded) = kind else { continue };
            // Without erased values, the state differs until the frame that announces the erasure.
            if recorded.fold_version() != FOLD_VERSION || !self.redacted.is_empty() {
                self.report.hashes.1 += 1;
                continue;
            }
            self.report.hashes.0 += 1;
            if recorded.hash != cluster.state_hash() || recorded.at_index != cluster.position.index {
                let at = recorded.at_index;
                self.report.fault(format!("the events up to frame {at} lead to another state than the recorded one"));
            }
        }
        // An impossible event ends the fold.
        if catch_unwind(AssertUnwindSafe(|| drop(cluster.apply_frame(frame)))).is_err() {
            let index = frame.header.index;
            self.report.fault(format!("frame {index} has an event that is impossible at this point"));
            self.fold = Fold::Unknown;
        }
    }

    fn compare_head(&mut self, index: u64, hash: FrameHash) {
        for (_, noted) in self.known.heads.iter().filter(|(noted, _)| *noted == index) {
            self.report.compared += 1;
            if *noted != hash {
                self.report.fault(format!("frame {index} does not match the noted head: its hash is {}", hex(&hash)));
            }
        }
    }

    fn compare_checkpoints(&mut self) {
        let size = self.tree.size();
        for kept in self.known.checkpoints.iter().filter(|kept| kept.size == size) {
            self.report.compared += 1;
            if kept.root != self.tree.root() {
                let sentence = format!("the first {size} frames do not match those of the checkpoint that was kept");
                self.report.fault(
                    sentence
                        + ": one of them was changed, left out or added, or the export does not begin at the first",
                );
            }
        }
    }

    /// The findings, once all frames were verified.
    pub fn finish(mut self) -> Report {
        let (size, last) = (self.tree.size(), self.last());
        self.report.root = self.tree.root();
        for kept in &self.known.checkpoints {
            if kept.size > size {
                let missing = kept.size - size;
                self.report
                    .fault(format!("{missing} frames are missing at the end: the kept checkpoint has {}", kept.size));
            }
        }
        for index in self.redacted.indexes() {
            self.report.fault(format!("frame {index} was redacted, and no frame after it announces that"));
        }
        for (noted, _) in self.known.heads.iter().filter(|(noted, _)| *noted > last) {
            self.report.fault(format!("the export ends with frame {last}, before frame {noted} that was noted"));
        }
        if let (Fold::Known(cluster), true) = (&self.fold, self.report.faults.is_empty()) {
            let checkpoint = Checkpoint { cluster: cluster.id(), size, root: self.report.root };
            self.compare_clusters(&checkpoint);
            self.report.checkpoint = Some(checkpoint).filter(|_| self.report.faults.is_empty());
        }
        self.report
    }

    fn compare_clusters(&mut self, found: &Checkpoint) {
        for kept in self.known.checkpoints.iter().filter(|kept| kept.cluster != found.cluster) {
            let sentence =
                format!("this is the history of cluster {}, the checkpoint is of {}", found.cluster, kept.cluster);
            self.report.fault(sentence);
        }
    }
}

/// A hash in hexadecimal digits.
pub fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
