//! Display settings of tables and blocks.

use events::Timestamp;

/// The time, the names and the width to show output with.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The current time, for ages.
    pub now: Timestamp,
    /// Whether ids are shown instead of names.
    pub ids: bool,
    /// Columns of the terminal, if there is a terminal.
    pub width: Option<usize>,
}
