//! Streams that are not state, such as logs: what agents and managers share of them.
//!
//! A stream costs its reader's manager a bounded amount, also if the reader stops: each order names a credit, every message takes
//! its own size of it, and gets it back once it was read ([`Credit`]). The transport's own windows would not do: they are
//! shared by all calls of a connection, and a stopped reader would hold up the others.

mod credit;
mod gather;
mod lines;

pub use credit::Credit;
pub use gather::{Gather, Piece};
pub use lines::{Line, batches, encoded};

/// Bytes of lines in one message, or one line: enough that a message costs little, and little enough for many streams.
pub const MESSAGE_BYTES: usize = 32 << 10;

/// Inputs on their way to one task, each at most [`MESSAGE_BYTES`]: more come once those were used.
pub const INPUTS_MAX: u32 = 16;
