//! Queues status reports to the managers: tasks add them at any time, and they are sent in batches during a session.

use std::sync::{Mutex, MutexGuard, PoisonError};

use events::{TaskId, TaskStatus};
use reconcilers::worker::Reports;
use tokio::sync::Notify;

/// The pending reports.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    reports: Mutex<Reports>,
    changed: Notify,
}

impl Outbox {
    /// Queues the status of a task.
    pub(super) fn put(&self, task: TaskId, status: TaskStatus) {
        self.lock().put(task, status);
        self.changed.notify_one();
    }

    /// Drops the reports of a task.
    pub(super) fn forget(&self, task: TaskId) {
        self.lock().forget(task);
    }

    /// A session has received all assignments: from now on reports are sent, and every status once again.
    pub(super) fn open(&self) {
        self.lock().open();
        self.changed.notify_one();
    }

    /// Returns when there may be new reports to send.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reads or changes the reports.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Reports) -> T) -> T {
        look(&mut self.lock())
    }

    /// No code panics while it holds the lock, so a poisoned one still guards valid data.
    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
