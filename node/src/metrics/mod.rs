//! What a node can be measured by, in the text format of Prometheus, and how it is asked whether it is well.
//!
//! Counters and histograms are plain numbers that the threads count up as they go. All else is read when someone asks, from the
//! published state and from counts that are kept in it, so that no thread of the core does anything for it.

mod connections;
mod exposition;
mod manager;
mod measures;
mod progress;
mod server;

pub(crate) use connections::OpenConnection;
pub use connections::{ConnectionClass, Connections};
pub(crate) use measures::CommandResult;
pub use measures::{Histogram, Measures, PeerCounts};
pub use progress::Progress;
pub(crate) use server::bind;
pub use server::{Probe, Readiness, serve};
