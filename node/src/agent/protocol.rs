//! The agent's side of its sessions, without I/O: the next requests to a manager, and the handling of its responses.
//!
//! A [`SessionMachine`] takes what happened and returns what to do. `session` drives it over gRPC, the simulated cluster over a
//! simulated network. Attempts and sessions follow one another; tasks are not affected by them.

use std::cmp::Ordering;
use std::time::Duration;

use events::{SessionId, Timestamp};
use reconcilers::worker::Reports;
use wire::v1::{AssignmentSet, ReportRequest, TaskReport};

use super::backoff::Backoff;

/// Deadline for a manager's response.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// Minimum deadline for the response to a heartbeat.
const HEARTBEAT_DEADLINE_MIN: Duration = Duration::from_millis(1_500);
/// Maximum duration of an attempt: describing the node, connecting and registering, each with its deadline.
const OPENING_MAX: Duration = Duration::from_secs(15);
/// A session of at least this length counts as stable: the next attempt after it starts immediately.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// Delay before an attempt that cannot succeed until an operator intervenes.
const INTERVENTION_PAUSE: Duration = Duration::from_secs(60);
/// Shortest heartbeat period, whatever period a manager sets.
const HEARTBEAT_PERIOD_MIN: Duration = Duration::from_millis(100);

/// A request to a manager.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Register with the next manager.
    Open {
        /// The number of the attempt.
        attempt: u64,
    },
    /// Send a heartbeat.
    Heartbeat {
        /// The session.
        session: SessionId,
        /// The number of the heartbeat.
        call: u64,
    },
    /// Report the status of tasks.
    Report(ReportRequest),
    /// Close the connection: the attempt, or this session, has failed.
    Close {
        /// The session, if one was open.
        session: Option<SessionId>,
        /// Why.
        why: SessionFault,
    },
}

/// Why the agent itself ended a session or an attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionFault {
    /// A response did not arrive in time.
    #[error("{0} was not answered in time")]
    Late(&'static str),
    /// A message that is not allowed at this point.
    #[error("the manager sent {0}")]
    Unexpected(&'static str),
    /// A set of assignments was lost.
    #[error("assignments are missing: a set for {applies_to} came after {after}")]
    Gap {
        /// The last set.
        after: u64,
        /// The set that this one follows.
        applies_to: u64,
    },
    /// An acknowledgement that does not match the report.
    #[error("the manager acknowledged report {acknowledged} where {sent} was sent")]
    Acknowledged {
        /// The report that was sent.
        sent: u64,
        /// The one that was acknowledged.
        acknowledged: u64,
    },
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Soon, with growing delays.
    Soon,
    /// Not before an operator may have fixed the cause.
    AfterIntervention,
}

/// One agent's sessions.
#[derive(Debug)]
pub struct SessionMachine {
    state: State,
    backoff: Backoff,
    /// When the attempt that led to the current session started.
    attempt_started: Timestamp,
    /// Counts attempts and heartbeats.
    calls: u64,
}

#[derive(Debug)]
enum State {
    Pausing { until: Timestamp },
    Opening { attempt: u64, deadline: Timestamp },
    Open(Open),
}

#[derive(Debug)]
struct Open {
    session: SessionId,
    /// The last set of assignments that was applied.
    assigned: Option<u64>,
    heartbeat: Heartbeat,
    /// The time between heartbeats.
    period: Duration,
    report: Report,
    /// The sequence number of the last report that was sent.
    sent: u64,
    /// Delays between reports that were not accepted.
    backoff: Backoff,
}

#[derive(Debug)]
enum Heartbeat {
    Due(Timestamp),
    Unanswered { call: u64, deadline: Timestamp },
}

#[derive(Debug)]
enum Report {
    /// The next one is sent as soon as there is something to report.
    None,
    Unanswered {
        deadline: Timestamp,
    },
    /// It was not accepted, and is sent again at this time.
    Again(Timestamp),
}

impl SessionMachine {
    /// An agent that has no session yet.
    pub fn new(now: Timestamp) -> Self {
        Self { state: State::Pausing { until: now }, backoff: Backoff::default(), attempt_started: now, calls: 0 }
    }

    /// The open session.
    pub fn session(&self) -> Option<SessionId> {
        match &self.state {
            State::Open(open) => Some(open.session),
            State::Pausing { .. } | State::Opening { .. } => None,
        }
    }

    /// Whether this attempt is in progress.
    pub fn is_opening(&self, attempt: u64) -> bool {
        matches!(self.state, State::Opening { attempt: present, .. } if present == attempt)
    }

    /// When to poll next if nothing happens before.
    pub fn next_wake(&self) -> Timestamp {
        match &self.state {
            State::Pausing { until } => *until,
            State::Opening { deadline, .. } => *deadline,
            State::Open(open) => {
                let heartbeat = match open.heartbeat {
                    Heartbeat::Due(at) => at,
                    Heartbeat::Unanswered { deadline, .. } => deadline,
                };
                match open.report {
                    Report::None => heartbeat,
                    Report::Unanswered { deadline: at } | Report::Again(at) => heartbeat.min(at),
                }
            }
        }
    }

    /// The requests to make now. `share` is drawn for each call, from 0 to 1: the share of a delay that is kept.
    pub fn poll(&mut self, reports: &mut Reports, now: Timestamp, share: f64) -> Vec<Action> {
        match &mut self.state {
            State::Pausing { until } if *until <= now => {
                self.calls += 1;
                self.attempt_started = now;
                self.state = State::Opening { attempt: self.calls, deadline: now + OPENING_MAX };
                vec![Action::Open { attempt: self.calls }]
            }
            State::Opening { deadline, .. } if *deadline <= now => {
                vec![self.close(SessionFault::Late("registration"), reports, now, share)]
            }
            State::Pausing { .. } | State::Opening { .. } => Vec::new(),
            State::Open(open) if open.heartbeat.is_late(now) => {
                vec![self.close(SessionFault::Late("a heartbeat"), reports, now, share)]
            }
            State::Open(open) => {
                let heartbeat = open.heartbeat(&mut self.calls, now);
                heartbeat.into_iter().chain(open.report(reports, now, share)).collect()
            }
        }
    }

    /// A manager accepted an attempt. Returns whether it is the current one.
    pub fn welcomed(&mut self, attempt: u64, session: SessionId, period: Duration, now: Timestamp) -> bool {
        let present = self.is_opening(attempt);
        if present {
            let period = period.max(HEARTBEAT_PERIOD_MIN);
            let (heartbeat, backoff) = (Heartbeat::Due(now + period), Backoff::default());
            let report = Report::None;
            self.state = State::Open(Open { session, assigned: None, heartbeat, period, report, sent: 0, backoff });
        }
        present
    }

    /// Takes the sequence number of an assignment set. Returns whether it belongs to the open session and is to be applied.
    ///
    /// # Errors
    /// When a set before it is missing: the session must end.
    pub fn assigned(&mut self, session: SessionId, set: &AssignmentSet) -> Result<bool, SessionFault> {
        let Some(open) = self.open(session) else { return Ok(false) };
        match open.assigned {
            _ if set.complete => {}
            None => return Err(SessionFault::Unexpected("changed assignments before all of them")),
            Some(after) if after != set.applies_to => {
                return Err(SessionFault::Gap { after, applies_to: set.applies_to });
            }
            Some(_) => {}
        }
        open.assigned = Some(set.results_in);
        Ok(true)
    }

    /// A heartbeat was acknowledged, with the period until the next one.
    pub fn heartbeat_acknowledged(&mut self, session: SessionId, call: u64, period: Duration, now: Timestamp) {
        let Some(open) = self.open(session) else { return };
        if matches!(open.heartbeat, Heartbeat::Unanswered { call: asked, .. } if asked == call) {
            open.period = period.max(HEARTBEAT_PERIOD_MIN);
            open.heartbeat = Heartbeat::Due(now + open.period);
        }
    }

    /// A report was acknowledged.
    ///
    /// # Errors
    /// When it is not the one that was sent: the session must end.
    pub fn acknowledged(
        &mut self,
        session: SessionId,
        sequence: u64,
        reports: &mut Reports,
    ) -> Result<(), SessionFault> {
        let Some(open) = self.open(session) else { return Ok(()) };
        match sequence.cmp(&open.sent) {
            Ordering::Greater => Err(SessionFault::Acknowledged { sent: open.sent, acknowledged: sequence }),
            // A late response to an earlier attempt of the same report.
            Ordering::Less => Ok(()),
            Ordering::Equal => {
                open.report = Report::None;
                open.backoff.reset();
                reports.acknowledged(sequence);
                Ok(())
            }
        }
    }

    /// A report was not accepted: it is sent again after a delay. Whether the session is still valid is left to the heartbeats.
    pub fn report_rejected(&mut self, session: SessionId, now: Timestamp, share: f64) {
        let Some(open) = self.open(session) else { return };
        // It may already have been given up.
        if matches!(open.report, Report::Unanswered { .. }) {
            open.report = Report::Again(now + open.backoff.share_of_pause(share));
        }
    }

    /// The attempt or the session has ended. Returns the delay before the next one. Two agents with the same identity end each
    /// other's sessions; the delay keeps them from doing so at full speed.
    pub fn ended(&mut self, retry: Retry, reports: &mut Reports, now: Timestamp, share: f64) -> Duration {
        reports.close();
        if now.since(self.attempt_started) >= STABLE_AFTER {
            self.backoff.reset();
        }
        let soon = self.backoff.share_of_pause(share);
        let pause = match retry {
            Retry::Soon => soon,
            Retry::AfterIntervention => INTERVENTION_PAUSE,
        };
        self.state = State::Pausing { until: now + pause };
        pause
    }

    fn close(&mut self, why: SessionFault, reports: &mut Reports, now: Timestamp, share: f64) -> Action {
        let session = self.session();
        self.ended(Retry::Soon, reports, now, share);
        Action::Close { session, why }
    }

    /// The open session, if it has this id: messages of another session are late and ignored.
    fn open(&mut self, session: SessionId) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) if open.session == session => Some(open),
            State::Open(_) | State::Pausing { .. } | State::Opening { .. } => None,
        }
    }
}

impl Heartbeat {
    fn is_late(&self, now: Timestamp) -> bool {
        matches!(self, Self::Unanswered { deadline, .. } if *deadline <= now)
    }
}

/// Deadline for the response to a heartbeat. A node counts as down after three missed periods, so an agent that cannot reach
/// its manager must be connected to another one by then.
fn heartbeat_deadline(period: Duration) -> Duration {
    (period * 3 / 2).clamp(HEARTBEAT_DEADLINE_MIN, DEADLINE)
}

impl Open {
    fn heartbeat(&mut self, calls: &mut u64, now: Timestamp) -> Option<Action> {
        if !matches!(self.heartbeat, Heartbeat::Due(at) if at <= now) {
            return None;
        }
        *calls += 1;
        self.heartbeat = Heartbeat::Unanswered { call: *calls, deadline: now + heartbeat_deadline(self.period) };
        Some(Action::Heartbeat { session: self.session, call: *calls })
    }

    fn report(&mut self, reports: &mut Reports, now: Timestamp, share: f64) -> Option<Action> {
        match self.report {
            Report::Unanswered { deadline } if deadline <= now => {
                self.report = Report::Again(now + self.backoff.share_of_pause(share));
                return None;
            }
            Report::Unanswered { .. } => return None,
            Report::Again(at) if now < at => return None,
            Report::None | Report::Again(_) => {}
        }
        let Some(batch) = reports.batch() else {
            self.report = Report::None;
            return None;
        };
        let (session, sequence) = (self.session, batch.sequence);
        self.report = Report::Unanswered { deadline: now + DEADLINE };
        self.sent = sequence;
        let reports = batch.reports.into_iter().map(|(task, status)| TaskReport { task, status }).collect();
        Some(Action::Report(ReportRequest { session, sequence, reports }))
    }
}

#[cfg(test)]
mod tests {
    use events::{Id, TaskId, TaskState, TaskStatus};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(5);

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_ns(0) + Duration::from_millis(ms)
    }

    fn session(number: u128) -> SessionId {
        SessionId::from_bits(number)
    }

    fn set(complete: bool, applies_to: u64, results_in: u64) -> AssignmentSet {
        AssignmentSet { complete, applies_to, results_in, ..AssignmentSet::default() }
    }

    /// A machine with session 1 open at 0 ms, and open reports.
    fn open() -> (SessionMachine, Reports) {
        let (mut machine, mut reports) = (SessionMachine::new(at(0)), Reports::default());
        assert_eq!(machine.poll(&mut reports, at(0), 1.0), [Action::Open { attempt: 1 }]);
        assert!(machine.welcomed(1, session(1), PERIOD, at(0)));
        reports.open();
        (machine, reports)
    }

    #[test]
    fn a_gap_in_the_assignments_is_noticed() {
        let (mut machine, _) = open();
        let mut follow = |set: AssignmentSet| machine.assigned(session(1), &set);
        assert!(matches!(follow(set(false, 0, 1)), Err(SessionFault::Unexpected(_))));
        assert_eq!(follow(set(true, 0, 7)), Ok(true));
        assert_eq!(follow(set(false, 7, 9)), Ok(true));
        assert_eq!(follow(set(false, 7, 9)), Err(SessionFault::Gap { after: 9, applies_to: 7 }));
        assert_eq!(follow(set(false, 10, 11)), Err(SessionFault::Gap { after: 9, applies_to: 10 }));
        assert_eq!(follow(set(true, 0, 2)), Ok(true), "a complete set begins again");
        assert_eq!(machine.assigned(session(2), &set(false, 5, 6)), Ok(false), "another session's is nothing");
    }

    #[test]
    fn a_heartbeat_goes_each_period_and_one_that_is_not_answered_ends_the_session() {
        let (mut machine, mut reports) = open();
        assert_eq!((machine.next_wake(), machine.poll(&mut reports, at(4_999), 1.0)), (at(5_000), vec![]));
        let beat = |call| Action::Heartbeat { session: session(1), call };
        assert_eq!(machine.poll(&mut reports, at(5_000), 1.0), [beat(2)]);
        machine.heartbeat_acknowledged(session(1), 1, PERIOD, at(5_100));
        assert_eq!(machine.next_wake(), at(10_000), "the answer to another call is none");
        machine.heartbeat_acknowledged(session(1), 2, Duration::ZERO, at(5_100));
        assert_eq!(machine.next_wake(), at(5_200), "no manager makes an agent beat faster");
        assert_eq!(machine.poll(&mut reports, at(5_200), 1.0), [beat(3)]);
        let closed = Action::Close { session: Some(session(1)), why: SessionFault::Late("a heartbeat") };
        assert_eq!(machine.poll(&mut reports, at(6_699), 1.0), []);
        assert_eq!(machine.poll(&mut reports, at(6_700), 1.0), [closed]);
        assert_eq!((machine.session(), machine.next_wake()), (None, at(6_800)));
        assert_eq!(machine.poll(&mut reports, at(6_800), 1.0), [Action::Open { attempt: 4 }]);
        assert!(!machine.welcomed(1, session(2), PERIOD, at(6_800)), "an earlier attempt comes too late");
        let deadlines = [1, 2, 5].map(|seconds| heartbeat_deadline(Duration::from_secs(seconds)).as_millis());
        assert_eq!(deadlines, [1_500, 3_000, 5_000]);
    }

    #[test]
    fn pauses_grow_until_a_session_was_a_good_one() {
        let (mut machine, mut reports) = (SessionMachine::new(at(0)), Reports::default());
        let mut fails = |after_ms: u64, retry| {
            let started = machine.next_wake();
            machine.poll(&mut reports, started, 1.0);
            machine.ended(retry, &mut reports, started + Duration::from_millis(after_ms), 1.0).as_millis()
        };
        assert_eq!([fails(1, Retry::Soon), fails(1, Retry::Soon), fails(1, Retry::Soon)], [100, 300, 700]);
        assert_eq!(fails(5_000, Retry::Soon), 100);
        assert_eq!(fails(1, Retry::AfterIntervention), 60_000);
    }

    #[test]
    fn a_report_is_sent_until_it_is_acknowledged() {
        let (mut machine, mut reports) = open();
        let status = TaskStatus { state: TaskState::Running.into(), ..TaskStatus::default() };
        reports.put(TaskId::from_bits(1), status.clone());
        let reported = vec![TaskReport { task: TaskId::from_bits(1), status }];
        let report = || Action::Report(ReportRequest { session: session(1), sequence: 1, reports: reported.clone() });
        assert_eq!(machine.poll(&mut reports, at(1), 1.0), [report()]);
        assert_eq!(machine.poll(&mut reports, at(2), 1.0), []);
        machine.report_rejected(session(1), at(3), 1.0);
        assert_eq!(machine.poll(&mut reports, at(102), 1.0), []);
        assert_eq!(machine.poll(&mut reports, at(103), 1.0), [report()]);
        let other = SessionFault::Acknowledged { sent: 1, acknowledged: 2 };
        assert_eq!(machine.acknowledged(session(1), 2, &mut reports), Err(other));
        assert_eq!(machine.acknowledged(session(1), 1, &mut reports), Ok(()));
        assert_eq!(machine.poll(&mut reports, at(104), 1.0), []);
    }
}
