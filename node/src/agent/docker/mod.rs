//! Runs tasks as containers of a Docker Engine.
//!
//! The engine holds all state: containers are found by name and labels, so a restarted executor takes over from the previous
//! one. Calls are kept to a minimum, because each delays the start of a task: a create without a query before it (the engine
//! itself reports a missing image), and a start between two inspections of one millisecond each.

mod attach;
mod config;
mod config_mounts;
mod copy;
mod creations;
mod describe;
mod devices;
mod engine;
mod events;
mod exec;
mod features;
mod files;
mod hijack;
mod host;
mod logs;
mod mounts;
mod observed;
mod pull;
mod registry;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::events::{ClusterId, ContainerStatus, MountType, NodeDescription, NodeId, PullPolicy, TaskId};
use bollard::body_stream;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, StatsOptionsBuilder, StopContainerOptionsBuilder,
    UploadToContainerOptionsBuilder,
};
use futures_util::StreamExt;
use wire::v1::TaskUsage;
use wire::v1::interact_order::What;

use self::config::{CLUSTER_LABEL, NODE_LABEL, TASK_LABEL};
use self::config_mounts::ConfigMounts;
use self::creations::Creations;
use self::engine::{Engine, status, unless_status};
use self::events::EventNotifier;
use self::observed::{Observed, Phase, UNKNOWN_EXIT_CODE};
use super::executor::{
    Executor, ExecutorError, Exit, ImageFacts, Inputs, LogQuery, Outputs, RegistryAuth, TaskLogs, Workload,
};
use super::secret_files::{self, SecretFiles};
use super::steps::Steps;
use crate::clock;

/// The reason of a task that was stopped by its health check.
const UNHEALTHY: &str = "unhealthy container";

/// Delay before retrying an engine that sends events but answers no inspection.
const RETRY: Duration = Duration::from_secs(1);

/// Runs tasks as containers of one Docker Engine.
pub struct DockerExecutor {
    engine: Arc<Engine>,
    notifier: EventNotifier,
    steps: Steps,
    creations: Creations,
    config_mounts: ConfigMounts,
    secret_files: SecretFiles,
}

impl DockerExecutor {
    /// An executor for the engine at an address of the form `unix:///var/run/docker.sock`, with a directory for the configs
    /// that its containers mount. Their secrets are in memory, in a directory specific to this agent. The engine is not
    /// contacted yet: [`Executor::describe`] reports whether it can be reached.
    ///
    /// # Errors
    /// A message when the address has another form.
    pub fn new(address: &str, configs: PathBuf) -> Result<Self, String> {
        let engine = Arc::new(Engine::new(address)?);
        Ok(Self {
            notifier: EventNotifier::new(engine.clone()),
            steps: Steps::default(),
            creations: Creations::default(),
            secret_files: SecretFiles::of(&configs),
            config_mounts: ConfigMounts::new(configs),
            engine,
        })
    }

    /// The workload with mounts for its secrets, and for the configs that are not copied.
    fn with_files(&self, workload: &Workload) -> Workload {
        self.secret_files.mounted(&self.config_mounts.added_to(workload))
    }

    /// Refuses a workload that depends on a field which this engine would silently ignore; returns warnings for fields that are
    /// only an improvement. Asks the engine for its version only if the workload uses such a field.
    async fn check_features(&self, workload: &Workload) -> Result<Vec<String>, ExecutorError> {
        workload.credential_spec().map_err(ExecutorError::Fatal)?;
        let (needs, preferences) = (features::needs(workload), features::preferences(workload));
        if needs.is_empty() && preferences.is_empty() {
            return Ok(Vec::new());
        }
        let version = self.engine.client()?.version().await.map_err(|error| self.engine.judge(error))?;
        let api = version.api_version.unwrap_or_default();
        let api = api
            .parse()
            .map_err(|_| ExecutorError::Fatal(format!("the engine's API version \"{api}\" is malformed")))?;
        match features::unmet(&needs, api).into_iter().next() {
            Some(refusal) => Err(ExecutorError::Fatal(refusal)),
            None => Ok(features::unmet(&preferences, api)),
        }
    }

    /// Creates the container, pulling its image if the engine does not have it; or finds the existing one.
    async fn create(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        let options = CreateContainerOptionsBuilder::new().name(&workload.name).build();
        let body = config::create_body(workload);
        let image = &workload.container().image;
        self.pull_mounted(workload).await?;
        let mut pulled = self.pull_first(workload).await?;
        loop {
            let (client, options, body) = (self.engine.client()?.clone(), options.clone(), body.clone());
            let creation = async move { client.create_container(Some(options), body).await };
            let made = self.creations.run(workload.task, creation).await;
            match made.map_err(|error| ExecutorError::Temporary(error.to_string()))? {
                Ok(made) => {
                    made.warnings
                        .iter()
                        .for_each(|warning| tracing::warn!(task = %workload.task, warning, "the engine warns"));
                    return Ok(ContainerStatus {
                        container_id: made.id,
                        warnings: made.warnings,
                        ..Default::default()
                    });
                }
                Err(error) if status(&error) == Some(409) => return self.adopt(workload, error).await,
                Err(error) if is_missing_image(&error) && workload.container().pull_policy() == PullPolicy::Never => {
                    let why = "is not on this node, and its pull policy is never";
                    return Err(ExecutorError::Fatal(format!("the image {image} {why}")));
                }
                Err(error) if is_missing_image(&error) && !pulled => {
                    pull::pull(&self.engine, image, workload.registry_auth.as_ref()).await?;
                    pulled = true;
                }
                Err(error) => return Err(self.engine.judge(error)),
            }
        }
    }

    /// Pulls the image before the container is created, if the pull policy requires it. Returns whether it did.
    async fn pull_first(&self, workload: &Workload) -> Result<bool, ExecutorError> {
        match workload.container().pull_policy() {
            PullPolicy::Missing | PullPolicy::Never => Ok(false),
            // A container that was created before the agent restarted has its image.
            PullPolicy::Always if self.inspect(workload).await?.is_some() => Ok(false),
            PullPolicy::Always => {
                pull::pull(&self.engine, &workload.container().image, workload.registry_auth.as_ref()).await?;
                Ok(true)
            }
        }
    }

    /// Pulls the images that a container mounts as its policy says: an engine that lacks one says only that it cannot mount it.
    async fn pull_mounted(&self, workload: &Workload) -> Result<(), ExecutorError> {
        let container = workload.container();
        for mount in container.mounts.iter().filter(|mount| mount.r#type() == MountType::Image) {
            let is_there = match container.pull_policy() {
                PullPolicy::Always => false,
                PullPolicy::Missing => self.has_image(&mount.source).await?,
                PullPolicy::Never => true,
            };
            if !is_there {
                pull::pull(&self.engine, &mount.source, workload.registry_auth.as_ref()).await?;
            }
        }
        Ok(())
    }

    async fn has_image(&self, image: &str) -> Result<bool, ExecutorError> {
        match self.engine.client()?.inspect_image(image).await {
            Ok(_) => Ok(true),
            Err(error) if status(&error) == Some(404) => Ok(false),
            Err(error) => Err(self.engine.judge(error)),
        }
    }

    /// Copies the configs into a container that was not started yet.
    async fn place_configs(&self, workload: &Workload, made: &ContainerStatus) -> Result<(), ExecutorError> {
        let was_started = made.pid != 0 || made.exit_code.is_some();
        let Some(archive) = files::archive(workload).filter(|_| !was_started) else { return Ok(()) };
        let options = UploadToContainerOptionsBuilder::new().path("/").build();
        let archive = body_stream(futures_util::stream::iter(archive));
        let placed = self.engine.client()?.upload_to_container(&made.container_id, Some(options), archive);
        placed.await.map_err(|error| match self.engine.judge(error) {
            ExecutorError::Fatal(why) => {
                ExecutorError::Fatal(format!("the configs cannot be put into the container: {why}"))
            }
            passing @ ExecutorError::Temporary(_) => passing,
        })
    }

    /// The name is in use: by this task's own container, created earlier, or by a foreign one.
    async fn adopt(&self, workload: &Workload, conflict: Error) -> Result<ContainerStatus, ExecutorError> {
        match self.inspect(workload).await? {
            Some(observed) => Ok(observed.status),
            None => Err(self.engine.judge(conflict)),
        }
    }

    /// Inspects the task's container; `None` if there is none, or a foreign one has its name.
    async fn inspect(&self, workload: &Workload) -> Result<Option<Observed>, ExecutorError> {
        Ok(self.container(workload).await?.map(|answer| observed::observe(answer, workload)))
    }

    /// The engine's description of the task's container; `None` if there is none, or a foreign one has its name.
    async fn container(&self, workload: &Workload) -> Result<Option<ContainerInspectResponse>, ExecutorError> {
        match self.engine.client()?.inspect_container(&workload.name, None::<InspectContainerOptions>).await {
            Ok(container) if observed::is_ours(&container, workload) => Ok(Some(container)),
            Ok(_) => Ok(None),
            Err(error) if status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.engine.judge(error)),
        }
    }

    async fn start_and_gate(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        let mut subscription = self.notifier.subscribe(workload.task);
        let gone = || ExecutorError::Fatal(format!("no such container: {}", workload.name));
        let mut observed = self.inspect(workload).await?.ok_or_else(gone)?;
        if observed.phase == Phase::Ended {
            // It was started before, and whether it was ever healthy is unknown: `wait` reports how it ended.
            return Ok(observed.status);
        }
        if observed.phase == Phase::Created {
            // The secrets may have been lost in a reboot since the container was created.
            self.secret_files.place(workload, None, secret_files::numbered)?;
            if let Some(place) = observed.foreign_bind(&self.with_files(workload)) {
                let why = "the path in its spec points elsewhere since the container was created";
                return Err(ExecutorError::Fatal(format!(
                    "the container mounts {place}, which was not allowed: {why}"
                )));
            }
            observed = self.launch(workload, &observed.status.container_id).await?.ok_or_else(gone)?;
        }
        loop {
            match observed.phase {
                Phase::Running => return Ok(observed.status),
                Phase::Unhealthy => {
                    self.stop(workload, &observed.status.container_id).await?;
                    return Err(ExecutorError::Fatal(UNHEALTHY.into()));
                }
                Phase::Ended => return ended_at_start(observed),
                Phase::Created | Phase::Starting => subscription.next().await,
            }
            observed = self.inspect(workload).await?.ok_or_else(gone)?;
        }
    }

    /// Starts a container and inspects it whatever the engine answered: an error may follow a successful start, and the
    /// connection may break after it. The start failed only if the container was never started.
    async fn launch(&self, workload: &Workload, id: &str) -> Result<Option<Observed>, ExecutorError> {
        let started = self.engine.client()?.start_container(id, None::<StartContainerOptions>).await;
        let observed = self.inspect(workload).await?;
        let is_through = observed.as_ref().is_some_and(|observed| observed.phase != Phase::Created);
        match started {
            Err(error) if !is_through => Err(self.engine.judge(error)),
            Err(error) => {
                tracing::warn!(task = %workload.task, %error, "the engine reported a failed start, but the container has started");
                Ok(observed)
            }
            Ok(()) => Ok(observed),
        }
    }

    /// Stops a container within the spec's grace period, then kills it. Succeeds if it is stopped or does not exist.
    async fn stop(&self, workload: &Workload, id: &str) -> Result<(), ExecutorError> {
        let grace = workload.container().stop_grace();
        let options = StopContainerOptionsBuilder::new().t(config::whole_seconds(grace)).build();
        let stopped = self.engine.client_with_extra_time(grace)?.stop_container(id, Some(options)).await;
        unless_status(stopped, 404).map_err(|error| self.engine.judge(error))
    }

    /// Removes a container by force, with its anonymous volumes. Succeeds if it does not exist.
    async fn remove_container(&self, id: &str) -> Result<(), ExecutorError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.engine.client()?.remove_container(id, Some(options)).await {
            // Another removal is in progress; the task counts as removed only after it.
            Err(error) if status(&error) == Some(409) => Err(ExecutorError::Temporary(error.to_string())),
            removed => unless_status(removed, 404).map_err(|error| self.engine.judge(error)),
        }
    }

    /// The names and labels of all containers with these labels, running or not.
    async fn labelled(&self, labels: Vec<String>) -> Result<Vec<(String, HashMap<String, String>)>, ExecutorError> {
        let filters = HashMap::from([("label".to_owned(), labels)]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let found =
            self.engine.client()?.list_containers(Some(options)).await.map_err(|error| self.engine.judge(error))?;
        Ok(found.into_iter().filter_map(|one| Some((one.id?, one.labels.unwrap_or_default()))).collect())
    }
}

#[tonic::async_trait]
impl Executor for DockerExecutor {
    async fn describe(&self) -> Result<NodeDescription, ExecutorError> {
        let docker = self.engine.client()?;
        let (info, version) =
            tokio::try_join!(docker.info(), docker.version()).map_err(|error| self.engine.judge(error))?;
        Ok(describe::node(info, version))
    }

    async fn image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<Option<ImageFacts>, ExecutorError> {
        registry::image(&self.engine, image, auth).await.map(Some)
    }

    async fn prepare(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        let made = async {
            let warnings = self.check_features(workload).await?;
            self.config_mounts.write(workload).await?;
            self.secret_files.place(workload, None, secret_files::numbered)?;
            let mut made = self.create(&self.with_files(workload)).await?;
            self.place_configs(workload, &made).await?;
            made.warnings.extend(warnings);
            Ok(made)
        };
        self.steps.run(workload.task, made).await
    }

    async fn start(&self, workload: &Workload) -> Result<ContainerStatus, ExecutorError> {
        self.steps.run(workload.task, self.start_and_gate(workload)).await
    }

    async fn wait(&self, workload: &Workload) -> Result<Exit, ExecutorError> {
        let mut subscription = self.notifier.subscribe(workload.task);
        loop {
            match self.inspect(workload).await {
                Ok(Some(observed)) => match observed.phase {
                    Phase::Running | Phase::Starting => subscription.next().await,
                    Phase::Ended => return Ok(observed.exit()),
                    Phase::Unhealthy => {
                        self.stop(workload, &observed.status.container_id).await?;
                        let container = self.inspect(workload).await?.map_or(observed.status, |last| last.status);
                        return Ok(Exit { container, reason: Some(UNHEALTHY.into()) });
                    }
                    Phase::Created => return Err(ExecutorError::Fatal("the container was never started".into())),
                },
                Ok(None) => return Ok(vanished(subscription.exit_code())),
                // The engine is unreachable, which says nothing about the container: it may still be running.
                Err(ExecutorError::Temporary(error)) => {
                    tracing::debug!(task = %workload.task, %error, "waiting for the engine");
                    tokio::time::sleep(RETRY).await;
                }
                Err(error @ ExecutorError::Fatal(_)) => return Err(error),
            }
        }
    }

    async fn shutdown(&self, workload: &Workload) -> Result<Option<ContainerStatus>, ExecutorError> {
        self.steps.cancel(workload.task);
        self.creations.wait_for(workload.task).await;
        let Some(observed) = self.inspect(workload).await? else { return Ok(None) };
        match observed.phase {
            Phase::Ended => Ok(Some(observed.status)),
            Phase::Created => {
                // A cancelled start may still be in progress inside the engine; a removed container cannot start.
                self.remove_container(&observed.status.container_id).await?;
                Ok(Some(observed.status))
            }
            Phase::Running | Phase::Starting | Phase::Unhealthy => {
                self.stop(workload, &observed.status.container_id).await?;
                Ok(self.inspect(workload).await?.map(|last| last.status))
            }
        }
    }

    async fn release(&self, task: TaskId) -> Result<(), ExecutorError> {
        self.secret_files.remove(task)
    }

    async fn remove(&self, task: TaskId) -> Result<(), ExecutorError> {
        self.steps.cancel(task);
        self.creations.wait_for(task).await;
        for (id, _) in self.labelled(vec![format!("{TASK_LABEL}={task}")]).await? {
            self.remove_container(&id).await?;
        }
        self.config_mounts.remove(task).await?;
        self.secret_files.remove(task)?;
        self.creations.forget(task);
        Ok(())
    }

    async fn inventory(&self, cluster: ClusterId, node: NodeId) -> Result<Vec<TaskId>, ExecutorError> {
        let labels = vec![format!("{CLUSTER_LABEL}={cluster}"), format!("{NODE_LABEL}={node}")];
        let mut tasks = self.config_mounts.tasks()?;
        tasks.extend(self.secret_files.tasks()?);
        for (id, labels) in self.labelled(labels).await? {
            match labels.get(TASK_LABEL).map(|text| text.parse()) {
                Some(Ok(task)) => tasks.push(task),
                Some(Err(_)) | None => tracing::warn!(container = id, "a container of this cluster has no task id"),
            }
        }
        tasks.sort_unstable();
        tasks.dedup();
        Ok(tasks)
    }

    async fn logs(&self, workload: &Workload, query: LogQuery) -> Result<TaskLogs, ExecutorError> {
        let container = self.container(workload).await?;
        let container = container.ok_or_else(|| ExecutorError::Fatal("its container is gone".to_owned()))?;
        let id = container.id.as_deref().unwrap_or(&workload.name);
        let pieces = self.engine.client()?.logs(id, Some(logs::options(query))).boxed();
        let details = logs::attributes(&container);
        Ok(TaskLogs { details, lines: logs::lines(Arc::clone(&self.engine), query, pieces) })
    }

    async fn usage(&self, workload: &Workload) -> Result<Option<TaskUsage>, ExecutorError> {
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true).build();
        let mut stats = self.engine.client()?.stats(&workload.name, Some(options)).boxed();
        match stats.next().await {
            Some(Ok(stats)) => Ok(usage::reading(workload.task, clock::now(), &stats)),
            Some(Err(error)) if status(&error) == Some(404) => Ok(None),
            Some(Err(error)) => Err(self.engine.judge(error)),
            None => Ok(None),
        }
    }

    async fn interact(&self, workload: &Workload, what: What, inputs: Inputs) -> Result<Outputs, ExecutorError> {
        match what {
            What::Exec(spec) => self.exec(workload, spec, inputs).await,
            What::Attach(spec) => self.attach(workload, spec, inputs).await,
            What::Copy(spec) => self.copy(workload, spec, inputs).await,
        }
    }
}

/// The engine answers 404 for a missing image, but also for other missing objects, which a pull does not provide.
fn is_missing_image(error: &Error) -> bool {
    let Error::DockerResponseServerError { status_code: 404, message } = error else { return false };
    message.to_lowercase().contains("no such image")
}

/// A container that ended before `start` returned. It did run, and `wait` reports how it ended, unless it had to become healthy
/// first: then it failed to start.
fn ended_at_start(observed: Observed) -> Result<ContainerStatus, ExecutorError> {
    let code = observed.status.exit_code.unwrap_or(UNKNOWN_EXIT_CODE);
    if observed.has_health_check && code != 0 {
        return Err(ExecutorError::Fatal(format!("the container ended with exit code {code} before it was healthy")));
    }
    Ok(observed.status)
}

/// The exit of a container that was removed from outside.
fn vanished(exit_code: Option<i32>) -> Exit {
    let container = ContainerStatus { exit_code: Some(exit_code.unwrap_or(UNKNOWN_EXIT_CODE)), ..Default::default() };
    Exit { container, reason: Some("the container was removed from outside".into()) }
}
