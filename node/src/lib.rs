//! The shell around the core: everything of `swarmd` that touches the world.
//!
//! Suggested order: [`manager`] (the turn, its threads and its state), [`log`] (what is on the disk), [`control`] (what a
//! manager answers), [`api`] (the same over gRPC), [`security`] (who may ask), [`peering`] (how managers reach each
//! other), [`agent`] (what every node does), [`streams`]
//! (what passes a manager and is no state), [`daemon`] (all of it as a process).

pub mod agent;
pub mod api;
pub mod backup;
mod bucket;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod level;
pub mod log;
pub mod manager;
pub mod metrics;
pub mod peering;
pub mod sandbox;
pub mod security;
pub mod sinks;
pub mod streams;
mod timers;
