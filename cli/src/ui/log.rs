//! The lines of a log, as a page shows them.

use std::collections::BTreeMap;

use events::{TaskId, Timestamp};
use wire::v1::{LogSource, LogsPart};

use crate::format::log::{Style, without_colours};

/// Bytes of a line that are kept: nobody reads more of it in one line of a screen.
const LINE_MAX: usize = 4 << 10;

/// Makes lines of what arrives.
pub struct Log {
    style: Style,
    sources: BTreeMap<TaskId, LogSource>,
}

impl Log {
    /// A log of which nothing has arrived, with ids in place of names or not.
    pub fn new(ids: bool) -> Self {
        Self { style: Style::new(false, false, false, ids, false), sources: BTreeMap::new() }
    }

    /// The lines of a part.
    pub fn lines(&mut self, part: LogsPart) -> Vec<String> {
        let mut lines: Vec<String> = part.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
        for source in part.sources {
            self.style.learn(&source);
            self.sources.insert(source.task, source);
        }
        for batch in part.batches {
            for line in &batch.lines {
                let mut text = Vec::new();
                self.style.line(self.sources.get(&batch.task), line, &mut text);
                text.truncate(LINE_MAX);
                lines.push(without_colours(String::from_utf8_lossy(&text).trim_end()));
            }
        }
        lines
    }

    /// When the last line was printed.
    pub fn last(&self) -> Option<Timestamp> {
        self.style.last()
    }
}
