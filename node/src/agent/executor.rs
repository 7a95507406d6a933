//! The line between what should run and what runs it: an [`Executor`] prepares, starts, watches, stops and removes one
//! task's container, and knows nothing of clusters, managers or policies.
//!
//! Every call is idempotent: the agent repeats it after a crash of its own. A task is named by its id; an executor finds
//! its containers again by the labels (or files) it gave them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use events::spec::template::{self, TemplateError, TemplateScope};
use events::spec::{ConfigKey, FileReference};
use events::{
    ClusterId, ConfigReference, ContainerSpec, ContainerStatus, Device, Mount, NodeDescription, NodeId, Platform,
    SecretBytes, SecretReference, SecretText, ServiceId, ServiceSpec, TaskId, Timestamp,
};
use futures_util::stream::BoxStream;
use wire::v1::interact_order::What;
use wire::v1::task_input::Input;
use wire::v1::task_output::Output;
use wire::v1::{LogLine, TaskUsage};

/// One task as an executor sees it: everything that it needs to make the container, and nothing that changes later.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The cluster that the node belongs to.
    pub cluster: ClusterId,
    /// The node itself.
    pub node: NodeId,
    /// The node's name.
    pub node_hostname: String,
    /// The task.
    pub task: TaskId,
    /// The task's name: `<service>.<slot>.<task id>`, with the node's id for the slot of a global service.
    pub name: String,
    /// The task's slot, 0 for a global service.
    pub slot: u64,
    /// The task's service.
    pub service: ServiceId,
    /// The spec that the task runs.
    pub spec: Arc<ServiceSpec>,
    /// Generic resources claimed for the task.
    pub claims: Vec<events::GenericResource>,
    /// Registry credentials in the form of Docker's X-Registry-Auth header, if the service has any.
    pub registry_auth: Option<RegistryAuth>,
    /// Values of the spec's secret variables, by name.
    pub env_secrets: BTreeMap<String, SecretText>,
    /// What is in the configs that the spec refers to.
    pub configs: BTreeMap<ConfigKey, Bytes>,
    /// What is in the secrets that the spec refers to, by the names of their payloads, as far as it came.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// Which of them are still to be expanded.
    pub templates: TemplateFiles,
    /// What is in the configs into which a secret was expanded. They are in memory only, as secrets are.
    pub secret_configs: BTreeMap<ConfigKey, SecretBytes>,
}

/// The configs and secrets of a task that are templates.
#[derive(Debug, Clone, Default)]
pub struct TemplateFiles {
    /// Configs.
    pub configs: BTreeSet<ConfigKey>,
    /// Secrets, by the names of their payloads.
    pub secrets: BTreeSet<String>,
}

impl TemplateFiles {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.configs.is_empty() && self.secrets.is_empty()
    }
}

/// A file of a task that is in memory only.
pub struct MemoryFile<'a> {
    /// Where it goes.
    pub reference: &'a dyn FileReference,
    /// What is in it, if that came.
    pub data: Option<&'a SecretBytes>,
}

impl Workload {
    /// The container that the task is.
    pub fn container(&self) -> &ContainerSpec {
        self.spec.template().container()
    }

    /// What templates find in it.
    pub(super) fn scope<'a>(&'a self, platform: &'a Platform) -> TemplateScope<'a> {
        TemplateScope {
            service: self.service,
            spec: &self.spec,
            node: self.node,
            hostname: &self.node_hostname,
            platform,
            task: self.task,
            task_name: &self.name,
            slot: self.slot,
        }
    }

    /// The same, with the templates in its spec expanded.
    pub fn expanded(&self, platform: &Platform) -> Result<Self, TemplateError> {
        let container = template::expand(self.container(), &self.scope(platform))?.into_owned();
        let mut workload = self.clone();
        Arc::make_mut(&mut workload.spec).task.get_or_insert_default().container = Some(container);
        Ok(workload)
    }

    /// The same with these mounts.
    pub fn with_mounts(mut self, mounts: Vec<Mount>) -> Self {
        if self.container().mounts != mounts {
            let task = Arc::make_mut(&mut self.spec).task.get_or_insert_default();
            task.container.get_or_insert_default().mounts = mounts;
        }
        self
    }

    /// The same with these devices.
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        if self.container().devices != devices {
            let task = Arc::make_mut(&mut self.spec).task.get_or_insert_default();
            task.container.get_or_insert_default().devices = devices;
        }
        self
    }

    /// The name of a secret variable whose value did not come with the task.
    pub fn missing_secret(&self) -> Option<&str> {
        let names = self.container().env_secrets.iter().map(|secret| secret.name.as_str());
        names.into_iter().find(|name| !self.env_secrets.contains_key(*name))
    }

    /// The name of a config whose data is not here.
    pub fn missing_config(&self) -> Option<&str> {
        let is_absent = |of: &&ConfigReference| of.key().is_none_or(|key| !self.configs.contains_key(&key));
        self.container().configs.iter().find(is_absent).map(|reference| reference.name.as_str())
    }

    /// The files that are in memory only: the secrets, then the configs that repeat one.
    pub fn memory_files(&self) -> Vec<MemoryFile<'_>> {
        let secret = |of: &'_ SecretReference| self.secrets.get(&of.key());
        let secrets = self.container().secrets.iter();
        let secrets = secrets.map(|reference| MemoryFile { reference, data: secret(reference) });
        let configs = self.container().configs.iter().filter(|of| !of.runtime).filter_map(|reference| {
            let data = self.secret_config(reference)?;
            Some(MemoryFile { reference, data: Some(data) })
        });
        secrets.chain(configs).collect()
    }

    /// What is in a config, if it repeats a secret.
    pub fn secret_config(&self, reference: &ConfigReference) -> Option<&SecretBytes> {
        self.secret_configs.get(&reference.key()?)
    }

    /// The other configs that are files, each with its data.
    pub fn config_files(&self) -> impl Iterator<Item = (&ConfigReference, &Bytes)> {
        let references = self.container().configs.iter().filter(|of| !of.runtime);
        references.filter_map(|reference| Some((reference, self.configs.get(&reference.key()?)?)))
    }

    /// What the engine is given for a credential spec: JSON for a config, and otherwise where to find it.
    ///
    /// # Errors
    /// When the config repeats a secret: engines show what they are given.
    pub fn credential_spec(&self) -> Result<Option<String>, String> {
        let Some(of) = self.container().privileges.as_ref().and_then(|of| of.credential_spec.as_ref()) else {
            return Ok(None);
        };
        if !of.file.is_empty() {
            return Ok(Some(format!("file://{}", of.file)));
        }
        if !of.registry.is_empty() {
            return Ok(Some(format!("registry://{}", of.registry)));
        }
        let reference = self.container().configs.iter().find(|known| known.runtime && known.name == of.config);
        if reference.is_some_and(|reference| self.secret_config(reference).is_some()) {
            return Err(format!("config {} repeats a secret, which a credential spec must not", of.config));
        }
        let data = reference.and_then(|reference| self.configs.get(&reference.key()?));
        Ok(data.map(|data| format!("raw://{}", String::from_utf8_lossy(data))))
    }

    /// The environment that the spec asks for, with the values of its secret variables, and the generic resources claimed as
    /// `DOCKER_RESOURCE_<KIND>=a,b`.
    pub fn environment(&self) -> Vec<String> {
        let mut claims: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for claim in &self.claims {
            let values = claims.entry(&claim.kind).or_default();
            if claim.names.is_empty() {
                values.push(claim.amount.to_string())
            } else {
                values.extend_from_slice(&claim.names)
            }
        }
        let claims =
            claims.iter().map(|(kind, values)| format!("DOCKER_RESOURCE_{}={}", kind.to_uppercase(), values.join(",")));
        let secrets = self.env_secrets.iter().map(|(name, value)| format!("{name}={}", value.0));
        self.container().env.iter().cloned().chain(secrets).chain(claims).collect()
    }
}

/// Registry credentials; never printed, and wiped when dropped.
#[derive(Clone)]
pub struct RegistryAuth(pub String);

events::wiped! { RegistryAuth [0] }

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegistryAuth(..)")
    }
}

/// What a registry says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// The digest that its tag has.
    pub digest: String,
    /// The platforms that it is for; none where the registry does not say.
    pub platforms: Vec<Platform>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    /// What the executor knows of the container; `exit_code` is set.
    pub container: ContainerStatus,
    /// Why it ended, when more is known than the exit code: "unhealthy container".
    pub reason: Option<String>,
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// It may succeed when tried again: the engine is away or busy. The task's state does not change.
    #[error("{0}")]
    Temporary(String),
    /// It will not succeed: the task is rejected (before it started) or failed, with these words of the engine.
    #[error("{0}")]
    Fatal(String),
}

/// Which of a task's lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Goes on until the container ends.
    pub follow: bool,
    /// Of the lines that there are, only so many, the last ones.
    pub tail: Option<u64>,
    /// Only lines that are as new as this.
    pub since: Option<Timestamp>,
    /// Only lines that are as old as this; one that follows ends then.
    pub until: Option<Timestamp>,
}

impl LogQuery {
    /// Whether a line of this time is wanted.
    pub fn wants(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at <= until)
    }
}

/// What a task printed.
pub struct TaskLogs {
    /// Attributes of the log driver: `key=value` pairs with commas between.
    pub details: String,
    /// Some lines at a time, oldest first. Nothing is read that is not asked for.
    pub lines: BoxStream<'static, Result<Vec<LogLine>, ExecutorError>>,
}

/// What somebody gives to a task. Nothing is taken that is not asked for; it ends when they are gone.
pub type Inputs = BoxStream<'static, Input>;

/// What comes out of a task: the last is an exit code, or why there is none. Who drops it wants no more.
pub type Outputs = BoxStream<'static, Result<Output, ExecutorError>>;

/// Something that runs tasks.
#[tonic::async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Platform, resources and engine of this machine. Temporary if the engine cannot be reached.
    async fn describe(&self) -> Result<NodeDescription, ExecutorError>;

    /// What an image is at its registry. Nothing where tasks have no images.
    async fn image(&self, _image: &str, _auth: Option<&RegistryAuth>) -> Result<Option<ImageFacts>, ExecutorError> {
        Ok(None)
    }

    /// Makes everything ready to start: pulls the image unless it is here, creates volumes and the container.
    /// Already prepared is success.
    async fn prepare(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError>;

    /// Starts the container and, if it has a health check, waits until it is healthy. Already started is success.
    /// Fatal if it ended or became unhealthy meanwhile.
    async fn start(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError>;

    /// Waits until the container has ended (or became unhealthy, in which case it is stopped first).
    async fn wait(&self, workload: &Workload) -> Result<Exit, ExecutorError>;

    /// Stops the container within the spec's grace period, then by force; a pull or start under way is given up.
    /// Already stopped, or never created, is success.
    async fn shutdown(&self, workload: &Workload) -> Result<Option<ContainerStatus>, ExecutorError>;

    /// The task has ended, and will not run again: what only a running one needs goes, such as its secrets. Nothing there is
    /// success.
    async fn release(&self, task: TaskId) -> Result<(), ExecutorError>;

    /// Removes every trace of the task, by force. Nothing there is success.
    async fn remove(&self, task: TaskId) -> Result<(), ExecutorError>;

    /// The tasks of which this executor still has traces for this cluster and node, also from before a restart of the agent.
    async fn inventory(&self, cluster: ClusterId, node: NodeId) -> Result<Vec<TaskId>, ExecutorError>;

    /// What the task printed, also after its end. Fatal if its container is gone, or its log cannot be read.
    async fn logs(&self, workload: &Workload, query: LogQuery) -> Result<TaskLogs, ExecutorError>;

    /// What the task uses at this moment; nothing if it does not run.
    async fn usage(&self, workload: &Workload) -> Result<Option<TaskUsage>, ExecutorError>;

    /// Does something in the running task for somebody who gives input and reads what comes out. It ends when they are gone.
    async fn interact(&self, workload: &Workload, what: What, inputs: Inputs) -> Result<Outputs, ExecutorError>;
}

#[cfg(test)]
pub(crate) mod tests {
    use events::{Id, TaskSpec};

    use super::*;

    /// A task of this container.
    pub(crate) fn workload(container: ContainerSpec) -> Workload {
        let task = Some(TaskSpec { container: Some(container), ..Default::default() });
        Workload {
            cluster: ClusterId::from_bits(1),
            node: NodeId::from_bits(2),
            node_hostname: "host-a".into(),
            task: TaskId::from_bits(3),
            name: "web.1.x".into(),
            slot: 1,
            service: ServiceId::from_bits(4),
            spec: Arc::new(ServiceSpec { task, ..Default::default() }),
            claims: vec![],
            registry_auth: None,
            env_secrets: BTreeMap::new(),
            configs: BTreeMap::new(),
            secrets: BTreeMap::new(),
            templates: TemplateFiles::default(),
            secret_configs: BTreeMap::new(),
        }
    }
}
