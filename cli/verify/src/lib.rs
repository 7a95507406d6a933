//! Verifies an export of history without a cluster: that no frame was changed, removed, added or moved, that the recorded hashes
//! of the state match the events, and that the history continues a checkpoint that was kept elsewhere.
//!
//! Absent on purpose: a database, a network, an async runtime. Only the kept checkpoint or head, and this program, have to be
//! trusted.

pub mod checkpoint;
pub mod findings;
pub mod frames;
pub mod note;
pub mod path;
pub mod proof;
pub mod tree;
pub mod verify;
