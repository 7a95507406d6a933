//! Who set which field of a spec: when, by which command, and why.

use std::collections::BTreeMap;

use events::{ContainerSpec, Kind, ServiceSpec, TaskSpec, Timestamp};
use serde::Serialize;
use serde_json::Value;
use wire::v1::EventRecord;

use super::changes::{self, Leaf};
use super::table::Table;
use super::view::View;
use super::{RecordNames, age, event_lines};

/// The path of the field that scaling sets.
const REPLICAS: [&str; 3] = ["mode", "replicated", "replicas"];

/// Who gave a field a value.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    field: String,
    /// As shown in a table; absent if the field was removed.
    value: Option<String>,
    index: u64,
    log_time: Timestamp,
    by: String,
    command: Option<String>,
    reason: Option<String>,
    /// Whether this is the current value.
    present: bool,
}

/// The fields of a spec while its history is read.
#[derive(Debug, Default)]
pub struct Blame {
    fields: BTreeMap<Vec<String>, Value>,
    lines: Vec<(Vec<String>, Line)>,
}

impl Blame {
    /// Takes the next event about the spec; the oldest comes first.
    pub fn add(&mut self, record: &EventRecord, ids: bool) {
        let Some(kind) = &record.event.kind else { return };
        let leaves = if let Kind::ServiceScaled(event) = kind {
            let path = REPLICAS.map(str::to_owned).to_vec();
            let mut leaves = self.fields.clone();
            leaves.insert(path, Value::from(event.to));
            leaves
        } else {
            let Some(spec) = spec(kind) else { return };
            let leaves = changes::leaves(&spec).into_iter().map(|Leaf { path, value }| (path, value));
            // A switch that was never on has no author.
            leaves
                .filter(|(path, value)| {
                    !is_off(value) || self.fields.contains_key(path) || path.ends_with(&REPLICAS.map(str::to_owned))
                })
                .collect()
        };
        let removed = self.fields.keys().filter(|path| !leaves.contains_key(*path)).cloned();
        let set =
            leaves.iter().filter(|(path, value)| self.fields.get(*path) != Some(value)).map(|(path, _)| path.clone());
        let changed: Vec<Vec<String>> = removed.chain(set).collect();
        for path in changed {
            let value = leaves.get(&path).cloned();
            self.note(path, value, record, ids);
        }
        self.fields = leaves;
    }

    fn note(&mut self, path: Vec<String>, value: Option<Value>, record: &EventRecord, ids: bool) {
        let names = if ids { RecordNames::none() } else { RecordNames::with(record) };
        let mut is_first = true;
        for (_, line) in self.lines.iter_mut().filter(|(other, _)| *other == path) {
            (is_first, line.present) = (false, false);
        }
        // A default that no one chose is not shown by its name.
        let value = value.map(|value| {
            let is_default = is_first && record.event.kind.as_ref().is_some_and(|kind| is_default(kind, &path, &value));
            if is_default { "default".to_owned() } else { changes::show(&value) }
        });
        let line = Line {
            field: changes::name(&path),
            present: value.is_some(),
            value,
            index: record.index,
            log_time: record.log_time,
            by: event_lines::by(&record.event, record, names),
            command: record.command.as_ref().map(|command| command.kind.clone()),
            reason: record.command.as_ref().and_then(|command| command.reason.clone()),
        };
        self.lines.push((path, line));
    }

    /// The fields in order, each with its current value; with `all` also with every earlier one, oldest first.
    pub fn lines(mut self, all: bool) -> Vec<Line> {
        self.lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.lines.into_iter().map(|(_, line)| line).filter(|line| all || line.present).collect()
    }
}

fn is_off(value: &Value) -> bool {
    *value == Value::Bool(false) || value.as_u64() == Some(0)
}

/// Whether this is the name of an unset enum. Unset texts are empty and not fields.
fn is_default(kind: &Kind, path: &[String], value: &Value) -> bool {
    let is_service = matches!(kind, Kind::ServiceCreated(_) | Kind::ServiceSpecUpdated(_));
    let unset = if is_service { serde_json::to_value(unset_service()) } else { return false };
    let mut leaves = changes::leaves(&unset.unwrap_or_default()).into_iter();
    value.is_string() && leaves.any(|leaf| leaf.path == path && leaf.value == *value)
}

/// A service with all optional parts present and no values set in them.
fn unset_service() -> ServiceSpec {
    let task = TaskSpec {
        container: Some(ContainerSpec { privileges: Some(Default::default()), ..Default::default() }),
        restart: Some(Default::default()),
        placement: Some(Default::default()),
        ..Default::default()
    };
    let (update, rollback) = (Some(Default::default()), Some(Default::default()));
    ServiceSpec { task: Some(task), update, rollback, endpoint: Some(Default::default()), ..Default::default() }
}

/// The complete spec in an event.
fn spec(kind: &Kind) -> Option<Value> {
    // Specs are plain data, which always serializes to JSON.
    let json = if let Kind::ServiceCreated(event) = kind {
        serde_json::to_value(&event.spec)
    } else if let Kind::ServiceSpecUpdated(event) = kind {
        serde_json::to_value(&event.spec)
    } else if let Kind::NodeJoined(event) = kind {
        serde_json::to_value(&event.spec)
    } else if let Kind::NodeSpecUpdated(event) = kind {
        serde_json::to_value(&event.spec)
    } else if let Kind::ClusterInitialised(event) = kind {
        serde_json::to_value(&event.spec)
    } else if let Kind::ClusterSpecUpdated(event) = kind {
        serde_json::to_value(&event.spec)
    } else {
        return None;
    };
    Some(json.unwrap_or_default())
}

/// The table.
pub fn table(lines: &[Line], view: View) -> String {
    let mut table = Table::new(&["FIELD", "VALUE", "INDEX", "SET", "BY", "COMMAND", "REASON"]);
    for line in lines {
        table.row([
            line.field.clone(),
            line.value.clone().unwrap_or_else(|| "(removed)".to_owned()),
            line.index.to_string(),
            age::ago(line.log_time, view.now),
            line.by.clone(),
            line.command.clone().unwrap_or_default(),
            line.reason.clone().unwrap_or_default(),
        ]);
    }
    table.render(view.width)
}
