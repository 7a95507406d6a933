//! Redacted `Debug` output of messages with secrets, and zeroing of their memory; see [`events::redacted_debug!`] and
//! [`events::wiped!`].

use std::fmt::{self, Debug, Formatter};

use events::{redacted_debug, wiped};

use crate::v1::{
    Assignment, BackupPart, BackupRequest, ConfigItem, ConfigKey, CreateSecret, CreateService, CreateSink,
    EnvSecretValue, ExecSpec, ForwardedCommand, FramesPage, HistoryFrame, JoinRequest, JoinTokens, RaftMessage,
    ResolveImageRequest, SecretValue, UndoConflict, UnlockKeyReply, UnlockRequest, UpdateSecret, UpdateService,
};
use crate::v1::{TaskInput, TaskOutput, task_input, task_output};

redacted_debug! { BackupRequest shows [] hides [passphrase] }
redacted_debug! { BackupPart shows [index, to, last] hides [data] }
redacted_debug! { JoinRequest shows [id, csr_pem, hostname] hides [token] }
redacted_debug! { JoinTokens shows [] hides [worker, manager] }
redacted_debug! { CreateService shows [spec, env_secrets] hides [registry_auth] }
redacted_debug! { CreateSecret shows [spec] hides [data] }
redacted_debug! { CreateSink shows [spec, from] hides [key] }
redacted_debug! { UpdateSecret shows [secret, spec, version, if_changed] hides [data] }
redacted_debug! { UpdateService shows [service, spec, version, env_secrets] hides [registry_auth] }
redacted_debug! { ResolveImageRequest shows [image, service] hides [registry_auth] }
redacted_debug! { EnvSecretValue shows [name] hides [value] }
redacted_debug! { UnlockKeyReply shows [] hides [unlock_key] }
redacted_debug! { UnlockRequest shows [] hides [unlock_key] }
// Values of a spec, such as its environment.
redacted_debug! { UndoConflict shows [object, path] hides [set, present, former] }
redacted_debug! { SecretValue shows [] hides [value] }
redacted_debug! { ConfigItem shows [key, template] hides [data] }
// The second section of an entry contains secrets, and a frame the environments of specs.
redacted_debug! { RaftMessage shows [] hides [data] }
redacted_debug! { FramesPage shows [damaged] hides [stored] }
redacted_debug! { HistoryFrame shows [index] hides [stored] }
redacted_debug! { ForwardedCommand shows [call, first] hides [request] }
// A variable may be a secret, and terminal input and output may contain anything.
redacted_debug! { ExecSpec shows [argv, user, dir, terminal, stdin, detach] hides [env] }
redacted_debug! {
    Assignment
    shows [task, service, slot, spec_version, spec, desired, state, claims, env_secrets, configs, secrets]
    hides [registry_auth]
}

impl Debug for TaskInput {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskInput").field(&self.input).finish()
    }
}

impl Debug for TaskOutput {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TaskOutput").field(&self.output).finish()
    }
}

impl Debug for task_input::Input {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(data) => write!(f, "Data({} bytes)", data.len()),
            Self::End(_) => f.write_str("End"),
            Self::Size(size) => write!(f, "Size({}x{})", size.columns, size.rows),
            Self::Signal(name) => write!(f, "Signal({name:?})"),
        }
    }
}

impl Debug for task_output::Output {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout(data) => write!(f, "Stdout({} bytes)", data.len()),
            Self::Stderr(data) => write!(f, "Stderr({} bytes)", data.len()),
            Self::ExitCode(code) => write!(f, "ExitCode({code})"),
            Self::Target(target) => write!(f, "{target:?}"),
        }
    }
}

wiped! { BackupRequest [passphrase] }
wiped! { JoinRequest [token] }
wiped! { JoinTokens [worker, manager] }
wiped! { CreateSecret [data] }
wiped! { CreateSink [key] }
wiped! { UpdateSecret [data] }
wiped! { EnvSecretValue [value] }
wiped! { ForwardedCommand [request] }
wiped! { SecretValue [value] }
wiped! { UnlockKeyReply [unlock_key] }
wiped! { UnlockRequest [unlock_key] }

impl From<::events::spec::ConfigKey> for ConfigKey {
    fn from((config, revision): ::events::spec::ConfigKey) -> Self {
        Self { config, revision }
    }
}

impl From<ConfigKey> for ::events::spec::ConfigKey {
    fn from(key: ConfigKey) -> Self {
        (key.config, key.revision)
    }
}

impl From<&[u8]> for SecretValue {
    fn from(value: &[u8]) -> Self {
        Self { value: value.to_vec() }
    }
}

impl From<&str> for SecretValue {
    fn from(value: &str) -> Self {
        value.as_bytes().into()
    }
}
