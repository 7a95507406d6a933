//! What has to be done. Whatever can be known to be wrong is found here, before the first change.

use std::collections::{BTreeMap, BTreeSet};

use events::service_spec::Mode;
use events::{ConfigId, ConfigSpec, ReplicatedMode, ServiceSpec};
use wire::v1::{ConfigView, LabelFilter, ListServicesRequest, SecretView, Selection, ServiceSummary, ServiceView};

use super::order::by_dependencies;
use crate::compose::STACK_LABEL;
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::image;

/// What there should be.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Services, whose references to configs may be by name only.
    pub services: Vec<ServiceSpec>,
    /// Configs.
    pub configs: Vec<WantedConfig>,
    /// Names of services whose number of replicas stays as it is.
    pub unscaled: BTreeSet<String>,
    /// The stack that all of it belongs to: nothing else may be changed.
    pub stack: Option<String>,
    /// Whether what else belongs to the stack is removed.
    pub prune: bool,
}

/// A config and its data.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedConfig {
    /// What it is called.
    pub spec: ConfigSpec,
    /// What is in it.
    pub data: Vec<u8>,
}

/// One thing to do.
#[derive(Debug)]
pub enum Step {
    /// Create a config.
    CreateConfig(WantedConfig),
    /// Create a service.
    CreateService(Box<ServiceSpec>),
    /// Change a service.
    UpdateService(Box<ServiceView>, Box<ServiceSpec>),
    /// A service that is as it should be.
    KeepService(String),
    /// A config that is as it should be.
    KeepConfig(String),
    /// Remove a service.
    RemoveService(String),
    /// Remove a config, unless something still uses it.
    RemoveConfig(ConfigId, String),
}

/// All that has to be done, in order: configs before the services that use them, and removals last.
pub type Plan = Vec<Step>;

/// Compares what there should be with what there is.
///
/// # Errors
/// When something cannot be done, or the manager is lost.
pub async fn plan<M: Manager>(wanted: Wanted, session: &mut Session<'_, M>) -> Result<Plan, Failure> {
    let present = services(&wanted, session).await?;
    let known = known(&wanted.services, session).await?;
    let mut steps = Vec::new();
    for config in &wanted.configs {
        steps.push(config_step(config, &known.configs, session).await?);
    }
    let made: BTreeSet<&str> = wanted.configs.iter().map(|config| config.spec.name()).collect();
    for mut spec in by_dependencies(wanted.services)? {
        resolve(&mut spec, &known, &made)?;
        steps.push(match present.iter().find(|service| service.spec.name() == spec.name()) {
            None => Step::CreateService(Box::new(spec)),
            Some(service) => change(service, spec, &wanted.unscaled),
        });
    }
    if let Some(stack) = wanted.stack.filter(|_| wanted.prune) {
        let kept: BTreeSet<String> = steps.iter().map(|step| step.name().to_owned()).collect();
        let belongs = |name: &str| !kept.contains(name);
        let gone = in_stack(&stack, session).await?.into_iter().filter(|service| belongs(&service.name));
        steps.extend(gone.map(|service| Step::RemoveService(service.name)));
        let gone = known.configs.iter().filter(|config| is_of_stack(config, &stack) && belongs(config.spec.name()));
        steps.extend(gone.map(|config| Step::RemoveConfig(config.id, config.spec.name().to_owned())));
    }
    Ok(steps)
}

/// The one change of a service that was read before.
///
/// # Errors
/// When it uses a config that there is not, or the manager is lost.
pub async fn plan_change<M: Manager>(
    present: &ServiceView,
    mut spec: ServiceSpec,
    session: &mut Session<'_, M>,
) -> Result<Plan, Failure> {
    let known = known(std::slice::from_ref(&spec), session).await?;
    resolve(&mut spec, &known, &BTreeSet::new())?;
    Ok(vec![change(present, spec, &BTreeSet::new())])
}

impl Step {
    /// The name of what it is about.
    pub fn name(&self) -> &str {
        match self {
            Self::CreateConfig(config) => config.spec.name(),
            Self::CreateService(spec) => spec.name(),
            Self::UpdateService(present, _) => present.spec.name(),
            Self::KeepService(name)
            | Self::KeepConfig(name)
            | Self::RemoveService(name)
            | Self::RemoveConfig(_, name) => name,
        }
    }
}

/// The services of a stack.
///
/// # Errors
/// When the manager is lost.
pub async fn in_stack<M: Manager>(stack: &str, session: &mut Session<'_, M>) -> Result<Vec<ServiceSummary>, Failure> {
    let label = LabelFilter { key: STACK_LABEL.to_owned(), value: Some(stack.to_owned()) };
    let select = Some(Selection { labels: vec![label], ..Selection::default() });
    session.manager.list_services(ListServicesRequest { select, mode: None }).await
}

/// Whether a config belongs to a stack.
pub fn is_of_stack(config: &ConfigView, stack: &str) -> bool {
    let labels = config.spec.annotations.as_ref().map(|annotations| &annotations.labels);
    labels.and_then(|labels| labels.get(STACK_LABEL)).is_some_and(|of| of == stack)
}

/// Those of the wanted services that there are.
async fn services<M: Manager>(wanted: &Wanted, session: &mut Session<'_, M>) -> Result<Vec<ServiceView>, Failure> {
    let names: BTreeSet<&str> = wanted.services.iter().map(ServiceSpec::name).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let select = Selection { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Selection::default() };
    // A selection takes beginnings of names.
    let mut found = session.manager.list_services(ListServicesRequest { select: Some(select), mode: None }).await?;
    found.retain(|service| names.contains(service.name.as_str()));
    if let Some(stack) = &wanted.stack {
        found.iter().try_for_each(|service| belongs(service, stack))?;
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    session.manager.services(found.iter().map(|service| service.id.to_string()).collect()).await
}

fn belongs(service: &ServiceSummary, stack: &str) -> Result<(), Failure> {
    if service.labels.get(STACK_LABEL).is_some_and(|of| of == stack) {
        return Ok(());
    }
    let sentence = format!("service {} exists and does not belong to stack {stack}; nothing was changed", service.name);
    let hint = format!(
        "choose another name for the stack, or adopt it: `swarmctl service update {} --label-add {STACK_LABEL}={stack}`",
        service.name
    );
    Err(Failure::new(Kind::Exists, sentence).hint(hint))
}

async fn config_step<M: Manager>(
    wanted: &WantedConfig,
    known: &[ConfigView],
    session: &mut Session<'_, M>,
) -> Result<Step, Failure> {
    let name = wanted.spec.name();
    let Some(present) = known.iter().find(|config| config.spec.name() == name) else {
        return Ok(Step::CreateConfig(wanted.clone()));
    };
    let read = session.manager.configs(vec![present.id.to_string()]).await?;
    let driver = &wanted.spec.template_driver;
    if read.iter().any(|config| config.data.as_ref() == Some(&wanted.data) && config.spec.template_driver == *driver) {
        return Ok(Step::KeepConfig(name.to_owned()));
    }
    let sentence = format!("config {name} exists with other data or another template driver; nothing was changed");
    let hint = "a config never changes: give the new one another name; a Compose file that gives none has one made of the data";
    Err(Failure::new(Kind::Exists, sentence).hint(hint))
}

/// The configs and secrets that there are.
struct Known {
    configs: Vec<ConfigView>,
    secrets: Vec<SecretView>,
}

async fn known<M: Manager>(services: &[ServiceSpec], session: &mut Session<'_, M>) -> Result<Known, Failure> {
    let uses_secrets = services.iter().any(|spec| !spec.template().container().secrets.is_empty());
    let secrets = if uses_secrets { session.manager.secrets(Vec::new()).await? } else { Vec::new() };
    Ok(Known { configs: session.manager.configs(Vec::new()).await?, secrets })
}

/// Fills in the ids of configs and secrets that there are.
fn resolve(spec: &mut ServiceSpec, known: &Known, made: &BTreeSet<&str>) -> Result<(), Failure> {
    let service = spec.name().to_owned();
    let missing = |noun: &str, name: &str| {
        let sentence = format!("there is no {noun} {name}, which service {service} uses; nothing was changed");
        Err(Failure::new(Kind::NotFound, sentence).hint(format!("`swarmctl {noun} ls` lists what there is")))
    };
    let container = crate::spec::container(spec);
    for reference in &mut container.configs {
        match known.configs.iter().find(|config| config.spec.name() == reference.name) {
            Some(config) => reference.config = Some(config.id),
            None if made.contains(reference.name.as_str()) => {}
            None => return missing("config", &reference.name),
        }
    }
    for reference in &mut container.secrets {
        match known.secrets.iter().find(|secret| secret.spec.name() == reference.name) {
            Some(secret) => reference.secret = Some(secret.id),
            None => return missing("secret", &reference.name),
        }
    }
    Ok(())
}

/// What has to be done about a service that exists.
fn change(present: &ServiceView, mut spec: ServiceSpec, unscaled: &BTreeSet<String>) -> Step {
    keep_what_managers_set(&present.spec, &mut spec);
    if unscaled.contains(spec.name())
        && let (Some(replicas), Some(Mode::Replicated(_))) = (present.spec.replicas(), &spec.mode)
    {
        spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas }));
    }
    if spec == present.spec {
        return Step::KeepService(spec.name().to_owned());
    }
    Step::UpdateService(Box::new(present.clone()), Box::new(spec))
}

/// What no file has: the names of secret values, how often tasks were replaced by force, the digest of a tag, and the revisions of configs and secrets that
/// managers fill in.
fn keep_what_managers_set(present: &ServiceSpec, spec: &mut ServiceSpec) {
    let task = crate::spec::task(spec);
    task.force_update = task.force_update.max(present.template().force_update);
    let (present, container) = (present.template().container(), crate::spec::container(spec));
    container.registry_auth_key.clone_from(&present.registry_auth_key);
    // The tag has been given its digest.
    if image::has_digest(&present.image) && image::without_digest(&present.image) == image::with_tag(&container.image) {
        container.image.clone_from(&present.image);
    }
    for reference in container.configs.iter_mut().filter(|reference| reference.revision == 0) {
        let same =
            present.configs.iter().find(|known| known.config == reference.config && known.file == reference.file);
        reference.revision = same.map_or(0, |known| known.revision);
    }
    for reference in container.secrets.iter_mut().filter(|reference| reference.revision == 0) {
        let same =
            present.secrets.iter().find(|known| known.secret == reference.secret && known.file == reference.file);
        reference.revision = same.map_or(0, |known| known.revision);
    }
    let keys: BTreeMap<&str, &str> =
        present.env_secrets.iter().map(|secret| (secret.name.as_str(), secret.key.as_str())).collect();
    for secret in &mut container.env_secrets {
        secret.key = keys.get(secret.name.as_str()).map_or_else(String::new, |key| (*key).to_owned());
    }
}
