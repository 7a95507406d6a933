//! Applied frames, as an event reader reads them.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use commands::{Rejection, RejectionKind};
use events::{Frame, Kind, Timestamp, codec, frame};
use projections::Cluster;

use crate::control::unreadable;
use crate::log::{FrameLink, HistoryReader, LogError, LogStore, PageSize, frame_at};

/// Page size: small enough for a client that reads slowly, and for many that stopped reading.
pub(super) const PAGE: PageSize = PageSize { frames: 256, bytes: 256 * 1024 };

/// A frame, with its stored bytes.
pub(super) struct StoredFrame {
    pub(super) frame: Frame,
    stored: Bytes,
}

impl StoredFrame {
    fn decode(stored: Bytes) -> Result<Self, ReadError> {
        Ok(Self { frame: codec::decode_frame(&stored)?, stored })
    }

    /// Its position in the hash chain.
    pub(super) fn link(&self) -> FrameLink {
        FrameLink { index: self.frame.header.index, hash: frame::hash(&self.stored) }
    }
}

/// Applied frames, read in pages.
pub(super) struct History(pub(super) Arc<dyn LogStore>);

impl History {
    /// The next frames, up to index `to`; empty at the end.
    pub(super) fn read(&self, reader: &mut HistoryReader, to: u64) -> Result<Vec<StoredFrame>, ReadError> {
        let page = reader.page(&*self.0, to, PAGE)?;
        page.into_iter().map(|(_, stored)| StoredFrame::decode(stored)).collect()
    }

    /// The frame at this index with its bytes, if there is one.
    pub(super) fn stored_at(&self, index: u64) -> Result<Option<StoredFrame>, ReadError> {
        frame_at(&*self.0, index)?.map(StoredFrame::decode).transpose()
    }

    /// The frame at this index, if there is one.
    pub(super) fn at(&self, index: u64) -> Result<Option<Frame>, ReadError> {
        Ok(self.stored_at(index)?.map(|stored| stored.frame))
    }

    /// Index of the first frame at or after a time; `None` if all are earlier. Log time never goes back, so this is a binary
    /// search.
    pub(super) fn first_at(&self, time: Timestamp, head: u64) -> Result<Option<u64>, ReadError> {
        let (mut low, mut high) = (0, head.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            // Not every index has a frame: the next existing one stands for the indexes before it.
            match self.frame_from(middle)?.filter(|(_, at)| *at < time) {
                Some((index, _)) => low = index + 1,
                None => high = middle,
            }
        }
        Ok(self.frame_from(low)?.map(|(index, _)| index))
    }

    /// The first frame at or after this index: its index and its time.
    fn frame_from(&self, index: u64) -> Result<Option<(u64, Timestamp)>, ReadError> {
        let one = PageSize { frames: 1, bytes: 1 };
        let page = HistoryReader::starting_at(index).page(&*self.0, u64::MAX, one)?;
        let Some((found, bytes)) = page.first() else { return Ok(None) };
        Ok(Some((*found, codec::decode_frame(bytes)?.header.log_time)))
    }

    /// Visits all events of these frames, oldest first.
    pub(super) fn each(&self, range: Range<u64>, mut see: impl FnMut(&Kind)) -> Result<(), ReadError> {
        let Some(last) = range.end.checked_sub(1) else { return Ok(()) };
        let mut reader = HistoryReader::starting_at(range.start);
        loop {
            let frames = self.read(&mut reader, last)?;
            if frames.is_empty() {
                return Ok(());
            }
            frames.iter().flat_map(|stored| codec::kinds(&stored.frame)).for_each(&mut see);
        }
    }
}

/// Why a part of history cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

impl From<ReadError> for Rejection {
    fn from(error: ReadError) -> Self {
        if let ReadError::Log(error) = &error
            && error.is_of_an_archive()
        {
            return unreadable(error);
        }
        // The client gets the error as well, but damage concerns the operator of the manager.
        tracing::error!(%error, "history cannot be read");
        let hint = "see the manager's own log; `swarmd replay` checks the whole log";
        Self::new(RejectionKind::Unavailable, "history", format!("history cannot be read: {error}"), hint)
    }
}

/// Whether the state still has every task that history mentions from this index on. Only checked if that part is short, as for
/// a client that waits for the effect of its command.
pub(super) fn knows_all_since(history: &History, cluster: &Cluster, from: u64) -> Result<bool, ReadError> {
    let now = cluster.position.index;
    if from <= now.saturating_sub(PAGE.frames as u64) {
        return Ok(false);
    }
    let mut reaped = false;
    history.each(from..now.saturating_add(1), |kind| reaped |= !kind.reaped().is_empty())?;
    Ok(!reaped)
}
