//! The details of one history entry.

use events::Kind;
use wire::v1::EventRecord;

use super::question::Line;
use crate::format::block::Block;
use crate::format::operations::Operation;
use crate::format::{RecordNames, escape, event_lines, wrap};

/// Maximum number of other events of the same frame.
const BESIDE_MAX: usize = 100;

/// An entry of a frame: its actor and reason, the other events of the frame, and the consequences of the frame's command.
pub fn lines(frame: &[EventRecord], ordinal: u32, operation: Option<&Operation>, columns: usize) -> Vec<Line> {
    let Some(record) = frame.iter().find(|record| record.ordinal == ordinal) else {
        return vec![Line::text("history has no such entry")];
    };
    let mut text = block(record).render(Some(columns));
    if let Some(operation) = operation {
        text.push_str("\nThe command of this frame, and what followed from it:\n");
        text.push_str(&operation.text());
    }
    let beside: Vec<&EventRecord> = frame.iter().filter(|other| other.ordinal != ordinal).collect();
    if !beside.is_empty() {
        text.push_str("\nIn the same frame:\n");
        let line = |other: &&EventRecord| {
            let kind = other.event.kind.as_ref().map_or("unknown", Kind::name);
            format!("  {kind:<24}{}\n", escape::line(&event_lines::what(other, RecordNames::with(other))))
        };
        text.extend(beside.iter().take(BESIDE_MAX).map(line));
        if beside.len() > BESIDE_MAX {
            text.push_str(&format!("  and {} more\n", beside.len() - BESIDE_MAX));
        }
    }
    text.lines().flat_map(|line| wrap(line, columns)).map(Line::text).collect()
}

fn block(record: &EventRecord) -> Block {
    let names = RecordNames::with(record);
    let mut block = Block::default();
    block
        .field("Index", record.index)
        .field("Time", record.log_time)
        .field("Event", record.event.kind.as_ref().map_or("unknown", Kind::name))
        .field("By", event_lines::by(&record.event, record, names))
        .prose("What", &event_lines::what(record, names));
    if let Some(command) = &record.command {
        block.optional("Command", command.kind.as_str());
        block.prose("Reason", command.reason.as_deref().unwrap_or_default());
        block.optional("Led to by", command.causation.map_or_else(String::new, |index| format!("index {index}")));
    }
    block
}

/// The task that an entry is about, if the event concerns its placement or its end.
pub fn task(record: &EventRecord) -> Option<String> {
    match record.event.kind.as_ref()? {
        Kind::TaskCreated(event) => Some(event.task.to_string()),
        Kind::TaskAssigned(event) => Some(event.task.to_string()),
        _ => None,
    }
}
