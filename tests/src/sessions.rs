//! A manager's side of its sessions with agents: pending answers of the core, and assignments to send.

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

/// A manager's side of a session, and the agent's attempt that it answers.
struct Session {
    attempt: u64,
    stream: AssignmentStream,
}

/// A pending answer for an agent.
#[derive(Debug, Clone, Copy)]
pub enum Waiting {
    /// Its registration.
    Registration {
        /// Its node.
        node: NodeId,
        /// Its attempt.
        attempt: u64,
        /// The session to open.
        session: SessionId,
    },
    /// The acknowledgement of its report.
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
    /// Records that an agent waits for the answer to a ticket.
    pub fn wait(&mut self, ticket: Ticket, waiting: Waiting) {
        self.waiting.insert(ticket, waiting);
    }

    /// The message to an agent for an outcome; `None` if no agent waits for it.
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

    /// New messages for every agent; ended sessions are closed.
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

/// A message of a session, as a message of the simulated network.
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

/// The failure of a call if no manager is listening.
pub fn refused(message: ToManager) -> Option<ToAgent> {
    match message {
        ToManager::Register { attempt, .. } => Some(ToAgent::NotWelcome { attempt }),
        ToManager::Heartbeat { session, .. } => Some(ToAgent::Closed { session }),
        ToManager::Report(report) => Some(ToAgent::Closed { session: report.session }),
        ToManager::Closed { .. } => None,
    }
}
