//! The configs that a file defines, and those that a service is given as files.
//!
//! A config never changes. So its name ends with a digest of what is in it: with other data it is another config, services that use it
//! are updated, and a rollback finds the one it had.

use std::collections::BTreeMap;

use events::{Annotations, ConfigReference, ConfigSpec, FileTarget, ServiceSpec};
use sha2::{Digest, Sha256};

use super::STACK_LABEL;
use super::mounts::octal;
use super::scope::{Scope, Use, put};
use crate::spec::container;
use crate::yaml::{Key, Node, Value};

/// Characters of the digest in a name: with twelve, nobody meets two configs of one stack with the same.
const DIGEST_CHARACTERS: usize = 12;

/// A config of a stack.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StackConfig {
    /// What it is called, with its labels.
    pub spec: ConfigSpec,
    /// What is in it.
    pub data: Vec<u8>,
}

/// A config as the file defines it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Definition {
    /// What the cluster calls it.
    pub name: String,
    /// The config, unless it exists already.
    pub made: Option<StackConfig>,
    labels: BTreeMap<String, String>,
    data: Option<Vec<u8>>,
    external: bool,
    given_name: Option<String>,
    template_driver: String,
}

pub(super) fn read(node: &Node, scope: &mut Scope<'_>) -> BTreeMap<String, Definition> {
    let mut configs = BTreeMap::new();
    let entries = scope.within("configs", |scope| scope.entries(node));
    for (key, node) in entries {
        let config = scope.within("configs", |scope| scope.within(&key.text, |scope| define(key, node, scope)));
        configs.insert(key.text.clone(), config);
    }
    configs
}

fn define(key: &Key, node: &Node, scope: &mut Scope<'_>) -> Definition {
    let mut config = Definition::default();
    scope.fields(&mut config, node, &KEYS);
    match (config.external, config.data.take()) {
        (true, None) => config.name = config.given_name.clone().unwrap_or_else(|| key.text.clone()),
        (false, Some(data)) => {
            let named = || format!("{}_{}", scope.named(&key.text), digest(&data, &config));
            config.name = config.given_name.clone().unwrap_or_else(named);
            let mut labels = config.labels.clone();
            labels.insert(STACK_LABEL.to_owned(), scope.stack.to_owned());
            let annotations = Some(Annotations { name: config.name.clone(), labels });
            let spec = ConfigSpec { annotations, template_driver: config.template_driver.clone() };
            config.made = Some(StackConfig { spec, data });
        }
        (true, Some(_)) => {
            let sentence = format!("{} is external, and has data as well", scope.path());
            scope.wrong(&key.at, sentence);
        }
        (false, None) => {
            let sentence = format!("{} has no data: write file, content, environment, or external: true", scope.path());
            scope.wrong(&key.at, sentence);
        }
    }
    config
}

fn digest(data: &[u8], config: &Definition) -> String {
    let mut hash = Sha256::new();
    hash.update(data);
    hash.update(&config.template_driver);
    for (key, value) in &config.labels {
        hash.update([0]);
        hash.update(key);
        hash.update([0]);
        hash.update(value);
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().take(DIGEST_CHARACTERS).collect()
}

const KEYS: [(&str, Use<Definition>); 7] = [
    (
        "file",
        Use::Read(|config, node, scope| {
            let Some(path) = scope.text(node) else { return };
            match (scope.around.read)(&scope.around.directory.join(path)) {
                Ok(data) => config.data = Some(data),
                Err(error) => {
                    // What is missing has been said.
                    config.data = Some(Vec::new());
                    let sentence = format!("cannot read {path}: {error}");
                    scope.wrong(&node.at, sentence);
                }
            }
        }),
    ),
    ("content", Use::Read(|config, node, scope| config.data = scope.text(node).map(|text| text.as_bytes().to_vec()))),
    (
        "environment",
        Use::Read(|config, node, scope| {
            let Some(name) = scope.text(node) else { return };
            match (scope.around.variable)(name) {
                Some(value) => config.data = Some(value.into_bytes()),
                None => {
                    config.data = Some(Vec::new());
                    let sentence = format!("the variable {name} has no value");
                    scope.wrong(&node.at, sentence);
                }
            }
        }),
    ),
    ("external", Use::Read(|config, node, scope| put(&mut config.external, scope.truth(node)))),
    ("name", Use::Read(|config, node, scope| config.given_name = scope.text(node).map(str::to_owned))),
    ("labels", Use::Read(|config, node, scope| config.labels = scope.labels(node))),
    (
        "template_driver",
        Use::Read(|config, node, scope| put(&mut config.template_driver, scope.text(node).map(str::to_owned))),
    ),
];

/// Reads `configs` of a service.
pub(super) fn refer(spec: &mut ServiceSpec, node: &Node, scope: &mut Scope<'_>) {
    for item in scope.items(node) {
        let mut reference = Reference::default();
        match &item.value {
            Value::Map(_) => scope.fields(&mut reference, item, &REFERENCE),
            Value::Scalar { .. } | Value::List(_) => put(&mut reference.source, scope.text(item).map(str::to_owned)),
        }
        let Some(name) = scope.configs.get(&reference.source).map(|config| config.name.clone()) else {
            let sentence =
                format!("{}: the file does not define the config \"{}\" below configs", scope.path(), reference.source);
            scope.wrong(&item.at, sentence);
            continue;
        };
        // Without a target the file is called as the file calls the config, whatever the cluster does.
        if reference.file.name.is_empty() {
            reference.file.name = format!("/{}", reference.source);
        }
        container(spec).configs.push(ConfigReference {
            name,
            file: Some(reference.file),
            ..ConfigReference::default()
        });
    }
}

#[derive(Default)]
struct Reference {
    source: String,
    file: FileTarget,
}

const REFERENCE: [(&str, Use<Reference>); 5] = [
    ("source", Use::Read(|of, node, scope| put(&mut of.source, scope.text(node).map(str::to_owned)))),
    ("target", Use::Read(|of, node, scope| put(&mut of.file.name, scope.text(node).map(str::to_owned)))),
    ("uid", Use::Read(|of, node, scope| put(&mut of.file.uid, scope.text(node).map(str::to_owned)))),
    ("gid", Use::Read(|of, node, scope| put(&mut of.file.gid, scope.text(node).map(str::to_owned)))),
    ("mode", Use::Read(|of, node, scope| of.file.mode = scope.value(node, octal))),
];
