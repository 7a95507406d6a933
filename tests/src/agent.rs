//! One node's agent: the real task steps and reports, driven as the real agent drives them, with a simulated engine and
//! network in place of Docker and gRPC.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use events::{NodeDescription, SessionId, TaskId, TaskStatus, Timestamp};
use reconcilers::worker::{Action, Outcome, Reports, TaskMachine};
use wire::v1::{Assignment, AssignmentSet};

use crate::engine::Engine;
use crate::net::{ToAgent, ToManager};

/// How long a manager may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// First and longest pause before a manager is asked again.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// What an agent keeps on its disk of one task.
#[derive(Debug, Clone)]
pub struct Record {
    assignment: Assignment,
    status: TaskStatus,
    withdrawn: bool,
}

/// What an agent keeps on its disk.
pub type Records = BTreeMap<TaskId, Record>;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    tasks: BTreeMap<TaskId, Tended>,
    reports: Reports,
    connection: Connection,
    pause: Duration,
    /// Numbers registrations and heartbeats.
    calls: u64,
    swept: bool,
    /// Registered with this; another one ends the session.
    described: Option<NodeDescription>,
}

#[derive(Debug)]
struct Tended {
    assignment: Assignment,
    withdrawn: bool,
    machine: TaskMachine,
    wake_at: Option<Timestamp>,
}

#[derive(Debug)]
enum Connection {
    Down { retry_at: Timestamp },
    Registering { attempt: u64, deadline: Timestamp },
    Open(Session),
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    /// The last assignment set taken.
    assigned: Option<u64>,
    heartbeat: Heartbeat,
    /// When the batch under way is sent again.
    report_again_at: Option<Timestamp>,
}

#[derive(Debug)]
enum Heartbeat {
    Due(Timestamp),
    Unanswered { call: u64, deadline: Timestamp },
}

impl Agent {
    /// An agent that goes on with what is on its disk.
    pub fn start(records: &Records, now: Timestamp) -> Self {
        let resume = |record: &Record| Tended {
            machine: TaskMachine::resumed(record.assignment.desired(), record.status.clone()),
            assignment: record.assignment.clone(),
            withdrawn: record.withdrawn,
            wake_at: None,
        };
        Self {
            tasks: records.iter().map(|(task, record)| (*task, resume(record))).collect(),
            reports: Reports::default(),
            connection: Connection::Down { retry_at: now },
            pause: Duration::ZERO,
            calls: 0,
            swept: false,
            described: None,
        }
    }

    /// When it has something to do although nothing happens.
    pub fn next(&self) -> Option<Timestamp> {
        let connection = match &self.connection {
            Connection::Down { retry_at } => Some(*retry_at),
            Connection::Registering { deadline, .. } => Some(*deadline),
            Connection::Open(session) => {
                let heartbeat = match session.heartbeat {
                    Heartbeat::Due(at) => at,
                    Heartbeat::Unanswered { deadline, .. } => deadline,
                };
                Some(session.report_again_at.map_or(heartbeat, |at| at.min(heartbeat)))
            }
        };
        self.tasks.values().filter_map(|task| task.wake_at).chain(connection).min()
    }

    /// Whether it holds a session.
    pub fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Open(_))
    }

    /// The session that ends with this agent, if it holds one.
    pub fn session(&self) -> Option<SessionId> {
        match &self.connection {
            Connection::Open(session) => Some(session.id),
            Connection::Down { .. } | Connection::Registering { .. } => None,
        }
    }

    /// The result of a call of the engine.
    pub fn finished(&mut self, task: TaskId, outcome: Outcome, now: Timestamp) {
        if let Some(tended) = self.tasks.get_mut(&task) {
            tended.machine.finished(outcome, now);
        }
    }

    /// Takes what a manager says. What belongs to another session than the present one is late, and nothing.
    pub fn receive(&mut self, message: ToAgent, engine: &mut Engine, now: Timestamp) -> Vec<ToManager> {
        match (&mut self.connection, message) {
            (Connection::Registering { attempt, .. }, ToAgent::Welcome { attempt: welcome, session, period })
                if *attempt == welcome =>
            {
                self.pause = Duration::ZERO;
                let heartbeat = Heartbeat::Due(now + period);
                self.connection =
                    Connection::Open(Session { id: session, assigned: None, heartbeat, report_again_at: None });
            }
            (Connection::Registering { attempt, .. }, ToAgent::NotWelcome { attempt: refused })
                if *attempt == refused =>
            {
                return self.disconnect(now);
            }
            (Connection::Open(open), ToAgent::Closed { session }) if open.id == session => return self.disconnect(now),
            (Connection::Open(open), ToAgent::Assignments { session, set }) if open.id == session => {
                if !set.complete && open.assigned != Some(set.applies_to) {
                    return self.disconnect(now);
                }
                open.assigned = Some(set.results_in);
                self.assign(set, engine, now);
            }
            (Connection::Open(open), ToAgent::Heard { session, call, period }) if open.id == session => {
                if matches!(open.heartbeat, Heartbeat::Unanswered { call: asked, .. } if asked == call) {
                    open.heartbeat = Heartbeat::Due(now + period);
                }
            }
            (Connection::Open(open), ToAgent::Acknowledged { session, sequence }) if open.id == session => {
                open.report_again_at = None;
                self.reports.acknowledged(sequence);
            }
            (Connection::Down { .. } | Connection::Registering { .. } | Connection::Open(_), _) => {}
        }
        Vec::new()
    }

    /// Does everything that can be done now: tasks, session, heartbeats, reports. What it keeps goes to `records`.
    pub fn work(
        &mut self,
        description: &NodeDescription,
        engine: &mut Engine,
        records: &mut Records,
        now: Timestamp,
    ) -> Vec<ToManager> {
        let tasks: Vec<TaskId> = self.tasks.keys().copied().collect();
        for task in tasks {
            self.tend(task, engine, records, now);
        }
        let mut out = Vec::new();
        if self.is_connected() && self.described.as_ref() != Some(description) {
            out.extend(self.disconnect(now));
        }
        out.extend(self.keep_connected(description, now));
        out.extend(self.report(now));
        out
    }

    fn tend(&mut self, id: TaskId, engine: &mut Engine, records: &mut Records, now: Timestamp) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.machine.assign(task.assignment.desired(), task.assignment.state());
        if task.withdrawn {
            task.machine.withdraw();
        }
        loop {
            match task.machine.next(now) {
                Action::Call(call) => engine.begin(id, call, &task.assignment.spec.template().runs().image, now),
                Action::Report(status) => self.reports.put(id, status),
                Action::Sleep(wake_at) => {
                    task.wake_at = wake_at;
                    break;
                }
                Action::Forget => {
                    self.reports.forget(id);
                    self.tasks.remove(&id);
                    records.remove(&id);
                    return;
                }
            }
        }
        let (assignment, status) = (task.assignment.clone(), task.machine.status());
        records.insert(id, Record { assignment, status, withdrawn: task.withdrawn });
    }

    fn assign(&mut self, set: AssignmentSet, engine: &mut Engine, now: Timestamp) {
        let listed: BTreeSet<TaskId> = set.tasks.iter().map(|assignment| assignment.task).collect();
        let unlisted = self.tasks.keys().filter(|task| set.complete && !listed.contains(task)).copied();
        for task in unlisted.chain(set.removed).collect::<Vec<_>>() {
            if let Some(tended) = self.tasks.get_mut(&task) {
                tended.withdrawn = true;
                self.reports.forget(task);
            }
        }
        for assignment in set.tasks {
            let (id, known) = (assignment.task, assignment.state());
            match self.tasks.get_mut(&id) {
                Some(tended) => tended.assignment = assignment,
                // A task that is over and unknown here needs nothing.
                None if known.is_terminal() => {}
                None => {
                    let machine = TaskMachine::assigned(assignment.desired(), known, now);
                    self.tasks.insert(id, Tended { assignment, withdrawn: false, machine, wake_at: None });
                }
            }
        }
        if set.complete {
            self.reports.open();
            if !std::mem::replace(&mut self.swept, true) {
                engine.remove_strays(|task| self.tasks.contains_key(&task));
            }
        }
    }

    fn keep_connected(&mut self, description: &NodeDescription, now: Timestamp) -> Vec<ToManager> {
        match &mut self.connection {
            Connection::Down { retry_at } if *retry_at <= now => {
                self.calls += 1;
                self.described = Some(description.clone());
                self.connection = Connection::Registering { attempt: self.calls, deadline: now + DEADLINE };
                vec![ToManager::Register { attempt: self.calls, description: Box::new(description.clone()) }]
            }
            Connection::Registering { deadline, .. } if *deadline <= now => self.disconnect(now),
            Connection::Open(session) => match session.heartbeat {
                Heartbeat::Due(at) if at <= now => {
                    self.calls += 1;
                    session.heartbeat = Heartbeat::Unanswered { call: self.calls, deadline: now + DEADLINE };
                    vec![ToManager::Heartbeat { session: session.id, call: self.calls }]
                }
                Heartbeat::Unanswered { deadline, .. } if deadline <= now => self.disconnect(now),
                Heartbeat::Due(_) | Heartbeat::Unanswered { .. } => Vec::new(),
            },
            Connection::Down { .. } | Connection::Registering { .. } => Vec::new(),
        }
    }

    fn report(&mut self, now: Timestamp) -> Option<ToManager> {
        let Connection::Open(session) = &mut self.connection else { return None };
        if session.report_again_at.is_some_and(|at| now < at) {
            return None;
        }
        session.report_again_at = None;
        let batch = self.reports.batch()?;
        session.report_again_at = Some(now + DEADLINE);
        Some(ToManager::Report(node::agent::report_request(session.id, batch)))
    }

    /// Ends the session, or the attempt at one. The manager notices that the connection is closed.
    fn disconnect(&mut self, now: Timestamp) -> Vec<ToManager> {
        let session = self.session();
        self.reports.close();
        self.pause = PAUSE_MAX.min(PAUSE_FIRST + self.pause * 2);
        self.connection = Connection::Down { retry_at: now + self.pause };
        session.map(|session| ToManager::Closed { session }).into_iter().collect()
    }
}
