//! Container events: one stream of engine events for all tasks of this executor.
//!
//! An event is only a hint to inspect: a waiter inspects its container and judges by the result, so a lost, repeated or
//! reordered event is harmless. All waiters also inspect after a reconnection. The only data taken from an event is the exit
//! code, for a container that no longer exists at the inspection.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use events::TaskId;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::config::TASK_LABEL;
use super::engine::Engine;
use crate::agent::executor::ExecutorError;

/// Delays between reconnection attempts: the first, and the maximum.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The engine drops events for a reader that is slow for 100 ms, so a waiter also inspects periodically.
const RESYNC: Duration = Duration::from_secs(60);

/// Notifies those who wait for containers.
pub(super) struct EventNotifier {
    shared: Arc<Shared>,
    listener: OnceLock<AbortOnDropHandle<()>>,
}

struct Shared {
    engine: Arc<Engine>,
    waiting: Mutex<BTreeMap<TaskId, watch::Sender<Latest>>>,
}

/// The latest events of a task's container.
#[derive(Debug, Default, Clone, Copy)]
struct Latest {
    exit_code: Option<i32>,
}

/// The notifications for one task.
pub(super) struct Subscription {
    task: TaskId,
    shared: Arc<Shared>,
    latest: watch::Receiver<Latest>,
}

impl EventNotifier {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        let shared = Shared { engine, waiting: Mutex::default() };
        Self { shared: Arc::new(shared), listener: OnceLock::new() }
    }

    /// Subscribes to events of a task. Subscribe before inspecting, so that no event is missed in between.
    pub(super) fn subscribe(&self, task: TaskId) -> Subscription {
        let latest = self.shared.lock().entry(task).or_default().subscribe();
        self.listener.get_or_init(|| AbortOnDropHandle::new(tokio::spawn(listen(self.shared.clone()))));
        Subscription { task, shared: self.shared.clone(), latest }
    }
}

impl Subscription {
    /// Returns when the container should be inspected again.
    pub(super) async fn next(&mut self) {
        // Both outcomes are fine: the sender lives as long as its subscriptions, and a timeout is a reason to inspect.
        let _ = tokio::time::timeout(RESYNC, self.latest.changed()).await;
    }

    /// The exit code that the stream reported, if any.
    pub(super) fn exit_code(&self) -> Option<i32> {
        self.latest.borrow().exit_code
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut waiting = self.shared.lock();
        // One receiver is this subscription's own, which is dropped after this.
        if waiting.get(&self.task).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.task);
        }
    }
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned one still guards valid data.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, watch::Sender<Latest>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self, event: &EventMessage) {
        let Some(attributes) = event.actor.as_ref().and_then(|actor| actor.attributes.as_ref()) else { return };
        let Some(task) = attributes.get(TASK_LABEL).and_then(|text| text.parse().ok()) else { return };
        let exit_code = attributes.get("exitCode").and_then(|text| text.parse().ok());
        if let Some(sender) = self.lock().get(&task) {
            sender.send_modify(|latest| latest.exit_code = exit_code.or(latest.exit_code));
        }
    }

    fn notify_all(&self) {
        self.lock().values().for_each(|sender| sender.send_modify(|_| ()));
    }
}

/// Follows the stream forever, across engine restarts.
async fn listen(shared: Arc<Shared>) {
    let mut pause = RECONNECT.0;
    loop {
        match follow(&shared, &mut pause).await {
            Ok(()) => tracing::debug!("the engine closed its event stream"),
            Err(error) => tracing::debug!(%error, "the engine's event stream is down"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

/// Follows one connection. Events from before the engine process started are covered by inspections, so all waiters are
/// notified; later events are replayed from the engine's buffer (`since=0`). Together they leave no gap.
async fn follow(shared: &Shared, pause: &mut Duration) -> Result<(), ExecutorError> {
    let docker = shared.engine.client()?;
    docker.ping().await.map_err(|error| shared.engine.judge(error))?;
    *pause = RECONNECT.0;
    shared.notify_all();
    let filters = HashMap::from([
        ("type", vec!["container"]),
        ("label", vec![TASK_LABEL]),
        ("event", vec!["die", "destroy", "health_status"]),
    ]);
    let mut events = docker.events(Some(EventsOptionsBuilder::new().since("0").filters(&filters).build()));
    while let Some(event) = events.next().await {
        shared.notify(&event.map_err(|error| shared.engine.judge(error))?);
    }
    Ok(())
}
