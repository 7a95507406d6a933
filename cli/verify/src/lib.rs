//! Verifies an export of history without a cluster: that no frame was changed, left out, added or moved, that the recorded hashes of
//! the state are those that its events make, and that it continues what a checkpoint says that somebody kept outside.
//!
//! Absent on purpose: a database, a network, a runtime. What has to be trusted is the checkpoint or the head that is compared with,
//! and this program.

pub mod checkpoint;
pub mod findings;
pub mod frames;
pub mod note;
pub mod path;
pub mod proof;
pub mod tree;
pub mod verify;
