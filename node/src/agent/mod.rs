//! The worker's half of a node: it keeps a session with the managers and runs the tasks that it is given.
//!
//! What to do is decided elsewhere: `reconcilers::worker` says the next step of a task, an [`executor::Executor`] makes
//! it so. Here is what connects them: `task` moves one task along, `worker` keeps all of them, `session` brings
//! assignments, `reporter` takes reports away and `store` remembers. The managers may be gone for any time: tasks
//! go on, but nothing that ended is started again, since that is for the managers to decide.

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
mod told;
mod worker;

pub use backoff::Backoff;
pub(crate) use session::with_causes;
pub use session::{Connect, ConnectError};
pub use store::StoreError;
pub use told::Told;

/// Reads the time; the shell gives the real clock, a test its own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The pause after the data key could not be wrapped: the disk may be full.
const REWRAP_PAUSE: Duration = Duration::from_secs(10);
/// The directory of the agent's files in a state directory.
const MEMORY: &str = "worker";

/// How many tasks the agent of a state directory knows that are not over: the executor may run them. Changes nothing: whether
/// the start goes on is not known yet.
///
/// # Errors
/// When the agent's files cannot be used.
pub fn tasks_not_over(state_dir: &Path, lock: &KeyLock) -> Result<usize, StoreError> {
    let found = store::examine(&state_dir.join(MEMORY), lock)?;
    Ok(found.records.iter().filter(|record| !record.status.state().is_terminal()).count())
}

/// The managers that the agent of a state directory remembers. Changes nothing.
///
/// # Errors
/// When the agent's files cannot be used.
pub(crate) fn known_managers(state_dir: &Path, lock: &KeyLock) -> Result<Vec<String>, StoreError> {
    Ok(store::examine(&state_dir.join(MEMORY), lock)?.managers)
}

/// Makes the agent's files of a state directory, with a task that is as far as each of these.
#[cfg(test)]
pub(crate) fn keep_tasks(state_dir: &Path, states: &[events::TaskState]) {
    use events::{Id, TaskId, TaskStatus};
    let (store, _) = store::Store::open(&state_dir.join(MEMORY), &KeyLock::default()).expect("a store");
    for (task, state) in (1..).zip(states) {
        let assignment = wire::v1::Assignment { task: TaskId::from_bits(task), ..Default::default() };
        let status = TaskStatus { state: (*state).into(), ..TaskStatus::default() };
        store.save(&store::Record { assignment, status, withdrawn: false }).expect("saved");
    }
}

/// Refuses a start whose agent's files cannot be used, before anything is changed.
///
/// # Errors
/// When they cannot be used.
pub(crate) fn require_usable_memory(state_dir: &Path, lock: &KeyLock) -> Result<(), Failure> {
    store::examine(&state_dir.join(MEMORY), lock).map(drop).map_err(unusable_memory)
}

/// The failure of a start whose agent's files cannot be used.
pub(crate) fn unusable_memory(error: StoreError) -> Failure {
    Failure::new(error, "check the owner, mode and disk of the state directory, and that swarmd alone changes it")
}

/// What an agent has to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// The cluster that the node belongs to, from its certificate.
    pub cluster: ClusterId,
    /// The node, from its certificate.
    pub node: NodeId,
    /// The node's name.
    pub hostname: String,
    /// Where this node's own API can be reached; `None`: where the managers see it.
    pub advertise_addr: Option<String>,
    /// Addresses of managers to begin with; each session brings the current ones. At least one.
    pub managers: Vec<String>,
    /// The daemon's state directory; the agent's files are in `worker` below it.
    pub state_dir: PathBuf,
    /// What the operator says the node offers beyond CPU and memory.
    pub generic_resources: Vec<GenericResource>,
    /// What tasks may have of this machine.
    pub policy: policy::Policy,
    /// Where it notes what its sessions tell it of managers and of its own role.
    pub told: Arc<Told>,
    /// Where it notes whether it has a session.
    pub measures: Arc<Measures>,
    /// What the keys of the node are wrapped with.
    pub lock: Arc<KeyLock>,
}

/// A node's agent.
pub struct Agent {
    /// What it has to know.
    pub config: Config,
    /// What runs its containers.
    pub executor: Arc<dyn executor::Executor>,
    /// How it reaches managers.
    pub connector: Arc<dyn Connect>,
    /// Its time.
    pub clock: Clock,
}

/// An agent whose files are open.
pub struct OpenAgent {
    agent: Agent,
    store: store::Store,
    found: store::Found,
}

impl Agent {
    /// Opens the agent's files, which is all of it that can fail.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(self) -> Result<OpenAgent, StoreError> {
        let (store, found) = store::Store::open(&self.config.state_dir.join(MEMORY), &self.config.lock)?;
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
    /// Runs until `shutdown`, and leaves the containers running then. Nothing that a manager or an engine does ends it.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { agent: Agent { config, executor, connector, clock }, store, found } = self;
        for damage in found.damage {
            tracing::error!("{damage}");
        }
        tokio::spawn(keep_wrapped(store.clone(), Arc::clone(&config.lock), shutdown.clone()));
        let site = Arc::new(task::AgentContext {
            cluster: config.cluster,
            node: config.node,
            hostname: config.hostname.clone(),
            policy: config.policy.clone(),
            executor,
            store,
            outbox: reporter::Outbox::default(),
            clock,
        });
        let worker = worker::Worker::resume(Arc::clone(&site), found.records);
        let streams = streams::Streams::new(Arc::clone(&connector), Arc::clone(&worker), shutdown.clone());
        let parts = session::Parts { site: &site, worker: &worker, streams: &streams };
        tokio::select! {
            never = session::hold(&config, connector.as_ref(), parts, found.head, found.managers) => match never {},
            () = shutdown.cancelled() => {}
        }
        worker.stop().await;
    }
}

/// Keeps the agent's data key wrapped with the unlock key of the moment, until `shutdown`.
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
