//! Files as tar archives: those that go into a task are packed, and what comes out of one is unpacked.
//!
//! An archive comes from a container, through a node: neither is trusted. Nothing is kept of an entry that is not bounded, no file
//! is made outside the place that was asked for, and no symbolic link is followed there.

mod entries;
mod pack;
mod unpack;

pub use pack::{Source, pack};
pub use unpack::{Limits, Root, Unpacked, unpack};
