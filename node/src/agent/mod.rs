//! The worker's half of a node: it keeps a session with the managers and runs the tasks that it is given.

pub mod docker;
pub mod executor;
pub mod process;
mod steps;
