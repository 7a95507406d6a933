//! What tables and blocks depend on besides what they show.

use events::Timestamp;

/// Who looks, and when.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The present, for ages.
    pub now: Timestamp,
    /// Whether ids are shown instead of names.
    pub ids: bool,
    /// Columns of the terminal, if there is one.
    pub width: Option<usize>,
}
