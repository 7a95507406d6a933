//! The network between agents and the manager: what is said, and when it arrives, if it does.
//!
//! It behaves as gRPC over TCP does. What a manager sends in a session arrives in order or not at all, in which case both
//! ends learn that the connection broke. Calls of an agent may be lost, doubled and overtake each other; the agent then
//! misses an answer. Nothing crosses a cut, but what was on the way arrives once it is mended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use events::{NodeDescription, NodeId, SessionId, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wire::v1::{AssignmentSet, ReportRequest};

/// What an agent says.
#[derive(Debug, Clone)]
pub enum ToManager {
    /// Opens a session.
    Register {
        /// Numbers the attempts of the agent.
        attempt: u64,
        /// What the node says of itself.
        description: Box<NodeDescription>,
    },
    /// A sign of life.
    Heartbeat {
        /// The session.
        session: SessionId,
        /// Numbers the calls of the agent.
        call: u64,
    },
    /// How tasks are doing.
    Report(ReportRequest),
    /// The connection of a session is closed.
    Closed {
        /// The session.
        session: SessionId,
    },
}

/// What a manager says.
#[derive(Debug, Clone)]
pub enum ToAgent {
    /// The session is open.
    Welcome {
        /// The attempt that led to it.
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
    /// What to do, in order.
    Assignments {
        /// The session.
        session: SessionId,
        /// All assignments, or what changed.
        set: Box<AssignmentSet>,
    },
    /// The session is over.
    Closed {
        /// The session.
        session: SessionId,
    },
    /// A heartbeat was taken.
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

/// Something on its way.
#[derive(Debug, Clone)]
pub enum Parcel {
    /// From a node's agent to the manager.
    Up(NodeId, ToManager),
    /// From the manager to a node's agent.
    Down(NodeId, ToAgent),
}

/// How bad the network is.
#[derive(Debug, Clone, Copy)]
pub struct NetworkConditions {
    /// Share of messages that are lost, in thousandths.
    pub lost_per_mille: u32,
    /// Share of an agent's calls that arrive twice, in thousandths.
    pub doubled_per_mille: u32,
    /// Shortest and longest time on the way.
    pub latency: (Duration, Duration),
}

impl NetworkConditions {
    /// Everything arrives, after 10 ms.
    pub const FINE: Self = Self {
        lost_per_mille: 0,
        doubled_per_mille: 0,
        latency: (Duration::from_millis(10), Duration::from_millis(10)),
    };
}

/// The network.
#[derive(Debug)]
pub struct Net {
    /// How bad it is now.
    pub weather: NetworkConditions,
    random: StdRng,
    sequence: u64,
    queue: BTreeMap<(Timestamp, u64), Parcel>,
    cut: BTreeSet<NodeId>,
    held: Vec<Parcel>,
    /// When the last message of a session arrives at each node: later ones do not overtake it.
    stream_until: BTreeMap<NodeId, Timestamp>,
}

impl Net {
    /// A network in fine weather.
    pub fn new(seed: u64) -> Self {
        Self {
            weather: NetworkConditions::FINE,
            random: StdRng::seed_from_u64(seed),
            sequence: 0,
            queue: BTreeMap::new(),
            cut: BTreeSet::new(),
            held: Vec::new(),
            stream_until: BTreeMap::new(),
        }
    }

    /// Sends something.
    pub fn send(&mut self, parcel: Parcel, now: Timestamp) {
        if self.draws(self.weather.lost_per_mille) {
            return self.lose(parcel, now);
        }
        if matches!(parcel, Parcel::Up(..)) && self.draws(self.weather.doubled_per_mille) {
            self.enqueue(parcel.clone(), now);
        }
        self.enqueue(parcel, now);
    }

    /// When something arrives next.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// What has arrived by now, one by one.
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

    /// Cuts a node off.
    pub fn cut(&mut self, node: NodeId) {
        self.cut.insert(node);
    }

    /// Whether a node is cut off.
    pub fn is_cut(&self, node: NodeId) -> bool {
        self.cut.contains(&node)
    }

    /// Connects a node again: what waited at the cut goes on.
    pub fn mend(&mut self, node: NodeId, now: Timestamp) {
        self.cut.remove(&node);
        let (mended, held) = std::mem::take(&mut self.held).into_iter().partition(|parcel| parcel.node() == node);
        self.held = held;
        let mended: Vec<Parcel> = mended;
        for parcel in mended {
            self.enqueue(parcel, now);
        }
    }

    /// Whether anything but heartbeats is on its way.
    pub fn is_busy(&self) -> bool {
        self.queue.values().any(|parcel| match parcel {
            Parcel::Up(_, ToManager::Heartbeat { .. }) | Parcel::Down(_, ToAgent::Heartbeat { .. }) => false,
            Parcel::Up(..) | Parcel::Down(..) => true,
        })
    }

    fn draws(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.random.random_range(0..1000) < per_mille
    }

    /// A lost part of a session breaks its connection; a lost call is just not answered.
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
        let (least, most) = self.weather.latency;
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
