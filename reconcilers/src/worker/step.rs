//! The next step of one task, from its desired and its observed state. One state at a time, as SwarmKit's `Do`.
//!
//! States are of three kinds. *Pause points* (assigned, accepted, ready) are left only when the desired state is later. *Phases*
//! (preparing, starting, running) advance by themselves, each with one call of the executor. *Ends* are final.

use events::{TaskState, Timestamp};

/// A call of the executor. Each may be repeated, and cancelled for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// Prepare everything that the start needs.
    Prepare,
    /// Start the container, and wait until it is healthy if it has a health check.
    Start,
    /// Wait until the container has ended.
    Wait,
    /// Stop the container.
    Shutdown,
    /// Remove every trace of the task.
    Remove,
}

/// A call to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The call that failed.
    pub call: Call,
    /// When to repeat it.
    pub at: Timestamp,
}

/// The desired and the observed state of a task.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// The desired state.
    pub desired: TaskState,
    /// Whether the assignment was withdrawn: then the container must be removed, whatever is desired.
    pub withdrawn: bool,
    /// Whether the task could not be started, or can no longer be watched: its container must have stopped before it counts as
    /// failed.
    pub failing: bool,
    /// The observed state.
    pub state: TaskState,
    /// The call in progress.
    pub in_flight: Option<Call>,
    /// The last call with a temporary failure.
    pub retry: Option<Retry>,
    /// Whether every trace of the task was removed.
    pub removed: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Enter this state; this requires no call.
    Enter(TaskState),
    /// Make this call, and cancel the one in progress.
    Call(Call),
    /// Wait for the call in progress.
    Await,
    /// Repeat the failed call at this time.
    RetryAt(Timestamp),
    /// Nothing to do until the desired state changes.
    Rest,
    /// Every trace was removed: drop the task.
    Forget,
}

/// The next step of a task.
pub fn step(task: &Situation, now: Timestamp) -> Step {
    match idle_step(task) {
        Step::Call(call) if task.in_flight == Some(call) => Step::Await,
        Step::Call(call) => match task.retry {
            Some(retry) if retry.call == call && now < retry.at => Step::RetryAt(retry.at),
            Some(_) | None => Step::Call(call),
        },
        step @ (Step::Enter(_) | Step::Await | Step::RetryAt(_) | Step::Rest | Step::Forget) => step,
    }
}

/// The next step if no call were in progress.
fn idle_step(task: &Situation) -> Step {
    if task.removed {
        return Step::Forget;
    }
    if task.state.is_terminal() {
        return if task.withdrawn { Step::Call(Call::Remove) } else { Step::Rest };
    }
    if task.withdrawn || task.failing || task.desired >= TaskState::Shutdown {
        return Step::Call(Call::Shutdown);
    }
    let enter_if_more_is_wanted = |next| if task.state < task.desired { Step::Enter(next) } else { Step::Rest };
    match task.state {
        TaskState::New | TaskState::Pending | TaskState::Assigned => enter_if_more_is_wanted(TaskState::Accepted),
        TaskState::Accepted => enter_if_more_is_wanted(TaskState::Preparing),
        TaskState::Preparing => Step::Call(Call::Prepare),
        TaskState::Ready => enter_if_more_is_wanted(TaskState::Starting),
        TaskState::Starting => Step::Call(Call::Start),
        TaskState::Running => Step::Call(Call::Wait),
        TaskState::Complete
        | TaskState::Shutdown
        | TaskState::Failed
        | TaskState::Rejected
        | TaskState::Remove
        | TaskState::Orphaned => Step::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::Duration;

    const STATES: [TaskState; 14] = [
        TaskState::New,
        TaskState::Pending,
        TaskState::Assigned,
        TaskState::Accepted,
        TaskState::Preparing,
        TaskState::Ready,
        TaskState::Starting,
        TaskState::Running,
        TaskState::Complete,
        TaskState::Shutdown,
        TaskState::Failed,
        TaskState::Rejected,
        TaskState::Remove,
        TaskState::Orphaned,
    ];
    const CALLS: [Call; 5] = [Call::Prepare, Call::Start, Call::Wait, Call::Shutdown, Call::Remove];

    fn idle(state: TaskState, desired: TaskState) -> Situation {
        Situation { desired, withdrawn: false, failing: false, state, in_flight: None, retry: None, removed: false }
    }

    /// One letter per step: what an idle task does, for a compact table.
    fn letter(step: Step) -> char {
        match step {
            Step::Enter(TaskState::Accepted) => 'a',
            Step::Enter(TaskState::Preparing) => 'p',
            Step::Enter(TaskState::Starting) => 's',
            Step::Call(Call::Prepare) => 'P',
            Step::Call(Call::Start) => 'S',
            Step::Call(Call::Wait) => 'W',
            Step::Call(Call::Shutdown) => 'X',
            Step::Call(Call::Remove) => 'R',
            Step::Rest => '.',
            Step::Enter(other) => panic!("no step enters {other:?}"),
            Step::Await | Step::RetryAt(_) | Step::Forget => panic!("an idle task neither waits nor is forgotten"),
        }
    }

    /// Rows are desired states, columns states, both in the order of `STATES`.
    #[test]
    fn every_state_and_desired_state_has_its_step() {
        #[rustfmt::skip]
        let table = [
            // N P A A P R S R C S F R R O
            "....P.SW......", // new
            "a...P.SW......", // pending
            "aa..P.SW......", // assigned
            "aaa.P.SW......", // accepted
            "aaapP.SW......", // preparing
            "aaapP.SW......", // ready: pauses there
            "aaapPsSW......", // starting
            "aaapPsSW......", // running
            "aaapPsSW......", // complete: a job
            "XXXXXXXX......", // shutdown
            "XXXXXXXX......", // failed
            "XXXXXXXX......", // rejected
            "XXXXXXXX......", // remove
            "XXXXXXXX......", // orphaned
        ];
        for (desired, row) in STATES.iter().zip(table) {
            let steps: String =
                STATES.iter().map(|state| letter(step(&idle(*state, *desired), Timestamp::default()))).collect();
            assert_eq!(steps, row, "desired {desired:?}");
        }
    }

    #[test]
    fn a_withdrawn_task_is_stopped_then_removed_whatever_is_desired() {
        for desired in STATES {
            let steps = STATES.map(|state| {
                letter(step(&Situation { withdrawn: true, ..idle(state, desired) }, Timestamp::default()))
            });
            assert_eq!(String::from_iter(steps), "XXXXXXXXRRRRRR", "desired {desired:?}");
        }
    }

    #[test]
    fn a_task_that_is_failing_is_stopped_unless_it_has_ended() {
        let steps = STATES.map(|state| {
            letter(step(&Situation { failing: true, ..idle(state, TaskState::Running) }, Timestamp::default()))
        });
        assert_eq!(String::from_iter(steps), "XXXXXXXX......");
    }

    #[test]
    fn a_removed_task_is_forgotten() {
        for state in STATES {
            let task = Situation { withdrawn: true, removed: true, ..idle(state, TaskState::Running) };
            assert_eq!(step(&task, Timestamp::default()), Step::Forget);
        }
    }

    #[test]
    fn the_wanted_call_under_way_is_awaited_and_any_other_given_up() {
        for (state, desired, wanted) in [
            (TaskState::Preparing, TaskState::Running, Call::Prepare),
            (TaskState::Starting, TaskState::Running, Call::Start),
            (TaskState::Running, TaskState::Running, Call::Wait),
            (TaskState::Running, TaskState::Shutdown, Call::Shutdown),
        ] {
            for call in CALLS {
                let task = Situation { in_flight: Some(call), ..idle(state, desired) };
                let expected = if call == wanted { Step::Await } else { Step::Call(wanted) };
                assert_eq!(step(&task, Timestamp::default()), expected, "{state:?}, {call:?} under way");
            }
        }
    }

    #[test]
    fn a_failed_call_waits_for_its_time_but_holds_up_no_other() {
        let at = Timestamp::from_unix_ns(5);
        for call in CALLS {
            let task = |desired| Situation { retry: Some(Retry { call, at }), ..idle(TaskState::Preparing, desired) };
            let early = step(&task(TaskState::Running), at - Duration::from_nanos(1));
            let expected = if call == Call::Prepare { Step::RetryAt(at) } else { Step::Call(Call::Prepare) };
            assert_eq!(early, expected);
            assert_eq!(step(&task(TaskState::Running), at), Step::Call(Call::Prepare));
            let stopping = step(&task(TaskState::Shutdown), at - Duration::from_nanos(1));
            let expected = if call == Call::Shutdown { Step::RetryAt(at) } else { Step::Call(Call::Shutdown) };
            assert_eq!(stopping, expected);
        }
    }
}
