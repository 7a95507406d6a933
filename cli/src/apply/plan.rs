//! The plan: the steps that turn the existing objects into the desired ones. Everything that can be checked is checked here,
//! before the first change.

use std::collections::{BTreeMap, BTreeSet};

use events::service_spec::Mode;
use events::{Annotations, ConfigId, ConfigSpec, ReplicatedMode, SecretBytes, SecretId, SecretSpec, ServiceSpec};
use wire::v1::command_request::Command;
use wire::v1::{
    ConfigView, FileRevisionView, LabelFilter, ListServicesRequest, RemoveConfig, RemoveSecret, SecretView, Selection,
    ServiceSummary, ServiceView,
};

use super::Sources;
use super::order::by_dependencies;
use crate::compose::STACK_LABEL;
use crate::failure::{Failure, Kind};
use crate::manager::Manager;
use crate::session::Session;
use crate::values::image;

/// The desired objects.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Services; their references to configs and secrets may be by name only.
    pub services: Vec<ServiceSpec>,
    /// Configs.
    pub configs: Vec<WantedConfig>,
    /// Secrets.
    pub secrets: Vec<WantedSecret>,
    /// Names of services whose number of replicas is kept.
    pub unscaled: BTreeSet<String>,
    /// The stack that all of these objects belong to: nothing else may be changed.
    pub stack: Option<String>,
    /// Whether other objects of the stack are removed.
    pub prune: bool,
    /// Where they are described.
    pub sources: Sources,
}

/// A config and its data.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedConfig {
    /// Name and labels.
    pub spec: ConfigSpec,
    /// Content.
    pub data: Vec<u8>,
}

/// A secret and its data.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedSecret {
    /// Name and labels.
    pub spec: SecretSpec,
    /// Content.
    pub data: SecretBytes,
}

/// A config or a secret that may be removed.
#[derive(Debug, Clone, Copy)]
pub enum FileId {
    /// A config.
    Config(ConfigId),
    /// A secret.
    Secret(SecretId),
}

impl FileId {
    /// The noun: `config` or `secret`.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Secret(_) => "secret",
        }
    }

    /// The command that removes it.
    pub fn removal(self) -> Command {
        match self {
            Self::Config(id) => Command::RemoveConfig(RemoveConfig { config: id.to_string() }),
            Self::Secret(id) => Command::RemoveSecret(RemoveSecret { secret: id.to_string() }),
        }
    }
}

/// A config or a secret that belongs to a stack.
#[derive(Debug)]
pub struct OwnedFile {
    /// Its id.
    pub id: FileId,
    /// Its name.
    pub name: String,
    /// The services that may need it, also for a rollback.
    pub users: Vec<String>,
}

/// One step of the plan.
#[derive(Debug)]
pub enum Step {
    /// Create a config.
    CreateConfig(WantedConfig),
    /// Update an existing config: labels and data.
    UpdateConfig(Box<ConfigView>, WantedConfig),
    /// Create a secret.
    CreateSecret(WantedSecret),
    /// Update an existing secret: its labels, and its data unless that is the same.
    UpdateSecret(Box<SecretView>, WantedSecret),
    /// Create a service.
    CreateService(Box<ServiceSpec>),
    /// Change a service.
    UpdateService(Box<ServiceView>, Box<ServiceSpec>),
    /// A service without changes.
    KeepService(String),
    /// A config without changes.
    KeepConfig(String),
    /// Remove a service.
    RemoveService(String),
    /// Remove a config or a secret, unless it is still in use.
    RemoveFile(OwnedFile),
}

/// All steps in order: configs and secrets before the services that use them, removals after those, and new data of configs and
/// secrets last, because it updates the services.
pub type Plan = Vec<Step>;

/// Compares the desired objects with the existing ones.
///
/// # Errors
/// When a change is not possible, or the connection to the manager is lost.
pub async fn plan<M: Manager>(wanted: Wanted, session: &mut Session<'_, M>) -> Result<Plan, Failure> {
    let present = services(&wanted, session).await?;
    let known = known(&wanted.services, !wanted.secrets.is_empty() || wanted.prune, session).await?;
    let mut files = Vec::new();
    for config in &wanted.configs {
        files.push(config_step(config, &known.configs, wanted.stack.as_deref(), session).await?);
    }
    for secret in &wanted.secrets {
        files.push(secret_step(secret, &known.secrets, wanted.stack.as_deref())?);
    }
    let is_update = |step: &Step| matches!(step, Step::UpdateConfig(..) | Step::UpdateSecret(..));
    let (revised, mut steps): (Vec<Step>, Vec<Step>) = files.into_iter().partition(is_update);
    let configs = wanted.configs.iter().map(|config| ("config", config.spec.name()));
    let secrets = wanted.secrets.iter().map(|secret| ("secret", secret.spec.name()));
    let made: BTreeSet<(&str, &str)> = configs.chain(secrets).collect();
    for mut spec in by_dependencies(wanted.services)? {
        resolve(&mut spec, &known, &made)?;
        steps.push(match present.iter().find(|service| service.spec.name() == spec.name()) {
            None => Step::CreateService(Box::new(spec)),
            Some(service) => {
                follow_newest(&mut spec, &known, &revised);
                change(service, spec, &wanted.unscaled)
            }
        });
    }
    if let Some(stack) = wanted.stack.filter(|_| wanted.prune) {
        let kept: BTreeSet<String> = steps.iter().chain(&revised).map(|step| step.name().to_owned()).collect();
        let belongs = |name: &str| !kept.contains(name);
        let gone = in_stack(&stack, session).await?.into_iter().filter(|service| belongs(&service.name));
        steps.extend(gone.map(|service| Step::RemoveService(service.name)));
        let gone = files_of_stack(&stack, &known.configs, &known.secrets).into_iter();
        steps.extend(gone.filter(|file| belongs(&file.name)).map(Step::RemoveFile));
    }
    steps.extend(revised);
    Ok(steps)
}

/// The single update of a service that was read before.
///
/// # Errors
/// When the service refers to a config or secret that does not exist, or the connection to the manager is lost.
pub async fn plan_change<M: Manager>(
    present: &ServiceView,
    mut spec: ServiceSpec,
    session: &mut Session<'_, M>,
) -> Result<Plan, Failure> {
    let known = known(std::slice::from_ref(&spec), false, session).await?;
    resolve(&mut spec, &known, &BTreeSet::new())?;
    Ok(vec![change(present, spec, &BTreeSet::new())])
}

impl Step {
    /// The name of the service that exists after this step, if the step is about a service.
    pub fn service(&self) -> Option<&str> {
        match self {
            Self::CreateService(_) | Self::UpdateService(..) | Self::KeepService(_) => Some(self.name()),
            Self::CreateConfig(_)
            | Self::UpdateConfig(..)
            | Self::CreateSecret(_)
            | Self::UpdateSecret(..)
            | Self::KeepConfig(_)
            | Self::RemoveService(_)
            | Self::RemoveFile(..) => None,
        }
    }

    /// The name of the object that the step is about.
    pub fn name(&self) -> &str {
        match self {
            Self::CreateConfig(config) | Self::UpdateConfig(_, config) => config.spec.name(),
            Self::CreateSecret(secret) | Self::UpdateSecret(_, secret) => secret.spec.name(),
            Self::CreateService(spec) => spec.name(),
            Self::UpdateService(present, _) => present.spec.name(),
            Self::KeepService(name)
            | Self::KeepConfig(name)
            | Self::RemoveService(name)
            | Self::RemoveFile(OwnedFile { name, .. }) => name,
        }
    }
}

/// The services of a stack.
///
/// # Errors
/// When the connection to the manager is lost.
pub async fn in_stack<M: Manager>(stack: &str, session: &mut Session<'_, M>) -> Result<Vec<ServiceSummary>, Failure> {
    let label = LabelFilter { key: STACK_LABEL.to_owned(), value: Some(stack.to_owned()) };
    let select = Some(Selection { labels: vec![label], ..Selection::default() });
    session.list_services(ListServicesRequest { select, mode: None }).await
}

/// The configs and secrets that belong to a stack.
pub fn files_of_stack(stack: &str, configs: &[ConfigView], secrets: &[SecretView]) -> Vec<OwnedFile> {
    let configs = configs.iter().map(|of| (FileId::Config(of.id), of.spec.annotations(), &of.services));
    let secrets = secrets.iter().map(|of| (FileId::Secret(of.id), of.spec.annotations(), &of.services));
    let ours = configs.chain(secrets).filter(|(_, annotations, _)| is_of_stack(annotations, stack));
    let file = |(id, annotations, users): (FileId, &Annotations, &Vec<String>)| OwnedFile {
        id,
        name: annotations.name.clone(),
        users: users.clone(),
    };
    ours.map(file).collect()
}

fn is_of_stack(annotations: &Annotations, stack: &str) -> bool {
    annotations.labels.get(STACK_LABEL).is_some_and(|of| of == stack)
}

/// The desired services that already exist.
async fn services<M: Manager>(wanted: &Wanted, session: &mut Session<'_, M>) -> Result<Vec<ServiceView>, Failure> {
    let names: BTreeSet<&str> = wanted.services.iter().map(ServiceSpec::name).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let select = Selection { names: names.iter().map(|name| (*name).to_owned()).collect(), ..Selection::default() };
    // The filter matches prefixes of names.
    let mut found = session.list_services(ListServicesRequest { select: Some(select), mode: None }).await?;
    found.retain(|service| names.contains(service.name.as_str()));
    if let Some(stack) = &wanted.stack {
        found.iter().try_for_each(|service| belongs(service, stack))?;
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let references = found.iter().map(|service| session.reference(service.id, &service.name)).collect();
    session.services(references).await
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
    stack: Option<&str>,
    session: &mut Session<'_, M>,
) -> Result<Step, Failure> {
    let WantedConfig { spec, data } = wanted;
    let Some(present) = known.iter().find(|config| config.spec.name() == spec.name()) else {
        return Ok(Step::CreateConfig(wanted.clone()));
    };
    is_ours("config", present.spec.annotations(), stack)?;
    is_for("config", spec.name(), &present.spec.template_driver, &spec.template_driver)?;
    // A list does not include the data.
    let read = session.configs(vec![session.reference(present.id, spec.name())]).await?.pop();
    Ok(match read.filter(|config| config.spec != *spec || config.data.as_ref() != Some(data)) {
        Some(present) => Step::UpdateConfig(Box::new(present), wanted.clone()),
        None => Step::KeepConfig(spec.name().to_owned()),
    })
}

/// The step for a secret. The manager decides whether its data differs.
fn secret_step(wanted: &WantedSecret, known: &[SecretView], stack: Option<&str>) -> Result<Step, Failure> {
    let name = wanted.spec.name();
    let Some(present) = known.iter().find(|secret| secret.spec.name() == name) else {
        return Ok(Step::CreateSecret(wanted.clone()));
    };
    is_ours("secret", present.spec.annotations(), stack)?;
    is_for("secret", name, &present.spec.template_driver, &wanted.spec.template_driver)?;
    Ok(Step::UpdateSecret(Box::new(present.clone()), wanted.clone()))
}

/// Refuses to change an object that does not belong to the stack.
fn is_ours(noun: &str, present: &Annotations, stack: Option<&str>) -> Result<(), Failure> {
    if stack.is_none_or(|stack| is_of_stack(present, stack)) {
        return Ok(());
    }
    let sentence = format!("{noun} {} exists and does not belong to the stack; nothing was changed", present.name);
    let hint = "write external: true to use it as it is, or give the stack's own another name";
    Err(Failure::new(Kind::Exists, sentence).hint(hint))
}

/// Refuses another template driver: it cannot be changed.
fn is_for(noun: &str, name: &str, present: &str, wanted: &str) -> Result<(), Failure> {
    if present == wanted {
        return Ok(());
    }
    let sentence = format!("{noun} {name} exists with another template driver; nothing was changed");
    Err(Failure::new(Kind::Exists, sentence).hint("give the new one another name"))
}

/// The existing configs and secrets.
struct ExistingFiles {
    configs: Vec<ConfigView>,
    secrets: Vec<SecretView>,
    /// Ids that exist only in the copy of the state, in a trial.
    tentative: BTreeSet<String>,
}

async fn known<M: Manager>(
    services: &[ServiceSpec],
    has_secrets: bool,
    session: &mut Session<'_, M>,
) -> Result<ExistingFiles, Failure> {
    let uses_secrets = has_secrets || services.iter().any(|spec| !spec.template().container().secrets.is_empty());
    let secrets = if uses_secrets { session.secrets(Vec::new()).await? } else { Vec::new() };
    let configs = session.configs(Vec::new()).await?;
    Ok(ExistingFiles { configs, secrets, tentative: session.tentative.clone() })
}

/// Fills in the ids of existing configs and secrets. Those that are created by an earlier line of a script are known by name
/// only.
fn resolve(spec: &mut ServiceSpec, known: &ExistingFiles, made: &BTreeSet<(&str, &str)>) -> Result<(), Failure> {
    let service = spec.name().to_owned();
    let missing = |noun: &str, name: &str| {
        let sentence = format!("there is no {noun} {name}, which service {service} uses; nothing was changed");
        Err(Failure::new(Kind::NotFound, sentence).hint(format!("`swarmctl {noun} ls` lists what there is")))
    };
    let container = crate::spec::container(spec);
    for reference in &mut container.configs {
        match known.configs.iter().find(|config| config.spec.name() == reference.name) {
            Some(config) => reference.config = Some(config.id).filter(|id| !known.tentative.contains(&id.to_string())),
            None if made.contains(&("config", reference.name.as_str())) => {}
            None => return missing("config", &reference.name),
        }
    }
    for reference in &mut container.secrets {
        match known.secrets.iter().find(|secret| secret.spec.name() == reference.name) {
            Some(secret) => reference.secret = Some(secret.id).filter(|id| !known.tentative.contains(&id.to_string())),
            None if made.contains(&("secret", reference.name.as_str())) => {}
            None => return missing("secret", &reference.name),
        }
    }
    Ok(())
}

/// Sets references that follow a config or secret to its newest revision; after a rollback the service may have an older one.
/// Jobs keep their revisions until their next run, and references to data that this plan changes are updated with that change.
fn follow_newest(spec: &mut ServiceSpec, known: &ExistingFiles, revised: &[Step]) {
    if spec.is_job() {
        return;
    }
    let is_revised = |name: &str| {
        revised.iter().any(|step| matches!(step, Step::UpdateConfig(_, config) if config.spec.name() == name))
    };
    let newest = |revisions: &[FileRevisionView]| revisions.last().map_or(0, |newest| newest.revision);
    let container = crate::spec::container(spec);
    for reference in container.configs.iter_mut().filter(|of| of.revision == 0) {
        let config = known.configs.iter().find(|config| config.spec.name() == reference.name);
        let config = config.filter(|_| !is_revised(&reference.name));
        reference.revision = config.map_or(0, |config| newest(&config.revisions));
    }
    for reference in container.secrets.iter_mut().filter(|of| of.revision == 0) {
        let secret = known.secrets.iter().find(|secret| secret.spec.name() == reference.name);
        reference.revision = secret.map_or(0, |secret| newest(&secret.revisions));
    }
}

/// The step for a service that exists.
fn change(present: &ServiceView, spec: ServiceSpec, unscaled: &BTreeSet<String>) -> Step {
    let mut spec = spec.without_empty_messages();
    keep_what_managers_set(&present.spec, &mut spec);
    let is_autoscaled = spec.autoscaling().is_some() && present.spec.autoscaling().is_some();
    if (unscaled.contains(spec.name()) || is_autoscaled)
        && let (Some(replicas), Some(Mode::Replicated(_))) = (present.spec.replicas(), &spec.mode)
    {
        spec.mode = Some(Mode::Replicated(ReplicatedMode { replicas }));
    }
    if spec == present.spec {
        return Step::KeepService(spec.name().to_owned());
    }
    Step::UpdateService(Box::new(present.clone()), Box::new(spec))
}

/// Keeps the fields that no file contains: the names of secret values, the force-update counter, the digest of a tag, and the
/// revisions of configs and secrets that managers fill in.
fn keep_what_managers_set(present: &ServiceSpec, spec: &mut ServiceSpec) {
    let task = crate::spec::task(spec);
    task.force_update = task.force_update.max(present.template().force_update);
    let (present, container) = (present.template().container(), crate::spec::container(spec));
    container.registry_auth_key.clone_from(&present.registry_auth_key);
    // The tag was resolved to its digest.
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
