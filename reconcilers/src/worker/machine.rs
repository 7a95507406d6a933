//! One task of a worker: its state, the call in progress and the unreported changes.

use std::cmp::{max, min};

use events::{ContainerStatus, Duration, TaskPhase, TaskState, TaskStatus, Timestamp};

use super::step::{Call, Retry, Situation, Step, step};

/// Pause before a call with a temporary failure is repeated; doubled each time.
const RETRY_DELAY_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause: a recovered engine is noticed within half a minute.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);
/// A longer phase is reported separately, so that a slow pull is visible; shorter ones are included in the next report.
const PHASE_QUIET: Duration = Duration::from_secs(1);
/// Maximum length of an engine's error message: enough to understand it, and no engine can fill the log.
const ERROR_BYTES_MAX: usize = 1024;

/// The message for a container that was killed because it exceeded its memory limit.
const OUT_OF_MEMORY: &str = "out of memory";

/// The result of a call of the executor.
#[derive(Debug, Clone, PartialEq)]
pub enum StepOutcome {
    /// Everything is ready to start.
    Prepared(ContainerStatus),
    /// The container is running, and healthy if it has a health check.
    Started(ContainerStatus),
    /// The container has ended.
    Ended {
        /// Its last status, with the exit code.
        container: ContainerStatus,
        /// The reason, if there is more than the exit code.
        reason: Option<String>,
    },
    /// The container is stopped, or never existed.
    Stopped(Option<ContainerStatus>),
    /// No trace is left.
    Removed,
    /// The call failed.
    Failed(Call, CallError),
}

impl StepOutcome {
    fn call(&self) -> Call {
        match self {
            Self::Prepared(_) => Call::Prepare,
            Self::Started(_) => Call::Start,
            Self::Ended { .. } => Call::Wait,
            Self::Stopped(_) => Call::Shutdown,
            Self::Removed => Call::Remove,
            Self::Failed(call, _) => *call,
        }
    }
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// It may succeed when repeated.
    Temporary(String),
    /// It can never succeed.
    Fatal(String),
}

/// The desired state of a task, as known by its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The desired state.
    pub desired: TaskState,
    /// The state recorded by the cluster.
    pub known: TaskState,
    /// Whether the assignment was withdrawn, permanently.
    pub withdrawn: bool,
}

/// Everything to do for a task, until something happens to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// Statuses to report to the managers, in this order.
    pub reports: Vec<TaskStatus>,
    /// Make this call of the executor, cancelling the one in progress, and pass its result to [`TaskMachine::finished`].
    pub call: Option<Call>,
    /// What to do after that.
    pub then: Then,
}

/// What to do after an [`Advance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Wait for a result, another assignment or this instant.
    Wait(Option<Timestamp>),
    /// Every trace of the task was removed: drop it.
    Forget,
}

/// The next single thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Call(Call),
    Report(TaskStatus),
    Sleep(Option<Timestamp>),
    Forget,
}

/// One task, driven by assignments, results and time.
#[derive(Debug, Clone)]
pub struct TaskMachine {
    desired: TaskState,
    withdrawn: bool,
    removed: bool,
    /// Why the task will count as failed once its container has stopped.
    failing: Option<String>,
    in_flight: Option<Call>,
    retry: Option<Retry>,
    retry_delay: Duration,
    /// The latest status; its phases are those completed since the last report.
    status: TaskStatus,
    reported: bool,
    /// Whether the last report had an error, which the next one clears.
    reported_error: bool,
}

impl TaskMachine {
    /// A newly assigned task whose state is recorded as `state`.
    ///
    /// That may be later than `assigned` if this node ran it before and lost its state: the executor's calls are idempotent, and
    /// a container that should be running but does not exist makes the task fail, so no task runs twice.
    pub fn assigned(desired: TaskState, state: TaskState, now: Timestamp) -> Self {
        let status = TaskStatus { state: state.into(), at: Some(now), ..TaskStatus::default() };
        Self { reported: true, reported_error: false, ..Self::resumed(desired, status) }
    }

    /// A task that this agent had before it was restarted, with its stored status.
    pub fn resumed(desired: TaskState, status: TaskStatus) -> Self {
        Self {
            desired,
            withdrawn: false,
            removed: false,
            failing: None,
            in_flight: None,
            retry: None,
            retry_delay: RETRY_DELAY_FIRST,
            status: TaskStatus { phases: Vec::new(), ..status },
            reported: false,
            reported_error: true,
        }
    }

    /// Everything to do now for this target.
    pub fn advance(&mut self, target: Target, now: Timestamp) -> Advance {
        self.assign(target.desired, target.known);
        if target.withdrawn {
            self.withdraw();
        }
        let (mut reports, mut call) = (Vec::new(), None);
        let then = loop {
            match self.next(now) {
                Action::Call(next) => call = Some(next),
                Action::Report(status) => reports.push(status),
                Action::Sleep(wake_at) => break Then::Wait(wake_at),
                Action::Forget => break Then::Forget,
            }
        };
        Advance { reports, call, then }
    }

    /// Updates the assignment: the desired state, and the state recorded by the cluster.
    ///
    /// Desired states only rise. A task that the cluster has given up must stop, even if that is not requested.
    pub(crate) fn assign(&mut self, desired: TaskState, known: TaskState) {
        self.desired = max(self.desired, desired);
        if known.is_terminal() {
            self.desired = max(self.desired, TaskState::Shutdown);
        }
    }

    /// Withdraws the assignment, permanently: the task is stopped, removed and no longer reported.
    pub(crate) fn withdraw(&mut self) {
        self.withdrawn = true;
    }

    /// The current status, to be stored; without phases.
    pub fn status(&self) -> TaskStatus {
        TaskStatus { phases: Vec::new(), ..self.status.clone() }
    }

    /// The desired state.
    pub fn desired(&self) -> TaskState {
        self.desired
    }

    /// A call has ended. The result of a cancelled call is ignored.
    pub fn finished(&mut self, outcome: StepOutcome, now: Timestamp) {
        if self.in_flight != Some(outcome.call()) {
            return;
        }
        self.in_flight = None;
        if let StepOutcome::Failed(call, failure) = outcome {
            return self.failed(call, failure, now);
        }
        match outcome {
            StepOutcome::Prepared(container) => self.succeed(TaskState::Ready, Some(container), now),
            StepOutcome::Started(container) => self.succeed(TaskState::Running, Some(container), now),
            StepOutcome::Ended { container, reason } => match end_error(&container, reason) {
                None => self.succeed(TaskState::Complete, Some(container), now),
                Some(error) => {
                    self.observe(Some(container));
                    self.fail(TaskState::Failed, error, now);
                }
            },
            StepOutcome::Stopped(container) => self.stopped(container, now),
            StepOutcome::Removed => self.removed = true,
            StepOutcome::Failed(..) => {}
        }
    }

    /// The next action at this time.
    pub(crate) fn next(&mut self, now: Timestamp) -> Action {
        let mut wake_at = None;
        let mut at_rest = false;
        loop {
            match step(&self.situation(), now) {
                Step::Enter(state) => {
                    self.enter(state, now);
                    continue;
                }
                Step::Call(call) => {
                    self.in_flight = Some(call);
                    return Action::Call(call);
                }
                Step::Await => {}
                Step::RetryAt(at) => wake_at = Some(at),
                Step::Rest => at_rest = true,
                Step::Forget => return Action::Forget,
            }
            break;
        }
        if self.reported || self.withdrawn || self.prepares_quietly() {
            return Action::Sleep(wake_at);
        }
        let report_at = self.status.at.unwrap_or(now) + PHASE_QUIET;
        let state = self.status.state();
        if at_rest || state >= TaskState::Running || report_at <= now {
            return Action::Report(self.report());
        }
        Action::Sleep(Some(wake_at.map_or(report_at, |at| min(at, report_at))))
    }

    fn situation(&self) -> Situation {
        Situation {
            desired: self.desired,
            withdrawn: self.withdrawn,
            failing: self.failing.is_some(),
            state: self.status.state(),
            in_flight: self.in_flight,
            retry: self.retry,
            removed: self.removed,
        }
    }

    /// Whether the task is being prepared ahead of its start without problems: that is not reported separately, but with the next
    /// report. Otherwise a task in a crash loop would report it before each attempt.
    fn prepares_quietly(&self) -> bool {
        let ahead = max(self.desired, self.status.state()) <= TaskState::Ready;
        ahead && self.status.error.is_empty() && !self.reported_error
    }

    fn report(&mut self) -> TaskStatus {
        self.reported = true;
        self.reported_error = !self.status.error.is_empty();
        let kept = self.status();
        std::mem::replace(&mut self.status, kept)
    }

    fn enter(&mut self, state: TaskState, now: Timestamp) {
        if !self.reported {
            self.status.phases.push(TaskPhase { state: self.status.state, at: self.status.at });
        }
        self.reported = false;
        self.status.set_state(state);
        self.status.at = Some(now);
        self.status.message = message(state).to_owned();
        self.status.error.clear();
    }

    fn succeed(&mut self, state: TaskState, container: Option<ContainerStatus>, now: Timestamp) {
        self.observe(container);
        self.enter(state, now);
    }

    /// Stores the executor's current status of the container. It may no longer contain the warnings from the container's
    /// creation.
    fn observe(&mut self, container: Option<ContainerStatus>) {
        let Some(mut container) = container else { return };
        if let Some(known) = self.status.container.take().filter(|_| container.warnings.is_empty()) {
            container.warnings = known.warnings;
        }
        self.status.container = Some(container);
    }

    fn fail(&mut self, state: TaskState, error: String, now: Timestamp) {
        self.enter(state, now);
        self.status.error = error;
    }

    fn stopped(&mut self, container: Option<ContainerStatus>, now: Timestamp) {
        match self.failing.take() {
            Some(error) if self.desired < TaskState::Shutdown => {
                self.observe(container);
                self.fail(TaskState::Failed, error, now);
            }
            Some(_) | None => self.succeed(TaskState::Shutdown, container, now),
        }
    }

    fn failed(&mut self, call: Call, failure: CallError, now: Timestamp) {
        match failure {
            // A removal has no failed state, and the container must be removed.
            CallError::Fatal(_) if call == Call::Remove => self.retry_later(call, now),
            // The container may still be running, so the task has not ended: a task in its place could run beside it.
            CallError::Fatal(error) if call == Call::Shutdown => {
                self.retry_later(call, now);
                self.note_error(shortened(error));
            }
            // It is unknown whether the container is running. A task that cannot be started or watched has failed, but only once
            // it is stopped.
            CallError::Fatal(error) if matches!(call, Call::Start | Call::Wait) => {
                self.failing = Some(shortened(error))
            }
            CallError::Fatal(error) => self.fail(TaskState::Rejected, shortened(error), now),
            CallError::Temporary(error) => {
                let error = shortened(error);
                self.retry_later(call, now);
                // By now it was retried for half a minute: the scheduler can place the task on a node whose engine responds.
                if matches!(call, Call::Prepare | Call::Start) && self.retry_delay == RETRY_DELAY_MAX {
                    self.retry = None;
                    return self.failed(call, CallError::Fatal(error), now);
                }
                // While a task is running, an unavailable engine is a problem of the node, not of the task.
                if self.status.state() < TaskState::Running {
                    self.note_error(error);
                }
            }
        }
    }

    /// Records why the task makes no progress, for the managers; a repeated reason is not reported.
    fn note_error(&mut self, error: String) {
        if self.status.error != error {
            self.status.error = error;
            self.reported = false;
        }
    }

    fn retry_later(&mut self, call: Call, now: Timestamp) {
        // A call that succeeded for a while before it failed, such as a wait of hours, starts with a short pause again.
        let again = self.retry.is_some_and(|retry| retry.call == call && now.since(retry.at) <= RETRY_DELAY_MAX);
        self.retry_delay = if again { min(self.retry_delay * 2, RETRY_DELAY_MAX) } else { RETRY_DELAY_FIRST };
        self.retry = Some(Retry { call, at: now + self.retry_delay });
    }
}

/// The error of a container's exit, as text; `None` if it succeeded. Running out of memory is always included.
fn end_error(container: &ContainerStatus, reason: Option<String>) -> Option<String> {
    let exit = match container.exit_code {
        Some(0) => None,
        Some(code) => Some(format!("task: non-zero exit ({code})")),
        None => Some("task: ended with an unknown exit code".to_owned()),
    };
    match reason.map(shortened).or(exit) {
        error if !container.oom_killed => error,
        Some(error) if error.contains(OUT_OF_MEMORY) => Some(error),
        Some(error) => Some(format!("{error}: {OUT_OF_MEMORY}")),
        None => Some(format!("task: {OUT_OF_MEMORY}")),
    }
}

fn shortened(mut error: String) -> String {
    let end = (0..=ERROR_BYTES_MAX.min(error.len())).rev().find(|end| error.is_char_boundary(*end));
    error.truncate(end.unwrap_or(0));
    error
}

/// SwarmKit's message for having entered a state.
fn message(state: TaskState) -> &'static str {
    match state {
        TaskState::New => "created",
        TaskState::Pending => "pending task scheduling",
        TaskState::Assigned => "assigned",
        TaskState::Accepted => "accepted",
        TaskState::Preparing => "preparing",
        TaskState::Ready => "prepared",
        TaskState::Starting => "starting",
        TaskState::Running => "started",
        TaskState::Complete => "finished",
        TaskState::Shutdown => "shutdown",
        TaskState::Failed => "failed",
        TaskState::Rejected => "rejected",
        TaskState::Remove => "removed",
        TaskState::Orphaned => "orphaned",
    }
}

#[cfg(test)]
mod tests;
