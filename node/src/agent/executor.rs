//! The boundary between what should run and what runs it: an [`Executor`] prepares, starts, waits for, stops and removes the
//! container of one task, and knows nothing of clusters, managers or policies.
//!
//! Every call is idempotent: the agent repeats it after a crash. A task is identified by its id; an executor finds its
//! containers again by the labels (or files) that it created them with.

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

/// One task as an executor sees it: everything needed to create the container, and nothing that changes later.
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
    /// Values of the spec's secret environment variables, by name.
    pub env_secrets: BTreeMap<String, SecretText>,
    /// The data of the configs that the spec refers to.
    pub configs: BTreeMap<ConfigKey, Bytes>,
    /// The data of the secrets that the spec refers to, by payload name, as far as it has been received.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// The configs and secrets that are templates and not yet expanded.
    pub templates: TemplateFiles,
    /// The data of configs whose template reads a secret. They are kept in memory only, as secrets are.
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
    /// Whether no file is a template.
    pub fn is_empty(&self) -> bool {
        self.configs.is_empty() && self.secrets.is_empty()
    }
}

/// A file of a task that is kept in memory only.
pub struct MemoryFile<'a> {
    /// Its target in the container.
    pub reference: &'a dyn FileReference,
    /// Its data, if it has been received.
    pub data: Option<&'a SecretBytes>,
}

impl Workload {
    /// The spec of the task's container.
    pub fn container(&self) -> &ContainerSpec {
        self.spec.template().container()
    }

    /// The values that templates of this workload can refer to.
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

    /// The workload with the templates in its spec expanded.
    pub fn expanded(&self, platform: &Platform) -> Result<Self, TemplateError> {
        let container = template::expand(self.container(), &self.scope(platform))?.into_owned();
        let mut workload = self.clone();
        Arc::make_mut(&mut workload.spec).task.get_or_insert_default().container = Some(container);
        Ok(workload)
    }

    /// The workload with these mounts.
    pub fn with_mounts(mut self, mounts: Vec<Mount>) -> Self {
        if self.container().mounts != mounts {
            let task = Arc::make_mut(&mut self.spec).task.get_or_insert_default();
            task.container.get_or_insert_default().mounts = mounts;
        }
        self
    }

    /// The workload with these devices.
    pub fn with_devices(mut self, devices: Vec<Device>) -> Self {
        if self.container().devices != devices {
            let task = Arc::make_mut(&mut self.spec).task.get_or_insert_default();
            task.container.get_or_insert_default().devices = devices;
        }
        self
    }

    /// The name of a secret environment variable whose value was not sent with the task.
    pub fn missing_secret(&self) -> Option<&str> {
        let names = self.container().env_secrets.iter().map(|secret| secret.name.as_str());
        names.into_iter().find(|name| !self.env_secrets.contains_key(*name))
    }

    /// The name of a config whose data has not been received.
    pub fn missing_config(&self) -> Option<&str> {
        let is_absent = |of: &&ConfigReference| of.key().is_none_or(|key| !self.configs.contains_key(&key));
        self.container().configs.iter().find(is_absent).map(|reference| reference.name.as_str())
    }

    /// The files that are kept in memory only: first the secrets, then the configs that contain a secret.
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

    /// The data of a config, if it contains a secret.
    pub fn secret_config(&self, reference: &ConfigReference) -> Option<&SecretBytes> {
        self.secret_configs.get(&reference.key()?)
    }

    /// The other configs that are mounted as files, each with its data.
    pub fn config_files(&self) -> impl Iterator<Item = (&ConfigReference, &Bytes)> {
        let references = self.container().configs.iter().filter(|of| !of.runtime);
        references.filter_map(|reference| Some((reference, self.configs.get(&reference.key()?)?)))
    }

    /// The credential spec as the engine expects it: JSON for a config, otherwise a reference to a file or registry key.
    ///
    /// # Errors
    /// When the config contains a secret: engines show their configuration to any client.
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
            return Err(format!("config {} repeats a secret, which a credential spec must not contain", of.config));
        }
        let data = reference.and_then(|reference| self.configs.get(&reference.key()?));
        Ok(data.map(|data| format!("raw://{}", String::from_utf8_lossy(data))))
    }

    /// The environment of the spec, with the values of its secret variables, and the claimed generic resources as
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

/// Registry credentials; never printed, and zeroed when dropped.
#[derive(Clone)]
pub struct RegistryAuth(pub String);

events::wiped! { RegistryAuth [0] }

impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RegistryAuth(..)")
    }
}

/// What a registry reports about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// The digest of its tag.
    pub digest: String,
    /// The platforms it is built for; empty if the registry does not state them.
    pub platforms: Vec<Platform>,
}

/// How a container exited.
#[derive(Debug, Clone, PartialEq)]
pub struct Exit {
    /// The status of the container; `exit_code` is set.
    pub container: ContainerStatus,
    /// Why it exited, if more than the exit code is known: "unhealthy container".
    pub reason: Option<String>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// A retry may succeed: the engine is unreachable or busy. The task's state does not change.
    #[error("{0}")]
    Temporary(String),
    /// A retry cannot succeed: the task is rejected (before it started) or failed, with the engine's message.
    #[error("{0}")]
    Fatal(String),
}

/// Which log lines of a task are requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogQuery {
    /// Continues until the container exits.
    pub follow: bool,
    /// Only this many of the existing lines, the most recent ones.
    pub tail: Option<u64>,
    /// Only lines at or after this time.
    pub since: Option<Timestamp>,
    /// Only lines at or before this time; with `follow`, the stream ends then.
    pub until: Option<Timestamp>,
}

impl LogQuery {
    /// Whether a line of this time is requested.
    pub fn wants(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at <= until)
    }
}

/// The log of a task.
pub struct TaskLogs {
    /// Attributes added by the log driver: comma-separated `key=value` pairs.
    pub details: String,
    /// Batches of lines, oldest first. Lines are read only as the stream is polled.
    pub lines: BoxStream<'static, Result<Vec<LogLine>, ExecutorError>>,
}

/// The client's input to a task. It is read only as the stream is polled, and ends when the client disconnects.
pub type Inputs = BoxStream<'static, Input>;

/// The output of a task. The last item is an exit code or the error that replaces it. Dropping the stream cancels it.
pub type Outputs = BoxStream<'static, Result<Output, ExecutorError>>;

/// Runs tasks.
#[tonic::async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Platform, resources and engine of this machine. Temporary if the engine cannot be reached.
    async fn describe(&self) -> Result<NodeDescription, ExecutorError>;

    /// What the registry reports about an image. `None` if tasks of this executor have no images.
    async fn image(&self, _image: &str, _auth: Option<&RegistryAuth>) -> Result<Option<ImageFacts>, ExecutorError> {
        Ok(None)
    }

    /// Prepares the task to start: pulls the image if it is not present, creates volumes and the container. Succeeds if the
    /// task is already prepared.
    async fn prepare(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError>;

    /// Starts the container and, if it has a health check, waits until it is healthy. Succeeds if it is already started. Fatal
    /// if it exited or became unhealthy.
    async fn start(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError>;

    /// Waits until the container has exited (or became unhealthy, in which case it is stopped first).
    async fn wait(&self, workload: &Workload) -> Result<Exit, ExecutorError>;

    /// Stops the container within the spec's grace period, then kills it; cancels a pull or start in progress. Succeeds if it
    /// is already stopped, or was never created.
    async fn shutdown(&self, workload: &Workload) -> Result<Option<ContainerStatus>, ExecutorError>;

    /// Releases what only a running task needs, such as its secrets; the task has ended and will not run again. Succeeds if
    /// nothing is left.
    async fn release(&self, task: TaskId) -> Result<(), ExecutorError>;

    /// Removes every trace of the task, by force. Succeeds if nothing is left.
    async fn remove(&self, task: TaskId) -> Result<(), ExecutorError>;

    /// The tasks of this cluster and node that this executor still has traces of, including those from before a restart of the
    /// agent.
    async fn inventory(&self, cluster: ClusterId, node: NodeId) -> Result<Vec<TaskId>, ExecutorError>;

    /// The log of the task, also after its end. Fatal if its container no longer exists or its log cannot be read.
    async fn logs(&self, workload: &Workload, query: LogQuery) -> Result<TaskLogs, ExecutorError>;

    /// The task's resource usage at this moment; `None` if it is not running.
    async fn usage(&self, workload: &Workload) -> Result<Option<TaskUsage>, ExecutorError>;

    /// Executes a command in the running task, or attaches to it. It ends when the client disconnects.
    async fn interact(&self, workload: &Workload, what: What, inputs: Inputs) -> Result<Outputs, ExecutorError>;
}

#[cfg(test)]
pub(crate) mod tests {
    use events::{Id, TaskSpec};

    use super::*;

    /// A task with this container spec.
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
