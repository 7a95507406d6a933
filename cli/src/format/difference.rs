//! The difference of two states: one object after the other, each with its changes in words.

use events::{Named, TaskState};
use serde::Serialize;
use serde_json::{Map, Value};
use wire::v1::{Difference, ObjectNoun, ObjectSide, TaskEnd, TaskSide};

use super::phrase::summary;
use super::wrap::wrap;
use super::{changes, escape, state};

/// Indentation of an object's changes.
const INDENT: usize = 4;

/// An object that differs.
#[derive(Debug, Serialize)]
pub struct Row {
    /// What changed, in words.
    changes: Vec<String>,
    #[serde(flatten)]
    difference: Difference,
}

impl Row {
    /// How an object differs.
    pub fn of(difference: Difference) -> Self {
        let changes = match difference.noun() {
            ObjectNoun::Task => vec![of_place(&difference)],
            ObjectNoun::Cluster
            | ObjectNoun::Node
            | ObjectNoun::Operator
            | ObjectNoun::Config
            | ObjectNoun::Secret
            | ObjectNoun::Service
            | ObjectNoun::Tag => of_object(&difference),
        };
        Self { changes, difference }
    }

    /// The text for people: one line if there is one change, otherwise a line for each.
    pub fn text(&self, ids: bool, width: Option<usize>) -> String {
        let id = self.difference.id.as_deref().filter(|_| ids);
        let head = format!("{} {}", self.difference.noun().name(), id.unwrap_or(&self.difference.name));
        if let [only] = &self.changes[..] {
            let text = format!("{head}: {only}");
            let lines = wrap(&escape::line(&text), width.map_or(usize::MAX, |width| width.saturating_sub(INDENT)))
                .join(&format!("\n{:INDENT$}", ""));
            return lines + "\n";
        }
        let room = width.map_or(usize::MAX, |width| width.saturating_sub(2 * INDENT));
        let mut text = format!("{}\n", escape::line(&head));
        for change in &self.changes {
            let change = escape::line(change);
            let lines = wrap(&change, room).join(&format!("\n{:1$}", "", 2 * INDENT));
            text.push_str(&format!("{:INDENT$}{lines}\n", ""));
        }
        text
    }
}

fn of_object(difference: &Difference) -> Vec<String> {
    match (&difference.before, &difference.after) {
        (Some(before), Some(after)) => changes::between(&fields(before), &fields(after)),
        (None, Some(after)) => {
            let what = after.service.as_ref().map_or_else(String::new, |spec| format!(": {}", summary(spec)));
            vec![format!("added{what}")]
        }
        (Some(_), None) | (None, None) => vec!["removed".to_owned()],
    }
}

/// The compared fields, those of the spec first.
fn fields(side: &ObjectSide) -> Value {
    // Messages are plain data, which always serializes to JSON.
    let mut all = match serde_json::to_value(side) {
        Ok(Value::Object(all)) => all,
        Ok(_) | Err(_) => Map::new(),
    };
    let mut fields = Map::new();
    for spec in ["cluster", "node", "config", "secret", "service"] {
        if let Some(Value::Object(spec)) = all.remove(spec) {
            fields.extend(spec);
        }
    }
    all.remove("task");
    fields.extend(all);
    Value::Object(fields)
}

/// The change of a slot.
fn of_place(difference: &Difference) -> String {
    let task = |side: &Option<ObjectSide>| side.as_ref().and_then(|side| side.task.clone());
    let why = difference.end.as_ref().map_or_else(String::new, ended);
    match (task(&difference.before), task(&difference.after)) {
        (None, Some(after)) => format!("started{}, {}", on(&after), state(after.state())),
        (Some(before), None) => format!("stopped{}{why}", on(&before)),
        (Some(before), Some(after)) if before.task == after.task => moved_on(&before, &after),
        (Some(before), Some(after)) => format!("{}{}{why}", replaced(&before, &after), at(&after)),
        (None, None) => String::new(),
    }
}

/// The same task in a later state.
fn moved_on(before: &TaskSide, after: &TaskSide) -> String {
    let placed = if before.node == after.node { String::new() } else { format!("placed{}, ", on(after)) };
    format!("{placed}{} -> {}", state(before.state()), state(after.state()))
}

/// Another task in the same slot.
fn replaced(before: &TaskSide, after: &TaskSide) -> String {
    let image = if before.image == after.image {
        String::new()
    } else {
        format!(", image {} -> {}", before.image, after.image)
    };
    match (&before.node, &after.node) {
        (Some(from), Some(to)) if from != to => format!("moved from {from} to {to}{image}"),
        (Some(from), None) => format!("moved from {from}, and waits for a node{image}"),
        (Some(_) | None, Some(_)) | (None, None) => format!("replaced{}{image}", on(after)),
    }
}

fn on(task: &TaskSide) -> String {
    task.node.as_ref().map_or_else(|| " without a node".to_owned(), |node| format!(" on {node}"))
}

/// The state of a task that is not running.
fn at(task: &TaskSide) -> String {
    if task.state() == TaskState::Running { String::new() } else { format!(", {}", state(task.state())) }
}

fn ended(end: &TaskEnd) -> String {
    let cause = end.cause.map(|_| format!("; cause {}", end.cause().name().replace('_', " ")));
    let message = if end.message.is_empty() { String::new() } else { format!(", {}", end.message) };
    format!("{}; the former task: {}{message}", cause.unwrap_or_default(), state(end.state()))
}
