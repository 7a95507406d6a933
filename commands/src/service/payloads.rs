//! Configs that are templates, tried on an example task of the service, like the templates in its spec. The contents of secrets
//! are not in the state: a template that reads one is not checked, and neither is one in a secret.

use std::sync::Arc;

use events::spec::FileReference;
use events::spec::template::{self, Found, LookUp, Payload, PayloadError, Source, expand_payload};
use events::{ConfigReference, ServiceSpec};
use projections::Cluster;

use crate::text::quote;
use crate::validate::{CONFIG_BYTES_MAX, Fault, with_example};

/// Maximum total size of the templates in a service's configs, in bytes: they are tried in a manager's turn.
const TEMPLATES_BYTES_MAX: usize = 1024 * 1024;
/// Placeholder for the contents of a secret.
const HIDDEN: &[u8] = b"secret";

/// Rejects a service with a config that cannot be expanded.
pub(super) fn tried(state: &Cluster, spec: &ServiceSpec) -> Result<(), Fault> {
    let references = &spec.template().container().configs;
    let is_template = |of: &&ConfigReference| {
        of.config.and_then(|id| state.configs.get(id)).is_some_and(|config| config.spec.is_template())
    };
    let templates: Vec<(&ConfigReference, Arc<[u8]>)> =
        references.iter().filter(is_template).filter_map(|of| Some((of, data(state, of)?))).collect();
    if templates.is_empty() {
        return Ok(());
    }
    let bytes: usize = templates.iter().map(|(_, data)| data.len()).sum();
    if bytes > TEMPLATES_BYTES_MAX {
        let sentence =
            format!("the templates in its configs have {bytes} bytes together; the maximum is {TEMPLATES_BYTES_MAX}");
        return Err(Fault::exhausted(sentence, "put what is no template into configs without a template driver"));
    }
    with_example(spec, |scope| {
        let look_up = look_up(state, spec, scope)?;
        templates.iter().try_for_each(|(of, data)| match expand_payload(data, scope, &look_up, CONFIG_BYTES_MAX) {
            Ok(Payload { .. }) | Err(PayloadError { reads_secret: true, .. }) => Ok(()),
            Err(PayloadError { reason, reads_secret: false }) => {
                let sentence =
                    format!("the template in config {} cannot be expanded for this service", quote(&of.name));
                Err(Fault::invalid(sentence, format!("{reason}; change the service or the config")))
            }
        })
    })
}

fn data(state: &Cluster, of: &ConfigReference) -> Option<Arc<[u8]>> {
    let (config, revision) = of.key()?;
    Some(Arc::clone(&state.configs.get(config)?.revisions.get(&revision)?.data))
}

/// Looks up what the service's container will get.
fn look_up(state: &Cluster, spec: &ServiceSpec, scope: &template::TemplateScope<'_>) -> Result<Arc<LookUp>, Fault> {
    let container = spec.template().container();
    // Its templates have already been tried.
    let expanded = template::expand(container, scope)
        .map_err(|error| Fault::invalid(error.to_string(), "correct the template in the spec"))?
        .into_owned();
    let configs: Vec<(ConfigReference, Arc<[u8]>)> = container
        .configs
        .iter()
        .filter(|of| !of.runtime)
        .filter_map(|of| Some((of.clone(), data(state, of)?)))
        .collect();
    Ok(Arc::new(move |source, name| match source {
        Source::Variable if expanded.env_secrets.iter().any(|secret| secret.name == name) => {
            Some(Found { data: HIDDEN.to_vec(), is_secret: true })
        }
        Source::Variable => {
            let value = expanded.env.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))?;
            Some(Found { data: value.into(), is_secret: false })
        }
        Source::Secret => {
            expanded.secrets.iter().any(|of| of.is_at(name)).then(|| Found { data: HIDDEN.to_vec(), is_secret: true })
        }
        Source::Config => {
            let (_, data) = configs.iter().find(|(of, _)| of.is_at(name))?;
            Some(Found { data: data.to_vec(), is_secret: false })
        }
    }))
}
