//! Names for the ids in a record of history. The manager knows them, also those of what is gone.

use wire::v1::EventRecord;

/// What the ids in one record are called.
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
