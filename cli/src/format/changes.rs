//! The difference of two specs, field by field: `env LOG=info removed`.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::values::duration;

/// Parts of a path that are of no interest to a reader.
const HIDDEN_PARTS: [&str; 5] = ["annotations", "task", "container", "mode", "replicated"];
/// Lists with significant order or repeated items: they are shown as a whole.
const ORDERED: [&str; 3] = ["command", "args", "test"];

/// What changed from `before` to `after`, in the order of the fields.
pub fn between(before: &Value, after: &Value) -> Vec<String> {
    let mut changes = Vec::new();
    compare(&mut Vec::new(), before, after, &mut changes);
    changes
}

/// A field of a spec, or one item of a list of `KEY=VALUE`.
pub struct Leaf {
    /// Its path.
    pub path: Vec<String>,
    /// Its value.
    pub value: Value,
}

/// All fields that are set, in their order.
pub fn leaves(spec: &Value) -> Vec<Leaf> {
    let mut leaves = Vec::new();
    add_leaves(&mut Vec::new(), spec, &mut leaves);
    leaves
}

fn add_leaves(path: &mut Vec<String>, value: &Value, leaves: &mut Vec<Leaf>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                path.push(name.clone());
                add_leaves(path, value, leaves);
                path.pop();
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| key(item).is_some()) => {
            for item in items {
                path.push(key(item).unwrap_or_default().to_owned());
                leaves.push(Leaf { path: path.clone(), value: item.clone() });
                path.pop();
            }
        }
        value if !is_nothing(value) => leaves.push(Leaf { path: path.clone(), value: value.clone() }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {}
    }
}

fn compare(path: &mut Vec<String>, before: &Value, after: &Value, changes: &mut Vec<String>) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => compare_fields(path, before, after, changes),
        (Value::Object(before), Value::Null) => compare_fields(path, before, &Map::new(), changes),
        (Value::Null, Value::Object(after)) => compare_fields(path, &Map::new(), after, changes),
        (Value::Array(before), Value::Array(after)) => compare_lists(path, before, after, changes),
        (before, after) => changes.extend(replaced(path, before, after)),
    }
}

fn replaced(path: &[String], before: &Value, after: &Value) -> Option<String> {
    let name = name(path);
    // Durations are numbers with the unit in the field's name.
    let (name, show) = match name.strip_suffix("_ns") {
        Some(name) => (name, length as fn(&Value) -> String),
        None => (name.as_str(), show as fn(&Value) -> String),
    };
    match (is_nothing(before), is_nothing(after)) {
        (true, true) => None,
        (true, false) => Some(format!("{name} {} added", show(after))),
        (false, true) => Some(format!("{name} {} removed", show(before))),
        (false, false) => Some(format!("{name} {} -> {}", show(before), show(after))),
    }
}

fn length(ns: &Value) -> String {
    ns.as_u64().map_or_else(|| show(ns), |ns| duration::show(Duration::from_nanos(ns)))
}

fn compare_fields(
    path: &mut Vec<String>,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    changes: &mut Vec<String>,
) {
    let added = after.keys().filter(|key| !before.contains_key(*key));
    for key in before.keys().chain(added) {
        path.push(key.clone());
        compare(path, before.get(key).unwrap_or(&Value::Null), after.get(key).unwrap_or(&Value::Null), changes);
        path.pop();
    }
}

fn compare_lists(path: &[String], before: &[Value], after: &[Value], changes: &mut Vec<String>) {
    let name = name(path);
    let whole = |list: &[Value]| format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(" "));
    let removed: Vec<&Value> = before.iter().filter(|item| !after.contains(item)).collect();
    let added: Vec<&Value> = after.iter().filter(|item| !before.contains(item)).collect();
    let is_ordered = path.last().is_some_and(|last| ORDERED.contains(&last.as_str()));
    if is_ordered || (removed.is_empty() && added.is_empty()) {
        return changes.push(format!("{name} {} -> {}", whole(before), whole(after)));
    }
    for item in &removed {
        let successor = added.iter().find(|added| key(item).is_some_and(|of| key(added) == Some(of)));
        match successor {
            Some(successor) => changes.push(format!("{name} {} -> {}", show(item), show(successor))),
            None => changes.push(format!("{name} {} removed", show(item))),
        }
    }
    let is_new = |item: &&&Value| !removed.iter().any(|removed| key(item).is_some_and(|of| key(removed) == Some(of)));
    changes.extend(added.iter().filter(is_new).map(|item| format!("{name} {} added", show(item))));
}

/// The key of an item such as `LOG=info`.
fn key(item: &Value) -> Option<&str> {
    Some(item.as_str()?.split_once('=')?.0)
}

/// The name of a field.
pub fn name(path: &[String]) -> String {
    // Labels of a container are distinct from those of its service.
    let has = |part: &str| path.iter().any(|of| of == part);
    let of_container = has("container") && has("labels");
    let is_said = |part: &&str| !HIDDEN_PARTS.contains(part) || (of_container && *part == "container");
    path.iter().map(String::as_str).filter(is_said).collect::<Vec<_>>().join(".")
}

/// Whether a field with this value counts as absent.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A value as shown in a table.
pub fn show(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => text.clone(),
        Value::Object(fields) => {
            let said: Map<String, Value> = fields
                .iter()
                .filter(|(_, value)| !is_nothing(value))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            Value::Object(said).to_string()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_told_field_by_field() {
        let table = [
            (json!({"a": 1}), json!({"a": 1}), vec![]),
            (
                json!({"task": {"container": {"env": ["LOG=info", "A=1"]}}}),
                json!({"task": {"container": {"env": ["A=1"]}}}),
                vec!["env LOG=info removed"],
            ),
            (
                json!({"task": {"container": {"env": ["LOG=info"]}}}),
                json!({"task": {"container": {"env": ["LOG=debug", "B=2"]}}}),
                vec!["env LOG=info -> LOG=debug", "env B=2 added"],
            ),
            (json!({"env": ["A=1", "B=2"]}), json!({"env": ["B=2", "A=1"]}), vec!["env [A=1 B=2] -> [B=2 A=1]"]),
            (
                json!({"task": {"container": {"image": "a:1", "args": ["x", "x"]}}}),
                json!({"task": {"container": {"image": "a:2", "args": ["x"]}}}),
                vec!["args [x x] -> [x]", "image a:1 -> a:2"],
            ),
            (
                json!({"mode": {"replicated": {"replicas": 2}}}),
                json!({"mode": {"replicated": {"replicas": 3}}}),
                vec!["replicas 2 -> 3"],
            ),
            (
                json!({"update": {"monitor_ns": 5_000_000_000_u64, "delay_ns": 0}}),
                json!({"update": {"monitor_ns": null, "delay_ns": 90_000_000_000_u64}}),
                vec!["update.delay 0s -> 1m30s", "update.monitor 5s removed"],
            ),
            (
                json!({"mode": {"replicated": {"replicas": 2}}}),
                json!({"mode": {"global": {}}}),
                vec!["replicas 2 removed"],
            ),
            (
                json!({"update": null, "endpoint": {"ports": []}}),
                json!({"update": {"parallelism": 2, "monitor_ns": null}, "endpoint": {"ports": [{"target": 80, "name": ""}]}}),
                vec!["endpoint.ports {\"target\":80} added", "update.parallelism 2 added"],
            ),
            (
                json!({"annotations": {"labels": {"a": "1"}}, "task": {"container": {"labels": {}, "hostname": ""}}}),
                json!({"annotations": {"labels": {}}, "task": {"container": {"labels": {"a": "1"}, "hostname": "two words"}}}),
                vec!["labels.a 1 removed", "hostname \"two words\" added", "container.labels.a 1 added"],
            ),
        ];
        for (before, after, expected) in table {
            assert_eq!(between(&before, &after), expected, "{before} {after}");
        }
    }
}
