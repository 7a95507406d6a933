//! Drives one assigned task according to its state machine, until the task is forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use events::spec::template;
use events::{ClusterId, NodeId, Platform, SecretBytes, SecretText, TaskId, TaskStatus, Timestamp};
use futures_util::future::BoxFuture;
use reconcilers::worker::{Advance, Call, CallError, StepOutcome, Target, TaskMachine, Then};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wire::v1::{Assignment, SecretItem};

use super::Clock;
use super::executor::{Executor, ExecutorError, RegistryAuth, TemplateFiles, Workload};
use super::payloads;
use super::policy::{Policy, real_path};
use super::reporter::Outbox;
use super::store::{Record, Store, StoreError};

/// What a task needs of its node.
pub(super) struct AgentContext {
    pub(super) cluster: ClusterId,
    pub(super) node: NodeId,
    pub(super) hostname: String,
    pub(super) policy: Policy,
    pub(super) executor: Arc<dyn Executor>,
    pub(super) store: Store,
    pub(super) outbox: Outbox,
    pub(super) clock: Clock,
}

impl AgentContext {
    /// A task as the executor sees it.
    pub(super) fn workload(&self, assignment: &Assignment) -> Workload {
        workload(self, assignment)
    }
}

/// What the managers want for a task.
#[derive(Debug, Clone)]
pub(super) struct TaskOrder {
    pub(super) assignment: Arc<Assignment>,
    /// Once an assignment is withdrawn, it stays withdrawn.
    pub(super) withdrawn: bool,
}

impl TaskOrder {
    fn target(&self) -> Target {
        let (desired, known) = (self.assignment.desired(), self.assignment.state());
        Target { desired, known, withdrawn: self.withdrawn }
    }
}

/// Why a task is no longer driven.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TaskEnd {
    /// Every trace of it was removed.
    Forgotten,
    /// The agent stops; the container keeps running.
    Leftover,
}

/// Drives one task.
pub(super) struct TaskRunner {
    context: Arc<AgentContext>,
    machine: TaskMachine,
    orders: watch::Receiver<TaskOrder>,
    in_flight: Option<BoxFuture<'static, StepOutcome>>,
    /// The content of the store.
    noted: Option<(TaskOrder, TaskStatus)>,
    /// Whether the resources of the running task were released.
    released: bool,
}

impl TaskRunner {
    pub(super) fn new(context: Arc<AgentContext>, machine: TaskMachine, orders: watch::Receiver<TaskOrder>) -> Self {
        Self { context, machine, orders, in_flight: None, noted: None, released: false }
    }

    /// Drives the task until it is forgotten or the agent stops. A write in progress is completed.
    pub(super) async fn run(mut self, stopping: &CancellationToken) -> TaskEnd {
        loop {
            let order = self.orders.borrow_and_update().clone();
            let Some(wake_at) = self.act(order).await else { return TaskEnd::Forgotten };
            let now = (self.context.clock)();
            tokio::select! {
                outcome = result(&mut self.in_flight) => {
                    self.in_flight = None;
                    self.note_failure(&outcome);
                    self.machine.finished(outcome, (self.context.clock)());
                }
                ordered = self.orders.changed() => if ordered.is_err() { return TaskEnd::Leftover },
                () = wake_up(now, wake_at) => {}
                () = stopping.cancelled() => return TaskEnd::Leftover,
            }
        }
    }

    /// Performs the machine's next step. Returns its wake-up time, or `None` once the task is forgotten.
    async fn act(&mut self, order: TaskOrder) -> Option<Option<Timestamp>> {
        let task = order.assignment.task;
        let Advance { reports, call, then } = self.machine.advance(order.target(), (self.context.clock)());
        reports.into_iter().for_each(|status| self.context.outbox.put(task, status));
        self.release(task).await;
        let wake_at = match then {
            Then::Wait(wake_at) => wake_at,
            Then::Forget => {
                self.forget(&order).await;
                return None;
            }
        };
        if let Some(call) = call {
            // Replaces and so cancels the previous call: the executor never handles two calls of one task at once.
            tracing::debug!(%task, ?call, "a call of the executor");
            self.in_flight = Some(perform(Arc::clone(&self.context), call, workload(&self.context, &order.assignment)));
        }
        self.note(order).await;
        Some(wake_at)
    }

    /// Runs once the task has ended. Resources that cannot be released are retried at the next step, and finally removed with
    /// the task.
    async fn release(&mut self, task: TaskId) {
        if self.released || !self.machine.status().state().is_terminal() {
            return;
        }
        match self.context.executor.release(task).await {
            Ok(()) => self.released = true,
            Err(error) => tracing::warn!(%task, %error, "the resources of an ended task cannot be released"),
        }
    }

    /// Stores what changed. The chosen call starts only afterwards, since a future does nothing before it is awaited. If the
    /// state is lost anyway, the call is repeated, which is harmless.
    async fn note(&mut self, order: TaskOrder) {
        let status = self.machine.status();
        if self.noted.as_ref().is_some_and(|(known, noted)| same(known, &order) && *noted == status) {
            return;
        }
        if self.noted.as_ref().is_none_or(|(_, noted)| (noted.state(), &noted.error) != (status.state(), &status.error))
        {
            let (task, desired) = (order.assignment.task, order.assignment.desired());
            tracing::debug!(%task, state = ?status.state(), ?desired, error = status.error, "a task has changed state");
        }
        let (store, assignment) = (self.context.store.clone(), Assignment::clone(&order.assignment));
        let record = Record { assignment, status: status.clone(), withdrawn: order.withdrawn };
        // The task continues if this fails: the managers and the executor have the same information.
        if on_disk(order.assignment.task, move || store.save(&record)).await {
            self.noted = Some((order, status));
        }
    }

    async fn forget(&mut self, order: &TaskOrder) {
        let (store, task) = (self.context.store.clone(), order.assignment.task);
        self.context.outbox.forget(task);
        on_disk(task, move || store.remove(task)).await;
    }

    /// Logs a failure, at a higher level if no status will ever show it.
    fn note_failure(&self, outcome: &StepOutcome) {
        let StepOutcome::Failed(call, failure) = outcome else { return };
        let task = self.orders.borrow().assignment.task;
        let (error, passing) = match failure {
            CallError::Temporary(error) => (error, true),
            CallError::Fatal(error) => (error, false),
        };
        match call {
            Call::Shutdown | Call::Remove | Call::Wait => {
                tracing::warn!(%task, ?call, passing, error, "the executor failed");
            }
            Call::Prepare | Call::Start => {
                tracing::debug!(%task, ?call, passing, error, "the executor failed");
            }
        }
    }
}

fn same(one: &TaskOrder, other: &TaskOrder) -> bool {
    one.withdrawn == other.withdrawn && Arc::ptr_eq(&one.assignment, &other.assignment)
}

/// Runs a disk operation where it blocks no other task. Returns whether it succeeded.
async fn on_disk(task: TaskId, work: impl FnOnce() -> Result<(), StoreError> + Send + 'static) -> bool {
    let error = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::error!(%task, error, "the task's state cannot be kept on the disk");
    false
}

/// The result of the call in progress; pending if there is none.
async fn result(in_flight: &mut Option<BoxFuture<'static, StepOutcome>>) -> StepOutcome {
    match in_flight {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

async fn wake_up(now: Timestamp, at: Option<Timestamp>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(now)).await,
        None => std::future::pending().await,
    }
}

fn perform(context: Arc<AgentContext>, call: Call, workload: Workload) -> BoxFuture<'static, StepOutcome> {
    Box::pin(async move {
        let result = attempt(context.executor.as_ref(), &context.policy, call, workload).await;
        result.unwrap_or_else(|error| StepOutcome::Failed(call, error.into()))
    })
}

async fn attempt(
    executor: &dyn Executor,
    policy: &Policy,
    call: Call,
    workload: Workload,
) -> Result<StepOutcome, ExecutorError> {
    Ok(match call {
        Call::Prepare => {
            if let Some(name) = workload.missing_config() {
                return Err(ExecutorError::Temporary(format!(
                    "config {name} has not been received from a manager yet"
                )));
            }
            let workload = allowed(policy, expanded(executor, workload, payloads::expanded).await?)?;
            StepOutcome::Prepared(executor.prepare(&workload).await?)
        }
        Call::Start => {
            let workload = allowed(policy, expanded(executor, workload, payloads::expanded).await?)?;
            StepOutcome::Started(executor.start(&workload).await?)
        }
        Call::Wait => {
            // The task is already running: if its template can no longer be expanded, it must still be watched.
            let workload = expanded(executor, workload.clone(), |workload, _| Ok(workload)).await.unwrap_or(workload);
            let exit = executor.wait(&workload).await?;
            StepOutcome::Ended { container: exit.container, reason: exit.reason }
        }
        Call::Shutdown => StepOutcome::Stopped(executor.shutdown(&workload).await?),
        Call::Remove => {
            executor.remove(workload.task).await?;
            StepOutcome::Removed
        }
    })
}

/// The workload with its resolved mounts and devices, if the policy allows it and nothing is missing.
fn allowed(policy: &Policy, workload: Workload) -> Result<Workload, ExecutorError> {
    if let Some(name) = workload.missing_secret() {
        let why = format!("the secret variable {name} has no value: give it again with --env-secret");
        return Err(ExecutorError::Fatal(why));
    }
    let grant = policy.judge(workload.container(), real_path).map_err(ExecutorError::Fatal)?;
    Ok(workload.with_mounts(grant.mounts).with_devices(grant.devices))
}

/// The workload as this node runs it, with its files expanded by `files`. Stopping and removing a task needs no templates, and
/// must not fail because of one.
async fn expanded(
    executor: &dyn Executor,
    workload: Workload,
    files: impl FnOnce(Workload, &Platform) -> Result<Workload, ExecutorError>,
) -> Result<Workload, ExecutorError> {
    if !template::has_templates(workload.container()) && workload.templates.is_empty() {
        return Ok(workload);
    }
    let described = executor.describe().await.map_err(|error| ExecutorError::Temporary(error.to_string()))?;
    let platform = described.platform.unwrap_or_default();
    let workload = workload.expanded(&platform).map_err(|error| ExecutorError::Fatal(error.to_string()))?;
    files(workload, &platform)
}

impl From<ExecutorError> for CallError {
    fn from(error: ExecutorError) -> Self {
        match error {
            ExecutorError::Temporary(error) => Self::Temporary(error),
            ExecutorError::Fatal(error) => Self::Fatal(error),
        }
    }
}

/// The task as the executor sees it.
fn workload(context: &AgentContext, assignment: &Assignment) -> Workload {
    let spec = Arc::new(assignment.spec.clone());
    let auth = assignment.registry_auth.as_ref().and_then(|auth| String::from_utf8(auth.value.clone()).ok());
    let place = if spec.is_global() { context.node.to_string() } else { assignment.slot.to_string() };
    Workload {
        cluster: context.cluster,
        node: context.node,
        node_hostname: context.hostname.clone(),
        task: assignment.task,
        name: format!("{}.{place}.{}", spec.name(), assignment.task),
        slot: assignment.slot,
        service: assignment.service,
        spec,
        claims: assignment.claims.clone(),
        registry_auth: auth.map(RegistryAuth),
        env_secrets: assignment.env_secrets.iter().map(|of| (of.name.clone(), SecretText(of.value.clone()))).collect(),
        configs: assignment.configs.iter().map(|item| (item.key.into(), item.data.clone())).collect(),
        secrets: assignment.secrets.iter().map(secret).collect(),
        templates: templates(assignment),
        secret_configs: BTreeMap::new(),
    }
}

fn templates(assignment: &Assignment) -> TemplateFiles {
    let configs = assignment.configs.iter().filter(|item| item.template).map(|item| item.key.into());
    let secrets = assignment.secrets.iter().filter(|item| item.template).map(|item| item.key.clone());
    TemplateFiles { configs: configs.collect(), secrets: secrets.collect() }
}

fn secret(item: &SecretItem) -> (String, SecretBytes) {
    (item.key.clone(), SecretBytes(item.value.value.clone()))
}
