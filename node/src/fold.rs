//! The committed state: every entry of the log folded into it, in order, each checked against the one before.

use std::sync::Arc;

use bytes::Bytes;
use events::codec::{self, CodecError};
use events::frame::FrameHash;
use events::{Frame, Kind, VolatilePayload};
use projections::snapshot::{self, SnapshotError};
use projections::{Cluster, Keyring, Touched};

/// A state, the secrets that go with it, and the hash that the next frame has to carry.
#[derive(Debug, Clone, Default)]
pub struct Folded {
    /// The state.
    pub cluster: Cluster,
    /// The secrets.
    pub keyring: Arc<Keyring>,
    /// Hash of the last frame; nothing before the first.
    pub last_hash: Option<FrameHash>,
}

/// What an entry brought.
#[derive(Debug)]
pub struct FoldedEntry {
    /// The frame's stored bytes.
    pub stored: Bytes,
    /// Everything that it concerns.
    pub touched: Touched,
}

/// Why an entry cannot be folded. The process must not go on: its state would differ from its peers'.
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
    /// The frame says that it stands elsewhere.
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
    /// The state here is not what the log says it was.
    #[error("this manager's state after frame {index} has the hash {here}, the log says {log}")]
    Diverged {
        /// The last frame before the difference was seen.
        index: u64,
        /// The hash of the state here.
        here: String,
        /// The hash in the log.
        log: String,
    },
}

impl Folded {
    /// The state in a checkpoint, after which the frame with this hash comes.
    ///
    /// # Errors
    /// When the checkpoint is damaged or of another fold version.
    pub fn from_checkpoint(bytes: &[u8], last_hash: FrameHash) -> Result<Self, SnapshotError> {
        let (cluster, keyring) = snapshot::read(bytes)?;
        let last_hash = (last_hash != FrameHash::default()).then_some(last_hash);
        Ok(Self { cluster, keyring: Arc::new(keyring), last_hash })
    }

    /// Folds the raft entry at `index`.
    ///
    /// # Errors
    /// When it cannot be read or does not follow. The state is then unchanged.
    pub fn fold_entry(&mut self, index: u64, entry: &Bytes) -> Result<FoldedEntry, FoldError> {
        let codec = |source| FoldError::Codec { index, source };
        let sections = codec::split_entry(entry).map_err(codec)?;
        let volatile = codec::decode_volatile(sections.volatile).map_err(codec)?;
        let stored = entry.slice_ref(sections.frame);
        let (_, touched) = self.fold_touching(index, &stored)?;
        self.keep(volatile);
        Ok(FoldedEntry { stored, touched })
    }

    /// Keeps or destroys secrets.
    pub fn keep(&mut self, volatile: Vec<VolatilePayload>) {
        for payload in volatile {
            Arc::make_mut(&mut self.keyring).apply(payload);
        }
    }

    /// Folds the stored bytes of the frame at `index`, as history has them: without its secrets.
    ///
    /// # Errors
    /// When it cannot be read or does not follow. The state is then unchanged.
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
        Ok((frame, touched))
    }

    /// A recorded hash is that of the state before the frame that records it.
    fn compare_hashes(&self, frame: &Frame) -> Result<(), FoldError> {
        for kind in codec::kinds(frame) {
            let Kind::StateHashRecorded(recorded) = kind else { continue };
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
