//! One manager: the turn and the thread around it, the committed state, and both on disk.
//!
//! Suggested order: [`replica`] (the turn), [`driver`] (the thread around it), [`fold`] (the committed state), [`core`] (all of
//! it, on a state directory).

pub mod alone;
pub mod archiver;
pub mod core;
pub mod driver;
pub mod export;
pub mod fold;
mod heartbeats;
pub mod indexer;
mod journal;
mod mailbox;
mod node_watch;
mod outbound;
pub mod past;
pub mod redactor;
pub mod replay;
pub mod replica;
pub mod scrub;
mod writer;
