//! The context that all readers of a file share: the current path, the other definitions in the file, and the problems so far.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use strsim::jaro_winkler;

use super::LocalEnv;
use super::configs::Definition;
use super::volumes::Volume;
use crate::values::{Invalid, number};
use crate::yaml::{At, Fault, Key, Node, Value};

/// Words less similar than this are not suggested.
const SIMILARITY_MIN: f64 = 0.8;

/// A problem in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A malformed or contradictory value.
    Wrong(Fault),
    /// A key or value that is not supported; the file can be deployed without it.
    Unsupported(Fault),
}

impl Problem {
    /// The problem and its location.
    pub fn fault(&self) -> &Fault {
        match self {
            Self::Wrong(fault) | Self::Unsupported(fault) => fault,
        }
    }
}

/// All problems of some files.
pub type Problems = Vec<Problem>;

/// How a key is handled.
pub(super) enum KeyRule<T> {
    /// It is read by this function.
    Read(fn(&mut T, &Node, &mut Scope<'_>)),
    /// It is not supported, for this reason.
    Unsupported(&'static str),
}

pub(super) struct Scope<'a> {
    /// The name of the stack.
    pub stack: &'a str,
    pub local: &'a LocalEnv<'a>,
    /// The volumes that the file defines.
    pub volumes: BTreeMap<String, Volume>,
    /// The configs that the file defines.
    pub configs: BTreeMap<String, Definition>,
    /// The secrets that the file defines.
    pub secrets: BTreeMap<String, Definition>,
    /// The names of its services.
    pub services: BTreeSet<String>,
    problems: &'a mut Problems,
    /// The keys that lead to the current node.
    path: Vec<String>,
}

impl<'a> Scope<'a> {
    pub fn new(stack: &'a str, local: &'a LocalEnv<'a>, problems: &'a mut Problems) -> Self {
        Self {
            stack,
            local,
            volumes: BTreeMap::new(),
            configs: BTreeMap::new(),
            secrets: BTreeMap::new(),
            services: BTreeSet::new(),
            problems,
            path: Vec::new(),
        }
    }

    /// Reads the value of a nested key.
    pub fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let result = read(self);
        self.path.pop();
        result
    }

    /// The current path: `services.web.deploy`.
    pub fn path(&self) -> String {
        self.path.join(".")
    }

    /// A name prefixed with that of the stack: `shop_web`.
    pub fn named(&self, name: &str) -> String {
        format!("{}_{name}", self.stack)
    }

    /// The full name of a service that the file defines.
    pub fn service(&mut self, at: &At, name: &str) -> Option<String> {
        let is_known = self.services.contains(name);
        if !is_known {
            let sentence = format!("{}: the file does not define the service {name}", self.path());
            self.wrong(at, sentence);
        }
        is_known.then(|| self.named(name))
    }

    pub fn wrong(&mut self, at: &At, sentence: impl Into<String>) {
        self.problems.push(Problem::Wrong(Fault::new(at, sentence)));
    }

    /// Reports a known key that is not supported.
    pub fn unsupported(&mut self, key: &Key, why: &str) {
        let sentence = self.within(&key.text, |scope| format!("{} is not supported: {why}", scope.path()));
        self.unsupported_value(&key.at, sentence);
    }

    /// Reports a known value that is not supported.
    pub fn unsupported_value(&mut self, at: &At, sentence: impl Into<String>) {
        self.problems.push(Problem::Unsupported(Fault::new(at, sentence)));
    }

    /// Reports an unknown key.
    pub fn unknown(&mut self, key: &Key, known: impl IntoIterator<Item = &'static str>) {
        let alike = known.into_iter().map(|word| (jaro_winkler(word, &key.text), word));
        let nearest = alike.filter(|(alike, _)| *alike >= SIMILARITY_MIN).max_by(|(a, _), (b, _)| a.total_cmp(b));
        let suggestion = nearest.map_or_else(String::new, |(_, word)| format!("; did you mean {word}?"));
        let sentence =
            self.within(&key.text, |scope| format!("{} is not a key of Compose files{suggestion}", scope.path()));
        self.unsupported_value(&key.at, sentence);
    }

    /// Reads a map using the table of its keys.
    pub fn fields<T>(&mut self, into: &mut T, node: &Node, table: &[(&'static str, KeyRule<T>)]) {
        for (key, value) in self.entries(node) {
            match table.iter().find(|(known, _)| *known == key.text) {
                Some((_, KeyRule::Read(read))) => self.within(&key.text, |scope| read(into, value, scope)),
                Some((_, KeyRule::Unsupported(why))) => self.unsupported(key, why),
                None => self.unknown(key, table.iter().map(|(known, _)| *known)),
            }
        }
    }

    /// The entries of a map. Keys that start with `x-` are extensions for other programs and are skipped.
    pub fn entries<'n>(&mut self, node: &'n Node) -> Vec<(&'n Key, &'n Node)> {
        match &node.value {
            Value::Map(entries) => {
                let said = entries.iter().filter(|(key, _)| !key.text.starts_with("x-"));
                said.map(|(key, node)| (key, node)).collect()
            }
            Value::Scalar { .. } if node.is_null() => Vec::new(),
            Value::Scalar { .. } | Value::List(_) => {
                self.expected("a map", node);
                Vec::new()
            }
        }
    }

    /// The items of a list; a single value is a list of one.
    pub fn items<'n>(&mut self, node: &'n Node) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            Value::Scalar { .. } if node.is_null() => &[],
            Value::Scalar { .. } => std::slice::from_ref(node),
            Value::Map(_) => {
                self.expected("a list", node);
                &[]
            }
        }
    }

    /// The text of a single value.
    pub fn text<'n>(&mut self, node: &'n Node) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { .. } => node.text(),
            Value::List(_) | Value::Map(_) => {
                self.expected("a single value", node);
                None
            }
        }
    }

    /// The texts of a list.
    pub fn texts(&mut self, node: &Node) -> Vec<String> {
        self.items(node).iter().filter_map(|item| self.text(item).map(str::to_owned)).collect()
    }

    /// A single value, parsed by `read`.
    pub fn value<T>(&mut self, node: &Node, read: impl Fn(&str) -> Result<T, Invalid>) -> Option<T> {
        let text = self.text(node)?;
        self.valid(&node.at, read(text))
    }

    /// The values of a list, each parsed by `read`.
    pub fn values<T>(&mut self, node: &Node, read: impl Fn(&str) -> Result<T, Invalid>) -> Vec<T> {
        self.items(node).iter().filter_map(|item| self.value(item, &read)).collect()
    }

    pub fn valid<T>(&mut self, at: &At, result: Result<T, Invalid>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(invalid) => {
                let sentence = format!("{}: {}; {}", self.path(), invalid.sentence, invalid.hint);
                self.wrong(at, sentence);
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn number<T>(&mut self, node: &Node, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display + Clone + Send + Sync + 'static,
    {
        self.value(node, number::within(bounds))
    }

    /// A boolean.
    pub fn boolean(&mut self, node: &Node) -> Option<bool> {
        self.value(node, |text| match text {
            "true" | "True" | "TRUE" => Ok(true),
            "false" | "False" | "FALSE" => Ok(false),
            other => Err(Invalid::new(format!("\"{other}\" is neither true nor false"), "write true or false")),
        })
    }

    /// One of several allowed words.
    pub fn word<T: Copy>(&mut self, node: &Node, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(node)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let sentence = format!("{}: \"{text}\" is none of {}", self.path(), all.join(", "));
            self.wrong(&node.at, sentence);
        }
        found
    }

    /// Names with values, from a map or a list of `NAME=VALUE`; a name alone has none.
    pub fn pairs(&mut self, node: &Node) -> Vec<(At, String, Option<String>)> {
        if let Value::Map(entries) = &node.value {
            let pair =
                |(key, node): &(Key, Node)| (key.at.clone(), key.text.clone(), self.text(node).map(str::to_owned));
            return entries.iter().map(pair).collect();
        }
        let mut pairs = Vec::new();
        for item in self.items(node) {
            if let Some(text) = self.text(item) {
                let (name, value) =
                    text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.to_owned())));
                pairs.push((item.at.clone(), name.to_owned(), value));
            }
        }
        pairs
    }

    /// Names with values; a name without a value gets an empty one.
    pub fn labels(&mut self, node: &Node) -> BTreeMap<String, String> {
        self.pairs(node).into_iter().map(|(_, name, value)| (name, value.unwrap_or_default())).collect()
    }

    fn expected(&mut self, what: &str, node: &Node) {
        let path = self.path();
        let place = if path.is_empty() { "the file".to_owned() } else { path };
        self.wrong(&node.at, format!("{place} has {}, where {what} is expected", node.kind()));
    }
}

/// Sets a field if its value was read; a failure has been reported already.
pub(super) fn put<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
