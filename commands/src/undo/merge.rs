//! Reverts one change of a plain value, and preserves later changes by others.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Lists whose order matters: they are restored as a whole.
const ORDERED: [&str; 3] = ["command", "args", "test"];

/// Which value wins if a later change affected the same field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefer {
    /// The value from before the undone change.
    Former,
    /// The current value of the field.
    Present,
}

/// A field that a later change set again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The path to it; empty for the whole object.
    pub path: Vec<String>,
    /// The value set by the undone change; null if it removed the field.
    pub set: Value,
    /// The current value.
    pub present: Value,
    /// The value before the change.
    pub former: Value,
}

/// The three values of a field: before the undone change, after it, and now.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    /// Before the change.
    pub before: &'a Value,
    /// After it.
    pub after: &'a Value,
    /// Now.
    pub now: &'a Value,
}

/// The value of a field once the change is undone. Conflicts with later changes are recorded, and such fields keep their current
/// value unless the former one is preferred.
pub fn restore(field: Field<'_>, prefer: Option<Prefer>, clashes: &mut Vec<Clash>) -> Value {
    Merge { prefer, path: Vec::new(), clashes }.field(field)
}

struct Merge<'a> {
    prefer: Option<Prefer>,
    path: Vec<String>,
    clashes: &'a mut Vec<Clash>,
}

impl Merge<'_> {
    fn field(&mut self, field: Field<'_>) -> Value {
        let Field { before, after, now } = field;
        if before == after || before == now {
            return now.clone();
        }
        if after == now {
            return before.clone();
        }
        if let (Value::Object(before), Value::Object(after), Value::Object(now)) = (before, after, now) {
            return Value::Object(self.fields(before, after, now));
        }
        let is_ordered = self.path.last().is_some_and(|name| ORDERED.contains(&name.as_str()));
        if !is_ordered && let (Some(before), Some(after), Some(now)) = (items(before), items(after), items(now)) {
            return Value::Array(self.items(&before, &after, &now));
        }
        self.clashes.push(Clash {
            path: self.path.clone(),
            set: after.clone(),
            present: now.clone(),
            former: before.clone(),
        });
        match self.prefer {
            Some(Prefer::Former) => before.clone(),
            Some(Prefer::Present) | None => now.clone(),
        }
    }

    fn at(&mut self, name: &str, field: Field<'_>) -> Value {
        self.path.push(name.to_owned());
        let value = self.field(field);
        self.path.pop();
        value
    }

    fn fields(
        &mut self,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
        now: &Map<String, Value>,
    ) -> Map<String, Value> {
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).chain(now.keys()).collect();
        let mut merged = Map::new();
        for name in names {
            let of = |fields: &Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
            let (was, set, is) = (of(before), of(after), of(now));
            let value = self.at(name, Field { before: &was, after: &set, now: &is });
            // An unset field of a spec is null; a removed entry of a map is absent.
            if !value.is_null() || (before.contains_key(name) && now.contains_key(name)) {
                merged.insert(name.clone(), value);
            }
        }
        merged
    }

    /// The same for a list of `KEY=VALUE`: it keeps its current order.
    fn items(&mut self, before: &[Item<'_>], after: &[Item<'_>], now: &[Item<'_>]) -> Vec<Value> {
        let of = |list: &[Item<'_>], key: &str| {
            list.iter().find(|(known, _)| *known == key).map_or(Value::Null, |(_, item)| Value::from(*item))
        };
        let gone = before.iter().filter(|(key, _)| now.iter().all(|(known, _)| known != key));
        let keys = now.iter().chain(gone).map(|(key, _)| *key);
        let merged = keys.map(|key| {
            let (was, set, is) = (of(before, key), of(after, key), of(now, key));
            self.at(key, Field { before: &was, after: &set, now: &is })
        });
        merged.filter(|value| !value.is_null()).collect()
    }
}

/// A key, and the whole of `KEY=VALUE`.
type Item<'a> = (&'a str, &'a str);

/// The items of a list of `KEY=VALUE` with distinct keys; `None` for any other list.
fn items(value: &Value) -> Option<Vec<Item<'_>>> {
    let items: Option<Vec<Item<'_>>> = value.as_array()?.iter().map(item).collect();
    let items = items?;
    let keys: BTreeSet<&str> = items.iter().map(|(key, _)| *key).collect();
    (keys.len() == items.len()).then_some(items)
}

fn item(value: &Value) -> Option<Item<'_>> {
    let text = value.as_str()?;
    Some((text.split_once('=')?.0, text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_changed_since_stays() {
        let table = [
            // Before, after, now, and the result.
            (json!({"a": 1, "b": 1}), json!({"a": 2, "b": 1}), json!({"a": 2, "b": 3}), json!({"a": 1, "b": 3})),
            (json!({"a": 1}), json!({"a": 2}), json!({"a": 1}), json!({"a": 1})),
            (json!({"l": {}}), json!({"l": {"x": "1"}}), json!({"l": {"x": "1", "y": "2"}}), json!({"l": {"y": "2"}})),
            (json!({"l": {"x": "1"}}), json!({"l": {}}), json!({"l": {"y": "2"}}), json!({"l": {"x": "1", "y": "2"}})),
            (json!({"o": null}), json!({"o": 1}), json!({"o": 1}), json!({"o": null})),
            (
                json!({"e": ["A=1", "B=1"]}),
                json!({"e": ["A=2"]}),
                json!({"e": ["A=2", "C=1"]}),
                json!({"e": ["A=1", "C=1", "B=1"]}),
            ),
            (json!(null), json!({"a": 1}), json!({"a": 1}), json!(null)),
            (json!({"a": 1}), json!(null), json!(null), json!({"a": 1})),
        ];
        for (before, after, now, expected) in table {
            let mut clashes = Vec::new();
            let field = Field { before: &before, after: &after, now: &now };
            assert_eq!(restore(field, None, &mut clashes), expected, "{before} {after} {now}");
            assert_eq!(clashes, [], "{before} {after} {now}");
        }
    }

    #[test]
    fn a_field_that_was_set_again_clashes() {
        let (before, after, now) =
            (json!({"a": 1, "e": ["A=1"]}), json!({"a": 2, "e": ["A=2"]}), json!({"a": 3, "e": []}));
        for (prefer, expected) in [
            (None, json!({"a": 3, "e": []})),
            (Some(Prefer::Present), json!({"a": 3, "e": []})),
            (Some(Prefer::Former), json!({"a": 1, "e": ["A=1"]})),
        ] {
            let mut clashes = Vec::new();
            let field = Field { before: &before, after: &after, now: &now };
            assert_eq!(restore(field, prefer, &mut clashes), expected, "{prefer:?}");
            let paths: Vec<String> = clashes.iter().map(|clash| clash.path.join(".")).collect();
            assert_eq!(paths, ["a", "e.A"]);
        }
        let mut clashes = Vec::new();
        let (gone, changed) = (json!(null), json!({"a": 3}));
        restore(Field { before: &gone, after: &before, now: &changed }, None, &mut clashes);
        assert_eq!(clashes.len(), 1, "an object that was changed since it was created is not removed just so");
    }
}
