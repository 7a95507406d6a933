//! How messages that carry secrets print, and which of them are wiped; see [`events::redacted_debug!`] and [`events::wiped!`].

use events::{redacted_debug, wiped};

use crate::v1::{
    Assignment, BackupPart, BackupRequest, ConfigItem, CreateService, EnvSecretValue, ForwardedCommand, HistoryFrame,
    JoinRequest, JoinTokens, RaftMessage, SecretValue, UnlockKeyReply, UnlockRequest, UpdateService,
};

redacted_debug! { BackupRequest shows [] hides [passphrase] }
redacted_debug! { BackupPart shows [index, to, last] hides [data] }
redacted_debug! { JoinRequest shows [id, csr_pem, hostname] hides [token] }
redacted_debug! { JoinTokens shows [] hides [worker, manager] }
redacted_debug! { CreateService shows [spec, env_secrets] hides [registry_auth] }
redacted_debug! { UpdateService shows [service, spec, version, env_secrets] hides [registry_auth] }
redacted_debug! { EnvSecretValue shows [name] hides [value] }
redacted_debug! { UnlockKeyReply shows [] hides [unlock_key] }
redacted_debug! { UnlockRequest shows [] hides [unlock_key] }
redacted_debug! { SecretValue shows [] hides [value] }
redacted_debug! { ConfigItem shows [config] hides [data] }
// An entry's second section holds secrets, and a frame its specs' environments.
redacted_debug! { RaftMessage shows [] hides [data] }
redacted_debug! { HistoryFrame shows [index] hides [stored] }
redacted_debug! { ForwardedCommand shows [call, first] hides [request] }
redacted_debug! {
    Assignment
    shows [task, service, slot, spec_version, spec, desired, state, claims, env_secrets, configs]
    hides [registry_auth]
}

wiped! { BackupRequest [passphrase] }
wiped! { JoinRequest [token] }
wiped! { JoinTokens [worker, manager] }
wiped! { EnvSecretValue [value] }
wiped! { ForwardedCommand [request] }
wiped! { SecretValue [value] }
wiped! { UnlockKeyReply [unlock_key] }
wiped! { UnlockRequest [unlock_key] }

impl From<String> for SecretValue {
    fn from(value: String) -> Self {
        Self { value }
    }
}
