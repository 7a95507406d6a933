//! Waiting until a service or a node has converged.
//!
//! The wait follows history: after each event about the service, its counts and its tasks with problems are read again and
//! judged, so a read does not cost more for a service with many tasks. Nothing is polled, and no event is handled twice: each
//! read returns its index. If there are many tasks, events in quick succession share one read.

mod job;
mod node;
mod progress;
mod root;
mod verdict;

pub use node::{NodeGoal, for_nodes};
pub use root::for_root;
pub use verdict::Goal;

use std::time::Duration;

use clap::Args;
use tokio_stream::StreamExt;
use wire::v1::{EventsRequest, ListTasksRequest, ServiceView};

use crate::failure::{Failure, Kind};
use crate::manager::{EventStream, Manager};
use crate::session::{Clock, Session, Wait};
use crate::values::duration;
use progress::Progress;
use verdict::{Verdict, is_paused, judge, stopped_update};

/// Default time limit of a script: no person is there to interrupt it.
const SCRIPT_WAIT_MAX: Duration = Duration::from_secs(600);

/// How long tasks have to keep running before a wait succeeds, so that a crash at the start is noticed. Docker's tools wait as
/// long (docker/cli, `cli/command/service/progress/progress.go`).
const STABLE_FOR: Duration = Duration::from_secs(5);

/// Up to this many tasks, a service or a node is read again at each event. Larger ones have more events than a person can follow.
const READ_AT_EACH_EVENT_MAX: usize = 100;

/// Minimum time between two reads of a larger one: short enough for an interactive user.
const READ_EVERY: Duration = Duration::from_millis(200);

/// Whether and how long to wait.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct WaitFlags {
    /// Return immediately instead of waiting
    #[arg(short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    detach: Option<bool>,

    /// Maximum time to wait (default no limit on a terminal, 10m otherwise)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

impl WaitFlags {
    /// Whether to wait at all. Scripts wait by default too, so that a failed deployment fails its script.
    fn waits(&self) -> bool {
        !self.detach.unwrap_or(false)
    }

    fn limit(&self, interactive: bool) -> Option<Duration> {
        self.timeout.or((!interactive).then_some(SCRIPT_WAIT_MAX))
    }
}

/// Waits, unless the flags disable it, until the service has converged on its state at `since`.
///
/// # Errors
/// When it fails, the wait times out, the user interrupts it or the connection to the manager is lost.
pub async fn for_service<M: Manager>(
    session: &mut Session<'_, M>,
    flags: &WaitFlags,
    service: &str,
    goal: Goal,
    since: u64,
) -> Result<(), Failure> {
    if !flags.waits() || session.is_trial() {
        return Ok(());
    }
    let interactive = session.env.interactive;
    let limit = match flags.limit(interactive) {
        Some(limit) => session.env.clock.sleep(limit),
        None => Box::pin(std::future::pending()),
    };
    let mut interrupt = std::mem::replace(&mut session.env.interrupt, Box::pin(std::future::pending()));
    let mut watch = Watch { service, goal, progress: Progress::new(interactive), trouble: None, lasting: None };
    let result = tokio::select! {
        // In this order, so that a simulation is deterministic and success wins over a time limit at the same moment.
        biased;
        result = watch.run(session, since) => result.map_err(|failure| lost(failure, service)),
        // With a time limit this short, it is enough that the tasks run.
        () = limit => if watch.lasting.is_some() { Ok(()) } else { Err(timed_out(service, watch.trouble.as_deref())) },
        () = &mut interrupt => Err(interrupted(service)),
    };
    watch.progress.finish();
    session.env.interrupt = interrupt;
    result
}

/// The failure if the service's update is paused, with what to do next.
///
/// # Errors
/// When the connection to the manager is lost.
pub async fn paused_update<M: Manager>(
    session: &mut Session<'_, M>,
    service: &ServiceView,
) -> Result<Option<Failure>, Failure> {
    if !is_paused(service) {
        return Ok(None);
    }
    let name = service.spec.name();
    let tasks = ListTasksRequest { service: Some(service.id.to_string()), watched: Some(true), ..Default::default() };
    let tasks = session.manager.tasks(tasks).await?.tasks;
    let hint = format!(
        "`swarmctl service resume {name}` continues it; or update {name} with settings that work; `swarmctl task ls -a` shows what failed"
    );
    Ok(stopped_update(service, &tasks, Goal::Spec).map(|why| Failure::new(Kind::UpdateFailed, why).hint(hint)))
}

/// The exit code of a job after a wait: 0 if it completed, that of the task that failed last if it failed; `None` while it runs.
///
/// # Errors
/// When the connection to the manager is lost.
pub async fn exit_code<M: Manager>(
    session: &mut Session<'_, M>,
    service: &str,
    waited: &Result<(), Failure>,
) -> Result<Option<i32>, Failure> {
    match waited {
        Ok(()) => return Ok(Some(0)),
        Err(failure) if failure.kind == Kind::UpdateFailed => {}
        Err(_) => return Ok(None),
    }
    let tasks = ListTasksRequest { service: Some(service.to_owned()), watched: Some(true), ..Default::default() };
    let tasks = session.manager.tasks(tasks).await?.tasks;
    let container = job::last_failed(&tasks).and_then(|task| task.status.container.as_ref());
    Ok(container.and_then(|container| container.exit_code))
}

/// The state of one wait.
struct Watch<'a> {
    service: &'a str,
    goal: Goal,
    progress: Progress,
    /// The last problem.
    trouble: Option<String>,
    /// Runs while the service has converged: resolves when that has lasted long enough.
    lasting: Option<Wait<'static>>,
}

impl Watch<'_> {
    async fn run<M: Manager>(&mut self, session: &mut Session<'_, M>, since: u64) -> Result<(), Failure> {
        let service = self.service;
        // By id: a config or a secret may have the same name.
        let object = Some(session.service(service).await?.id.to_string());
        let request = EventsRequest { from: Some(since), follow: true, object, ..Default::default() };
        let mut history = session.manager.events(request).await?;
        loop {
            // Tasks first: if the service is newer than its tasks, the event in between triggers another read.
            let tasks =
                ListTasksRequest { service: Some(service.to_owned()), watched: Some(true), ..Default::default() };
            let tasks = session.manager.tasks(tasks).await?;
            let view = session.service(service).await?;
            let pause = pause(session.env.clock, usize::try_from(view.live_tasks).unwrap_or(usize::MAX));
            let verdict = match (view.spec.is_job(), self.goal, view.next_run) {
                (false, goal, _) => judge(&view, &tasks.tasks, goal),
                (true, Goal::New | Goal::Spec | Goal::Count, Some(due)) => job::scheduled(&view, due),
                (true, ..) => job::judge(&view, &tasks.tasks),
            };
            match verdict {
                Verdict::Converged(progress_view) => {
                    self.progress.conclude(&progress_view, session.env.err)?;
                    // If nothing has to run, nothing can crash.
                    if !self.goal.must_stay_running() || progress_view.count == 0 || view.spec.is_job() {
                        return Ok(());
                    }
                    self.lasting.get_or_insert_with(|| session.env.clock.sleep(STABLE_FOR));
                }
                Verdict::Underway(progress_view) => {
                    self.lasting = None;
                    self.progress.show(&progress_view, session.env.err)?;
                    self.trouble = progress_view.trouble().or(self.trouble.take());
                }
                Verdict::Failed { progress_view, why, restarts } => {
                    self.progress.conclude(&progress_view, session.env.err)?;
                    return Err(Failure::new(Kind::UpdateFailed, why).hint(look_at(service, restarts)));
                }
            }
            tokio::select! {
                // In this order, so that success in the last moment is noticed.
                biased;
                event = after(&mut history, tasks.index) => event?,
                () = lasted(&mut self.lasting) => return Ok(()),
            }
            pause.await;
        }
    }
}

/// The hint after a failed wait.
fn look_at(service: &str, restarts: bool) -> String {
    let goes_on = if restarts { "the restarts continue; " } else { "" };
    format!("{goes_on}`swarmctl service inspect -a {service}` shows its tasks, also those that failed")
}

/// Resolves when a service with this many tasks may be read again.
fn pause(clock: &dyn Clock, tasks: usize) -> Wait<'static> {
    if tasks <= READ_AT_EACH_EVENT_MAX { Box::pin(std::future::ready(())) } else { clock.sleep(READ_EVERY) }
}

/// Resolves when the converged state has lasted long enough; never while it has not converged.
async fn lasted(lasting: &mut Option<Wait<'static>>) {
    match lasting {
        Some(wait) => wait.await,
        None => std::future::pending().await,
    }
}

/// Resolves at the first event after `index`.
async fn after(history: &mut EventStream, index: u64) -> Result<(), Failure> {
    while let Some(record) = history.next().await {
        if record?.index > index {
            return Ok(());
        }
    }
    Err(Failure::stopped())
}

/// The wait cannot continue without the manager, but the change does.
fn lost(failure: Failure, service: &str) -> Failure {
    match failure.kind {
        Kind::Unreachable | Kind::Stopped => failure.hint(format!(
            "the operation continues; once swarmd answers again, `swarmctl service inspect {service}` shows its progress"
        )),
        _ => failure,
    }
}

fn timed_out(service: &str, trouble: Option<&str>) -> Failure {
    let trouble = trouble.map_or_else(String::new, |trouble| format!("; last problem: {trouble}"));
    Failure::new(Kind::TimedOut, format!("timed out waiting for {service}{trouble}"))
        .hint(format!("the operation continues; `swarmctl service inspect {service}` shows its progress"))
}

fn interrupted(service: &str) -> Failure {
    Failure::new(Kind::Interrupted, format!("stopped waiting for {service}; the operation continues"))
        .hint(format!("`swarmctl service inspect {service}` shows its progress"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_waits_unless_told_otherwise_and_scripts_not_without_end() {
        let flags = |detach, timeout| WaitFlags { detach, timeout };
        let minute = Some(Duration::from_secs(60));
        for (flags, waits) in [
            (flags(None, None), true),
            (flags(Some(true), None), false),
            (flags(Some(false), None), true),
            (flags(None, minute), true),
        ] {
            assert_eq!(flags.waits(), waits, "{flags:?}");
        }
        assert_eq!(flags(None, None).limit(true), None);
        assert_eq!(flags(None, None).limit(false), Some(SCRIPT_WAIT_MAX));
        assert_eq!(flags(None, minute).limit(false), minute);
    }
}
