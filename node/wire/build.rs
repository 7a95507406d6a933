//! Compiles the RPC schema. The messages of the log come from the `events` crate, unchanged; in JSON enums are named as
//! there, not numbered.

use prost_types::{DescriptorProto, FileDescriptorProto, field_descriptor_proto::Label, field_descriptor_proto::Type};

const PACKAGE: &str = "swarmlog.wire.v1";

/// Messages that contain a secret: `src/redacted_debug.rs` defines their output.
const REDACTED: [&str; 24] = [
    "UndoConflict",
    "UnlockKeyReply",
    "UnlockRequest",
    "BackupPart",
    "FramesPage",
    "BackupRequest",
    "JoinRequest",
    "JoinTokens",
    "CreateService",
    "CreateSecret",
    "CreateSink",
    "UpdateSecret",
    "UpdateService",
    "ResolveImageRequest",
    "EnvSecretValue",
    "Assignment",
    "SecretValue",
    "ConfigItem",
    "RaftMessage",
    "HistoryFrame",
    "ForwardedCommand",
    "ExecSpec",
    "TaskInput",
    "TaskOutput",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../../events/proto");
    let schema = protox::compile(
        ["control.proto", "node.proto", "managers.proto", "streams.proto"],
        ["proto", "../../events/proto"],
    )?;
    let mut config = tonic_prost_build::configure()
        .btree_map(".")
        .codec_path("crate::codec::SmallBuffers")
        .skip_debug(REDACTED.map(|name| format!(".{PACKAGE}.{name}")))
        .extern_path(".swarmlog.v1", "::events")
        // A request is as large as its largest command, and is moved often.
        .boxed(format!(".{PACKAGE}.CreateService.spec"))
        .boxed(format!(".{PACKAGE}.UpdateService.spec"))
        // A record too, and most replace no spec.
        .boxed(format!(".{PACKAGE}.EventRecord.before"))
        .boxed(format!(".{PACKAGE}.EventRecord.command"))
        // Tasks share the data of a config.
        .bytes(format!(".{PACKAGE}.ConfigItem.data"))
        // Frames are read from the log and sent unchanged.
        .bytes(format!(".{PACKAGE}.HistoryFrame.stored"))
        .bytes(format!(".{PACKAGE}.FramesPage.stored"))
        // Lines share the buffer of the message they arrived in.
        .bytes(format!(".{PACKAGE}.LogLine.data"))
        .field_attribute(".swarmlog.wire.v1.LogLine.data", "#[serde(skip)]")
        .field_attribute(".swarmlog.wire.v1.HistoryFrame.stored", "#[serde(skip)]")
        .field_attribute(".swarmlog.wire.v1.FramesPage.stored", "#[serde(skip)]")
        .field_attribute(".swarmlog.wire.v1.ConfigItem.data", "#[serde(skip)]")
        .type_attribute(".swarmlog.wire.v1", "#[derive(serde::Serialize)]")
        .field_attribute(
            ".swarmlog.wire.v1.EventRecord.frame_hash",
            "#[serde(skip_serializing_if = \"Option::is_none\")]",
        )
        .field_attribute(".swarmlog.wire.v1.CommandRequest.joined", "#[serde(skip_serializing_if = \"Vec::is_empty\")]")
        .field_attribute(".swarmlog.wire.v1.CommandReply.joined", "#[serde(skip_serializing_if = \"Vec::is_empty\")]")
        .field_attribute(
            ".swarmlog.wire.v1.ConfigView.data",
            "#[serde(serialize_with = \"::events::serialize_optional_hex\")]",
        );
    for (path, attribute) in schema.file.iter().filter(|file| file.package() == PACKAGE).flat_map(named_enums) {
        config = config.field_attribute(path, attribute);
    }
    config.compile_fds(schema)?;
    Ok(())
}

/// The path of each enum field, and the attribute that names its value in JSON.
fn named_enums(file: &FileDescriptorProto) -> Vec<(String, String)> {
    let of_message = |message: &DescriptorProto| {
        let enums = message.field.iter().filter(|field| field.r#type() == Type::Enum && field.oneof_index.is_none());
        let attribute = |field: &prost_types::FieldDescriptorProto| {
            let (package, name) = field.type_name().trim_start_matches('.').rsplit_once('.').unwrap_or_default();
            let of = if package == PACKAGE { format!("crate::v1::{name}") } else { format!("::events::{name}") };
            let form = if field.label() == Label::Required { "serialize_name" } else { "serialize_optional_name" };
            let path = format!(".{PACKAGE}.{}.{}", message.name(), field.name());
            (path, format!("#[serde(serialize_with = \"::events::{form}::<{of}, _>\")]"))
        };
        enums.map(attribute).collect::<Vec<_>>()
    };
    file.message_type.iter().flat_map(of_message).collect()
}
