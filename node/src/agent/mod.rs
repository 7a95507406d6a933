//! The agent, the worker part of a node: it keeps a session with the managers and runs the tasks assigned to it.
//!
//! Decisions are made elsewhere: `reconcilers::worker` returns the next step of a task, and an [`executor::Executor`] performs
//! it. This module connects them: `task` drives one task, `worker` owns all of them, `session` receives assignments, `reporter`
//! sends reports and `store` persists. The managers may be unreachable for any time: running tasks continue, but a task that
//! ended is not restarted, because only the managers decide that.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use events::{ClusterId, GenericResource, NodeId, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::daemon::failure::Failure;
use crate::metrics::Measures;
use crate::security::KeyLock;

mod details;
pub mod docker;
pub mod executor;
pub mod items;
mod lines;
mod payloads;
mod placed_file;
pub mod policy;
pub mod process;
pub mod secret_files;

pub mod assigned;
pub(crate) mod backoff;
mod cluster_info;
mod conversation;
mod managers;
pub mod meter;
mod outage;
pub mod protocol;
mod reporter;
mod session;
mod signal;
mod steps;
mod store;
mod streams;
mod task;
mod worker;

pub use backoff::Backoff;
pub use cluster_info::ClusterInfo;
pub(crate) use session::with_causes;
pub use session::{Connect, ConnectError};
pub use store::StoreError;

/// Reads the time; the daemon passes the real clock, a test its own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Delay before the data key is wrapped again after a failure: the disk may be full.
const REWRAP_PAUSE: Duration = Duration::from_secs(10);
/// The directory of the agent's files in a state directory.
const STORE_DIR: &str = "worker";

/// The number of unfinished tasks in the agent's store: the executor may be running them. Read-only, because the start may
/// still be refused.
///
/// # Errors
/// When the agent's files cannot be read.
pub fn unfinished_tasks(state_dir: &Path, lock: &KeyLock) -> Result<usize, StoreError> {
    let found = store::examine(&state_dir.join(STORE_DIR), lock)?;
    Ok(found.records.iter().filter(|record| !record.status.state().is_terminal()).count())
}

/// The managers in the agent's store. Read-only.
///
/// # Errors
/// When the agent's files cannot be read.
pub(crate) fn known_managers(state_dir: &Path, lock: &KeyLock) -> Result<Vec<String>, StoreError> {
    Ok(store::examine(&state_dir.join(STORE_DIR), lock)?.managers)
}

/// Creates the agent's store in a state directory, with one task in each of these states.
#[cfg(test)]
pub(crate) fn store_tasks(state_dir: &Path, states: &[events::TaskState]) {
    use events::{Id, TaskId, TaskStatus};
    let (store, _) = store::Store::open(&state_dir.join(STORE_DIR), &KeyLock::default()).expect("a store");
    for (task, state) in (1..).zip(states) {
        let assignment = wire::v1::Assignment { task: TaskId::from_bits(task), ..Default::default() };
        let status = TaskStatus { state: (*state).into(), ..TaskStatus::default() };
        store.save(&store::Record { assignment, status, withdrawn: false }).expect("saved");
    }
}

/// Refuses to start if the agent's files cannot be used, before anything is changed.
///
/// # Errors
/// When they cannot be used.
pub(crate) fn require_usable_store(state_dir: &Path, lock: &KeyLock) -> Result<(), Failure> {
    store::examine(&state_dir.join(STORE_DIR), lock).map(drop).map_err(unusable_store)
}

/// The startup failure for unusable agent files.
pub(crate) fn unusable_store(error: StoreError) -> Failure {
    Failure::new(error, "check the owner, mode and disk of the state directory, and that swarmd alone changes it")
}

/// The configuration of an agent.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster that the node belongs to, from its certificate.
    pub cluster: ClusterId,
    /// The node, from its certificate.
    pub node: NodeId,
    /// The node's name.
    pub hostname: String,
    /// The address of this node's own API; `None`: the address that the managers see.
    pub advertise_addr: Option<String>,
    /// Initial addresses of managers; each session brings the current ones. At least one.
    pub managers: Vec<String>,
    /// The daemon's state directory; the agent's files are in `worker` below it.
    pub state_dir: PathBuf,
    /// The generic resources that the operator configured, beyond CPU and memory.
    pub generic_resources: Vec<GenericResource>,
    /// What tasks may use of this machine.
    pub policy: policy::Policy,
    /// Receives what sessions report about managers and about the role of this node.
    pub cluster_info: Arc<ClusterInfo>,
    /// Receives whether there is a session.
    pub measures: Arc<Measures>,
    /// What the keys of the node are wrapped with.
    pub lock: Arc<KeyLock>,
}

/// A node's agent.
pub struct Agent {
    /// Its configuration.
    pub config: Config,
    /// Runs its containers.
    pub executor: Arc<dyn executor::Executor>,
    /// Connects to managers.
    pub connector: Arc<dyn Connect>,
    /// Its clock.
    pub clock: Clock,
}

/// An agent whose files are open.
pub struct OpenAgent {
    agent: Agent,
    store: store::Store,
    found: store::Found,
}

impl Agent {
    /// Opens the agent's files, the only step that can fail.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(self) -> Result<OpenAgent, StoreError> {
        let (store, found) = store::Store::open(&self.config.state_dir.join(STORE_DIR), &self.config.lock)?;
        Ok(OpenAgent { agent: self, store, found })
    }

    /// Opens the files, then runs until `shutdown`.
    ///
    /// # Errors
    /// When the agent's files cannot be used.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StoreError> {
        self.open()?.run(shutdown).await;
        Ok(())
    }
}

impl OpenAgent {
    /// Runs until `shutdown`, and leaves the containers running. No manager or engine failure ends it.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { agent: Agent { config, executor, connector, clock }, store, found } = self;
        for damage in found.damage {
            tracing::error!("{damage}");
        }
        tokio::spawn(keep_wrapped(store.clone(), Arc::clone(&config.lock), shutdown.clone()));
        let context = Arc::new(task::AgentContext {
            cluster: config.cluster,
            node: config.node,
            hostname: config.hostname.clone(),
            policy: config.policy.clone(),
            executor,
            store,
            outbox: reporter::Outbox::default(),
            clock,
        });
        let worker = worker::Worker::resume(Arc::clone(&context), found.records);
        let streams = streams::Streams::new(Arc::clone(&connector), Arc::clone(&worker), shutdown.clone());
        let parts = session::Parts { context: &context, worker: &worker, streams: &streams };
        tokio::select! {
            never = session::keep_session(&config, connector.as_ref(), parts, found.head, found.managers) => match never {},
            () = shutdown.cancelled() => {}
        }
        worker.stop().await;
    }
}

/// Keeps the agent's data key wrapped with the current unlock key, until `shutdown`.
async fn keep_wrapped(store: store::Store, lock: Arc<KeyLock>, shutdown: CancellationToken) {
    let mut wanted = lock.follow();
    let mut before = store.wrapped_with(&lock);
    loop {
        let after = wanted.borrow_and_update().clone();
        if after != before {
            let (store, from, to) = (store.clone(), before.clone(), after.clone());
            match tokio::task::spawn_blocking(move || store.rewrap(from.as_ref(), to.as_ref())).await {
                Ok(Ok(())) => before = after,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the agent's data key cannot be wrapped; trying again");
                    tokio::time::sleep(REWRAP_PAUSE).await;
                    continue;
                }
                Err(error) => return tracing::error!(%error, "wrapping the agent's data key panicked"),
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests;
