//! The log: consensus, storage and history. Raft types stay inside this folder.
//!
//! Nothing here reads a clock, starts a thread or awaits: the turn loop drives [`Consensus`] with ticks, proposals and
//! [`Consensus::ready`], hands the resulting writes to a thread of their own ([`write_all`]), and reports them back; the
//! simulation drives the same code over a [`MemoryDisk`].
//!
//! ```text
//! raft entries   |<- cut ->|<---------- first_index .. last_index ---------->|
//! history        |<- archives ->|<--------- frames ---------->| applied
//! checkpoints         ^ older             ^ newest
//! keyring                                                     | applied
//! ```
//!
//! Raft entries are short-lived: they are removed once history and a checkpoint cover them. History is the product: every applied
//! frame, each carrying the hash of the one before it; old ones may be in files ([`archive`]). A checkpoint only saves a start
//! from folding all of history; the keyring holds what history must not contain.

pub mod archive;
pub mod chain;
mod checkpoint;
pub mod disk;
pub mod entry;
mod error;
mod frames;
mod heal;
mod high_water_mark;
pub mod history;
pub mod index;
mod keyring;
pub mod memory;
pub mod raft;
mod recover;
mod redaction;
mod reseal;
pub mod rocks;
mod scrub;
mod slog_bridge;
pub mod store;
mod tail;
pub mod tree;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crashes;
#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod restoring;

use std::ops::Range;

use bytes::Bytes;
use events::VolatilePayload;
use events::frame::FrameHash;

pub use archive::{ArchiveStore, Archived};
pub use disk::Table;
pub use entry::{Applied, AppliedFrame, Entry, EntryKind, FrameLink, HardState, MemberChange, Membership};
pub use error::LogError;
pub use heal::{HealError, Healed, OtherHistory};
pub use history::{HistoryReader, PageSize, Verified, frame_at, verify_all};
pub use index::{Direction, Frames, SEGMENT, SegmentIndex};
pub use memory::{Crash, MemoryDisk, MemoryStore};
pub use raft::{
    Committed, Consensus, FollowerProgress, Message, Offer, Progress, ProposeError, RoleChange, StepError, Write,
    Written, write_all,
};
pub use redaction::{Permits, RedactedTo, RedactionStore};
pub use reseal::ResealPosition;
pub use rocks::{Checkpoints, RocksStore};
pub use scrub::{Scrub, ScrubProgress, Scrubbed};
pub use tree::{TileStore, TreeError, TreeReader};

/// A manager's log. All methods take `&self`. Only the turn loop stages raft entries and history, which does not touch the disk;
/// only one thread writes what was staged, in that order; [`LogStore::history`] and the checkpoint methods may be called from
/// other threads at the same time.
///
/// Any error of a method that writes is final: the contents of the disk are then unknown, because a second attempt may report a
/// success that never happened. The process ends, and the next start reads what is really on disk.
pub trait LogStore: TileStore + ArchiveStore + RedactionStore {
    /// Verifies the log, repairs a torn tail of history, and returns its state. Must be called before all other methods except
    /// [`LogStore::history`] and [`LogStore::applied`]. What it returns is durable.
    ///
    /// # Errors
    /// When an irreparable part is damaged, or the log ends before an index that was durable.
    fn load(&self) -> Result<Loaded, LogError>;

    /// Initializes a log, durably: that of a new cluster with its voters, whose first entry then gets index 2; or that of a
    /// manager which is about to join one, and is the only learner. That log is empty, so that it starts from a state that
    /// another manager offers.
    ///
    /// # Errors
    /// When the log already exists, or the write fails.
    fn initialize(&self, membership: &Membership) -> Result<(), LogError>;

    /// Resets a log, durably, to have this manager as the only voter, under a new raft id. Every entry in it counts as committed.
    ///
    /// # Errors
    /// When the log is not initialized, or the write fails.
    fn reset_to_single_voter(&self, raft_id: u64, replaces: u64) -> Result<(), LogError>;

    /// Stages raft entries, replacing those from the first one's index on, and the hard state: reads see them from now on, and
    /// [`LogStore::write`] writes them to disk. With `sync` everything staged so far is durable once that returns.
    ///
    /// # Errors
    /// When the entries do not continue the log.
    fn stage_append(&self, entries: Vec<Entry>, hard_state: Option<HardState>, sync: bool) -> Result<Staged, LogError>;

    /// Stages applied frames for history, their secrets for the keyring, and the applied index, which are written together and
    /// not synced: the raft entries can repeat them. `applied` may be beyond the last frame, as empty entries have none.
    ///
    /// # Errors
    /// When a frame is not the next link of the chain, or an entry is applied that was not written.
    fn stage_apply(&self, frames: Vec<AppliedFrame>, applied: u64) -> Result<Staged, LogError>;

    /// Stages history that leads from the last applied frame to a state that another manager offers. It is not readable before
    /// [`LogStore::stage_install`] makes it count; applying another entry, or a start, discards it.
    ///
    /// # Errors
    /// When a frame is not the next link of the chain.
    fn stage_fetched(&self, frames: Vec<(u64, Bytes)>) -> Result<Staged, LogError>;

    /// Stages the switch to such a state, in one synced write: all fetched history counts as applied, the raft log restarts after
    /// it with these entries, and these secrets replace the stored ones.
    ///
    /// # Errors
    /// When the fetched history does not end there.
    fn stage_install(
        &self,
        install: Install,
        entries: Vec<Entry>,
        hard_state: Option<HardState>,
    ) -> Result<Staged, LogError>;

    /// The last frame that was fetched and does not count yet.
    fn fetched(&self) -> Option<FrameLink>;

    /// Writes all staged changes or none, with at most one sync. Must be called in the order of staging.
    ///
    /// # Errors
    /// When the write fails.
    fn write(&self, staged: Vec<Staged>) -> Result<(), LogError>;

    /// Reseals a page of the log on disk with the newest data key; returns where to continue, or `None` at the end.
    ///
    /// # Errors
    /// When a value cannot be read or written.
    fn reseal(&self, at: ResealPosition) -> Result<Option<ResealPosition>, LogError>;

    /// Makes everything durable, and removes deleted and replaced data from the disk. May take long.
    ///
    /// # Errors
    /// When the disk does not confirm it.
    fn purge(&self) -> Result<(), LogError>;

    /// Records that everything up to an index was durable here: from the next start on, a log that ends before it is refused.
    ///
    /// # Errors
    /// When that cannot be recorded.
    fn note_durable(&self, known: u64) -> Result<(), LogError>;

    /// Whether staged changes are not on disk yet.
    fn writes_wait(&self) -> bool;

    /// Stages and writes raft entries, for callers that can wait.
    ///
    /// # Errors
    /// Those of [`LogStore::stage_append`] and [`LogStore::write`].
    fn append(&self, entries: Vec<Entry>, hard_state: Option<HardState>, sync: bool) -> Result<(), LogError> {
        self.write(vec![self.stage_append(entries, hard_state, sync)?])
    }

    /// Stages and writes applied frames, for callers that can wait.
    ///
    /// # Errors
    /// Those of [`LogStore::stage_apply`] and [`LogStore::write`].
    fn apply(&self, frames: &[AppliedFrame], applied: u64) -> Result<(), LogError> {
        self.write(vec![self.stage_apply(frames.to_vec(), applied)?])
    }

    /// The raft entries `from..to`, cut after `bytes_max` bytes of payload but never before the first.
    ///
    /// # Errors
    /// When an entry is missing or damaged, or cannot be read.
    fn entries(&self, from: u64, to: u64, bytes_max: u64) -> Result<Vec<Entry>, LogError>;

    /// The term of the entry at `index`, or of the last one that was compacted; `None` for any other.
    ///
    /// # Errors
    /// When the entry is damaged or cannot be read.
    fn term(&self, index: u64) -> Result<Option<u64>, LogError>;

    /// Index of the first raft entry that is kept, or of the next one if none is.
    fn first_index(&self) -> u64;

    /// Index of the last raft entry.
    fn last_index(&self) -> u64;

    /// The last applied index and frame: as this store staged or verified them, or else as recorded on disk.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn applied(&self) -> Result<Applied, LogError>;

    /// The stored bytes of the frames from index `from` on, written or staged, up to the last applied one: at most `frames_max`
    /// frames, cut after `bytes_max` bytes but never before the first. Readers that depend on the chain use [`HistoryReader`].
    ///
    /// # Errors
    /// When a frame is damaged or cannot be read.
    fn history(&self, from: u64, frames_max: usize, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, LogError>;

    /// The approximate size of a table on disk in bytes; history does not include its archives.
    ///
    /// # Errors
    /// When the disk cannot tell.
    fn table_bytes(&self, table: Table) -> Result<u64, LogError>;

    /// The last frame of history before this index, with its own index, written or staged.
    ///
    /// # Errors
    /// When the frame is damaged or cannot be read.
    fn frame_before(&self, index: u64) -> Result<Option<(u64, Bytes)>, LogError>;

    /// Every secret that was stored and not destroyed. May be ahead of the applied index after a torn tail of history was
    /// dropped: the raft entries that are applied again then repeat the same changes.
    ///
    /// # Errors
    /// When one of them is damaged or cannot be read.
    fn keyring(&self) -> Result<Vec<VolatilePayload>, LogError>;

    /// Stores a snapshot of the projections chunk by chunk, durably, together with all history before it. The newest two are
    /// kept, and of the older ones a selection spread over history.
    ///
    /// # Errors
    /// When a write fails.
    fn save_checkpoint(&self, head: CheckpointHead, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError>;

    /// Index of the newest checkpoint up to this index.
    ///
    /// # Errors
    /// When they cannot be read.
    fn checkpoint_before(&self, at_most: u64) -> Result<Option<u64>, LogError>;

    /// Reads the newest intact checkpoint that is ahead neither of `at_most` nor of the applied index. If it turns out to be
    /// damaged on the way, the previous one is read from its beginning.
    ///
    /// # Errors
    /// When there are such checkpoints and none of them is intact, or they cannot be read.
    fn load_checkpoint(
        &self,
        at_most: u64,
        read: &mut dyn FnMut(CheckpointPart<'_>),
    ) -> Result<Option<CheckpointHead>, LogError>;

    /// The same, as a whole: for tools that inspect a checkpoint without building a state.
    ///
    /// # Errors
    /// Those of [`LogStore::load_checkpoint`].
    fn whole_checkpoint(&self, at_most: u64) -> Result<Option<Checkpoint>, LogError> {
        let mut chunks: Vec<Vec<u8>> = Vec::new();
        let head = self.load_checkpoint(at_most, &mut |part| match part {
            CheckpointPart::Begin { bytes: _ } => chunks.clear(),
            CheckpointPart::Chunk(chunk) => chunks.push(chunk.to_vec()),
        })?;
        Ok(head.map(|head| Checkpoint { head, chunks }))
    }

    /// Removes raft entries up to and including `to`, but only those covered by the newest two checkpoints and by history.
    /// Returns the first remaining index.
    ///
    /// # Errors
    /// When the write fails.
    fn compact(&self, to: u64) -> Result<u64, LogError>;

    /// Index of the first frame that the index of history does not cover.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn indexed_to(&self) -> Result<u64, LogError>;

    /// The next segment of history that the index does not cover, once all of it is on disk.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn segment_to_index(&self) -> Result<Option<Range<u64>>, LogError>;

    /// Adds the next segment to the index. Not synced: it is written after the history that it covers, so no crash can leave it
    /// without that history.
    ///
    /// # Errors
    /// When the write fails.
    fn save_index(&self, segment: &Range<u64>, index: SegmentIndex) -> Result<(), LogError>;

    /// The frames of a term in the first or the last of these segments that has any.
    ///
    /// # Errors
    /// When they are damaged or cannot be read.
    fn index_block(
        &self,
        term: u64,
        segments: Range<u32>,
        direction: Direction,
    ) -> Result<Option<(u32, Frames)>, LogError>;

    /// The value that the index stores under a key.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    fn indexed_value(&self, key: u64) -> Result<Option<Vec<u8>>, LogError>;

    /// Removes the index, so that it is rebuilt.
    ///
    /// # Errors
    /// When the write fails.
    fn discard_index(&self) -> Result<(), LogError>;

    /// Progress of the background verification of history; `None` before its first pass.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn scrub_progress(&self) -> Result<Option<ScrubProgress>, LogError>;

    /// Records the progress of the background verification of history. Not synced: lost progress only means reading again.
    ///
    /// # Errors
    /// When the write fails.
    fn save_scrub_progress(&self, progress: ScrubProgress) -> Result<(), LogError>;

    /// Replaces frames of history that were applied earlier, durably. They are not verified here.
    ///
    /// # Errors
    /// When one of them was not applied, or the write fails.
    fn repair_history(&self, frames: &[(u64, Bytes)]) -> Result<(), LogError>;

    /// Removes a damaged file of history with all frames in it, identified by its first and last index: otherwise, writing a
    /// frame next to it would make the database read it, and fail.
    ///
    /// # Errors
    /// When it cannot be removed. Nothing else is lost then.
    fn drop_history_file(&self, first: u64, last: u64) -> Result<(), LogError>;

    /// Makes all earlier writes durable.
    ///
    /// # Errors
    /// When the disk does not confirm it.
    fn sync(&self) -> Result<(), LogError>;
}

/// A write that is visible to reads, and not on disk yet.
pub struct Staged(store::Step);

/// A state that another manager offered, to start from.
#[derive(Debug, Clone, PartialEq)]
pub struct Install {
    /// Index of its last frame.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// All secrets that belong to it.
    pub secrets: Vec<VolatilePayload>,
    /// Which redacted frames its history may contain, according to that history.
    pub permits: Permits,
}

/// The state of a verified log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Term, vote and commit index; the commit index is at least the applied one.
    pub hard_state: HardState,
    /// The members with which the log was initialized; `None` in an uninitialized log.
    pub membership: Option<Membership>,
    /// Everything up to this raft index is in history. May be lower than before a crash: the rest is still in the raft entries,
    /// and consensus returns it again.
    pub applied: u64,
    /// Index of the first raft entry that is kept.
    pub first_index: u64,
    /// Index of the last raft entry.
    pub last_index: u64,
    /// The last frame of history; the next one carries its hash.
    pub last_frame: Option<FrameLink>,
    /// Index of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// The index from which a torn tail of history was dropped.
    pub repaired_from: Option<u64>,
}

impl Loaded {
    /// The same, with the members according to the state at the applied index: the log itself only records those it was
    /// initialized with.
    #[must_use]
    pub fn with_members(self, members: Option<Membership>) -> Self {
        Self { membership: members.or(self.membership), ..self }
    }
}

/// What a checkpoint covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointHead {
    /// It includes the effects of everything up to this raft index.
    pub index: u64,
    /// The term of the entry at that index.
    pub term: u64,
    /// Hash of the last frame at or before that index; the next frame carries it.
    pub frame_hash: FrameHash,
}

/// An item read from a checkpoint.
#[derive(Debug, Clone, Copy)]
pub enum CheckpointPart<'a> {
    /// A checkpoint begins. Everything read before is invalid.
    Begin {
        /// The total size of its chunks in bytes.
        bytes: u64,
    },
    /// The next bytes of the snapshot.
    Chunk(&'a [u8]),
}

/// A snapshot of the projections.
#[derive(Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it covers.
    pub head: CheckpointHead,
    /// The projections, in their own encoding.
    pub chunks: Vec<Vec<u8>>,
}

// It holds specs, whose values may be secret.
events::redacted_debug! { Checkpoint shows [head] hides [chunks] }
