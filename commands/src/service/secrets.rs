//! Data in a service command that only the keyring may store: registry credentials, and the values of secret variables. A spec
//! contains the names of these payloads. They are filled in here, whatever the client wrote, so that no user can refer to the
//! secrets of others.

use std::collections::{BTreeMap, BTreeSet};

use events::{CommandId, EnvSecret, IdGenerator, SecretText, ServiceId, ServiceSpec, VolatilePayload};

use crate::text::quote;
use crate::validate::{self, Fault};

/// The secrets that come with a service's spec.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ServiceSecrets {
    /// Registry credentials; `None`: unchanged.
    pub registry_auth: Option<SecretText>,
    /// Values of secret variables, by name; the others keep theirs.
    pub env: BTreeMap<String, SecretText>,
}

/// The spec with the name of its credentials, or without one.
pub(super) fn with_credentials(spec: &ServiceSpec, key: String) -> ServiceSpec {
    let mut spec = spec.clone();
    if let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) {
        container.registry_auth_key = key;
    }
    spec
}

/// Name under which the keyring stores a service's registry credentials.
pub(super) fn credentials_key(service: ServiceId) -> String {
    format!("registry-auth/{service}")
}

pub(super) fn keep_credentials(service: ServiceId, auth: &SecretText) -> VolatilePayload {
    VolatilePayload::keep(credentials_key(service), auth.0.as_str())
}

/// Sets the payload name of each secret variable of a spec: a new one if a value was given, otherwise the one in the current
/// spec. Returns the payloads to store.
pub(super) fn place_env(
    spec: &mut ServiceSpec,
    present: Option<&ServiceSpec>,
    given: &BTreeMap<String, SecretText>,
    service: ServiceId,
    ids: &mut IdGenerator,
) -> Result<Vec<VolatilePayload>, Fault> {
    validate::env_secrets(given)?;
    let known: BTreeMap<&str, &str> = present.map(named_keys).unwrap_or_default();
    let listed = named_keys(spec).into_keys().map(str::to_owned);
    let names: BTreeSet<String> = listed.chain(given.keys().cloned()).collect();
    let mut payloads = Vec::new();
    let mut placed = Vec::new();
    for name in names {
        let key = match (given.get(&name), known.get(name.as_str())) {
            (Some(value), _) => {
                let key = format!("env-secret/{service}/{}", ids.next::<CommandId>());
                payloads.push(VolatilePayload::keep(key.as_str(), value.0.as_str()));
                key
            }
            (None, Some(key)) => (*key).to_owned(),
            (None, None) => return Err(without_value(&name)),
        };
        placed.push(EnvSecret { name, key });
    }
    if let Some(container) = spec.task.as_mut().and_then(|task| task.container.as_mut()) {
        container.env_secrets = placed;
        validate::env_names(container)?;
    }
    Ok(payloads)
}

fn named_keys(spec: &ServiceSpec) -> BTreeMap<&str, &str> {
    let secrets = spec.template().container().env_secrets.iter();
    secrets.map(|secret| (secret.name.as_str(), secret.key.as_str())).collect()
}

fn without_value(name: &str) -> Fault {
    let hint = "give its value with --env-secret NAME=FILE, or leave the variable out";
    Fault::invalid(format!("the secret variable {} has no value", quote(name)), hint)
}
