//! The thread that maintains what is derived from history, in the background and at the lowest CPU priority: the index, and the
//! tiles of the Merkle tree of frames. History that it has not processed yet is read without them. Both can be rebuilt from
//! history, so that damage only means to start over.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use events::TaskId;
use events::codec::{self, CodecError};
use projections::views::terms::{self, Home, Homes};

use crate::log::index::{decode_value, encode_value};
use crate::log::{Frames, HistoryReader, LogError, LogStore, PageSize, SegmentIndex, Table, tree};
use crate::manager::scrub::run_when_idle;

/// How often the thread checks for another segment: what is written meanwhile is read without an index.
const PERIOD: Duration = Duration::from_secs(1);
/// Pause after a segment, as a multiple of the time that it took: other readers of the disk come first.
const PAUSE_PER_SEGMENT: u32 = 1;
/// How often a segment is postponed while writes of the log wait.
const POSTPONEMENTS_MAX: u32 = 20;
const POSTPONE_PAUSE: Duration = Duration::from_millis(5);
/// Delay before the next attempt after damage: the unreadable history may be healed by then.
const DAMAGE_PAUSE: Duration = Duration::from_secs(60);
/// Bytes of history in memory at a time.
const PAGE: PageSize = PageSize { frames: 64, bytes: 1024 * 1024 };

/// The thread, until it is stopped.
pub struct Indexer {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Indexer {
    /// Stops the thread, which releases the log.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that keeps the index of history panicked");
        }
    }
}

/// Why a segment cannot be added to the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(LogError),
    /// The write failed: earlier writes may be lost as well.
    #[error(transparent)]
    Write(LogError),
    /// A frame cannot be read.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// Starts to maintain the index of a log. The owner of the log must be notified of a failed write.
///
/// # Errors
/// When the thread cannot be spawned.
pub fn spawn(store: Arc<dyn LogStore>, failed: impl FnOnce(LogError) + Send + 'static) -> std::io::Result<Indexer> {
    let (stop, stopped) = sync_channel(0);
    let thread = std::thread::Builder::new().name("index".to_owned()).spawn(move || {
        run_when_idle();
        if let Err(error) = run(&*store, &stopped) {
            failed(error);
        }
    })?;
    Ok(Indexer { stop, thread })
}

/// Runs until it is stopped, or a write fails.
fn run(store: &dyn LogStore, stopped: &Receiver<()>) -> Result<(), LogError> {
    let pauses = |pause| matches!(stopped.recv_timeout(pause), Err(RecvTimeoutError::Timeout));
    loop {
        let mut postponements = 0;
        while postponements < POSTPONEMENTS_MAX && store.writes_wait() {
            if !pauses(POSTPONE_PAUSE) {
                return Ok(());
            }
            postponements += 1;
        }
        let began = Instant::now();
        let pause = match step(store) {
            Ok(true) => began.elapsed().saturating_mul(PAUSE_PER_SEGMENT),
            Ok(false) => PERIOD,
            Err(IndexError::Write(error)) => return Err(error),
            Err(IndexError::Read(error)) if error.is_of_a_cache() => {
                tracing::warn!(%error, "the index of history is damaged; it is rebuilt");
                if error.is_of(Table::Tree) {
                    store.discard_tiles()?
                } else {
                    store.discard_index()?
                }
                DAMAGE_PAUSE
            }
            Err(error @ (IndexError::Read(_) | IndexError::Codec(_))) => {
                tracing::warn!(%error, "history cannot be indexed further; searches read history itself meanwhile");
                DAMAGE_PAUSE
            }
        };
        if !pauses(pause) {
            return Ok(());
        }
    }
}

/// Extends the index and the tree, independently of each other; returns whether there was anything to add.
fn step(store: &dyn LogStore) -> Result<bool, IndexError> {
    let (indexed, tiled) = (add_segment(store), add_tile(store));
    Ok(indexed? | tiled?)
}

/// Adds the next tile to the tree of frames; returns whether there was one.
fn add_tile(store: &dyn LogStore) -> Result<bool, IndexError> {
    let Some((reach, leaves)) = tree::next_tile(store).map_err(IndexError::Read)? else { return Ok(false) };
    let failed = |error: LogError| if error.is_damage() { IndexError::Read(error) } else { IndexError::Write(error) };
    store.save_tile(reach, &leaves).map_err(failed)?;
    Ok(true)
}

/// Adds the next segment of history to the index; returns whether there was one.
///
/// # Errors
/// When history cannot be read or the index cannot be written.
pub fn add_segment(store: &dyn LogStore) -> Result<bool, IndexError> {
    let Some(segment) = store.segment_to_index().map_err(IndexError::Read)? else { return Ok(false) };
    let index = index_of(store, &segment)?;
    store.save_index(&segment, index).map_err(IndexError::Write)?;
    Ok(true)
}

fn index_of(store: &dyn LogStore, segment: &Range<u64>) -> Result<SegmentIndex, IndexError> {
    let mut reader = HistoryReader::starting_at(segment.start);
    let mut homes = SegmentHomes { store, known: BTreeMap::new(), changed: BTreeMap::new() };
    let mut found: BTreeMap<u64, Frames> = BTreeMap::new();
    loop {
        let page = reader.page(store, segment.end - 1, PAGE).map_err(IndexError::Read)?;
        if page.is_empty() {
            break;
        }
        for (index, stored) in page {
            let frame = codec::decode_frame(&stored)?;
            let mut add = |term: terms::Term<'_>| found.entry(term.key()).or_default().add(index);
            terms::of_frame(&frame, &mut homes, &mut add).map_err(IndexError::Read)?;
        }
    }
    let values = homes.changed.iter().map(|(task, home)| (terms::home_key(*task), encode_value(home))).collect();
    Ok(SegmentIndex { terms: found.into_iter().collect(), values })
}

/// Homes of tasks while a segment is read: those in the segment, and those that the index has from earlier ones.
struct SegmentHomes<'a> {
    store: &'a dyn LogStore,
    /// Results of index lookups, including misses.
    known: BTreeMap<TaskId, Option<Home>>,
    changed: BTreeMap<TaskId, Home>,
}

impl Homes for SegmentHomes<'_> {
    type Error = LogError;

    fn get(&mut self, task: TaskId) -> Result<Option<Home>, LogError> {
        if let Some(home) = self.changed.get(&task) {
            return Ok(Some(*home));
        }
        if let Some(known) = self.known.get(&task) {
            return Ok(*known);
        }
        let home = indexed_home(self.store, task)?;
        self.known.insert(task, home);
        Ok(home)
    }

    fn set(&mut self, task: TaskId, home: Home) {
        self.changed.insert(task, home);
    }
}

/// The service and node of a task, if the index has them.
///
/// # Errors
/// When the index is damaged or cannot be read.
pub fn indexed_home(store: &dyn LogStore, task: TaskId) -> Result<Option<Home>, LogError> {
    let key = terms::home_key(task);
    store.indexed_value(key)?.map(|stored| decode_value(key, &stored)).transpose()
}
