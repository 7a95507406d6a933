//! History by operation: one entry for each command of a person or a tool, and below it what followed from it.
//!
//! A frame says which command caused an event, but not which one made the managers act later. What happens to an object therefore
//! counts as a consequence of the last command about it; what happens in the frame of a single command is one of that command.

use std::collections::BTreeMap;
use std::time::Duration;

use events::{ActorKind, Cause, CommandRecord, Kind, Timestamp};
use serde::Serialize;
use wire::v1::EventRecord;

use super::phrase::phrase;
use super::{RecordNames, escape, story};
use crate::values::duration;

/// A command and its consequences.
#[derive(Debug, Serialize)]
pub struct Operation {
    /// Index of its frame.
    index: u64,
    log_time: Timestamp,
    /// Absent for what followed from commands that were not read.
    command: Option<CommandRecord>,
    /// What the command changed, in words.
    changes: Vec<String>,
    /// How often which kind of event followed.
    consequences: BTreeMap<&'static str, u64>,
    /// Index of the last consequence.
    last_index: u64,
    /// Time from the command to the last consequence.
    lasted_ns: u64,
    #[serde(skip)]
    by: String,
}

/// The operations of a history that is read from its oldest event on.
#[derive(Debug, Default)]
pub struct Operations {
    list: Vec<Operation>,
    /// The last operation about each object: a service or a node by its name, a place such as `web.1` where one concerned only it.
    last: BTreeMap<String, usize>,
    /// The frame that is read, and its operations.
    frame: (u64, Vec<usize>),
}

impl Operations {
    /// Takes the next event.
    pub fn add(&mut self, record: &EventRecord) {
        if self.frame.0 != record.index {
            self.frame = (record.index, Vec::new());
        }
        let Some(kind) = &record.event.kind else { return };
        let objects: Vec<&String> = record.subjects.iter().filter_map(|id| record.names.get(id)).collect();
        if let Some(command) = record.command.as_ref().filter(|command| is_asked(command, record)) {
            let operation = self.of_command(command, record);
            self.list[operation].changes.push(phrase(kind, record.before.as_ref(), RecordNames::with(record)));
            for object in objects {
                // What concerned only a place of it is over.
                let prefix = format!("{object}.");
                self.last.retain(|known, _| !known.starts_with(&prefix));
                self.last.insert(object.clone(), operation);
            }
            return;
        }
        let operation = match self.frame.1.as_slice() {
            [only] => Some(*only),
            [] | [_, _, ..] => objects.iter().find_map(|object| self.last_about(object)),
        };
        let Some(operation) = operation else { return };
        for object in objects {
            if self.frame.1.len() == 1 && object.contains('.') {
                self.last.insert(object.clone(), operation);
            }
        }
        self.list[operation].follow(record, kind);
    }

    /// The operation of a command; of several with the same correlation, one.
    fn of_command(&mut self, command: &CommandRecord, record: &EventRecord) -> usize {
        let key = command.correlation.unwrap_or(command.id);
        let same = |operation: &Operation| {
            operation.command.as_ref().is_some_and(|other| other.correlation.unwrap_or(other.id) == key)
        };
        let position = self.list.iter().rposition(same).unwrap_or_else(|| {
            self.list.push(Operation {
                index: record.index,
                log_time: record.log_time,
                command: Some(command.clone()),
                changes: Vec::new(),
                consequences: BTreeMap::new(),
                last_index: record.index,
                lasted_ns: 0,
                by: story::by(&record.event, record, RecordNames::with(record)),
            });
            self.list.len() - 1
        });
        if !self.frame.1.contains(&position) {
            self.frame.1.push(position);
        }
        position
    }

    fn last_about(&self, object: &str) -> Option<usize> {
        let service = object.rsplit_once('.').map(|(service, _)| service);
        let known = self.last.get(object).or_else(|| service.and_then(|service| self.last.get(service)));
        known.copied()
    }

    /// All of them, in the order of their commands.
    pub fn list(&self) -> &[Operation] {
        &self.list
    }
}

/// Whether somebody asked for this: a person or a tool, and not a node or a manager by itself.
fn is_asked(command: &CommandRecord, record: &EventRecord) -> bool {
    let asked = match command.actor.kind() {
        ActorKind::Operator | ActorKind::CertifiedOperator | ActorKind::Joiner => true,
        ActorKind::Node | ActorKind::Manager => false,
    };
    asked && matches!(record.event.cause, Some(Cause::Command(_)))
}

impl Operation {
    fn follow(&mut self, record: &EventRecord, kind: &Kind) {
        *self.consequences.entry(kind.name()).or_default() += 1;
        self.last_index = record.index;
        self.lasted_ns = u64::try_from(record.log_time.since(self.log_time).as_nanos()).unwrap_or(u64::MAX);
    }

    /// The text for people.
    pub fn text(&self) -> String {
        let command = self.command.as_ref();
        let kind = command.map_or("", |command| command.kind.as_str());
        let reason = command.and_then(|command| command.reason.as_deref());
        let reason = reason.map_or_else(String::new, |reason| format!(" (reason: {reason})"));
        let seconds = self.log_time.to_string();
        let seconds = seconds.get(..19).unwrap_or(&seconds);
        let head = format!("{:<10}{seconds}Z  {kind:<20}{}{reason}", self.index, self.by);
        let mut lines = vec![escape::line(&head).into_owned()];
        lines.extend(self.changes.iter().map(|change| format!("{:10}{}", "", escape::line(change))));
        if !self.consequences.is_empty() {
            let counted = self.consequences.iter().map(|(kind, count)| format!("{kind} {count}"));
            let lasted = duration::show(Duration::from_millis(self.lasted_ns / 1_000_000));
            let counted: Vec<String> = counted.collect();
            lines.push(format!("{:10}then until {} in {lasted}: {}", "", self.last_index, counted.join(", ")));
        }
        lines.join("\n") + "\n"
    }
}
