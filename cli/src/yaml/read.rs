//! Parses YAML: anchors, aliases and merge keys are resolved, and ambiguous values are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::{At, Fault, Key, Node, Value};

/// Maximum number of values in a file, where each use of an alias counts: otherwise a few lines of nested aliases could fill the
/// memory.
const VALUES_MAX: usize = 200_000;
/// Maximum nesting depth: trees are read by recursive functions.
const DEPTH_MAX: usize = 64;
/// The key whose maps are merged into the map that has it.
const MERGE: &str = "<<";

/// Reads the only document of a file; `None` if it is empty.
///
/// # Errors
/// When the text is not YAML, has several documents, or a duplicate key in a map.
pub fn one(file: &str, text: &str) -> Result<Option<Node>, Fault> {
    let mut documents = documents(file, text)?.into_iter();
    let first = documents.next();
    match documents.next() {
        None => Ok(first),
        Some(second) => Err(Fault::new(&second.at, "a second document begins here, where one is expected")),
    }
}

/// Reads all non-empty documents of a file.
///
/// # Errors
/// When the text is not YAML, or has a duplicate key in a map.
pub fn documents(file: &str, text: &str) -> Result<Vec<Node>, Fault> {
    let mut builder = Builder { file: file.into(), ..Builder::default() };
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => builder.take(event, span.start)?,
            Err(error) => {
                let at = builder.at(*error.marker());
                return Err(Fault::new(&at, format!("this is not YAML: {}", error.info())));
            }
        }
    }
    Ok(builder.documents.into_iter().filter(|document| !document.is_null()).collect())
}

#[derive(Default)]
struct Builder {
    file: Arc<str>,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    values: usize,
    documents: Vec<Node>,
}

/// An unfinished list or map.
struct Open {
    at: At,
    anchor: usize,
    items: Items,
}

enum Items {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, merged: Vec<(Key, Node)>, key: Option<Key> },
}

impl Builder {
    fn at(&self, marker: Marker) -> At {
        At { file: self.file.clone(), line: marker.line(), column: marker.col() + 1 }
    }

    fn take(&mut self, event: Event<'_>, marker: Marker) -> Result<(), Fault> {
        let at = self.at(marker);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = self.tag(&at, tag.as_deref())?;
                let plain = style == ScalarStyle::Plain && !is_text;
                self.put(anchor, Node { at, value: Value::Scalar { text: text.into_owned(), plain } })
            }
            Event::Alias(anchor) => self.repeat(at, anchor),
            Event::SequenceStart(anchor, tag) => {
                self.tag(&at, tag.as_deref())?;
                self.begin(at, anchor, Items::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(&at, tag.as_deref())?;
                self.begin(at, anchor, Items::Map { entries: Vec::new(), merged: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, at: At, anchor: usize, items: Items) -> Result<(), Fault> {
        self.bounded(&at, 1)?;
        self.open.push(Open { at, anchor, items });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        let Some(Open { at, anchor, items }) = self.open.pop() else { return Ok(()) };
        let value = match items {
            Items::List(items) => Value::List(items),
            Items::Map { mut entries, merged, .. } => {
                let mut known: BTreeSet<String> = entries.iter().map(|(key, _)| key.text.clone()).collect();
                entries.extend(merged.into_iter().filter(|(key, _)| known.insert(key.text.clone())));
                Value::Map(entries)
            }
        };
        self.put(anchor, Node { at, value })
    }

    /// Whether a tag marks the value as text. Other tags, such as `!reset`, are refused: they are not implemented.
    fn tag(&self, at: &At, tag: Option<&Tag>) -> Result<bool, Fault> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
            Some(tag) => Err(Fault::new(at, format!("the tag {tag} is not supported"))),
        }
    }

    /// A copy of an anchor's value.
    fn repeat(&mut self, at: At, anchor: usize) -> Result<(), Fault> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Fault::new(&at, "the alias names a value that has not ended"));
        };
        let (values, depth) = extent(node);
        self.values += values;
        self.bounded(&at, depth)?;
        let node = self.anchors.get(&anchor).cloned();
        node.map_or(Ok(()), |node| self.put(0, Node { at, ..node }))
    }

    fn bounded(&self, at: &At, depth: usize) -> Result<(), Fault> {
        if self.values > VALUES_MAX {
            return Err(Fault::new(at, format!("the file has more than {VALUES_MAX} values")));
        }
        if self.open.len() + depth > DEPTH_MAX {
            return Err(Fault::new(at, format!("values are nested more than {DEPTH_MAX} deep")));
        }
        Ok(())
    }

    /// Adds a complete value to the open list or map, or to the documents.
    fn put(&mut self, anchor: usize, node: Node) -> Result<(), Fault> {
        self.values += 1;
        self.bounded(&node.at, 0)?;
        if anchor > 0 {
            self.values += extent(&node).0;
            self.bounded(&node.at, 0)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.items) {
            None => self.documents.push(node),
            Some(Items::List(items)) => items.push(node),
            Some(Items::Map { entries, merged, key }) => match key.take() {
                None => *key = Some(new_key(node, entries)?),
                Some(key) if key.text == MERGE => merge(node, merged)?,
                Some(key) => entries.push((key, node)),
            },
        }
        Ok(())
    }
}

fn new_key(node: Node, entries: &[(Key, Node)]) -> Result<Key, Fault> {
    let Value::Scalar { text, .. } = node.value else {
        return Err(Fault::new(&node.at, "a key is a list or a map, where a word is expected"));
    };
    match entries.iter().find(|(known, _)| known.text == text) {
        None => Ok(Key { at: node.at, text }),
        Some((first, _)) => {
            let sentence = format!("the key {text} is given twice, first in line {}", first.at.line);
            Err(Fault::new(&node.at, sentence))
        }
    }
}

/// Adds the entries of a merge key's maps; the earlier of two maps wins.
fn merge(node: Node, merged: &mut Vec<(Key, Node)>) -> Result<(), Fault> {
    match node.value {
        Value::Map(entries) => merged.extend(entries),
        Value::List(maps) => maps.into_iter().try_for_each(|map| match map.value {
            Value::Map(entries) => {
                merged.extend(entries);
                Ok(())
            }
            Value::Scalar { .. } | Value::List(_) => Err(Fault::new(&map.at, "only maps can be merged")),
        })?,
        Value::Scalar { .. } => return Err(Fault::new(&node.at, "only maps can be merged")),
    }
    Ok(())
}

/// The number of values in a tree, and its depth.
fn extent(node: &Node) -> (usize, usize) {
    let parts: Vec<&Node> = match &node.value {
        Value::Scalar { .. } => return (1, 0),
        Value::List(items) => items.iter().collect(),
        Value::Map(entries) => entries.iter().map(|(_, node)| node).collect(),
    };
    let add = |(values, deepest): (usize, usize), (more, depth): (usize, usize)| (values + more, deepest.max(depth));
    let (values, deepest) = parts.into_iter().map(extent).fold((0, 0), add);
    (values + 1, deepest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(node: &Node) -> String {
        match &node.value {
            Value::Scalar { text, plain: true } => text.clone(),
            Value::Scalar { text, plain: false } => format!("{text:?}"),
            Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entry = |(key, node): &(Key, Node)| format!("{}={}", key.text, shown(node));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn trees_are_read_with_anchors_and_merge_keys_resolved() {
        for (text, tree) in [
            ("a: 1\nb: [x, \"2\"]\n", "{a=1 b=[x \"2\"]}"),
            ("{\"a\": {\"b\": null}}", "{a={b=null}}"),
            ("a: &x {k: 1}\nb: *x\n", "{a={k=1} b={k=1}}"),
            ("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  l: 3\n", "{a={k=1 l=2} b={l=3 k=1}}"),
            ("x: &x {k: 1}\ny: &y {k: 2, l: 2}\nb:\n  <<: [*x, *y]\n", "{x={k=1} y={k=2 l=2} b={k=1 l=2}}"),
            ("a: !!str 1\n", "{a=\"1\"}"),
            ("a: |\n  one\n  two\n", "{a=\"one\\ntwo\\n\"}"),
        ] {
            assert_eq!(one("f", text).map(|node| node.as_ref().map(shown)), Ok(Some(tree.to_owned())), "{text}");
        }
        assert_eq!(one("f", "# nothing\n"), Ok(None));
        assert_eq!(documents("f", "a: 1\n---\n---\nb: 2\n").map(|found| found.len()), Ok(2));
    }

    #[test]
    fn what_is_refused_is_refused_at_its_place() {
        let aliases = (1..9).fold("a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8]\n".to_owned(), |text, level| {
            format!("{text}a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 8].join(", "))
        });
        for (text, why) in [
            ("a: 1\nb:\n  c: 1\n  c: 2\n", "f:4:3: the key c is given twice, first in line 3"),
            ("a: 1\n---\nb: 1\n", "f:3:1: a second document"),
            ("a: [1\n", "this is not YAML"),
            ("a: &x [*x]\n", "f:1:8: the alias names a value that has not ended"),
            ("? [a]\n: 1\n", "f:1:3: a key is a list or a map"),
            ("a: !reset []\n", "f:1:4: the tag !reset is not supported"),
            ("a:\n  <<: 5\n", "f:2:7: only maps can be merged"),
            (aliases.as_str(), "the file has more than 200000 values"),
            (&"[".repeat(100), "nested more than 64 deep"),
        ] {
            let fault = one("f", text).expect_err(text);
            assert!(fault.to_string().contains(why), "{text}: {fault}");
        }
    }
}
