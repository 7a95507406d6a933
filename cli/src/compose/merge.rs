//! Merges several files: a later file overrides an earlier one, key by key.

use crate::yaml::{Key, Node, Value};

/// Keys whose lists replace those of earlier files: their items only make sense together.
const REPLACED: [&str; 3] = ["command", "entrypoint", "test"];
/// Keys whose lists of `NAME=VALUE` are maps.
const PAIRS: [&str; 3] = ["environment", "labels", "sysctls"];

/// The earlier file with the changes of the later one.
pub fn merge(mut earlier: Node, later: Node) -> Node {
    merge_value("", &mut earlier, later);
    earlier
}

fn merge_value(key: &str, into: &mut Node, from: Node) {
    if PAIRS.contains(&key) {
        into.value = as_map(std::mem::replace(&mut into.value, Value::List(Vec::new())));
    }
    let from = if PAIRS.contains(&key) { Node { value: as_map(from.value), ..from } } else { from };
    match (&mut into.value, from.value) {
        (Value::Map(into), Value::Map(from)) => {
            from.into_iter().for_each(|(key, node)| match into.iter_mut().find(|(known, _)| known.text == key.text) {
                Some((known, present)) => {
                    *known = key;
                    merge_value(&known.text, present, node);
                }
                None => into.push((key, node)),
            })
        }
        (Value::List(into), Value::List(from)) if !REPLACED.contains(&key) => {
            from.into_iter().for_each(|item| match into.iter_mut().find(|known| is_same(key, known, &item)) {
                Some(known) => *known = item,
                None => into.push(item),
            });
        }
        (_, value) => *into = Node { at: from.at, value },
    }
}

/// Whether two items of a list define the same thing.
fn is_same(key: &str, a: &Node, b: &Node) -> bool {
    match (key, target(key, a), target(key, b)) {
        ("volumes" | "configs" | "secrets", Some(a), Some(b)) => a == b,
        _ => plain(a) == plain(b),
    }
}

/// The path of an item in the container.
fn target(key: &str, item: &Node) -> Option<String> {
    match &item.value {
        Value::Scalar { text, .. } if key == "volumes" => {
            let mut parts = text.split(':');
            let first = parts.next();
            parts.next().or(first).map(str::to_owned)
        }
        Value::Scalar { text, .. } => Some(text.clone()),
        Value::Map(_) => item.get("target").or_else(|| item.get("source")).and_then(Node::text).map(str::to_owned),
        Value::List(_) => None,
    }
}

/// An item without its source locations.
fn plain(node: &Node) -> String {
    match &node.value {
        Value::Scalar { text, .. } => format!("{text:?}"),
        Value::List(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let entry = |(key, node): &(Key, Node)| format!("{:?}:{}", key.text, plain(node));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
        }
    }
}

fn as_map(value: Value) -> Value {
    let Value::List(items) = value else { return value };
    if !items.iter().all(|item| matches!(item.value, Value::Scalar { .. })) {
        return Value::List(items);
    }
    let mut entries: Vec<(Key, Node)> = Vec::new();
    for item in items {
        let Value::Scalar { text, .. } = item.value else { continue };
        let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(name, value)| (name, Some(value)));
        // A name alone has no value, which differs from an empty value.
        let value = Value::Scalar { text: value.unwrap_or_default().to_owned(), plain: value.is_none() };
        let key = Key { at: item.at.clone(), text: name.to_owned() };
        entries.retain(|(known, _)| known.text != key.text);
        entries.push((key, Node { at: item.at, value }));
    }
    Value::Map(entries)
}
