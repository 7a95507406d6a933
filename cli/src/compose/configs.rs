//! The configs and secrets that a file defines, and the references of services to them.
//!
//! Their names do not depend on their content: changed data is a new revision of the same config or secret, which services follow
//! by their update settings, and a rollback finds the revision it had.

use std::collections::BTreeMap;

use events::{Annotations, ConfigReference, FileTarget, SecretBytes, SecretReference, ServiceSpec};

use super::STACK_LABEL;
use super::mounts::octal;
use super::scope::{KeyRule, Scope, put};
use crate::spec::container;
use crate::yaml::{Key, Node, Value};

/// The kind of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    /// Configs.
    Config,
    /// Secrets.
    Secret,
}

/// A config or a secret of a stack.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StackFile {
    /// Its name and labels.
    pub annotations: Annotations,
    /// The template driver of its data.
    pub template_driver: String,
    /// Content.
    pub data: SecretBytes,
}

/// A config or a secret as the file defines it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Definition {
    /// Its name in the cluster.
    pub name: String,
    /// Its definition, unless it is external.
    pub made: Option<StackFile>,
    labels: BTreeMap<String, String>,
    data: Option<SecretBytes>,
    external: bool,
    given_name: Option<String>,
    template_driver: String,
}

impl Noun {
    fn section(self) -> &'static str {
        match self {
            Self::Config => "configs",
            Self::Secret => "secrets",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Secret => "secret",
        }
    }

    /// The keys of a definition: a config has no driver.
    fn keys(self) -> &'static [(&'static str, KeyRule<Definition>)] {
        match self {
            Self::Config => &KEYS[..CONFIG_KEYS],
            Self::Secret => &KEYS,
        }
    }
}

pub(super) fn read(node: &Node, noun: Noun, scope: &mut Scope<'_>) -> BTreeMap<String, Definition> {
    let mut defined = BTreeMap::new();
    let entries = scope.within(noun.section(), |scope| scope.entries(node));
    for (key, node) in entries {
        let define = |scope: &mut Scope<'_>| scope.within(&key.text, |scope| define(key, node, noun, scope));
        defined.insert(key.text.clone(), scope.within(noun.section(), define));
    }
    defined
}

fn define(key: &Key, node: &Node, noun: Noun, scope: &mut Scope<'_>) -> Definition {
    let mut of = Definition::default();
    scope.fields(&mut of, node, noun.keys());
    match (of.external, of.data.take()) {
        (true, None) => of.name = of.given_name.clone().unwrap_or_else(|| key.text.clone()),
        (false, Some(data)) => {
            of.name = of.given_name.clone().unwrap_or_else(|| scope.named(&key.text));
            let mut labels = of.labels.clone();
            labels.insert(STACK_LABEL.to_owned(), scope.stack.to_owned());
            let annotations = Annotations { name: of.name.clone(), labels };
            of.made = Some(StackFile { annotations, template_driver: of.template_driver.clone(), data });
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
    of
}

/// How many of the keys also apply to configs.
const CONFIG_KEYS: usize = 7;
const KEYS: [(&str, KeyRule<Definition>); 9] = [
    (
        "file",
        KeyRule::Read(|config, node, scope| {
            let Some(path) = scope.text(node) else { return };
            match (scope.local.read)(&scope.local.directory.join(path)) {
                Ok(data) => config.data = Some(SecretBytes(data)),
                Err(error) => {
                    // The missing content has been reported.
                    config.data = Some(SecretBytes::default());
                    let sentence = format!("cannot read {path}: {error}");
                    scope.wrong(&node.at, sentence);
                }
            }
        }),
    ),
    (
        "content",
        KeyRule::Read(|config, node, scope| {
            config.data = scope.text(node).map(|text| SecretBytes(text.as_bytes().to_vec()));
        }),
    ),
    (
        "environment",
        KeyRule::Read(|config, node, scope| {
            let Some(name) = scope.text(node) else { return };
            match (scope.local.variable)(name) {
                Some(value) => config.data = Some(SecretBytes(value.into_bytes())),
                None => {
                    config.data = Some(SecretBytes::default());
                    let sentence = format!("the variable {name} has no value");
                    scope.wrong(&node.at, sentence);
                }
            }
        }),
    ),
    ("external", KeyRule::Read(|config, node, scope| put(&mut config.external, scope.boolean(node)))),
    ("name", KeyRule::Read(|config, node, scope| config.given_name = scope.text(node).map(str::to_owned))),
    ("labels", KeyRule::Read(|config, node, scope| config.labels = scope.labels(node))),
    (
        "template_driver",
        KeyRule::Read(|config, node, scope| put(&mut config.template_driver, scope.text(node).map(str::to_owned))),
    ),
    ("driver", KeyRule::Unsupported(NO_DRIVERS)),
    ("driver_opts", KeyRule::Unsupported(NO_DRIVERS)),
];

const NO_DRIVERS: &str = "drivers that fetch secrets from elsewhere are not in this version";

/// Reads `configs` or `secrets` of a service.
pub(super) fn refer(spec: &mut ServiceSpec, node: &Node, noun: Noun, scope: &mut Scope<'_>) {
    for item in scope.items(node) {
        let mut reference = Reference::default();
        match &item.value {
            Value::Map(_) => scope.fields(&mut reference, item, &REFERENCE),
            Value::Scalar { .. } | Value::List(_) => put(&mut reference.source, scope.text(item).map(str::to_owned)),
        }
        let Reference { source, mut file } = reference;
        let defined = match noun {
            Noun::Config => &scope.configs,
            Noun::Secret => &scope.secrets,
        };
        let Some(name) = defined.get(&source).map(|of| of.name.clone()) else {
            let (path, text, section) = (scope.path(), noun.text(), noun.section());
            let sentence = format!("{path}: the file does not define the {text} \"{source}\" below {section}");
            scope.wrong(&item.at, sentence);
            continue;
        };
        // Without a target, the file name is the name in the Compose file, not the one in the cluster.
        match noun {
            Noun::Config => {
                if file.name.is_empty() {
                    file.name = format!("/{source}");
                }
                let reference = ConfigReference { name, file: Some(file), ..ConfigReference::default() };
                container(spec).configs.push(reference);
            }
            Noun::Secret => {
                if file.name.is_empty() {
                    file.name = source;
                }
                let reference = SecretReference { name, file: Some(file), ..SecretReference::default() };
                container(spec).secrets.push(reference);
            }
        }
    }
}

#[derive(Default)]
struct Reference {
    source: String,
    file: FileTarget,
}

const REFERENCE: [(&str, KeyRule<Reference>); 5] = [
    ("source", KeyRule::Read(|of, node, scope| put(&mut of.source, scope.text(node).map(str::to_owned)))),
    ("target", KeyRule::Read(|of, node, scope| put(&mut of.file.name, scope.text(node).map(str::to_owned)))),
    ("uid", KeyRule::Read(|of, node, scope| put(&mut of.file.uid, scope.text(node).map(str::to_owned)))),
    ("gid", KeyRule::Read(|of, node, scope| put(&mut of.file.gid, scope.text(node).map(str::to_owned)))),
    ("mode", KeyRule::Read(|of, node, scope| of.file.mode = scope.value(node, octal))),
];
