//! Healing of damaged history: frames that this manager can no longer read are fetched from another one and replaced.
//!
//! Only the chain is trusted. The fetched frames must follow the last frame before the damage, and lead to a frame after it that
//! is intact here, byte for byte: its hash verifies all frames before it. Only then, in a second pass, is anything written. If
//! the database has lost part of a file, the whole file is removed, and its frames are fetched.

use bytes::Bytes;
use events::frame;

use super::chain::Chain;
use super::disk::Table;
use super::entry::FrameLink;
use super::{LogError, LogStore};

/// Frames repaired at a time: many more than a file of the database holds.
const FRAMES_MAX: usize = 1_000_000;
/// How many frames before the damage may be found to be wrong as well, if another manager's history does not follow them.
const STEPS_BACK_MAX: u32 = 16;

/// The history of another manager.
pub trait OtherHistory {
    /// The name of that manager.
    fn name(&self) -> String;

    /// The next frames from an index on, verified there; empty if it has no more.
    ///
    /// # Errors
    /// The reason why there is no answer.
    fn page(&self, from: u64) -> Result<Vec<(u64, Bytes)>, String>;
}

/// The repaired frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Healed {
    /// The first index.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// The number of frames in that range.
    pub frames: usize,
}

/// Why damage could not be healed.
#[derive(Debug, thiserror::Error)]
pub enum HealError {
    /// It is no damage of history, or its position is unknown.
    #[error("the damaged frames cannot be determined")]
    Elsewhere,
    /// This manager's own history cannot be read around the damage.
    #[error("history around it cannot be read: {0}")]
    Around(LogError),
    /// A write failed. The process must stop.
    #[error("{0}")]
    Write(LogError),
    /// The damaged file cannot be removed or rewritten.
    #[error("{0}")]
    Stuck(LogError),
    /// The other manager does not answer.
    #[error("no answer: {0}")]
    Silent(String),
    /// The other manager has no history after the damage.
    #[error("it has history up to frame {0} only")]
    Behind(u64),
    /// The other manager has different frames.
    #[error("frame {index} there does not belong to this history: {reason}")]
    Differs {
        /// The frame's index.
        index: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The place was healed before, and is damaged again.
    #[error("it is damaged again after it was healed: check that the disk is not failing")]
    InVain,
    /// More is damaged than can be healed while the manager runs.
    #[error("more than {FRAMES_MAX} frames are damaged: stop swarmd and use `swarmd reseed`")]
    TooMuch,
}

/// A damaged range of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DamagedRange {
    /// The last frame before it.
    pub(super) after: Option<FrameLink>,
    /// The first index that may be damaged.
    from: u64,
    /// Up to here, no frame counts as intact.
    to: u64,
    /// The first and the last index of the file to remove.
    file: Option<(u64, u64)>,
}

impl DamagedRange {
    /// The range of the damage that a reader of history found.
    pub(super) fn find(store: &dyn LogStore, damage: &LogError) -> Result<Self, HealError> {
        match damage {
            // Either this frame is damaged, or one before it is missing.
            LogError::Damaged { table: Table::History, index, .. } => {
                Ok(Self { after: None, from: *index, to: index.saturating_sub(1), file: None }.begin_before(store)?)
            }
            LogError::Corrupt { table: Table::History, indexes: Some((first, last)), .. } => {
                let file = Some((*first, *last));
                Ok(Self { after: None, from: *first, to: *last, file }.begin_before(store)?)
            }
            LogError::ArchiveDamaged { start, last, .. } => {
                Ok(Self { after: None, from: *start, to: last.index, file: None }.begin_before(store)?)
            }
            _ => Err(HealError::Elsewhere),
        }
    }

    /// Finds the last readable frame before the damage.
    fn begin_before(mut self, store: &dyn LogStore) -> Result<Self, HealError> {
        loop {
            match store.frame_before(self.from) {
                Ok(before) => {
                    self.after = before.map(|(index, stored)| FrameLink { index, hash: frame::hash(&stored) });
                    return Ok(self);
                }
                Err(LogError::Damaged { table: Table::History, index, .. }) if index < self.from => self.from = index,
                Err(error) => return Err(HealError::Around(error)),
            }
        }
    }

    /// Extends the range by the frame before it; `None` if there is none.
    fn with_one_more(self, store: &dyn LogStore) -> Result<Option<Self>, HealError> {
        let Some(before) = self.after else { return Ok(None) };
        Self { from: before.index, ..self }.begin_before(store).map(Some)
    }

    fn next(&self) -> u64 {
        self.after.map_or(0, |frame| frame.index + 1)
    }
}

/// Heals a damaged range with another manager's history. Nothing is changed before it is certain that this closes it.
pub(super) fn heal(store: &dyn LogStore, range: DamagedRange, other: &dyn OtherHistory) -> Result<Healed, HealError> {
    let (range, frames) = verify_fit(store, range, other)?;
    let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Err(HealError::Elsewhere) };
    if let Some((first, last)) = range.file {
        store.drop_history_file(first, last).map_err(HealError::Stuck)?;
    }
    refill(store, &frames, other)?;
    Ok(Healed { first: first.index, last: last.index, frames: frames.len() })
}

/// Heals the archive that begins with this index by rewriting its file. It is sufficient proof that it ends with the hash in this
/// manager's own record.
pub(super) fn heal_archive(store: &dyn LogStore, start: u64, other: &dyn OtherHistory) -> Result<Healed, HealError> {
    let archived = store.repair_archive(start, &mut |from| {
        let page = other.page(from)?;
        match first_refused(store, &page) {
            Ok(None) => Ok(page),
            Ok(Some(_)) => Err("a value was erased from one of its frames on only one of the managers".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })?;
    let frames = usize::try_from(archived.frames).unwrap_or(usize::MAX);
    Ok(Healed { first: archived.start, last: archived.last.index, frames })
}

/// Reads the other manager's frames for the damaged range, and verifies that they fit on both sides.
fn verify_fit(
    store: &dyn LogStore,
    mut range: DamagedRange,
    other: &dyn OtherHistory,
) -> Result<(DamagedRange, Vec<FrameLink>), HealError> {
    for _ in 0..STEPS_BACK_MAX {
        match fitting(store, &range, other) {
            // The previous frame may not be the one that was written there.
            Err(HealError::Differs { index, reason }) if index <= range.from.max(range.next()) => {
                range = range.with_one_more(store)?.ok_or(HealError::Differs { index, reason })?;
            }
            fits => return fits.map(|frames| (range, frames)),
        }
    }
    let reason = format!("nor do the {STEPS_BACK_MAX} frames before it");
    Err(HealError::Differs { index: range.from, reason })
}

/// The hashes of the frames that belong in the damaged range.
fn fitting(store: &dyn LogStore, range: &DamagedRange, other: &dyn OtherHistory) -> Result<Vec<FrameLink>, HealError> {
    let end = store.applied().map_err(HealError::Around)?.frame;
    let (mut chain, mut frames, mut next) = (Chain::after(range.after), Vec::new(), range.next());
    loop {
        let page = other.page(next).map_err(HealError::Silent)?;
        if page.is_empty() {
            return Err(HealError::Behind(next.saturating_sub(1)));
        }
        for (index, stored) in page {
            chain.follow(index, &stored).map_err(|reason| HealError::Differs { index, reason })?;
            if !store.takes(index, &stored).map_err(HealError::Around)? {
                let reason = "a value was erased from it on only one of the managers".to_owned();
                return Err(HealError::Differs { index, reason });
            }
            let link = FrameLink { index, hash: frame::hash(&stored) };
            let is_last = end.is_some_and(|end| end.index <= index);
            if is_last && end != Some(link) {
                let reason = "it is not the frame that was applied last".to_owned();
                return Err(HealError::Differs { index, reason });
            }
            if index > range.to && is_intact(store, link)? {
                return Ok(frames);
            }
            frames.push(link);
            if is_last {
                return Ok(frames);
            }
            if frames.len() > FRAMES_MAX {
                return Err(HealError::TooMuch);
            }
            next = index + 1;
        }
    }
}

/// Whether this frame is the same here as in the other history.
fn is_intact(store: &dyn LogStore, link: FrameLink) -> Result<bool, HealError> {
    match store.history(link.index, 1, usize::MAX) {
        Ok(found) => {
            Ok(found.first().is_some_and(|(index, stored)| *index == link.index && frame::hash(stored) == link.hash))
        }
        Err(LogError::Damaged { table: Table::History, .. }) => Ok(false),
        Err(error) => Err(HealError::Around(error)),
    }
}

/// The position of the first frame that this history does not accept.
fn first_refused(store: &dyn LogStore, frames: &[(u64, Bytes)]) -> Result<Option<usize>, HealError> {
    for (place, (index, stored)) in frames.iter().enumerate() {
        if !store.takes(*index, stored).map_err(HealError::Around)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Fetches these frames again, and writes them.
fn refill(store: &dyn LogStore, frames: &[FrameLink], other: &dyn OtherHistory) -> Result<(), HealError> {
    let mut left = frames;
    while let Some(first) = left.first() {
        let mut page = other.page(first.index).map_err(HealError::Silent)?;
        let fits = |((index, stored), link): (&(u64, Bytes), &FrameLink)| {
            *index == link.index && frame::hash(stored) == link.hash
        };
        page.truncate(page.iter().zip(left).take_while(|pair| fits(*pair)).count());
        // The hash of a redacted frame does not verify its bytes.
        let refused = first_refused(store, &page)?;
        page.truncate(refused.unwrap_or(page.len()));
        if page.is_empty() {
            let reason = "it was another one a moment ago".to_owned();
            return Err(HealError::Differs { index: first.index, reason });
        }
        store.repair_history(&page).map_err(HealError::Write)?;
        left = &left[page.len()..];
    }
    Ok(())
}

#[cfg(test)]
mod tests;
