//! No printed message contains a secret.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::path::Path;

use events::{
    Annotations, ContainerSpec, Event, Frame, Id, Kind, SecretSpec, ServiceCreated, ServiceSpec, SinkSpec, TaskSpec,
    VolatilePayload, VolatileSection,
};
use wire::v1::command_request::Command;
use wire::v1::session_message::Message;
use wire::v1::{
    Assignment, AssignmentSet, ClusterView, CommandRequest, CreateSecret, CreateService, CreateSink, EnvSecretValue,
    JoinRequest, JoinTokens, SecretItem, ServiceView, SessionMessage, TaskView, UpdateSecret, UpdateService,
};

const MARKER: &str = "the-marker";

/// Every field that contains a secret.
const SECRET: [&str; 17] = [
    "swarmlog.v1.ContainerSpec.env",
    "swarmlog.v1.VolatilePayload.value",
    "swarmlog.wire.v1.BackupRequest.passphrase",
    "swarmlog.wire.v1.CreateSecret.data",
    "swarmlog.wire.v1.CreateService.registry_auth",
    "swarmlog.wire.v1.CreateSink.key",
    "swarmlog.wire.v1.EnvSecretValue.value",
    "swarmlog.wire.v1.ExecSpec.env",
    "swarmlog.wire.v1.JoinRequest.token",
    "swarmlog.wire.v1.JoinTokens.manager",
    "swarmlog.wire.v1.JoinTokens.worker",
    "swarmlog.wire.v1.ResolveImageRequest.registry_auth",
    "swarmlog.wire.v1.SecretValue.value",
    "swarmlog.wire.v1.UnlockKeyReply.unlock_key",
    "swarmlog.wire.v1.UnlockRequest.unlock_key",
    "swarmlog.wire.v1.UpdateSecret.data",
    "swarmlog.wire.v1.UpdateService.registry_auth",
];

/// Fields with names that suggest a secret but contain none: names of keys, digests, messages whose own fields are checked.
const HARMLESS: [&str; 82] = [
    "swarmlog.v1.ContainerSpec.env_secrets",
    "swarmlog.v1.ContainerSpec.registry_auth_key",
    "swarmlog.v1.ContainerSpec.secrets",
    "swarmlog.v1.CredentialSpec.config",
    "swarmlog.v1.CredentialSpec.file",
    "swarmlog.v1.CredentialSpec.registry",
    "swarmlog.v1.EnvSecret.key",
    "swarmlog.v1.EnvSecret.name",
    "swarmlog.v1.Event.join_token_rotated",
    "swarmlog.v1.Event.secret_created",
    "swarmlog.v1.Event.secret_removed",
    "swarmlog.v1.Event.secret_revised",
    "swarmlog.v1.Event.secret_spec_updated",
    "swarmlog.v1.Event.secrets_read",
    "swarmlog.v1.Event.unlock_key_changed",
    "swarmlog.v1.JoinTokenRotated.secret_sha256",
    "swarmlog.v1.ManagerAnnounced.audit_key",
    "swarmlog.v1.MemberAdded.audit_key",
    "swarmlog.v1.Privileges.credential_spec",
    "swarmlog.v1.RootRotationCompleted.destroyed_secrets",
    "swarmlog.v1.RootRotationStarted.key_outside",
    "swarmlog.v1.RootRotationStarted.manager_token_sha256",
    "swarmlog.v1.RootRotationStarted.worker_token_sha256",
    "swarmlog.v1.SecretCreated.secret",
    "swarmlog.v1.SecretCreated.size_kib",
    "swarmlog.v1.SecretId.high",
    "swarmlog.v1.SecretId.low",
    "swarmlog.v1.SecretReference.name",
    "swarmlog.v1.SecretReference.pinned",
    "swarmlog.v1.SecretReference.revision",
    "swarmlog.v1.SecretReference.secret",
    "swarmlog.v1.SecretRemoved.secret",
    "swarmlog.v1.SecretRevised.dropped",
    "swarmlog.v1.SecretRevised.revision",
    "swarmlog.v1.SecretRevised.secret",
    "swarmlog.v1.SecretRevised.size_kib",
    "swarmlog.v1.SecretSpec.template_driver",
    "swarmlog.v1.SecretSpecUpdated.secret",
    "swarmlog.v1.SecretsRead.names",
    "swarmlog.v1.ServiceSpecUpdated.destroyed_secrets",
    "swarmlog.v1.SinkSpec.redact_env",
    "swarmlog.v1.UnlockKeyChanged.locked",
    "swarmlog.v1.VolatilePayload.key",
    "swarmlog.wire.v1.AnnounceRequest.audit_key",
    "swarmlog.wire.v1.Assignment.env_secrets",
    "swarmlog.wire.v1.Assignment.registry_auth",
    "swarmlog.wire.v1.Assignment.secrets",
    "swarmlog.wire.v1.AssignmentSet.dropped_secrets",
    "swarmlog.wire.v1.AssignmentSet.secrets",
    "swarmlog.wire.v1.AuditKey.former_since",
    "swarmlog.wire.v1.AuditKey.former_until",
    "swarmlog.wire.v1.AuditKey.hostname",
    "swarmlog.wire.v1.AuditKey.key",
    "swarmlog.wire.v1.AuditKey.recorded",
    "swarmlog.wire.v1.ClusterView.join_tokens",
    "swarmlog.wire.v1.CommandRequest.create_secret",
    "swarmlog.wire.v1.CommandRequest.remove_secret",
    "swarmlog.wire.v1.CommandRequest.rotate_join_token",
    "swarmlog.wire.v1.CommandRequest.rotate_unlock_key",
    "swarmlog.wire.v1.CommandRequest.update_secret",
    "swarmlog.wire.v1.ConfigItem.key",
    "swarmlog.wire.v1.ConfigKey.revision",
    "swarmlog.wire.v1.CreateService.env_secrets",
    "swarmlog.wire.v1.DescribeSecretsRequest.secrets",
    "swarmlog.wire.v1.EnvSecretValue.name",
    "swarmlog.wire.v1.GetClusterRequest.with_tokens",
    "swarmlog.wire.v1.LabelFilter.key",
    "swarmlog.wire.v1.ObjectSide.secret",
    "swarmlog.wire.v1.ObjectSpec.secret",
    "swarmlog.wire.v1.ReadAfterReply.secrets",
    "swarmlog.wire.v1.ReadAfterRequest.secrets",
    "swarmlog.wire.v1.RemoveSecret.secret",
    "swarmlog.wire.v1.SecretItem.key",
    "swarmlog.wire.v1.SecretItem.template",
    "swarmlog.wire.v1.SecretPage.secrets",
    "swarmlog.wire.v1.SecretView.services",
    "swarmlog.wire.v1.SpecItem.key",
    "swarmlog.wire.v1.SpecKey.version",
    "swarmlog.wire.v1.UpdateSecret.if_changed",
    "swarmlog.wire.v1.UpdateSecret.secret",
    "swarmlog.wire.v1.UpdateSecret.version",
    "swarmlog.wire.v1.UpdateService.env_secrets",
];

/// Words in the names of secret fields, or of their messages.
const WORDS: [&str; 12] = [
    "auth",
    "credential",
    "env",
    "key",
    "passphrase",
    "password",
    "private",
    "secret",
    "secrets",
    "token",
    "tokens",
    "volatile",
];

fn says_secret(name: &str) -> bool {
    let snake: String = name.chars().flat_map(|c| c.is_uppercase().then_some('_').into_iter().chain([c])).collect();
    snake.to_lowercase().split('_').any(|word| WORDS.contains(&word))
}

#[test]
fn every_field_that_is_called_like_a_secret_is_known() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = protox::compile(
        ["control.proto", "node.proto", "managers.proto", "streams.proto"],
        [here.join("proto"), here.join("../../events/proto")],
    )
    .expect("the schema");
    let mut fields = BTreeSet::new();
    let mut suspects = BTreeSet::new();
    for (package, message) in
        schema.file.iter().flat_map(|file| file.message_type.iter().map(move |message| (file.package(), message)))
    {
        assert!(message.nested_type.iter().all(|nested| nested.options.as_ref().is_some_and(|of| of.map_entry())));
        for field in &message.field {
            let path = format!("{package}.{}.{}", message.name(), field.name());
            // A message field is not a secret itself: its own fields are checked.
            if says_secret(field.name()) || (says_secret(message.name()) && field.type_name.is_none()) {
                suspects.insert(path.clone());
            }
            fields.insert(path);
        }
    }
    let known: BTreeSet<String> = SECRET.iter().chain(&HARMLESS).map(|path| (*path).to_owned()).collect();
    let gone: Vec<_> = known.difference(&fields).collect();
    assert!(gone.is_empty(), "not in the schema any more: {gone:?}");
    let new: Vec<_> = suspects.difference(&known).collect();
    assert!(new.is_empty(), "secret or harmless? Say which, and hide the secret with `redacted_debug!`: {new:?}");
}

fn spec() -> ServiceSpec {
    let container = ContainerSpec { env: vec![format!("PASSWORD={MARKER}")], ..ContainerSpec::default() };
    ServiceSpec { task: Some(TaskSpec { container: Some(container), ..TaskSpec::default() }), ..ServiceSpec::default() }
}

fn env() -> Vec<EnvSecretValue> {
    vec![EnvSecretValue { name: "PASSWORD".to_owned(), value: secret() }]
}

fn secret() -> String {
    MARKER.to_owned()
}

#[test]
fn what_carries_a_secret_prints_all_but_the_secret() {
    let payload = VolatilePayload::keep("join-token/worker", MARKER);
    let assignment =
        Assignment { spec: spec(), registry_auth: Some(MARKER.into()), env_secrets: env(), ..Assignment::default() };
    let create = CreateService { spec: Box::new(spec()), registry_auth: Some(secret()), env_secrets: env() };
    let update = UpdateService {
        registry_auth: Some(secret()),
        spec: Box::new(spec()),
        env_secrets: env(),
        ..UpdateService::default()
    };
    let tokens = JoinTokens { worker: secret(), manager: secret() };
    let join = JoinRequest { id: Id::from_bits(1), token: secret(), csr_pem: String::new(), hostname: "host-9".into() };
    let created = Kind::ServiceCreated(Box::new(ServiceCreated { spec: spec(), ..ServiceCreated::default() }));
    let frame = Frame { events: vec![Event::by_command(0, created)], ..Frame::default() };
    let item = SecretItem { key: "key-9".into(), value: MARKER.into(), template: false };
    let set = AssignmentSet { secrets: vec![item], ..AssignmentSet::default() };
    let request = |command| CommandRequest { command: Some(command), ..CommandRequest::default() };
    let named = SecretSpec {
        annotations: Some(Annotations { name: "key-8".into(), ..Annotations::default() }),
        ..Default::default()
    };
    let revision = UpdateSecret {
        secret: "key-7".into(),
        spec: None,
        data: Some(MARKER.into()),
        version: None,
        if_changed: false,
    };
    let sink = SinkSpec { name: "sink-6".into(), ..SinkSpec::default() };
    let messages: [(&dyn Debug, &str); 14] = [
        (&payload, "join-token/worker"),
        (&VolatileSection { payloads: vec![payload.clone()] }, "VolatilePayload"),
        (&assignment, "Assignment"),
        (&request(Command::CreateSecret(CreateSecret { spec: named, data: MARKER.into() })), "key-8"),
        (&request(Command::UpdateSecret(revision)), "key-7"),
        (&request(Command::CreateSink(CreateSink { spec: sink, from: None, key: Some(MARKER.into()) })), "sink-6"),
        (&SessionMessage { message: Some(Message::Assignments(set)) }, "key-9"),
        (&request(Command::CreateService(create)), "CreateService"),
        (&request(Command::UpdateService(update)), "UpdateService"),
        (&ClusterView { join_tokens: tokens, ..ClusterView::default() }, "JoinTokens"),
        (&join, "host-9"),
        (&frame, "ContainerSpec"),
        (&ServiceView { spec: spec(), previous_spec: Some(spec()), ..ServiceView::default() }, "ContainerSpec"),
        (&TaskView { spec: Some(spec()), ..TaskView::default() }, "ContainerSpec"),
    ];
    let in_bytes = format!("{:?}", MARKER.as_bytes());
    for (message, shown) in messages {
        let printed = format!("{message:?}");
        assert!(printed.contains(shown) && printed.contains("(hidden)"), "{printed}");
        assert!(!printed.contains(MARKER) && !printed.contains(in_bytes.trim_matches(['[', ']'])), "{printed}");
    }
}
