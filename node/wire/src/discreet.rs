//! How messages that carry secrets print, and which of them are wiped; see [`events::discreet!`] and [`events::wiped!`].

use events::{discreet, wiped};

use crate::v1::{
    Assignment, ConfigItem, CreateService, EnvSecretValue, JoinRequest, JoinTokens, SecretValue, UpdateService,
};

discreet! { JoinRequest shows [id, csr_pem, hostname] hides [token] }
discreet! { JoinTokens shows [] hides [worker, manager] }
discreet! { CreateService shows [spec, env_secrets] hides [registry_auth] }
discreet! { UpdateService shows [service, spec, version, env_secrets] hides [registry_auth] }
discreet! { EnvSecretValue shows [name] hides [value] }
discreet! { SecretValue shows [] hides [value] }
discreet! { ConfigItem shows [config] hides [data] }
discreet! {
    Assignment
    shows [task, service, slot, spec_version, spec, desired, state, claims, env_secrets, configs]
    hides [registry_auth]
}

wiped! { JoinRequest [token] }
wiped! { JoinTokens [worker, manager] }
wiped! { EnvSecretValue [value] }
wiped! { SecretValue [value] }

impl From<String> for SecretValue {
    fn from(value: String) -> Self {
        Self { value }
    }
}
