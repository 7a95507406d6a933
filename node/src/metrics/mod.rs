//! Metrics of a node, in the text format of Prometheus, and its health checks.
//!
//! Counters and histograms are plain numbers that the threads update as they run. Everything else is read on request, from the
//! published state and from counts that are kept in it, so that no core thread does any work for it.

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
