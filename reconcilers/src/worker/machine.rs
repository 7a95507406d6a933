//! One task of a worker: where it is, what is under way for it and what the managers do not know yet.

use std::cmp::{max, min};

use events::{ContainerStatus, Duration, TaskPhase, TaskState, TaskStatus, Timestamp};

use super::step::{Call, Retry, Situation, Step, step};

/// Pause before a call that failed for the time being is made again; doubled each time.
const RETRY_DELAY_FIRST: Duration = Duration::from_secs(1);
/// Longest such pause: an engine that comes back is noticed within half a minute.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(30);
/// A phase that lasts longer is reported by itself, so that a slow pull shows; shorter ones travel with the next report.
const PHASE_QUIET: Duration = Duration::from_secs(1);
/// Most of an engine's words that are kept: enough to understand, and a log that no engine can fill.
const ERROR_BYTES_MAX: usize = 1024;

/// What is said of a container that was killed because it used more memory than its limit.
const OUT_OF_MEMORY: &str = "out of memory";

/// How a call of the executor ended.
#[derive(Debug, Clone, PartialEq)]
pub enum StepOutcome {
    /// Everything is ready to start.
    Prepared(ContainerStatus),
    /// The container runs, and is healthy if it says how to tell.
    Started(ContainerStatus),
    /// The container has ended.
    Ended {
        /// What is known of it; the exit code is set.
        container: ContainerStatus,
        /// Why, if more is known than the exit code.
        reason: Option<String>,
    },
    /// The container is stopped, or never was.
    Stopped(Option<ContainerStatus>),
    /// No trace is left.
    Removed,
    /// The call did not succeed.
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

/// Why a call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// It may when made again.
    Temporary(String),
    /// It never will.
    Fatal(String),
}

/// What is wanted of a task, as its node knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// How far it should go.
    pub desired: TaskState,
    /// The state that the cluster knows.
    pub known: TaskState,
    /// Whether the assignment was taken back, which is for good.
    pub withdrawn: bool,
}

/// All that there is to do for a task, until something happens to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Advance {
    /// What to tell the managers, in this order.
    pub reports: Vec<TaskStatus>,
    /// Make this call of the executor, giving up one under way, and hand its result to [`TaskMachine::finished`].
    pub call: Option<Call>,
    /// What comes after that.
    pub then: Then,
}

/// What comes after an [`Advance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing before a result, another assignment or this instant.
    Wait(Option<Timestamp>),
    /// Every trace of the task is gone: forget it.
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
    /// Why the task will have failed once its container has stopped.
    failing: Option<String>,
    in_flight: Option<Call>,
    retry: Option<Retry>,
    retry_delay: Duration,
    /// The latest status; its phases are those passed since the last report.
    status: TaskStatus,
    reported: bool,
    /// Whether the last report had an error, which the next one takes back.
    reported_error: bool,
}

impl TaskMachine {
    /// A task that was just assigned and that the cluster knows to be in `state`.
    ///
    /// It may be further than `assigned` when this node ran it before and forgot: the executor's calls are idempotent and
    /// a container that should run but does not exist makes the task fail, so no task runs twice.
    pub fn assigned(desired: TaskState, state: TaskState, now: Timestamp) -> Self {
        let status = TaskStatus { state: state.into(), at: Some(now), ..TaskStatus::default() };
        Self { reported: true, reported_error: false, ..Self::resumed(desired, status) }
    }

    /// A task that this agent already had before it was restarted, with the status that it noted then.
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

    /// Everything there is to do now, where this is wanted of the task.
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

    /// The assignment changed: how far the task should go, and the state that the cluster knows.
    ///
    /// Desired states only rise. A task that the cluster has written off must not run on, even if nobody asks to stop it.
    pub(crate) fn assign(&mut self, desired: TaskState, known: TaskState) {
        self.desired = max(self.desired, desired);
        if known.is_terminal() {
            self.desired = max(self.desired, TaskState::Shutdown);
        }
    }

    /// The assignment was taken back, for good: the task is stopped, removed and not reported any more.
    pub(crate) fn withdraw(&mut self) {
        self.withdrawn = true;
    }

    /// How far the task is, for keeping; without phases.
    pub fn status(&self) -> TaskStatus {
        TaskStatus { phases: Vec::new(), ..self.status.clone() }
    }

    /// How far the task should go.
    pub fn desired(&self) -> TaskState {
        self.desired
    }

    /// A call has ended. The result of a call that was given up is ignored.
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

    /// Whether the task is made ready ahead of its start and all is well: that is no news yet, and travels with the next report.
    /// A task in a crash loop would otherwise report it before each attempt.
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

    /// Keeps what the executor knows of the container now. Of what it warned when the container was made it may know nothing
    /// any more.
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
            // A removal has no state to fail into, and the container must go.
            CallError::Fatal(_) if call == Call::Remove => self.retry_later(call, now),
            // The container may run on, so nothing has ended: a task in its place could run beside it.
            CallError::Fatal(error) if call == Call::Shutdown => {
                self.retry_later(call, now);
                self.note_error(shortened(error));
            }
            // Nobody knows whether the container runs. A task that nobody can start or watch has failed, but only once it stands.
            CallError::Fatal(error) if matches!(call, Call::Start | Call::Wait) => {
                self.failing = Some(shortened(error))
            }
            CallError::Fatal(error) => self.fail(TaskState::Rejected, shortened(error), now),
            CallError::Temporary(error) => {
                let error = shortened(error);
                self.retry_later(call, now);
                // By now it was tried for half a minute: somebody else can place the task on a node whose engine answers.
                if matches!(call, Call::Prepare | Call::Start) && self.retry_delay == RETRY_DELAY_MAX {
                    self.retry = None;
                    return self.failed(call, CallError::Fatal(error), now);
                }
                // While a task runs, an engine that is away is the node's trouble and not the task's.
                if self.status.state() < TaskState::Running {
                    self.note_error(error);
                }
            }
        }
    }

    /// Why the task does not go on, for the managers; the same reason is no news.
    fn note_error(&mut self, error: String) {
        if self.status.error != error {
            self.status.error = error;
            self.reported = false;
        }
    }

    fn retry_later(&mut self, call: Call, now: Timestamp) {
        // A call that went well for a while before it failed, such as a wait of hours, starts with a short pause again.
        let again = self.retry.is_some_and(|retry| retry.call == call && now.since(retry.at) <= RETRY_DELAY_MAX);
        self.retry_delay = if again { min(self.retry_delay * 2, RETRY_DELAY_MAX) } else { RETRY_DELAY_FIRST };
        self.retry = Some(Retry { call, at: now + self.retry_delay });
    }
}

/// What is wrong with a container's end, in words; nothing if it ended well. That memory ran out is always said.
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

/// SwarmKit's word for having entered a state.
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
