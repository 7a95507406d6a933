//! States of the past: the newest earlier checkpoint, with the frames of history after it folded onto it. A few are cached, and
//! the next one starts from the nearest of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use projections::{Cluster, snapshot};
use prost::Message;

use crate::log::{CheckpointPart, FrameLink, HistoryReader, LogStore, PageSize};
use crate::manager::driver::Published;
use crate::manager::fold::{FatalError, Folded};

/// States that are kept: enough to compare two and to look around both.
const STATES_MAX: usize = 4;
/// Maximum bytes of these states: two of them with 100,000 tasks each. The last one is always kept, for the next request about it. What
/// states share is counted for each.
const BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of a task with its entries in all tables and indices, of a node, and of the answers of all commands that are remembered: the
/// targets of `make bench`.
const TASK_BYTES: usize = 1_024;
const NODE_BYTES: usize = 2_048;
const ANSWERS_BYTES: usize = 6_000_000;
/// Memory of a spec, as a multiple of its encoded size.
const SPEC_FACTOR: usize = 4;
/// Frames folded between two looks at whether anybody still waits.
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
    bytes_max: usize,
    kept: Mutex<Kept>,
}

/// Cached states.
#[derive(Default)]
struct Kept {
    /// The redaction up to which all values were erased when they were built: older states may contain values erased since.
    redacted_to: u64,
    states: VecDeque<KeptState>,
}

struct KeptState {
    folded: Folded,
    bytes: usize,
}

impl Kept {
    /// Forgets the oldest until there is room for one that takes so many bytes.
    fn make_room(&mut self, bytes: usize, bytes_max: usize) -> Vec<KeptState> {
        let mut forgotten = Vec::new();
        let taken = |states: &VecDeque<KeptState>| states.iter().map(|state| state.bytes).sum::<usize>();
        while self.states.len() >= STATES_MAX || taken(&self.states).saturating_add(bytes) > bytes_max {
            match self.states.pop_front() {
                Some(state) => forgotten.push(state),
                None => break,
            }
        }
        forgotten
    }
}

impl Past {
    /// The past of a log.
    pub fn of(store: Arc<dyn LogStore>) -> Self {
        Self::keeping(store, BYTES_MAX)
    }

    /// The same, keeping other states for so many bytes at most.
    pub fn keeping(store: Arc<dyn LogStore>, bytes_max: usize) -> Self {
        Self { store, bytes_max, kept: Mutex::default() }
    }

    /// The indexes of the states that are kept, in the order in which they were made.
    pub fn kept_indexes(&self) -> Vec<u64> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.states.iter().map(|state| state.folded.cluster.position.index).collect()
    }

    /// Whether the state at one index is made from that at an earlier one, if that is kept: no checkpoint is nearer.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn leads(&self, from: u64, to: u64) -> Result<bool, PastError> {
        let nearest = self.store.checkpoint_before(to).map_err(FatalError::from)?;
        Ok(from <= to && nearest.is_none_or(|checkpoint| checkpoint <= from))
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
        let states = kept.states.iter().map(|state| &state.folded);
        let kept = states.filter(|folded| position(folded) <= index).max_by_key(|folded| position(folded)).cloned();
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
        let bytes = memory_bytes(&folded.cluster);
        let mut kept = self.kept(redacted_to);
        kept.states.retain(|other| other.folded.cluster.position.index != folded.cluster.position.index);
        let forgotten = kept.make_room(bytes, self.bytes_max);
        kept.states.push_back(KeptState { folded, bytes });
        drop(kept);
        // To free them takes long, and others wait for the lock.
        drop(forgotten);
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

/// About how many bytes a state takes where it shares nothing with another. Costs a look at every spec and config.
pub fn memory_bytes(cluster: &Cluster) -> usize {
    let specs: usize = cluster.revisions.values().map(|revision| revision.spec.encoded_len() * SPEC_FACTOR).sum();
    let data = cluster.configs.values().flat_map(|config| config.revisions.values());
    let data: usize = data.map(|revision| revision.data.len()).sum();
    cluster.tasks.len() * TASK_BYTES + cluster.nodes.len() * NODE_BYTES + ANSWERS_BYTES + specs + data
}
