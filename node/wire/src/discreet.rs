//! How messages that carry secrets print; see [`events::discreet!`].

use events::discreet;

use crate::v1::{Assignment, CreateService, EnvSecretValue, JoinRequest, JoinTokens, UpdateService};

discreet! { JoinRequest shows [id, csr_pem, hostname] hides [token] }
discreet! { JoinTokens shows [] hides [worker, manager] }
discreet! { CreateService shows [spec, env_secrets] hides [registry_auth] }
discreet! { UpdateService shows [service, spec, version, env_secrets] hides [registry_auth] }
discreet! { EnvSecretValue shows [name] hides [value] }
discreet! {
    Assignment
    shows [task, service, slot, spec_version, spec, desired, state, claims, env_secrets]
    hides [registry_auth]
}
