//! Reports on their way to the managers: put in by the tasks at any time, sent in batches while a session lasts.

use std::sync::{Mutex, MutexGuard, PoisonError};

use events::{TaskId, TaskStatus};
use reconcilers::worker::Reports;
use tokio::sync::Notify;

/// What waits to be reported.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    reports: Mutex<Reports>,
    changed: Notify,
}

impl Outbox {
    /// Notes how a task is.
    pub(super) fn put(&self, task: TaskId, status: TaskStatus) {
        self.lock().put(task, status);
        self.changed.notify_one();
    }

    /// Drops what is known of a task.
    pub(super) fn forget(&self, task: TaskId) {
        self.lock().forget(task);
    }

    /// A session knows all assignments: from now on reports are sent, and everything once again.
    pub(super) fn open(&self) {
        self.lock().open();
        self.changed.notify_one();
    }

    /// Ends when there may be something new to send.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Looks at the reports, or changes them.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Reports) -> T) -> T {
        look(&mut self.lock())
    }

    /// No code panics while it holds the lock, so a poisoned one still holds whole data.
    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
