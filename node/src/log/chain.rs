//! The chain of frames: each carries the hash of the stored bytes of the one before it, so that a changed, removed or reordered
//! frame is detected at the next one.

use events::FrameHeader;
use events::frame;
use prost::Message;

use super::LogError;
use super::disk::Table;
use super::entry::FrameLink;

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
    /// The next frame is where reading begins; the frames before it are trusted.
    Unread,
}

impl Chain {
    /// Expects the frame after `last`, or the first frame of the cluster.
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
    /// A sentence that says why it is not the next link.
    pub fn follow(&mut self, index: u64, stored: &[u8]) -> Result<(), String> {
        let header = Head::decode(stored).map_err(|error| format!("it is not a frame: {error}"))?.header;
        if header.index != index {
            return Err(format!("its header states frame {}", header.index));
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

/// The error for a damaged frame at an index.
pub fn damaged(index: u64, reason: String) -> LogError {
    LogError::Damaged { table: Table::History, index, reason }
}
