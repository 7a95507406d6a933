//! History grouped by operation: one entry for each command of a person or a tool, and below it its consequences.
//!
//! A frame records which command caused an event, but not which command made the managers act later. A change of an object
//! therefore counts as a consequence of the last command that changed that object; if a frame belongs to a single command,
//! everything in it is a consequence of that one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use events::{Cause, CommandId, CommandRecord, Kind, Timestamp};
use serde::Serialize;
use wire::v1::EventRecord;

use super::phrase::phrase;
use super::{RecordNames, escape, event_lines};
use crate::values::duration;

/// Operations that are kept in memory for their consequences: twice the maximum of `--tail`.
pub const OPERATIONS_MAX: usize = 20_000;
/// Maximum number of listed changes of one operation.
const CHANGES_MAX: usize = 100;
/// Maximum number of objects whose last operation is remembered.
const OBJECTS_MAX: usize = 200_000;

/// A command and its consequences.
#[derive(Debug, Serialize)]
pub struct Operation {
    /// Index of the frame.
    pub index: u64,
    log_time: Timestamp,
    /// Absent for consequences of commands that were not read.
    command: Option<CommandRecord>,
    /// The changes made by the command, in words.
    changes: Vec<String>,
    /// The number of changes that are not listed.
    more_changes: u64,
    /// The number of consequences by kind of event.
    consequences: BTreeMap<&'static str, u64>,
    /// Index of the last consequence.
    last_index: u64,
    /// Time from the command to the last consequence.
    lasted_ns: u64,
    #[serde(skip)]
    by: String,
}

/// Identifies the commands of one operation.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum OperationKey {
    Id(CommandId),
    /// A command without an id is an operation of its own: its frame, and its position among the commands there.
    Alone(u64, u32),
}

/// The operations of a history that is read from its oldest event on. Only a window is kept: older operations are handed out as
/// they are, without their later consequences.
#[derive(Debug, Default)]
pub struct Operations {
    /// The window.
    list: VecDeque<Operation>,
    /// The number of operations before the window.
    handed_out: usize,
    /// The number of each operation in the window, by its key.
    numbers: BTreeMap<OperationKey, usize>,
    /// The last operation about each object: a service or a node by its name, a slot such as `web.1` if the operation concerned
    /// only that.
    last: BTreeMap<String, usize>,
    /// The current frame, and those of its operations that changed something.
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
        if let Some((command, position)) = asked(record) {
            let number = self.of_command(command, position, record);
            if let Some(operation) = self.operation(number) {
                operation.change(kind, record);
            }
            if kind.is_note() {
                return;
            }
            if !self.frame.1.contains(&number) {
                self.frame.1.push(number);
            }
            for object in objects {
                self.forget_places_of(object);
                self.remember(object, number);
            }
            return;
        }
        let number = match self.frame.1.as_slice() {
            [only] => Some(*only),
            [] | [_, _, ..] => objects.iter().find_map(|object| self.last_about(object)),
        };
        let Some(number) = number else { return };
        for object in objects {
            if self.frame.1.len() == 1 && object.contains('.') {
                self.remember(object, number);
            }
        }
        if let Some(operation) = self.operation(number) {
            operation.follow(record, kind);
        }
    }

    /// The operation with this number, if it is in the window.
    fn operation(&mut self, number: usize) -> Option<&mut Operation> {
        self.list.get_mut(number.checked_sub(self.handed_out)?)
    }

    /// The number of a command's operation; commands with the same correlation share one.
    fn of_command(&mut self, command: &CommandRecord, position: u32, record: &EventRecord) -> usize {
        let key = command.operation().map_or(OperationKey::Alone(record.index, position), OperationKey::Id);
        let next = self.handed_out + self.list.len();
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.list.push_back(Operation::of(command, record));
        }
        number
    }

    /// Forgets operations that concerned only a slot of this object.
    fn forget_places_of(&mut self, object: &str) {
        let prefix = format!("{object}.");
        let places = self.last.range(prefix.clone()..).take_while(|(known, _)| known.starts_with(&prefix));
        let places: Vec<String> = places.map(|(place, _)| place.clone()).collect();
        for place in places {
            self.last.remove(&place);
        }
    }

    /// Records the last operation about an object. If a slot no longer fits, its service's operation counts.
    fn remember(&mut self, object: &str, number: usize) {
        if self.last.len() < OBJECTS_MAX || self.last.contains_key(object) {
            self.last.insert(object.to_owned(), number);
        }
    }

    fn last_about(&self, object: &str) -> Option<usize> {
        let service = object.rsplit_once('.').map(|(service, _)| service);
        let known = self.last.get(object).or_else(|| service.and_then(|service| self.last.get(service)));
        known.copied()
    }

    /// Removes the older half of a full window. Later consequences of these are not counted.
    pub fn hand_out(&mut self) -> Vec<Operation> {
        if self.list.len() < OPERATIONS_MAX {
            return Vec::new();
        }
        let older: Vec<Operation> = self.list.drain(..OPERATIONS_MAX / 2).collect();
        self.handed_out += older.len();
        let first = self.handed_out;
        self.numbers.retain(|_, number| *number >= first);
        self.last.retain(|_, number| *number >= first);
        older
    }

    /// The number of operations handed out so far.
    pub fn handed_out(&self) -> usize {
        self.handed_out
    }

    /// The operations in the window, in the order of their commands.
    pub fn window(self) -> VecDeque<Operation> {
        self.list
    }
}

/// The command that requested this and its position in the frame, if the caller was a person or a tool, and not a node or a
/// manager.
fn asked(record: &EventRecord) -> Option<(&CommandRecord, u32)> {
    let command = record.command.as_deref().filter(|command| command.actor.kind().is_user())?;
    match record.event.cause {
        Some(Cause::Command(position)) => Some((command, position)),
        Some(Cause::Reconciler(_)) | None => None,
    }
}

impl Operation {
    fn of(command: &CommandRecord, record: &EventRecord) -> Self {
        Self {
            index: record.index,
            log_time: record.log_time,
            command: Some(command.clone()),
            changes: Vec::new(),
            more_changes: 0,
            consequences: BTreeMap::new(),
            last_index: record.index,
            lasted_ns: 0,
            by: event_lines::by(&record.event, record, RecordNames::with(record)),
        }
    }

    fn change(&mut self, kind: &Kind, record: &EventRecord) {
        if self.changes.len() == CHANGES_MAX {
            self.more_changes += 1;
            return;
        }
        self.changes.push(phrase(kind, record.before.as_deref(), RecordNames::with(record)));
    }

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
        let undone = command.and_then(|command| command.causation);
        let undone = undone.map_or_else(String::new, |index| format!(" (undoes {index})"));
        let reason = reason.map_or_else(String::new, |reason| format!(" (reason: {reason})"));
        let seconds = self.log_time.to_string();
        let seconds = seconds.get(..19).unwrap_or(&seconds);
        let head = format!("{:<10}{seconds}Z  {kind:<20}{}{undone}{reason}", self.index, self.by);
        let mut lines = vec![escape::line(&head).into_owned()];
        lines.extend(self.changes.iter().map(|change| format!("{:10}{}", "", escape::line(change))));
        if self.more_changes > 0 {
            lines.push(format!("{:10}and {} more changes", "", self.more_changes));
        }
        if !self.consequences.is_empty() {
            let counted = self.consequences.iter().map(|(kind, count)| format!("{kind} {count}"));
            let lasted = duration::show(Duration::from_millis(self.lasted_ns / 1_000_000));
            let counted: Vec<String> = counted.collect();
            lines.push(format!("{:10}then until {} in {lasted}: {}", "", self.last_index, counted.join(", ")));
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use events::{ActorKind, ActorRecord, Event, Id, ServiceId, ServiceScaled, TaskAccessed};

    use super::*;

    fn scaled(number: u64) -> EventRecord {
        let (service, id) = (ServiceId::from_bits(1), CommandId::from_bits(u128::from(number) + 1));
        let actor = ActorRecord { kind: ActorKind::Operator.into(), subject: "root".to_owned(), via: None };
        let kind = Kind::ServiceScaled(ServiceScaled { service, from: number, to: number + 1, reason: None });
        EventRecord {
            index: number + 1,
            event: Event::by_command(0, kind),
            command: Some(Box::new(CommandRecord {
                id,
                kind: "service.scale".to_owned(),
                actor,
                ..Default::default()
            })),
            subjects: vec![service.to_string()],
            names: [(service.to_string(), "web".to_owned())].into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_long_history_is_a_window_that_hands_out_what_is_old() {
        let (mut operations, mut handed_out) = (Operations::default(), 0);
        let count = OPERATIONS_MAX + OPERATIONS_MAX / 2;
        for number in 0..count as u64 {
            operations.add(&scaled(number));
            handed_out += operations.hand_out().len();
            assert!(operations.list.len() < OPERATIONS_MAX && operations.numbers.len() == operations.list.len());
        }
        assert!(handed_out > 0 && handed_out == operations.handed_out());
        assert_eq!(handed_out + operations.window().len(), count, "none is lost, and none shown twice");
    }

    /// An event: a user runs a command in web.1.
    fn accessed(index: u64, position: usize, subject: &str) -> EventRecord {
        let actor = ActorRecord { kind: ActorKind::CertifiedOperator.into(), subject: subject.to_owned(), via: None };
        EventRecord {
            index,
            event: Event::by_command(position, Kind::TaskAccessed(TaskAccessed::default())),
            command: Some(Box::new(CommandRecord { kind: "task.exec".to_owned(), actor, ..Default::default() })),
            subjects: vec!["3".to_owned()],
            names: [("3".to_owned(), "web.1".to_owned())].into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_command_without_an_id_is_an_operation_by_itself_and_nothing_follows_from_what_it_reads() {
        let follows = |index| EventRecord {
            command: None,
            event: Event { cause: None, ..scaled(0).event },
            index,
            ..accessed(0, 0, "")
        };
        let mut operations = Operations::default();
        let records =
            [scaled(0), accessed(2, 0, "root"), accessed(2, 1, "ada"), follows(2), accessed(3, 0, "ada"), follows(3)];
        records.iter().for_each(|record| operations.add(record));
        let shown: Vec<(u64, usize, u64)> = operations
            .window()
            .iter()
            .map(|one| (one.index, one.changes.len(), one.consequences.values().sum()))
            .collect();
        assert_eq!(shown, [(1, 1, 2), (2, 1, 0), (2, 1, 0), (3, 1, 0)]);
    }

    #[test]
    fn the_changes_of_one_operation_are_bounded() {
        let mut operations = Operations::default();
        for number in 0..CHANGES_MAX as u64 + 7 {
            let mut record = scaled(number);
            record.command.as_mut().expect("a command").correlation = Some(CommandId::from_bits(1));
            operations.add(&record);
        }
        let [operation] = &operations.window().into_iter().collect::<Vec<_>>()[..] else { panic!("one operation") };
        assert_eq!((operation.changes.len(), operation.more_changes), (CHANGES_MAX, 7));
    }
}
