//! The network between agents and the manager: messages, and whether and when they arrive.
//!
//! It behaves like gRPC over TCP. A manager's messages in a session arrive in order or not at all; in that case both ends notice
//! that the connection broke. Calls of an agent may be lost, duplicated and reordered; if lost, the agent gets no answer. A
//! partition stops all messages; those in flight arrive once it is repaired.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use events::{NodeDescription, NodeId, SessionId, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wire::v1::{AssignmentSet, ReportRequest};

/// A message of an agent.
#[derive(Debug, Clone)]
pub enum ToManager {
    /// Opens a session.
    Register {
        /// The attempt number of the agent.
        attempt: u64,
        /// The description of the node.
        description: Box<NodeDescription>,
    },
    /// A heartbeat.
    Heartbeat {
        /// The session.
        session: SessionId,
        /// The call number of the agent.
        call: u64,
    },
    /// The status of tasks.
    Report(ReportRequest),
    /// The connection of a session is closed.
    Closed {
        /// The session.
        session: SessionId,
    },
}

/// A message of a manager.
#[derive(Debug, Clone)]
pub enum ToAgent {
    /// The session is open.
    Welcome {
        /// The attempt that opened it.
        attempt: u64,
        /// The session.
        session: SessionId,
        /// Time between two heartbeats.
        period: Duration,
    },
    /// The registration was refused, or its connection broke.
    NotWelcome {
        /// The attempt that failed.
        attempt: u64,
    },
    /// Assignments, in order.
    Assignments {
        /// The session.
        session: SessionId,
        /// All assignments, or the changes.
        set: Box<AssignmentSet>,
    },
    /// The session has ended.
    Closed {
        /// The session.
        session: SessionId,
    },
    /// A heartbeat was accepted.
    Heartbeat {
        /// The session.
        session: SessionId,
        /// The heartbeat's number.
        call: u64,
        /// Time to the next one.
        period: Duration,
    },
    /// Reports are committed.
    Acknowledged {
        /// The session.
        session: SessionId,
        /// The batch's number.
        sequence: u64,
    },
}

/// A message in flight.
#[derive(Debug, Clone)]
pub enum Parcel {
    /// From a node's agent to the manager.
    Up(NodeId, ToManager),
    /// From the manager to a node's agent.
    Down(NodeId, ToAgent),
}

/// The quality of the network.
#[derive(Debug, Clone, Copy)]
pub struct NetworkConditions {
    /// Share of lost messages, in thousandths.
    pub lost_per_mille: u32,
    /// Share of an agent's calls that arrive twice, in thousandths.
    pub doubled_per_mille: u32,
    /// Minimum and maximum latency.
    pub latency: (Duration, Duration),
}

impl NetworkConditions {
    /// No losses, and a latency of 10 ms.
    pub const FINE: Self = Self {
        lost_per_mille: 0,
        doubled_per_mille: 0,
        latency: (Duration::from_millis(10), Duration::from_millis(10)),
    };
}

/// The network.
#[derive(Debug)]
pub struct Net {
    /// Its present quality.
    pub conditions: NetworkConditions,
    random: StdRng,
    sequence: u64,
    queue: BTreeMap<(Timestamp, u64), Parcel>,
    cut: BTreeSet<NodeId>,
    held: Vec<Parcel>,
    /// When the last message of a session arrives at each node: later ones do not overtake it.
    stream_until: BTreeMap<NodeId, Timestamp>,
}

impl Net {
    /// A network without faults.
    pub fn new(seed: u64) -> Self {
        Self {
            conditions: NetworkConditions::FINE,
            random: StdRng::seed_from_u64(seed),
            sequence: 0,
            queue: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: Vec::new(),
            stream_until: BTreeMap::new(),
        }
    }

    /// Sends a message.
    pub fn send(&mut self, parcel: Parcel, now: Timestamp) {
        if self.draws(self.conditions.lost_per_mille) {
            return self.lose(parcel, now);
        }
        if matches!(parcel, Parcel::Up(..)) && self.draws(self.conditions.doubled_per_mille) {
            self.enqueue(parcel.clone(), now);
        }
        self.enqueue(parcel, now);
    }

    /// The time of the next arrival.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next message that has arrived by now.
    pub fn receive(&mut self, now: Timestamp) -> Option<Parcel> {
        while self.next().is_some_and(|at| at <= now) {
            let (_, parcel) = self.queue.pop_first()?;
            if !self.cut.contains(&parcel.node()) {
                return Some(parcel);
            }
            self.held.push(parcel);
        }
        None
    }

    /// Partitions a node.
    pub fn cut(&mut self, node: NodeId) {
        self.cut.insert(node);
    }

    /// Whether a node is partitioned.
    pub fn is_cut(&self, node: NodeId) -> bool {
        self.cut.contains(&node)
    }

    /// Reconnects a node: delayed messages continue.
    pub fn repair(&mut self, node: NodeId, now: Timestamp) {
        self.cut.remove(&node);
        let (mended, held) = std::mem::take(&mut self.held).into_iter().partition(|parcel| parcel.node() == node);
        self.held = held;
        let mended: Vec<Parcel> = mended;
        for parcel in mended {
            self.enqueue(parcel, now);
        }
    }

    /// Whether any message except heartbeats is in flight.
    pub fn is_busy(&self) -> bool {
        self.queue.values().any(|parcel| match parcel {
            Parcel::Up(_, ToManager::Heartbeat { .. }) | Parcel::Down(_, ToAgent::Heartbeat { .. }) => false,
            Parcel::Up(..) | Parcel::Down(..) => true,
        })
    }

    fn draws(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.random.random_range(0..1000) < per_mille
    }

    /// A lost message of a session breaks its connection; a lost call simply gets no answer.
    fn lose(&mut self, parcel: Parcel, now: Timestamp) {
        let Parcel::Down(node, message) = parcel else { return };
        match message {
            ToAgent::Welcome { attempt, session, .. } => {
                self.enqueue(Parcel::Down(node, ToAgent::NotWelcome { attempt }), now);
                self.enqueue(Parcel::Up(node, ToManager::Closed { session }), now);
            }
            ToAgent::Assignments { session, .. } => {
                self.enqueue(Parcel::Down(node, ToAgent::Closed { session }), now);
                self.enqueue(Parcel::Up(node, ToManager::Closed { session }), now);
            }
            closed @ ToAgent::Closed { .. } => self.enqueue(Parcel::Down(node, closed), now),
            ToAgent::NotWelcome { .. } | ToAgent::Heartbeat { .. } | ToAgent::Acknowledged { .. } => {}
        }
    }

    fn enqueue(&mut self, parcel: Parcel, now: Timestamp) {
        let (least, most) = self.conditions.latency;
        let mut at = now + if least < most { self.random.random_range(least..=most) } else { least };
        if let Parcel::Down(node, message) = &parcel
            && message.is_of_stream()
        {
            let until = self.stream_until.entry(*node).or_default();
            at = at.max(*until);
            *until = at;
        }
        self.sequence += 1;
        self.queue.insert((at, self.sequence), parcel);
    }
}

impl Parcel {
    fn node(&self) -> NodeId {
        match self {
            Self::Up(node, _) | Self::Down(node, _) => *node,
        }
    }
}

impl ToAgent {
    fn is_of_stream(&self) -> bool {
        match self {
            Self::Welcome { .. } | Self::NotWelcome { .. } | Self::Assignments { .. } | Self::Closed { .. } => true,
            Self::Heartbeat { .. } | Self::Acknowledged { .. } => false,
        }
    }
}
