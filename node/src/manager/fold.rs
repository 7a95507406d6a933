//! The committed state: every entry of the log folded into it, in order, each checked against the one before.

use std::sync::Arc;

use bytes::Bytes;
use events::codec::{self, CodecError};
use events::frame::FrameHash;
use events::redaction::Unannounced;
use events::{Frame, Kind, StateHashRecorded, VolatilePayload};
use projections::snapshot::{self, SnapshotError};
use projections::{Cluster, FOLD_VERSION, Keyring, Touched};

use crate::log::{AppliedFrame, CheckpointHead, FrameLink, HistoryReader, LogError, LogStore, PageSize};

/// A state, the secrets that belong to it, and the hash that the next frame must carry.
#[derive(Debug, Clone, Default)]
pub struct Folded {
    /// The state.
    pub cluster: Cluster,
    /// The secrets.
    pub keyring: Arc<Keyring>,
    /// Hash of the last frame; `None` before the first.
    pub last_hash: Option<FrameHash>,
    /// Index of the checkpoint that the fold started from; 0 if it started from the first frame.
    pub checkpoint: u64,
    /// Redacted frames that no later frame has announced yet: until then the state differs from the original one.
    pub unannounced: Unannounced,
}

/// Why an entry cannot be folded. The process must stop: its state would differ from that of its peers.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The entry cannot be read.
    #[error("entry {index} cannot be read: {source}")]
    Codec {
        /// Its raft index.
        index: u64,
        /// What is wrong with it.
        source: CodecError,
    },
    /// The frame carries another index.
    #[error("entry {index} holds frame {frame}")]
    Misplaced {
        /// Its raft index.
        index: u64,
        /// The index in the frame.
        frame: u64,
    },
    /// The frame does not continue the chain.
    #[error("frame {index} does not carry the hash of the frame before it")]
    Unchained {
        /// Its index.
        index: u64,
    },
    /// The state here differs from the one recorded in the log.
    #[error("this manager's state after frame {index} has the hash {here}, but the log records {log}")]
    Diverged {
        /// The last frame before the difference was detected.
        index: u64,
        /// The hash of the state here.
        here: String,
        /// The hash in the log.
        log: String,
    },
}

/// Why the process has to stop.
#[derive(Debug, thiserror::Error)]
pub enum FatalError {
    /// The log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An entry does not fit the state.
    #[error(transparent)]
    Fold(#[from] FoldError),
}

impl Folded {
    /// The state in a checkpoint, without its secrets.
    ///
    /// # Errors
    /// When the checkpoint is damaged or has another fold version.
    pub fn from_checkpoint(head: CheckpointHead, read: snapshot::Reader) -> Result<Self, SnapshotError> {
        let last_hash = (head.frame_hash != FrameHash::default()).then_some(head.frame_hash);
        let cluster = read.finish()?;
        Ok(Self { cluster, last_hash, checkpoint: head.index, ..Self::default() })
    }

    /// The last frame that was folded.
    pub fn end(&self) -> Option<FrameLink> {
        self.last_hash.map(|hash| FrameLink { index: self.cluster.position.index, hash })
    }

    /// Folds the history after this state, and calls back for each frame, with whether a hash that it records was compared.
    ///
    /// # Errors
    /// When history cannot be read, or a frame does not continue it.
    pub fn fold_history(
        &mut self,
        store: &dyn LogStore,
        mut visit: impl FnMut(&Frame, bool),
    ) -> Result<(), FatalError> {
        let mut reader = HistoryReader::after(self.end());
        loop {
            // However long history is, no more than this is in memory.
            let frames = reader.page(store, u64::MAX, PageSize::WHOLE_HISTORY)?;
            if frames.is_empty() {
                return Ok(());
            }
            for (index, stored) in &frames {
                let is_as_it_was = self.unannounced.is_empty();
                visit(&self.fold_frame(*index, stored)?, is_as_it_was);
            }
        }
    }

    /// Folds the raft entry at `index`; returns what history and the keyring keep of it, and everything that it touched.
    ///
    /// # Errors
    /// When it cannot be read or does not continue the chain. The state is then unchanged.
    pub fn fold_entry(&mut self, index: u64, entry: &Bytes) -> Result<(AppliedFrame, Touched), FoldError> {
        let codec = |source| FoldError::Codec { index, source };
        let sections = codec::split_entry(entry).map_err(codec)?;
        let secrets = codec::decode_volatile(sections.volatile).map_err(codec)?;
        let bytes = entry.slice_ref(sections.frame);
        let (_, touched) = self.fold_touching(index, &bytes)?;
        self.keep(&secrets);
        Ok((AppliedFrame { index, bytes, secrets }, touched))
    }

    /// Stores or destroys secrets.
    pub fn keep(&mut self, secrets: &[VolatilePayload]) {
        for secret in secrets {
            Arc::make_mut(&mut self.keyring).apply(secret.clone());
        }
    }

    /// Folds the stored bytes of the frame at `index`, as in history: without its secrets.
    ///
    /// # Errors
    /// When it cannot be read or does not continue the chain. The state is then unchanged.
    pub fn fold_frame(&mut self, index: u64, stored: &Bytes) -> Result<Frame, FoldError> {
        self.fold_touching(index, stored).map(|(frame, _)| frame)
    }

    fn fold_touching(&mut self, index: u64, stored: &Bytes) -> Result<(Frame, Touched), FoldError> {
        let frame = codec::decode_frame(stored).map_err(|source| FoldError::Codec { index, source })?;
        if frame.header.index != index {
            return Err(FoldError::Misplaced { index, frame: frame.header.index });
        }
        if frame.header.previous_hash != self.last_hash.map(Vec::from).unwrap_or_default() {
            return Err(FoldError::Unchained { index });
        }
        self.compare_hashes(&frame)?;
        let touched = self.cluster.apply_frame(&frame);
        self.last_hash = Some(events::frame::hash(stored));
        self.unannounced.take(&frame, stored);
        Ok((frame, touched))
    }

    /// A recorded hash is that of the state before the frame that records it.
    fn compare_hashes(&self, frame: &Frame) -> Result<(), FoldError> {
        for kind in codec::kinds(frame) {
            let Kind::StateHashRecorded(recorded) = kind else { continue };
            if !is_comparable(recorded) || !self.unannounced.is_empty() {
                continue;
            }
            let here = self.cluster.state_hash();
            if recorded.hash != here || recorded.at_index != self.cluster.position.index {
                let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
                return Err(FoldError::Diverged {
                    index: recorded.at_index,
                    here: hex(&here),
                    log: hex(&recorded.hash),
                });
            }
        }
        Ok(())
    }
}

/// Whether a recorded hash was computed with this build's fold version, and so can be compared.
pub fn is_comparable(recorded: &StateHashRecorded) -> bool {
    recorded.fold_version() == FOLD_VERSION
}

#[cfg(test)]
mod tests {
    use events::{Event, FrameHeader, Reconciler};

    use super::*;

    /// The first frame of a log, with this recorded hash of the state before it.
    fn recorded(hash: Vec<u8>, fold_version: Option<u32>) -> Bytes {
        let header = FrameHeader { index: 2, feature_level: 1, format: 1, ..FrameHeader::default() };
        let event = StateHashRecorded { at_index: 0, hash, fold_version };
        let events = vec![Event::by_reconciler(Reconciler::Schedule, Kind::StateHashRecorded(event))];
        let entry = codec::encode_entry(&Frame { header, commands: Vec::new(), events }, Vec::new());
        Bytes::copy_from_slice(codec::split_entry(&entry).unwrap().frame)
    }

    fn fold(hash: Vec<u8>, fold_version: Option<u32>) -> Result<Frame, FoldError> {
        Folded::default().fold_frame(2, &recorded(hash, fold_version))
    }

    #[test]
    fn a_hash_is_compared_with_the_state_of_its_own_fold_version() {
        let right = Cluster::default().state_hash().to_vec();
        assert!(fold(right, Some(FOLD_VERSION)).is_ok());
        assert!(matches!(fold(vec![9; 16], Some(FOLD_VERSION)), Err(FoldError::Diverged { index: 0, .. })));
        assert!(fold(vec![9; 16], Some(FOLD_VERSION + 1)).is_ok());
    }

    #[test]
    fn a_hash_without_a_fold_version_is_of_the_first_one() {
        let diverged = matches!(fold(vec![9; 16], None), Err(FoldError::Diverged { .. }));
        assert_eq!(diverged, FOLD_VERSION == 1);
    }
}
