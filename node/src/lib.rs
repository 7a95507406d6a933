//! The shell around the core: everything of `swarmd` that touches the world.

pub mod agent;
pub mod log;
pub mod security;
