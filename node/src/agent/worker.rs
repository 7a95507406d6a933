//! All tasks of this node: sends each its orders, and removes orphaned containers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use events::TaskId;
use futures_util::stream::{self, StreamExt};
use reconcilers::worker::TaskMachine;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::v1::{Assignment, AssignmentSet, InteractOrder, TaskUsage};

use super::assigned::{Changes, changes};
use super::backoff;
use super::executor::{ExecutorError, Inputs, LogQuery, Outputs, TaskLogs};
use super::items::{Assigned, Items, SpecMissing};
use super::store::Record;
use super::task::{AgentContext, TaskEnd, TaskOrder, TaskRunner};

/// Delay before a failed sweep is repeated; doubled each time.
const SWEEP_PAUSE_FIRST: Duration = Duration::from_secs(1);
/// Maximum delay.
const SWEEP_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Tasks whose usage is read concurrently: the engine takes some milliseconds for each.
const READINGS_AT_A_TIME: usize = 16;
/// Deadline for one reading.
const READING_MAX: Duration = Duration::from_secs(10);

/// The tasks of one node.
pub(super) struct Worker {
    context: Arc<AgentContext>,
    tasks: Mutex<BTreeMap<TaskId, watch::Sender<TaskOrder>>>,
    /// The items that the managers sent; a complete set replaces them.
    items: Mutex<Items>,
    /// Held while configs are written to disk.
    writing_configs: Mutex<()>,
    swept: AtomicBool,
    running: TaskTracker,
    stopping: CancellationToken,
}

impl Worker {
    /// Creates a worker that resumes the stored tasks.
    pub(super) fn resume(context: Arc<AgentContext>, records: Vec<Record>) -> Arc<Self> {
        let worker = Arc::new(Self {
            context,
            tasks: Mutex::default(),
            items: Mutex::default(),
            writing_configs: Mutex::default(),
            swept: AtomicBool::new(false),
            running: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        let mut tasks = worker.lock();
        for Record { assignment, status, withdrawn } in records {
            let machine = TaskMachine::resumed(assignment.desired(), status);
            worker.drive(&mut tasks, TaskOrder { assignment: Arc::new(assignment), withdrawn }, machine);
        }
        drop(tasks);
        worker
    }

    /// Applies assignments. The first complete set also triggers the sweep of orphaned containers.
    ///
    /// # Errors
    /// When a task was sent without its spec.
    pub(super) fn assign(self: &Arc<Self>, set: AssignmentSet) -> Result<(), SpecMissing> {
        let concerns_configs = set.complete || !set.configs.is_empty() || !set.dropped_configs.is_empty();
        let assigned = self.items().take(set)?;
        self.apply(assigned);
        if concerns_configs {
            self.keep_configs();
        }
        Ok(())
    }

    /// Updates the stored configs to those that the managers sent. Tasks do not wait for this: a restarted agent without a
    /// config receives it again.
    fn keep_configs(self: &Arc<Self>) {
        let worker = Arc::clone(self);
        self.running.spawn_blocking(move || {
            let _one_at_a_time = worker.writing_configs.lock().unwrap_or_else(PoisonError::into_inner);
            // Read only now, so that the last writer writes the latest configs.
            let configs = worker.items().configs();
            if let Err(error) = worker.context.store.keep_configs(&configs) {
                tracing::error!(%error, "the configs of tasks cannot be kept for a restart");
            }
        });
    }

    /// No code panics while it holds the lock, so a poisoned one still guards valid data.
    fn items(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(self: &Arc<Self>, set: Assigned) {
        let mut tasks = self.lock();
        let complete = set.complete;
        let Changes { withdrawn, updated, added } = changes(&tasks, set);
        for task in withdrawn {
            if let Some(orders) = tasks.get(&task) {
                orders.send_modify(|order| order.withdrawn = true);
                self.context.outbox.forget(task);
            }
        }
        for assignment in updated {
            if let Some(orders) = tasks.get(&assignment.task) {
                orders.send_if_modified(|order| replace(order, assignment));
            }
        }
        for assignment in added {
            let machine = TaskMachine::assigned(assignment.desired(), assignment.state(), (self.context.clock)());
            self.drive(&mut tasks, TaskOrder { assignment: Arc::new(assignment), withdrawn: false }, machine);
        }
        drop(tasks);
        if complete && !self.swept.swap(true, Ordering::Relaxed) {
            self.running.spawn(Arc::clone(self).sweep_until_stopped());
        }
    }

    /// Stops and removes everything: the cluster has reassigned this node's tasks.
    pub(super) fn withdraw_all(self: &Arc<Self>) {
        let nothing = self.items().clear();
        self.apply(nothing);
        self.keep_configs();
    }

    /// The log of a task of this node.
    ///
    /// # Errors
    /// A message that says why it cannot be read.
    pub(super) async fn logs(&self, task: TaskId, query: LogQuery) -> Result<TaskLogs, String> {
        let order = self.lock().get(&task).map(|orders| orders.borrow().clone());
        let order = order.ok_or_else(|| "its node no longer has it".to_owned())?;
        let workload = self.context.workload(&order.assignment);
        self.context.executor.logs(&workload, query).await.map_err(|error| error.to_string())
    }

    /// The resource usage of a task of this node; `None` if it is not running here.
    ///
    /// # Errors
    /// A message that says why it cannot be read.
    pub(super) async fn usage(&self, task: TaskId) -> Result<Option<TaskUsage>, String> {
        let order = self.lock().get(&task).map(|orders| orders.borrow().clone());
        let Some(order) = order else { return Ok(None) };
        let workload = self.context.workload(&order.assignment);
        self.context.executor.usage(&workload).await.map_err(|error| error.to_string())
    }

    /// Executes a command in a running task of this node, or attaches to it.
    ///
    /// # Errors
    /// A message that says why that is not possible.
    pub(super) async fn interact(&self, order: InteractOrder, inputs: Inputs) -> Result<Outputs, String> {
        self.context.policy.judge_interaction()?;
        let what = order.what.ok_or_else(|| "its agent does not support this request".to_owned())?;
        let order = self.lock().get(&order.task).map(|orders| orders.borrow().clone());
        let order = order.ok_or_else(|| "it no longer has the task".to_owned())?;
        let workload = self.context.workload(&order.assignment);
        self.context.executor.interact(&workload, what, inputs).await.map_err(|error| error.to_string())
    }

    /// The usage of those of these tasks that run here and can be read now.
    pub(super) async fn readings(&self, tasks: Vec<TaskId>) -> Vec<TaskUsage> {
        let read = |task: TaskId| async move {
            let reading = tokio::time::timeout(READING_MAX, self.usage(task)).await;
            match reading {
                Ok(Ok(reading)) => reading,
                Ok(Err(why)) => {
                    tracing::debug!(%task, why, "what a task uses cannot be read");
                    None
                }
                Err(_) => {
                    tracing::debug!(%task, "what a task uses cannot be read in time");
                    None
                }
            }
        };
        let mut readings = stream::iter(tasks.into_iter().map(read)).buffer_unordered(READINGS_AT_A_TIME);
        let mut all = Vec::new();
        while let Some(reading) = readings.next().await {
            all.extend(reading);
        }
        all
    }

    /// Stops driving the tasks. Containers keep running.
    pub(super) async fn stop(&self) {
        self.stopping.cancel();
        self.running.close();
        self.running.wait().await;
    }

    fn drive(
        self: &Arc<Self>,
        tasks: &mut BTreeMap<TaskId, watch::Sender<TaskOrder>>,
        order: TaskOrder,
        machine: TaskMachine,
    ) {
        let task = order.assignment.task;
        let (orders, received) = watch::channel(order);
        tasks.insert(task, orders);
        let (worker, runner) = (Arc::clone(self), TaskRunner::new(Arc::clone(&self.context), machine, received));
        self.running.spawn(async move {
            match runner.run(&worker.stopping).await {
                TaskEnd::Forgotten => drop(worker.lock().remove(&task)),
                TaskEnd::Leftover => {}
            }
        });
    }

    async fn sweep_until_stopped(self: Arc<Self>) {
        tokio::select! {
            () = self.sweep() => {}
            () = self.stopping.cancelled() => {}
        }
    }

    /// Removes containers without an assignment, such as those of tasks that were removed while this node was disconnected.
    async fn sweep(&self) {
        let mut pause = SWEEP_PAUSE_FIRST;
        while let Err(error) = self.sweep_once().await {
            tracing::warn!(%error, pause_ms = backoff::ms(pause), "cannot remove stray containers, trying again");
            tokio::time::sleep(pause).await;
            pause = SWEEP_PAUSE_MAX.min(pause * 2);
        }
    }

    async fn sweep_once(&self) -> Result<(), ExecutorError> {
        for task in self.context.executor.inventory(self.context.cluster, self.context.node).await? {
            // Checked again for each, because assignments may arrive in the meantime.
            if self.lock().contains_key(&task) {
                continue;
            }
            tracing::info!(%task, "removing a container that belongs to no assignment");
            self.context.executor.remove(task).await?;
        }
        Ok(())
    }

    /// No code panics while it holds the lock, so a poisoned one still guards valid data.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, watch::Sender<TaskOrder>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces the assignment of an order. Returns whether it changed.
fn replace(order: &mut TaskOrder, assignment: Assignment) -> bool {
    let news = *order.assignment != assignment;
    if news {
        order.assignment = Arc::new(assignment);
    }
    news
}
