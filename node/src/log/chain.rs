//! The chain of frames: each carries the hash of the stored bytes of the one before it, so nobody can change, drop or
//! reorder one without it showing in the next.

use events::FrameHeader;
use events::frame;
use prost::Message;

use super::disk::Table;
use super::entry::FrameLink;
use super::{LogError, LogStore};

/// Frames read at once when the whole history is verified.
const PAGE_FRAMES: usize = 1_024;
/// Bytes read at once, in case frames are large.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A frame without its events: all that the chain needs, at a fraction of the cost.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(message, required, tag = "1")]
    header: FrameHeader,
}

/// Follows the chain frame by frame.
#[derive(Debug, Clone, Copy)]
pub struct Chain {
    previous: Previous,
}

#[derive(Debug, Clone, Copy)]
enum Previous {
    /// The next frame is the first one of the cluster.
    Nothing,
    /// The next frame must follow this one.
    Frame(FrameLink),
    /// The next frame is where reading begins; what came before it is taken on trust.
    Unread,
}

impl Chain {
    /// Expects the frame after `last`, or the very first one.
    pub fn after(last: Option<FrameLink>) -> Self {
        Self { previous: last.map_or(Previous::Nothing, Previous::Frame) }
    }

    /// Expects any frame, and from then on those that follow it.
    pub fn anywhere() -> Self {
        Self { previous: Previous::Unread }
    }

    /// The last frame that was followed.
    pub fn last(&self) -> Option<FrameLink> {
        match self.previous {
            Previous::Nothing | Previous::Unread => None,
            Previous::Frame(link) => Some(link),
        }
    }

    /// Follows the chain to the frame at `index`.
    ///
    /// # Errors
    /// A sentence on why it is not the next link.
    pub fn follow(&mut self, index: u64, stored: &[u8]) -> Result<(), String> {
        let header = Head::decode(stored).map_err(|error| format!("it is not a frame: {error}"))?.header;
        if header.index != index {
            return Err(format!("it says that it is frame {}", header.index));
        }
        match self.previous {
            Previous::Nothing if header.previous_hash.is_empty() => {}
            Previous::Nothing => return Err("it should be the first frame, but refers to one before it".into()),
            Previous::Frame(last) if last.index >= index => return Err(format!("it comes after frame {}", last.index)),
            Previous::Frame(last) if last.hash.as_slice() == header.previous_hash => {}
            Previous::Frame(last) => {
                return Err(format!("it does not carry the hash of the frame before it, frame {}", last.index));
            }
            Previous::Unread => {}
        }
        self.previous = Previous::Frame(FrameLink { index, hash: frame::hash(stored) });
        Ok(())
    }
}

/// What a full verification read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many frames.
    pub frames: u64,
    /// Their size in bytes, unsealed.
    pub bytes: u64,
    /// The last one.
    pub last: Option<FrameLink>,
}

/// Verifies the whole history, from its first frame to what was applied last, and hands each frame to `visit`.
///
/// # Errors
/// The first damage, by index, or the error of `visit`.
pub fn verify_all<E: From<LogError>>(
    log: &dyn LogStore,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<Verified, E> {
    let mut chain = Chain::after(None);
    let mut verified = Verified::default();
    let mut next = 0;
    loop {
        let page = log.history(next, PAGE_FRAMES, PAGE_BYTES)?;
        let Some(&(page_last, _)) = page.last() else { break };
        for (index, stored) in &page {
            chain.follow(*index, stored).map_err(|reason| damaged(*index, reason))?;
            visit(*index, stored)?;
            verified.frames += 1;
            verified.bytes += stored.len() as u64;
        }
        next = page_last + 1;
    }
    verified.last = chain.last();
    let applied = log.applied()?;
    if applied.frame != verified.last {
        let index = applied.frame.map_or(next, |frame| frame.index);
        return Err(damaged(index, "history does not end with the frame that was applied last".into()).into());
    }
    Ok(verified)
}

pub(super) fn damaged(index: u64, reason: String) -> LogError {
    LogError::Damaged { table: Table::History, index, reason }
}
