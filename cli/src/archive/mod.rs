//! Files as tar archives: files that are copied into a task are packed, and files that are copied out of one are unpacked.
//!
//! An archive comes from a container, through a node, and neither is trusted. Everything that is kept of an entry is bounded, no
//! file is created outside the requested destination, and symbolic links there are not followed.

mod entries;
mod pack;
mod unpack;

pub use pack::{Source, pack};
pub use unpack::{Limits, Root, Unpacked, unpack};
