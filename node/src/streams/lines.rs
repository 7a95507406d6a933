//! Lines of several tasks, in one row.

use events::TaskId;
use wire::v1::{LogBatch, LogLine};

/// Bytes that a line takes in a message besides its text.
const LINE_BYTES: usize = 20;

/// A line of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// The task.
    pub task: TaskId,
    /// What it printed.
    pub line: LogLine,
}

/// How much of a message a line takes.
pub fn encoded(line: &Line) -> usize {
    LINE_BYTES + line.line.data.len()
}

/// The row as messages have it: lines of the same task that follow each other are together.
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
