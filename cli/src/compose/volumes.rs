//! The volumes that a file defines, by their names in the file.

use std::collections::BTreeMap;

use events::{Driver, VolumeOptions};

use super::STACK_LABEL;
use super::scope::{KeyRule, Scope, put};
use crate::yaml::Node;

/// A volume of the engines.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Volume {
    /// Its name in the engine.
    pub name: String,
    /// The options with which engines create it.
    pub options: VolumeOptions,
    external: bool,
    given_name: Option<String>,
}

pub(super) fn read(node: &Node, scope: &mut Scope<'_>) -> BTreeMap<String, Volume> {
    let mut volumes = BTreeMap::new();
    let entries = scope.within("volumes", |scope| scope.entries(node));
    for (key, node) in entries {
        let mut volume = Volume::default();
        scope.within("volumes", |scope| {
            scope.within(&key.text, |scope| scope.fields(&mut volume, node, &KEYS));
        });
        volume.name = match (&volume.given_name, volume.external) {
            (Some(name), _) => name.clone(),
            (None, true) => key.text.clone(),
            (None, false) => scope.named(&key.text),
        };
        if !volume.external {
            volume.options.labels.insert(STACK_LABEL.to_owned(), scope.stack.to_owned());
        }
        volumes.insert(key.text.clone(), volume);
    }
    volumes
}

const KEYS: [(&str, KeyRule<Volume>); 6] = [
    ("external", KeyRule::Read(|volume, node, scope| put(&mut volume.external, scope.boolean(node)))),
    ("name", KeyRule::Read(|volume, node, scope| volume.given_name = scope.text(node).map(str::to_owned))),
    (
        "driver",
        KeyRule::Read(|volume, node, scope| {
            put(&mut driver(volume).name, scope.text(node).map(str::to_owned));
        }),
    ),
    ("driver_opts", KeyRule::Read(|volume, node, scope| driver(volume).options = scope.labels(node))),
    ("labels", KeyRule::Read(|volume, node, scope| volume.options.labels.extend(scope.labels(node)))),
    ("spec", KeyRule::Unsupported("there are no cluster volumes in this version")),
];

fn driver(volume: &mut Volume) -> &mut Driver {
    volume.options.driver.get_or_insert_default()
}
