//! How messages that carry secrets print; see [`events::discreet!`].

use events::discreet;

use crate::v1::{Assignment, CreateService, JoinRequest, JoinTokens, UpdateService};

discreet! { JoinRequest shows [id, csr_pem, hostname] hides [token] }
discreet! { JoinTokens shows [] hides [worker, manager] }
discreet! { CreateService shows [spec] hides [registry_auth] }
discreet! { UpdateService shows [service, spec, version] hides [registry_auth] }
discreet! {
    Assignment
    shows [task, service, slot, spec_version, spec, desired, state, claims]
    hides [registry_auth]
}
