//! Whether a job has finished: all tasks completed, or some failed and are not restarted.

use events::service_spec::Mode;
use events::{TaskState, Timestamp};
use wire::v1::{ServiceView, TaskView};

use super::verdict::{ProgressView, Reading, Verdict, count, described, why};

/// Judges a job by its counts and its tasks.
pub(super) fn judge(service: &ServiceView, tasks: &[TaskView]) -> Verdict {
    let reading = Reading::new(service, tasks);
    let (finished, failed) = (service.finished_places, service.failed_places);
    let total = total(service);
    let failures = match failed {
        0 => String::new(),
        failed => format!(", {failed} failed"),
    };
    let step = format!("{}: {finished} of {total} tasks completed{failures}", service.spec.name());
    let headline = format!("{step}, {} running", service.running_tasks);
    let live = count(service.live_tasks);
    let shown: Vec<&TaskView> = tasks.iter().filter(|task| is_live(task)).collect();
    let progress_view = reading.progress_view((step.clone(), headline), live, shown, |_| true);
    if live > 0 || finished + failed < total {
        return Verdict::Underway(progress_view);
    }
    let progress_view = ProgressView { headline: step, ..progress_view };
    if failed == 0 {
        return Verdict::Converged(progress_view);
    }
    let culprit = last_failed(tasks).map(|task| format!(", such as {}: {}", described(task), why(task)));
    let why = format!("{failed} of {total} tasks failed and are not restarted{}", culprit.unwrap_or_default());
    Verdict::Failed { progress_view, why, restarts: false }
}

/// The verdict on a scheduled job before its next run: it has nothing to do, however long that takes.
pub(super) fn scheduled(service: &ServiceView, due: Timestamp) -> Verdict {
    let step = format!("{}: the next run is due {}", service.spec.name(), due.minute());
    Verdict::Converged(ProgressView { headline: step.clone(), step, count: 0, tasks: Vec::new() })
}

/// The number of tasks that have to complete.
fn total(service: &ServiceView) -> u64 {
    match service.spec.mode() {
        Mode::ReplicatedJob(mode) => mode.total_completions,
        Mode::GlobalJob(_) | Mode::Global(_) | Mode::Replicated(_) => {
            service.desired_tasks + service.finished_places + service.failed_places
        }
    }
}

/// The task that failed last and was not replaced.
pub(super) fn last_failed(tasks: &[TaskView]) -> Option<&TaskView> {
    let is_replaced = |task: &TaskView| tasks.iter().any(|other| other.replaces == Some(task.id));
    let failed = tasks
        .iter()
        .filter(|task| matches!(task.status.state(), TaskState::Failed | TaskState::Rejected) && !is_replaced(task));
    failed.max_by_key(|task| (task.status.at, task.id))
}

fn is_live(task: &TaskView) -> bool {
    task.desired().is_wanted() && !task.status.state().is_terminal()
}
