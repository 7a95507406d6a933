//! The log: consensus, storage and history. Raft types stay inside this folder.
//!
//! Nothing here reads a clock, starts a thread or awaits: the turn loop drives [`Consensus`] with ticks, proposals and
//! [`Consensus::ready`], hands the writes that come of it to a thread of their own ([`write_all`]), and reports them back; the
//! simulation drives the very same code over a [`MemoryDisk`].
//!
//! ```text
//! raft entries   |<- cut ->|<---------- first_index .. last_index ---------->|
//! history        |<- archives ->|<--------- frames ---------->| applied
//! checkpoints         ^ older             ^ newest
//! keyring                                                     | applied
//! ```
//!
//! Raft entries are short-lived consensus: they go once history and a checkpoint hold what they say. History is the
//! product: every applied frame, each carrying the hash of the one before it; old ones may be in files ([`archive`]). A checkpoint only saves a start the folding
//! of all history; the keyring has what history must not hold.

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

/// Where a manager keeps its log. All methods take `&self`. The turn loop alone stages raft entries and history, which takes no
/// disk; one thread alone writes what was staged, in that order; [`LogStore::history`] and the checkpoint methods may be called
/// from other threads at the same time.
///
/// Any error of a method that writes is final: what is on the disk is then unknown, because a second attempt may report a
/// success that never happened. The process ends, and the next start reads what is really there.
pub trait LogStore: TileStore + ArchiveStore + RedactionStore {
    /// Verifies the log, repairs a torn tail of history, and says where everything stands. Comes before all else but
    /// [`LogStore::history`] and [`LogStore::applied`]. What it returns is durable.
    ///
    /// # Errors
    /// When a part that nothing can repair is damaged, or the log ends before what was known to be durable.
    fn load(&self) -> Result<Loaded, LogError>;

    /// Begins a log, durably: that of a new cluster with its voters, whose first entry then gets index 2; or that of a manager which
    /// is to join one, and is the one learner. That log is empty, so that it begins with a state that another manager offers.
    ///
    /// # Errors
    /// When the log exists already, or the write fails.
    fn initialize(&self, membership: &Membership) -> Result<(), LogError>;

    /// Begins a log again, durably, with this manager as the only voter, under a new number in raft. Every entry in it counts as
    /// committed.
    ///
    /// # Errors
    /// When the log has not begun, or the write fails.
    fn begin_alone(&self, raft_id: u64, replaces: u64) -> Result<(), LogError>;

    /// Stages raft entries, in place of those from the first one's index on, and the hard state: reads see them from now on, and
    /// [`LogStore::write`] brings them to the disk. With `sync` everything staged so far is durable once that returns.
    ///
    /// # Errors
    /// When the entries do not follow what is there.
    fn stage_append(&self, entries: Vec<Entry>, hard_state: Option<HardState>, sync: bool) -> Result<Staged, LogError>;

    /// Stages applied frames for history, their secrets for the keyring, and the applied index, which the disk gets in one
    /// write that is not synced: the raft entries can repeat it. `applied` may lie beyond the last frame, as empty entries carry
    /// none.
    ///
    /// # Errors
    /// When a frame is not the next link of the chain, or something is applied that was not written.
    fn stage_apply(&self, frames: Vec<AppliedFrame>, applied: u64) -> Result<Staged, LogError>;

    /// Stages history that leads from what was applied last to a state that another manager offers. Nobody reads it before
    /// [`LogStore::stage_install`] makes it count; applying another entry, or a start, discards it.
    ///
    /// # Errors
    /// When a frame is not the next link of the chain.
    fn stage_fetched(&self, frames: Vec<(u64, Bytes)>) -> Result<Staged, LogError>;

    /// Stages the beginning with such a state, in one synced write: all history that was fetched counts as applied, the raft log
    /// begins again behind it with these entries, and these secrets take the place of those that were kept.
    ///
    /// # Errors
    /// When the history that was fetched does not end there.
    fn stage_install(
        &self,
        install: Install,
        entries: Vec<Entry>,
        hard_state: Option<HardState>,
    ) -> Result<Staged, LogError>;

    /// The last frame that was fetched and does not count yet.
    fn fetched(&self) -> Option<FrameLink>;

    /// Writes what was staged, all of it or nothing, with at most one sync. To be called in the order of staging.
    ///
    /// # Errors
    /// When the write fails.
    fn write(&self, staged: Vec<Staged>) -> Result<(), LogError>;

    /// Seals a page of what is on the disk again, with the newest data key; where to go on, or nothing at the end.
    ///
    /// # Errors
    /// When something cannot be read or written.
    fn reseal(&self, at: ResealPosition) -> Result<Option<ResealPosition>, LogError>;

    /// Makes everything durable, and removes from the disk what was deleted or replaced. May take long.
    ///
    /// # Errors
    /// When the disk does not confirm it.
    fn purge(&self) -> Result<(), LogError>;

    /// Notes that everything up to an index was durable here once: from the next start on, a log that ends before it is refused.
    ///
    /// # Errors
    /// When it cannot be noted.
    fn note_durable(&self, known: u64) -> Result<(), LogError>;

    /// Whether something is staged that the disk does not have yet.
    fn writes_wait(&self) -> bool;

    /// Stages and writes raft entries, for whoever can wait.
    ///
    /// # Errors
    /// Those of [`LogStore::stage_append`] and [`LogStore::write`].
    fn append(&self, entries: Vec<Entry>, hard_state: Option<HardState>, sync: bool) -> Result<(), LogError> {
        self.write(vec![self.stage_append(entries, hard_state, sync)?])
    }

    /// Stages and writes applied frames, for whoever can wait.
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

    /// The term of the entry at `index`; also of the last one that was cut. Nothing for any other.
    ///
    /// # Errors
    /// When the entry is damaged or cannot be read.
    fn term(&self, index: u64) -> Result<Option<u64>, LogError>;

    /// Index of the first raft entry that is kept, or of the next one if none is.
    fn first_index(&self) -> u64;

    /// Index of the last raft entry.
    fn last_index(&self) -> u64;

    /// What was applied last: as this store staged or verified it, or else as the disk has it.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn applied(&self) -> Result<Applied, LogError>;

    /// The stored bytes of the frames from index `from` on, written or staged, up to what was applied last: at most `frames_max`
    /// frames, cut after `bytes_max` bytes but never before the first. [`HistoryReader`] is for whoever relies on them.
    ///
    /// # Errors
    /// When a frame is damaged or cannot be read.
    fn history(&self, from: u64, frames_max: usize, bytes_max: usize) -> Result<Vec<(u64, Bytes)>, LogError>;

    /// About how many bytes a table takes on the disk: that of history without what was archived.
    ///
    /// # Errors
    /// When the disk does not know.
    fn table_bytes(&self, table: Table) -> Result<u64, LogError>;

    /// The last frame of history before this index, with its own index, written or staged.
    ///
    /// # Errors
    /// When the frame is damaged or cannot be read.
    fn frame_before(&self, index: u64) -> Result<Option<(u64, Bytes)>, LogError>;

    /// Every secret that was kept and not destroyed. May be ahead of the applied index after a torn tail of history was
    /// dropped: the raft entries that are applied again then say the same again.
    ///
    /// # Errors
    /// When one of them is damaged or cannot be read.
    fn keyring(&self) -> Result<Vec<VolatilePayload>, LogError>;

    /// Stores a snapshot of the projections chunk by chunk, durably, and with it all history before it. The newest two are kept, and
    /// of the older ones a series in which each is about twice as far back as the next.
    ///
    /// # Errors
    /// When a write fails.
    fn save_checkpoint(&self, head: CheckpointHead, chunks: &mut dyn Iterator<Item = Vec<u8>>) -> Result<(), LogError>;

    /// Index of the newest checkpoint up to this one.
    ///
    /// # Errors
    /// When they cannot be read.
    fn checkpoint_before(&self, at_most: u64) -> Result<Option<u64>, LogError>;

    /// Reads the newest checkpoint that is intact and ahead neither of `at_most` nor of the applied index. One that proves to
    /// be damaged on the way is followed by the one before it, which begins again.
    ///
    /// # Errors
    /// When there are such checkpoints and none of them is intact, or they cannot be read.
    fn load_checkpoint(
        &self,
        at_most: u64,
        read: &mut dyn FnMut(CheckpointPart<'_>),
    ) -> Result<Option<CheckpointHead>, LogError>;

    /// The same, held whole: for tools that look at a checkpoint without making a state of it.
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

    /// Cuts raft entries up to and including `to`, but none that is not covered by the newest two checkpoints and by
    /// history. Returns the first index that is left.
    ///
    /// # Errors
    /// When the write fails.
    fn compact(&self, to: u64) -> Result<u64, LogError>;

    /// Index of the first frame that the index of history does not cover.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn indexed_to(&self) -> Result<u64, LogError>;

    /// The next segment of history that the index does not cover, once the disk has all of it.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn segment_to_index(&self) -> Result<Option<Range<u64>>, LogError>;

    /// Adds the next segment to the index. Not synced: it comes after the history that it is of, so that no crash leaves it without.
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

    /// What the index keeps under a key.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    fn indexed_value(&self, key: u64) -> Result<Option<Vec<u8>>, LogError>;

    /// Removes the index, so that it is made again.
    ///
    /// # Errors
    /// When the write fails.
    fn discard_index(&self) -> Result<(), LogError>;

    /// How far the background verification of history came; nothing before its first pass.
    ///
    /// # Errors
    /// When the record is damaged or cannot be read.
    fn scrub_progress(&self) -> Result<Option<ScrubProgress>, LogError>;

    /// Notes how far the background verification of history came. Not synced: what is lost of it is read again.
    ///
    /// # Errors
    /// When the write fails.
    fn save_scrub_progress(&self, progress: ScrubProgress) -> Result<(), LogError>;

    /// Puts frames of history that were applied long ago in the place of what is there, durably. They are not verified here.
    ///
    /// # Errors
    /// When one of them was not applied, or the write fails.
    fn mend_history(&self, frames: &[(u64, Bytes)]) -> Result<(), LogError>;

    /// Removes a damaged file of history with all the frames in it, by the first and the last index in it: a frame written beside it
    /// would make the database read it, and end.
    ///
    /// # Errors
    /// When it cannot be removed. Nothing else is lost then.
    fn drop_history_file(&self, first: u64, last: u64) -> Result<(), LogError>;

    /// Makes everything that was written so far durable.
    ///
    /// # Errors
    /// When the disk does not confirm it.
    fn sync(&self) -> Result<(), LogError>;
}

/// A write that reads see already, and that the disk does not have yet.
pub struct Staged(store::Step);

/// A state that another manager offered, to begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct Install {
    /// Index of its last frame.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// All secrets that go with it.
    pub secrets: Vec<VolatilePayload>,
    /// What frames of its history may be redacted, as that history says.
    pub permits: Permits,
}

/// What a verified log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Term, vote and commit index; the commit index is at least the applied one.
    pub hard_state: HardState,
    /// The members with whom the log began; nothing in a log that has not begun.
    pub membership: Option<Membership>,
    /// Everything up to this raft index is in history. May be lower than before a crash: the rest is in the raft entries
    /// still, and consensus returns it again.
    pub applied: u64,
    /// Index of the first raft entry that is kept.
    pub first_index: u64,
    /// Index of the last raft entry.
    pub last_index: u64,
    /// The last frame of history; the next one carries its hash.
    pub last_frame: Option<FrameLink>,
    /// Index of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// The index from which on a torn tail of history was dropped.
    pub repaired_from: Option<u64>,
}

impl Loaded {
    /// The same with the members as the state at the applied index has them: a log says by itself only with whom it began.
    #[must_use]
    pub fn with_members(self, members: Option<Membership>) -> Self {
        Self { membership: members.or(self.membership), ..self }
    }
}

/// What a checkpoint stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointHead {
    /// It holds the effects of everything up to this raft index.
    pub index: u64,
    /// The term of the entry at that index.
    pub term: u64,
    /// Hash of the last frame at or before that index; the frame after it carries this.
    pub frame_hash: FrameHash,
}

/// What is read of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub enum CheckpointPart<'a> {
    /// One begins. What was read before is void.
    Begin {
        /// How many bytes its chunks have.
        bytes: u64,
    },
    /// The next bytes of the snapshot.
    Chunk(&'a [u8]),
}

/// A snapshot of the projections.
#[derive(Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it stands for.
    pub head: CheckpointHead,
    /// The projections, in a form that is theirs.
    pub chunks: Vec<Vec<u8>>,
}

// It holds specs, whose values may be secret.
events::redacted_debug! { Checkpoint shows [head] hides [chunks] }
