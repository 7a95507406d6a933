//! Streams that are not state, such as logs: the parts shared by agents and managers.
//!
//! The cost of a stream for its reader's manager is bounded, even if the reader stops: each order grants a credit, every message
//! uses as much of it as its size, which is returned once the message was read ([`Credit`]). The transport's own windows are not
//! suitable: they are shared by all calls of a connection, and a stopped reader would block the others.

mod credit;
mod gather;
mod lines;

pub use credit::Credit;
pub use gather::{Gather, Piece};
pub use lines::{Line, batches, encoded};

/// Maximum number of bytes of lines in one message, or of one line: large enough for a small overhead, and small enough for many
/// streams.
pub const MESSAGE_BYTES: usize = 32 << 10;

/// Inputs in flight to one task, each at most [`MESSAGE_BYTES`]: more are sent once those were consumed.
pub const INPUTS_MAX: u32 = 16;
