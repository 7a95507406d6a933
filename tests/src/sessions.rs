//! A manager's end of the sessions that agents hold with it: who waits for which answer of the core, and what each is sent.

use std::collections::BTreeMap;

use events::{Duration, NodeId, SessionId};
use node::control::Control;
use node::control::sessions::AssignmentStream;
use node::manager::replica::{Outcome, Ticket};
use wire::v1::SessionMessage;
use wire::v1::session_message::Message;

use crate::net::{ToAgent, ToManager};

/// The sessions of one run of a manager.
#[derive(Default)]
pub struct Sessions {
    open: BTreeMap<SessionId, Session>,
    waiting: BTreeMap<Ticket, Waiting>,
}

/// The manager's end of a session, and the attempt of the agent that it answers.
struct Session {
    attempt: u64,
    stream: AssignmentStream,
}

/// What an agent waits for.
#[derive(Debug, Clone, Copy)]
pub enum Waiting {
    /// To be registered.
    Registration {
        /// Its node.
        node: NodeId,
        /// Its attempt.
        attempt: u64,
        /// The session that is to be.
        session: SessionId,
    },
    /// To hear that its report was taken.
    Report {
        /// Its node.
        node: NodeId,
        /// Its session.
        session: SessionId,
        /// The number of the report.
        sequence: u64,
    },
}

impl Sessions {
    /// An agent waits for the answer to a ticket.
    pub fn wait(&mut self, ticket: Ticket, waiting: Waiting) {
        self.waiting.insert(ticket, waiting);
    }

    /// What an outcome is to the agent that waits for it; nothing if it is not an agent that does.
    pub fn answer(&mut self, ticket: Ticket, outcome: &Outcome) -> Option<Vec<(NodeId, ToAgent)>> {
        let taken = matches!(outcome, Outcome::Committed { .. });
        Some(match self.waiting.remove(&ticket)? {
            Waiting::Registration { node, attempt, session } if taken => {
                let stream = AssignmentStream::new(node, session);
                self.open.insert(session, Session { attempt, stream });
                Vec::new()
            }
            Waiting::Registration { node, attempt, .. } => vec![(node, ToAgent::NotWelcome { attempt })],
            Waiting::Report { node, session, sequence } if taken => {
                vec![(node, ToAgent::Acknowledged { session, sequence })]
            }
            Waiting::Report { .. } => Vec::new(),
        })
    }

    /// Forgets a session whose connection is closed.
    pub fn close(&mut self, session: SessionId) {
        self.open.remove(&session);
    }

    /// What is new for every agent; sessions that are over end.
    pub fn feed(&mut self, control: &Control) -> Vec<(NodeId, ToAgent)> {
        let mut sent = Vec::new();
        self.open.retain(|id, session| {
            let node = session.stream.node();
            match session.stream.next(control) {
                Ok(messages) => {
                    let messages = messages.into_iter().filter_map(|message| translated(message, *id, session.attempt));
                    sent.extend(messages.map(|message| (node, message)));
                    true
                }
                Err(_) => {
                    sent.push((node, ToAgent::Closed { session: *id }));
                    false
                }
            }
        });
        sent
    }

    /// The sessions whose connections break with this manager.
    pub fn open(&self) -> Vec<(NodeId, SessionId)> {
        self.open.iter().map(|(id, session)| (session.stream.node(), *id)).collect()
    }
}

/// A message of a session as the simulated network carries it.
fn translated(message: SessionMessage, session: SessionId, attempt: u64) -> Option<ToAgent> {
    Some(match message.message? {
        Message::Welcome(welcome) => {
            ToAgent::Welcome { attempt, session, period: Duration::from_nanos(welcome.heartbeat_period_ns) }
        }
        Message::Assignments(set) => ToAgent::Assignments { session, set: Box::new(set) },
        // Streams are read without connections here.
        Message::Order(_) => return None,
    })
}

/// How a call ends when nobody listens.
pub fn refused(message: ToManager) -> Option<ToAgent> {
    match message {
        ToManager::Register { attempt, .. } => Some(ToAgent::NotWelcome { attempt }),
        ToManager::Heartbeat { session, .. } => Some(ToAgent::Closed { session }),
        ToManager::Report(report) => Some(ToAgent::Closed { session: report.session }),
        ToManager::Closed { .. } => None,
    }
}
