//! Reports on their way to the managers: put in by the tasks at any time, sent in batches while a session lasts.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};

use events::{SessionId, TaskId, TaskStatus};
use reconcilers::worker::{Batch, Reports};
use tokio::sync::Notify;
use tonic::transport::Channel;
use wire::v1::dispatcher_client::DispatcherClient;
use wire::v1::{ReportRequest, TaskReport};

use super::backoff::Backoff;
use super::session::{Ended, within_deadline};

/// What waits to be told.
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

    /// The session has ended.
    pub(super) fn close(&self) {
        self.lock().close();
    }

    async fn batch(&self) -> Batch {
        loop {
            if let Some(batch) = self.lock().batch() {
                return batch;
            }
            self.changed.notified().await;
        }
    }

    /// No code panics while it holds the lock, so a poisoned one still holds whole data.
    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends batches until the session ends. A batch that fails is sent again: whether the session still holds is for the
/// heartbeats to find out.
pub(super) async fn deliver(
    outbox: &Outbox,
    mut client: DispatcherClient<Channel>,
    session: SessionId,
) -> Result<Infallible, Ended> {
    let mut backoff = Backoff::default();
    loop {
        let batch = outbox.batch().await;
        let (sequence, reports) = (batch.sequence, batch.reports.len());
        match within_deadline("report", client.report(report_request(session, batch))).await {
            Ok(reply) if reply.get_ref().sequence == sequence => {
                tracing::debug!(sequence, reports, "reports were taken");
                outbox.lock().acknowledged(sequence);
                backoff.reset();
            }
            Ok(reply) => return Err(Ended::Acknowledged { sent: sequence, acknowledged: reply.get_ref().sequence }),
            Err(error) => {
                tracing::debug!(sequence, reports, "reports were not taken, sending them again: {error}");
                let pause = backoff.pause(&mut rand::rng());
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// A batch as a manager takes it.
pub fn report_request(session: SessionId, batch: Batch) -> ReportRequest {
    let reports = batch.reports.into_iter().map(|(task, status)| TaskReport { task, status }).collect();
    ReportRequest { session, sequence: batch.sequence, reports }
}
