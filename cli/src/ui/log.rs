//! The lines of a log on a page.

use std::collections::BTreeMap;

use events::{TaskId, Timestamp};
use wire::v1::{LogSource, LogsPart};

use crate::format::log::{Style, without_colours};

/// Maximum length of a line in bytes: a screen line shows less.
const LINE_MAX: usize = 4 << 10;

/// Turns log parts into lines.
pub struct Log {
    style: Style,
    sources: BTreeMap<TaskId, LogSource>,
}

impl Log {
    /// An empty log; `ids` shows ids instead of names.
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

    /// The timestamp of the last line.
    pub fn last(&self) -> Option<Timestamp> {
        self.style.last()
    }
}
