//! The steps in progress, so that a shutdown can cancel them: it must not wait for a pull or for health.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use events::TaskId;
use tokio_util::sync::CancellationToken;

use super::executor::ExecutorError;

/// The steps in progress, by task.
#[derive(Default)]
pub(super) struct Steps {
    running: Mutex<BTreeMap<TaskId, Running>>,
}

#[derive(Default)]
struct Running {
    token: CancellationToken,
    steps: usize,
}

impl Steps {
    /// Runs one step of a task. It ends early, as Temporary, when the task's steps are cancelled; dropping it is equally safe.
    pub(super) async fn run<T>(
        &self,
        task: TaskId,
        step: impl Future<Output = Result<T, ExecutorError>>,
    ) -> Result<T, ExecutorError> {
        let entry = self.enter(task);
        tokio::select! {
            // First, because the result of a cancelled step, such as the end of the task, is reported by the caller that
            // cancelled it.
            biased;
            () = entry.token.cancelled() => Err(ExecutorError::Temporary("cancelled: the task is being shut down".into())),
            done = step => done,
        }
    }

    /// Cancels the steps of a task that are in progress; later ones are not affected.
    pub(super) fn cancel(&self, task: TaskId) {
        if let Some(running) = self.lock().remove(&task) {
            running.token.cancel();
        }
    }

    fn enter(&self, task: TaskId) -> Entry<'_> {
        let mut tasks = self.lock();
        let running = tasks.entry(task).or_default();
        running.steps += 1;
        Entry { steps: self, task, token: running.token.clone() }
    }

    /// No code panics while it holds the lock, so a poisoned one still guards valid data.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TaskId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leaves the list when the step ends or is dropped.
struct Entry<'a> {
    steps: &'a Steps,
    task: TaskId,
    token: CancellationToken,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.token.is_cancelled() {
            return;
        }
        let mut tasks = self.steps.lock();
        if let Some(running) = tasks.get_mut(&self.task) {
            running.steps -= 1;
            if running.steps == 0 {
                tasks.remove(&self.task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    #[tokio::test]
    async fn giving_up_ends_what_runs_and_nothing_else() {
        let steps = Steps::default();
        let (one, two) = (TaskId::from_bits(1), TaskId::from_bits(2));
        let mut given_up = Box::pin(steps.run(one, std::future::pending::<Result<(), _>>()));
        let mut kept = Box::pin(steps.run(two, std::future::pending::<Result<(), _>>()));
        assert!(futures_util::poll!(&mut given_up).is_pending());
        assert!(futures_util::poll!(&mut kept).is_pending());
        steps.cancel(one);
        assert!(matches!(given_up.await, Err(ExecutorError::Temporary(_))));
        assert!(futures_util::poll!(&mut kept).is_pending());
        assert!(steps.run(one, async { Ok(()) }).await.is_ok());
        drop(kept);
        assert!(steps.lock().is_empty());
    }

    #[tokio::test]
    async fn a_step_that_ends_because_it_is_given_up_is_given_up() {
        let (steps, task) = (Steps::default(), TaskId::from_bits(1));
        // Repeated often: an unfair choice would only show now and then.
        for _ in 0..100 {
            let (ended, end) = tokio::sync::oneshot::channel();
            let step = async { end.await.map_err(|_| ExecutorError::Fatal("nobody ended it".to_owned())) };
            let cancel = async {
                steps.cancel(task);
                ended.send(()).expect("the step waits");
            };
            let (done, ()) = tokio::join!(steps.run(task, step), cancel);
            assert!(matches!(done, Err(ExecutorError::Temporary(_))), "{done:?}");
        }
    }
}
