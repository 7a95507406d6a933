//! Containers that are being created. The engine completes a creation even if the client disconnects, so a creation is never
//! cancelled, and a task counts as removed only after its last one has completed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::TaskId;
use tokio::task::JoinError;

/// The creations in progress, by task; the lock of a task is held while its container is created.
#[derive(Default)]
pub(super) struct Creations {
    in_progress: Mutex<BTreeMap<TaskId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Creations {
    /// Creates a task's container. The creation completes even if this future is dropped.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        task: TaskId,
        creation: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        let lock = Arc::clone(self.lock().entry(task).or_default());
        let making = lock.lock_owned().await;
        tokio::spawn(async move {
            let made = creation.await;
            drop(making);
            made
        })
        .await
    }

    /// Waits until no creation is in progress for a task.
    pub(super) async fn wait_for(&self, task: TaskId) {
        let lock = self.lock().get(&task).cloned();
        if let Some(lock) = lock {
            drop(lock.lock().await);
        }
    }

    /// Removes a task for which no more containers will be created.
    pub(super) fn forget(&self, task: TaskId) {
        self.lock().remove(&task);
    }

    /// No code panics while it holds the lock, so a poisoned one still guards valid data.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Arc<tokio::sync::Mutex<()>>>> {
        self.in_progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
