//! Compose files: from text to the specs of a stack.
//!
//! Nothing here talks to a manager, and files and variables are read through [`LocalEnv`] only. An unsupported key is
//! reported with its location and never dropped silently. Each module reads one part of the format: a table of its keys with
//! their readers.

mod configs;
mod deploy;
mod devices;
mod endpoint;
mod environment;
mod health;
mod interpolate;
mod merge;
mod mounts;
mod resources;
mod scope;
mod service;
mod volumes;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use events::ServiceSpec;

use crate::yaml::{self, Fault, Node};
pub use configs::StackFile;
use configs::{Definition, Noun};
pub use environment::parse as parse_variables;
pub use merge::merge;
use scope::Scope;
pub use scope::{Problem, Problems};

/// The label of all objects of a stack; its value is the stack's name. Docker's own tools look for it.
pub const STACK_LABEL: &str = "com.docker.stack.namespace";

/// Top-level keys, and for those that are not supported the reason.
const TOP: [(&str, Option<&str>); 9] = [
    ("version", None),
    ("name", None),
    ("services", None),
    ("configs", None),
    ("volumes", None),
    ("networks", Some("there are no networks in this version: services reach each other at published ports")),
    ("secrets", None),
    ("include", Some("name the other files with --compose-file")),
    ("models", Some("there are no models in this version")),
];

/// What a Compose file uses of the local machine.
pub struct LocalEnv<'a> {
    /// Reads a file.
    pub read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
    /// The value of a variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The base directory of relative paths: that of the first file.
    pub directory: &'a Path,
}

/// The objects of a stack.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stack {
    /// Its services; their names start with the stack's name.
    pub services: Vec<ServiceSpec>,
    /// Its configs.
    pub configs: Vec<StackFile>,
    /// Its secrets.
    pub secrets: Vec<StackFile>,
    /// Services without a number of replicas in the files: the present number is kept.
    pub unscaled: Vec<String>,
}

/// Reads the text of one file and interpolates its variables; `None` if it is empty.
///
/// # Errors
/// When it is not valid YAML, or a variable has no value.
pub fn read(file: &str, text: &str, local: &LocalEnv<'_>) -> Result<Option<Node>, Fault> {
    let Some(mut node) = yaml::one(file, text)? else { return Ok(None) };
    interpolate::tree(&mut node, local.variable)?;
    Ok(Some(node))
}

/// The name that a file gives its stack.
pub fn name(file: &Node) -> Option<&str> {
    file.get("name").and_then(Node::text)
}

/// The stack that a file describes, which may be the result of merging several.
pub fn stack(name: &str, file: &Node, local: &LocalEnv<'_>, problems: &mut Problems) -> Stack {
    let mut scope = Scope::new(name, local, problems);
    for (key, _) in scope.entries(file) {
        match TOP.iter().find(|(known, _)| *known == key.text) {
            Some((_, None)) => {}
            Some((_, Some(why))) => scope.unsupported(key, why),
            None => scope.unknown(key, TOP.map(|(known, _)| known)),
        }
    }
    if let Some(node) = file.get("volumes") {
        scope.volumes = volumes::read(node, &mut scope);
    }
    if let Some(node) = file.get("configs") {
        scope.configs = configs::read(node, Noun::Config, &mut scope);
    }
    if let Some(node) = file.get("secrets") {
        scope.secrets = configs::read(node, Noun::Secret, &mut scope);
    }
    let mut stack = Stack::default();
    let services = file.get("services").map(|node| scope.within("services", |scope| scope.entries(node)));
    let services = services.unwrap_or_default();
    scope.services = services.iter().map(|(key, _)| key.text.clone()).collect();
    for (key, node) in services {
        let service =
            scope.within("services", |scope| scope.within(&key.text, |scope| service::read(key, node, scope)));
        if !service.is_scaled {
            stack.unscaled.push(service.spec.name().to_owned());
        }
        stack.services.push(service.spec);
    }
    if stack.services.is_empty() {
        scope.wrong(&file.at, "the file has no services");
    }
    let made = |defined: &mut BTreeMap<String, Definition>| {
        std::mem::take(defined).into_values().filter_map(|of| of.made).collect()
    };
    (stack.configs, stack.secrets) = (made(&mut scope.configs), made(&mut scope.secrets));
    stack
}
