//! Merged lines of several tasks.

use events::TaskId;
use wire::v1::{LogBatch, LogLine};

/// Overhead of a line in a message, in addition to its text.
const LINE_BYTES: usize = 20;

/// A line of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The task.
    pub task: TaskId,
    /// Its text.
    pub line: LogLine,
}

/// The encoded size of a line.
pub fn encoded(line: &Line) -> usize {
    LINE_BYTES + line.line.data.len()
}

/// Groups the lines into messages: consecutive lines of the same task are in one batch.
pub fn batches(lines: impl IntoIterator<Item = Line>) -> Vec<LogBatch> {
    let mut batches: Vec<LogBatch> = Vec::new();
    for Line { task, line } in lines {
        match batches.last_mut() {
            Some(batch) if batch.task == task => batch.lines.push(line),
            Some(_) | None => batches.push(LogBatch { task, lines: vec![line] }),
        }
    }
    batches
}
