//! Compiles the schema. Ids and timestamps become newtypes of this crate; enums are named, not numbered, in JSON.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a build script speaks to cargo by printing, and writes code"
)]

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

const PACKAGE: &str = "swarmlog.v1";
/// The messages of this file are newtypes of this crate.
const OWN_TYPES: &str = "id.proto";
/// Messages that contain a secret: `src/redacted_debug.rs` defines their debug output.
const REDACTED: [&str; 2] = ["ContainerSpec", "VolatilePayload"];
/// Kinds of events that hold a whole spec or description. They are boxed: an event is as large as its largest kind, and it is
/// moved several times on its way into the log.
const LARGE_KINDS: [&str; 3] = ["service_created", "service_spec_updated", "node_described"];
/// A message that is wiped when it is dropped, so that none of its fields can be taken from a default.
const WIPED: &str = "VolatilePayload";
const FILES: [&str; 3] = ["id.proto", "spec.proto", "events.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let schema = protox::compile(FILES, ["proto"])?;
    let mut config = prost_build::Config::new();
    config.btree_map(["."]);
    config.skip_debug(REDACTED.map(|name| format!(".{PACKAGE}.{name}")));
    config.type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]");
    config.type_attribute(".swarmlog.v1.Event.kind", "#[serde(rename_all = \"snake_case\")]");
    config.type_attribute(".swarmlog.v1.Event.cause", "#[serde(rename_all = \"snake_case\")]");
    config.type_attribute(".swarmlog.v1.ServiceSpec.mode", "#[serde(rename_all = \"snake_case\")]");
    for message in schema.file.iter().flat_map(|file| &file.message_type).filter(|message| message.name() != WIPED) {
        config.message_attribute(format!(".{PACKAGE}.{}", message.name()), "#[serde(default)]");
    }
    for own in schema.file.iter().filter(|file| file.name() == OWN_TYPES).flat_map(|file| &file.message_type) {
        let name = own.name();
        let module = if name == "Timestamp" { "time" } else { "id" };
        config.extern_path(format!(".{PACKAGE}.{name}"), format!("crate::{module}::{name}"));
    }
    for kind in LARGE_KINDS {
        config.boxed(format!(".{PACKAGE}.Event.kind.{kind}"));
    }
    // Reports of nodes have no id of their own: an all-zero id would be misleading.
    config.field_attribute(
        ".swarmlog.v1.CommandRecord.id",
        "#[serde(skip_serializing_if = \"crate::json::is_no_command\")]",
    );
    name_enums_in_json(&mut config, &schema);
    // The only enum inside a oneof, which has an attribute path of its own.
    config.field_attribute(".swarmlog.v1.Event.cause.reconciler", "#[serde(with = \"crate::json::Reconciler::one\")]");
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("fields.rs"), fields_of_kinds(&schema))?;
    std::fs::write(out.join("numbers.rs"), numbers_of_kinds(&schema))?;
    config.compile_fds(schema)?;
    Ok(())
}

/// The fields of `Event` that are its kinds.
fn kinds(schema: &FileDescriptorSet) -> impl Iterator<Item = &FieldDescriptorProto> {
    messages(schema).filter(|message| message.name() == "Event").flat_map(|event| {
        let kind = event.oneof_decl.iter().position(|oneof| oneof.name() == "kind");
        event.field.iter().filter(move |field| field.oneof_index.map(|index| index as usize) == kind)
    })
}

fn messages(schema: &FileDescriptorSet) -> impl Iterator<Item = &DescriptorProto> {
    schema.file.iter().flat_map(|file| &file.message_type)
}

/// Generates the fields of each kind of event as source, for code that has no message to inspect.
fn fields_of_kinds(schema: &FileDescriptorSet) -> String {
    let rows = kinds(schema).map(|field| {
        let name = field.type_name().rsplit('.').next().unwrap_or_default();
        let message = messages(schema).filter(|message| message.name() == name);
        let fields: Vec<&str> = message.flat_map(|message| &message.field).map(|field| field.name()).collect();
        format!("({:?}, &{fields:?}),\n", field.name())
    });
    format!("&[\n{}]\n", rows.collect::<String>())
}

/// Generates the number of each kind of event as source, for code that searches for events without decoding them.
fn numbers_of_kinds(schema: &FileDescriptorSet) -> String {
    let rows = kinds(schema).map(|field| format!("({:?}, {}),\n", field.name(), field.number()));
    format!("&[\n{}]\n", rows.collect::<String>())
}

/// Prost represents an enum as a number; readers of JSON expect its name.
fn name_enums_in_json(config: &mut prost_build::Config, schema: &FileDescriptorSet) {
    for message in schema.file.iter().flat_map(|file| &file.message_type) {
        for field in
            message.field.iter().filter(|field| field.r#type() == Type::Bytes && field.label() == Label::Required)
        {
            config.field_attribute(
                format!(".{PACKAGE}.{}.{}", message.name(), field.name()),
                "#[serde(with = \"crate::json::hex\")]",
            );
        }
        for (path, module) in enum_fields(message) {
            config.field_attribute(path, format!("#[serde(with = \"{module}\")]"));
        }
    }
}

fn enum_fields(message: &DescriptorProto) -> Vec<(String, String)> {
    let enums = message
        .field
        .iter()
        .filter(|field| field.r#type() == Type::Enum && field.oneof_index.is_none_or(|_| field.proto3_optional()));
    enums
        .map(|field| {
            let of = field.type_name().rsplit('.').next().unwrap_or_default();
            let form = if field.proto3_optional() { "optional" } else { "one" };
            (format!(".{PACKAGE}.{}.{}", message.name(), field.name()), format!("crate::json::{of}::{form}"))
        })
        .collect()
}
