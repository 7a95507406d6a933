//! Containers that the engine is making. The engine finishes what it was asked for even if nobody waits for the answer any
//! more, so a creation is never broken off, and a task is not gone before its last one is through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use events::TaskId;
use tokio::task::JoinError;

/// The creations under way, by task: whoever holds a task's lock makes its container.
#[derive(Default)]
pub(super) struct Creations {
    under_way: Mutex<BTreeMap<TaskId, Arc<tokio::sync::Mutex<()>>>>,
}

impl Creations {
    /// Makes a task's container. It is made to the end also if this future is dropped.
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

    /// Waits until nothing is being made for a task.
    pub(super) async fn are_through(&self, task: TaskId) {
        let lock = self.lock().get(&task).cloned();
        if let Some(lock) = lock {
            drop(lock.lock().await);
        }
    }

    /// Forgets a task for which nothing will be made any more.
    pub(super) fn forget(&self, task: TaskId) {
        self.lock().remove(&task);
    }

    /// No code panics while it holds the lock, so a poisoned one still holds whole data.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Arc<tokio::sync::Mutex<()>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
