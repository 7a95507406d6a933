//! States of the past: the newest earlier checkpoint, with the frames of history after it folded onto it. A few are cached, and
//! the next one starts from the nearest of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use projections::snapshot;

use crate::log::{CheckpointPart, FrameLink, HistoryReader, LogStore, PageSize};
use crate::manager::driver::Published;
use crate::manager::fold::{FatalError, Folded};

/// Cached states: enough to compare two and to look around both. Each takes as much memory as the state of a manager, less what
/// it shares with the state that it started from.
const STATES_MAX: usize = 4;
/// Frames folded between two checks whether the manager is stopping.
const PAGE: PageSize = PageSize { frames: 1_024, bytes: 2 * 1024 * 1024 };

/// A state of the past.
#[derive(Debug, Clone)]
pub struct PastState {
    /// The state, without secrets: history does not have them.
    pub published: Arc<Published>,
    /// Its last frame.
    pub end: Option<FrameLink>,
}

/// Why there is no state to show.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// History cannot be read, or does not lead to this state.
    #[error(transparent)]
    Fold(#[from] FatalError),
    /// The manager is stopping.
    #[error("the manager is stopping")]
    Stopped,
}

/// Builds states of the past, one at a time, and caches some.
pub struct Past {
    store: Arc<dyn LogStore>,
    kept: Mutex<Kept>,
}

/// Cached states.
#[derive(Default)]
struct Kept {
    /// The redaction up to which all values were erased when they were built: older states may contain values erased since.
    redacted_to: u64,
    states: VecDeque<Folded>,
}

impl Past {
    /// The past of a log.
    pub fn of(store: Arc<dyn LogStore>) -> Self {
        Self { store, kept: Mutex::default() }
    }

    /// The state after the frame at this index, or after the last one before it. The caller has checked that history reaches that
    /// index.
    ///
    /// # Errors
    /// When history cannot be read, or the manager is stopping.
    pub fn at(&self, index: u64, is_stopped: &dyn Fn() -> bool) -> Result<PastState, PastError> {
        let redacted_to = self.store.redacted_to().map_err(FatalError::from)?.everywhere();
        let mut folded = self.nearest(index, redacted_to)?;
        let mut reader = HistoryReader::after(folded.end());
        loop {
            if is_stopped() {
                return Err(PastError::Stopped);
            }
            let frames = reader.page(&*self.store, index, PAGE).map_err(FatalError::from)?;
            if frames.is_empty() {
                break;
            }
            for (index, stored) in &frames {
                folded.fold_frame(*index, stored).map_err(FatalError::from)?;
            }
        }
        self.keep(folded.clone(), redacted_to);
        let published = Published { cluster: folded.cluster.clone(), ..Published::default() };
        Ok(PastState { published: Arc::new(published), end: folded.end() })
    }

    /// The nearest cached state or checkpoint that is not after this index.
    fn nearest(&self, index: u64, redacted_to: u64) -> Result<Folded, PastError> {
        let position = |folded: &Folded| folded.cluster.position.index;
        let kept = self.kept(redacted_to);
        let kept = kept
            .states
            .iter()
            .filter(|folded| position(folded) <= index)
            .max_by_key(|folded| position(folded))
            .cloned();
        let from = kept.as_ref().map_or(0, position);
        let mut at_most = index;
        loop {
            let newest = self.store.checkpoint_before(at_most).map_err(FatalError::from)?;
            let Some(newest) = newest.filter(|checkpoint| *checkpoint > from) else {
                return Ok(kept.unwrap_or_default());
            };
            match self.checkpointed(newest) {
                Ok(Some(folded)) => return Ok(folded),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(
                        index = newest,
                        error,
                        "a checkpoint cannot be used; an older one or history is used"
                    );
                }
            }
            at_most = newest.saturating_sub(1);
        }
    }

    /// The state in the checkpoint at this index; `None` if that no longer exists.
    fn checkpointed(&self, index: u64) -> Result<Option<Folded>, String> {
        let mut reader = snapshot::Reader::default();
        let loaded = self.store.load_checkpoint(index, &mut |part| match part {
            CheckpointPart::Begin { bytes: _ } => reader = snapshot::Reader::default(),
            CheckpointPart::Chunk(chunk) => reader.push(chunk),
        });
        let Some(head) = loaded.map_err(|error| error.to_string())? else { return Ok(None) };
        Folded::from_checkpoint(head, reader).map(Some).map_err(|error| error.to_string())
    }

    fn keep(&self, folded: Folded, redacted_to: u64) {
        let Kept { states, .. } = &mut *self.kept(redacted_to);
        states.retain(|other| other.cluster.position.index != folded.cluster.position.index);
        if states.len() == STATES_MAX {
            states.pop_front();
        }
        states.push_back(folded);
    }

    /// The cache, emptied if its states were built before all values up to this redaction were erased.
    fn kept(&self, redacted_to: u64) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.redacted_to != redacted_to {
            *kept = Kept { redacted_to, states: VecDeque::new() };
        }
        kept
    }
}
