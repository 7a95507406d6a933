//! The flag for reads of the past.

use super::point::{self, Point};

/// The point of history to read.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct At {
    /// Show everything as it was after this index, or at this time: 120, 2026-01-31T12:00:00Z, "2026-01-31 12:00" (UTC), 03:12 (the
    /// last one, UTC), "yesterday 14:00", 2h ago, or a tag
    #[arg(long, value_name = "INDEX|TIME|TAG", value_parser = point::parse)]
    pub at: Option<Point>,
}
