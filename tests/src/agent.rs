//! One node's agent: real sessions, task steps and reports, with a simulated engine and network instead of Docker and gRPC.

use std::collections::BTreeMap;

use events::{NodeDescription, SessionId, TaskId, TaskStatus, Timestamp};
use node::agent::assigned::{Changes, changes};
use node::agent::items::Items;
use node::agent::protocol::{Action, Retry, SessionMachine};
use reconcilers::worker::{Advance, Reports, StepOutcome, Target, TaskMachine, Then};
use wire::v1::{Assignment, AssignmentSet};

use crate::engine::Engine;
use crate::net::{ToAgent, ToManager};

/// No jitter in delays, so that scenarios are deterministic.
const DELAY_FRACTION: f64 = 1.0;

/// The record of one task on an agent's disk.
#[derive(Debug, Clone)]
pub struct Record {
    assignment: Assignment,
    status: TaskStatus,
    withdrawn: bool,
}

/// The records on an agent's disk.
pub type Records = BTreeMap<TaskId, Record>;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    tasks: BTreeMap<TaskId, RunningTask>,
    reports: Reports,
    session: SessionMachine,
    /// The received assignments; a complete set replaces them.
    items: Items,
    swept: bool,
    /// The description of the registration; if it changes, the session ends.
    described: Option<NodeDescription>,
}

#[derive(Debug)]
struct RunningTask {
    assignment: Assignment,
    withdrawn: bool,
    machine: TaskMachine,
    wake_at: Option<Timestamp>,
}

impl Agent {
    /// Starts an agent with the records on its disk.
    pub fn start(records: &Records, now: Timestamp) -> Self {
        let resume = |record: &Record| RunningTask {
            machine: TaskMachine::resumed(record.assignment.desired(), record.status.clone()),
            assignment: record.assignment.clone(),
            withdrawn: record.withdrawn,
            wake_at: None,
        };
        Self {
            tasks: records.iter().map(|(task, record)| (*task, resume(record))).collect(),
            reports: Reports::default(),
            session: SessionMachine::new(now),
            items: Items::default(),
            swept: false,
            described: None,
        }
    }

    /// The time of the next action if nothing happens before.
    pub fn next(&self) -> Option<Timestamp> {
        self.tasks.values().filter_map(|task| task.wake_at).chain([self.session.next_wake()]).min()
    }

    /// Whether it holds a session.
    pub fn is_connected(&self) -> bool {
        self.session().is_some()
    }

    /// The session that ends with this agent, if it has one.
    pub fn session(&self) -> Option<SessionId> {
        self.session.session()
    }

    /// Handles the result of an engine call.
    pub fn finished(&mut self, task: TaskId, outcome: StepOutcome, now: Timestamp) {
        if let Some(tended) = self.tasks.get_mut(&task) {
            tended.machine.finished(outcome, now);
        }
    }

    /// Handles a message of a manager. A message of another session is outdated and ignored.
    pub fn receive(&mut self, message: ToAgent, engine: &mut Engine, now: Timestamp) -> Vec<ToManager> {
        let taken = match message {
            ToAgent::Welcome { attempt, session, period } => {
                self.session.welcomed(attempt, session, period, now);
                true
            }
            ToAgent::NotWelcome { attempt } => !self.session.is_opening(attempt),
            ToAgent::Closed { session } => self.session() != Some(session),
            ToAgent::Assignments { session, set } => match self.session.assigned(session, &set) {
                Ok(true) => {
                    self.assign(*set, engine, now);
                    true
                }
                Ok(false) => true,
                Err(_) => false,
            },
            ToAgent::Heartbeat { session, call, period } => {
                self.session.heartbeat_acknowledged(session, call, period, now);
                true
            }
            ToAgent::Acknowledged { session, sequence } => {
                self.session.acknowledged(session, sequence, &mut self.reports).is_ok()
            }
        };
        if taken { Vec::new() } else { self.disconnect(now) }
    }

    /// Does everything that is possible now: tasks, session, heartbeats, reports. Changed records are written to `records`.
    pub fn work(
        &mut self,
        description: &NodeDescription,
        engine: &mut Engine,
        records: &mut Records,
        now: Timestamp,
    ) -> Vec<ToManager> {
        let tasks: Vec<TaskId> = self.tasks.keys().copied().collect();
        for task in tasks {
            self.drive(task, engine, records, now);
        }
        let mut out = Vec::new();
        if self.is_connected() && self.described.as_ref() != Some(description) {
            out.extend(self.disconnect(now));
        }
        for action in self.session.poll(&mut self.reports, now, DELAY_FRACTION) {
            out.extend(self.asked(action, description));
        }
        out
    }

    fn drive(&mut self, id: TaskId, engine: &mut Engine, records: &mut Records, now: Timestamp) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let (desired, known) = (task.assignment.desired(), task.assignment.state());
        let target = Target { desired, known, withdrawn: task.withdrawn };
        let Advance { reports, call, then } = task.machine.advance(target, now);
        reports.into_iter().for_each(|status| self.reports.put(id, status));
        if let Some(call) = call {
            engine.begin(id, call, &task.assignment.spec.template().container().image, now);
        }
        match then {
            Then::Wait(wake_at) => task.wake_at = wake_at,
            Then::Forget => {
                self.reports.forget(id);
                self.tasks.remove(&id);
                records.remove(&id);
                return;
            }
        }
        let (assignment, status) = (task.assignment.clone(), task.machine.status());
        records.insert(id, Record { assignment, status, withdrawn: task.withdrawn });
    }

    fn assign(&mut self, set: AssignmentSet, engine: &mut Engine, now: Timestamp) {
        let set = self.items.take(set).expect("a manager sends the specs of tasks");
        let complete = set.complete;
        let Changes { withdrawn, updated, added } = changes(&self.tasks, set);
        for task in withdrawn {
            if let Some(tended) = self.tasks.get_mut(&task) {
                tended.withdrawn = true;
                self.reports.forget(task);
            }
        }
        for assignment in updated {
            if let Some(tended) = self.tasks.get_mut(&assignment.task) {
                tended.assignment = assignment;
            }
        }
        for assignment in added {
            let machine = TaskMachine::assigned(assignment.desired(), assignment.state(), now);
            self.tasks.insert(assignment.task, RunningTask { assignment, withdrawn: false, machine, wake_at: None });
        }
        if complete {
            self.reports.open();
            if !std::mem::replace(&mut self.swept, true) {
                engine.remove_strays(|task| self.tasks.contains_key(&task));
            }
        }
    }

    /// A request of the session, as a message of the simulated network.
    fn asked(&mut self, action: Action, description: &NodeDescription) -> Option<ToManager> {
        match action {
            Action::Open { attempt } => {
                self.described = Some(description.clone());
                Some(ToManager::Register { attempt, description: Box::new(description.clone()) })
            }
            Action::Heartbeat { session, call } => Some(ToManager::Heartbeat { session, call }),
            Action::Report(report) => Some(ToManager::Report(report)),
            Action::Close { session, .. } => session.map(|session| ToManager::Closed { session }),
        }
    }

    /// Ends the session, or the attempt to open one. The manager notices the closed connection.
    fn disconnect(&mut self, now: Timestamp) -> Vec<ToManager> {
        let session = self.session();
        self.session.ended(Retry::Soon, &mut self.reports, now, DELAY_FRACTION);
        session.map(|session| ToManager::Closed { session }).into_iter().collect()
    }
}
