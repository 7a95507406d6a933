//! What is wrong, and when to look again.
//!
//! Each reconciler is one pure function from a state to a [`Correction`]. [`settle`] runs them in the order of [`ALL`], over
//! what a turn touched, until none has anything to say: the state is then as the specs want it, as far as it can be now.
//! They know neither commands nor each other, keep nothing between calls, and read time only from their context.

pub mod worker;

mod scope;
mod settle;

mod constraints;
mod global;
mod liveness;
mod reaper;
mod replicated;
mod restarts;
mod updates;

pub mod schedule;

mod slots;

use std::collections::BTreeMap;
use std::time::Duration;

use events::{IdGenerator, Kind, NodeId, Reconciler, ServiceId, Timestamp};
use projections::Cluster;

pub use scope::Scope;
pub use settle::{Settled, settle};

/// Each node's last sign of life. Heartbeats never enter the log; this is the leader's memory of them.
pub type Presence = BTreeMap<NodeId, Sign>;

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sign {
    /// When the node was heard of.
    pub at: Timestamp,
    /// How long it was given then until it had to be heard of again. It beats by this until its next heartbeat's answer,
    /// even if operators make the period shorter meanwhile.
    pub timeout: Duration,
}

/// What a turn gives to the reconcilers in it.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// The turn's time.
    pub now: Timestamp,
    /// Maker of ids.
    pub ids: &'a mut IdGenerator,
    /// Each node's last sign of life.
    pub presence: &'a Presence,
}

/// What to look at again at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A node.
    Node(NodeId),
    /// A service.
    Service(ServiceId),
}

/// What a reconciler wants changed, and when it wants to look again.
#[derive(Debug)]
pub struct Correction {
    /// What becomes true.
    pub events: Vec<Kind>,
    /// When to look at what again although nothing was touched.
    pub wakes: Vec<(Timestamp, Subject)>,
    room: usize,
}

impl Correction {
    /// Nothing yet, with room for about this many events.
    pub fn with_room(room: usize) -> Self {
        Self { events: Vec::new(), wakes: Vec::new(), room }
    }

    /// Whether the turn's bound is reached: the rest is the next turn's first work.
    pub fn is_full(&self) -> bool {
        self.events.len() >= self.room
    }

    /// Events that still fit.
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.events.len())
    }

    /// Asks to look at `subject` again at `time`.
    pub fn wake(&mut self, time: Timestamp, subject: Subject) {
        self.wakes.push((time, subject));
    }
}

/// One reconciler: adds what is wrong within the scope to the correction.
pub type Reconcile = fn(&Cluster, &Scope, &mut Ctx<'_>, &mut Correction);

/// All reconcilers, in the order in which things are put right: first what is lost, then what is out of date, then what
/// ended, then what is missing, then where it goes, then what may be forgotten.
pub const ALL: [(Reconciler, Reconcile); 8] = [
    (Reconciler::Liveness, liveness::reconcile),
    (Reconciler::Constraints, constraints::reconcile),
    (Reconciler::Updates, updates::reconcile),
    (Reconciler::Restarts, restarts::reconcile),
    (Reconciler::Replicated, replicated::reconcile),
    (Reconciler::Global, global::reconcile),
    (Reconciler::Schedule, schedule::reconcile),
    (Reconciler::Reaper, reaper::reconcile),
];
