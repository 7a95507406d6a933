//! Names for the ids in a history record. The manager provides them, also for objects that no longer exist.

use wire::v1::EventRecord;

/// The names of the ids in one record.
#[derive(Debug, Clone, Copy, Default)]
pub struct RecordNames<'a>(Option<&'a EventRecord>);

impl<'a> RecordNames<'a> {
    /// The names that come with a record.
    pub fn with(record: &'a EventRecord) -> Self {
        Self(Some(record))
    }

    /// No names: ids stay ids.
    pub fn none() -> Self {
        Self(None)
    }

    /// The name of an id, or the id itself if it has none.
    pub fn of<'b>(&'b self, id: &'b str) -> &'b str {
        self.0.and_then(|record| record.names.get(id)).map_or(id, String::as_str)
    }
}
