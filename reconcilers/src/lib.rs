//! Reconcilers: they detect how the state differs from the desired one, and when to look again.
//!
//! Each reconciler is one pure function from a state to a [`Correction`]. [`settle`] runs them in the order of [`ALL`], over what
//! a turn touched, until none returns anything: the state then matches the specs, as far as possible now. They depend neither on
//! commands nor on each other, keep nothing between calls, and read time only from their context.

pub mod worker;

mod budget;
mod candidates;
mod scope;
mod settle;
mod slices;

pub mod autoscale;
mod constraints;
mod global;
mod jobs;
pub mod liveness;
pub mod members;
mod reaper;
mod replicated;
mod restarts;
mod root_rotation;
mod runs;
mod updates;

pub mod schedule;

mod slots;
mod templates;

#[cfg(test)]
mod samples;

use std::collections::BTreeMap;

use events::{
    DesiredCause, Duration, IdGenerator, Kind, NodeId, Reconciler, ServiceId, TaskDesiredStateSet, TaskId, TaskState,
    Timestamp,
};
use projections::{Cluster, Instance, Task, Touched};

pub use autoscale::{NodeUse, TaskUse, Uses};
pub use budget::Budget;
pub use candidates::Candidates;
pub use members::{Follower, Peers};
pub use scope::Scope;
pub use settle::{Settled, settle, settle_without};

/// When each node was last heard from. Heartbeats never enter the log; the leader records them.
pub type Presence = BTreeMap<NodeId, LastSeen>;

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// When it arrived.
    pub at: Timestamp,
    /// How long the node may then be silent. A later change of settings takes effect with its next heartbeat.
    pub timeout: Duration,
}

/// The inputs of the reconcilers in a turn.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// The turn's time.
    pub now: Timestamp,
    /// Generator of ids.
    pub ids: &'a mut IdGenerator,
    /// Each node's last sign of life.
    pub presence: &'a Presence,
    /// The leader's view of the other managers.
    pub peers: &'a Peers,
    /// Resource use of the tasks of autoscaled services.
    pub uses: &'a Uses,
    /// Caches between turns. They do not affect decisions, only how long these take.
    pub candidates: &'a mut Candidates,
}

/// What to reconcile again at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// A node.
    Node(NodeId),
    /// A service as a whole.
    Service(ServiceId),
    /// The rollout of a service.
    Rollout(ServiceId),
    /// The balance of a service's tasks over the nodes.
    Balance(ServiceId),
    /// The autoscaling of a service.
    Scaling(ServiceId),
    /// One place of a service.
    Place(ServiceId, Instance),
}

/// The changes that a reconciler requests, and when it has to run again.
#[derive(Debug)]
pub struct Correction {
    events: Vec<Kind>,
    /// When to reconcile what again although nothing was touched.
    wakes: Vec<(Timestamp, TimerKey)>,
    /// What the reconciler did not reach, because the turn or its share of it is full. `None` if it cannot tell: then a full turn
    /// repeats everything.
    unreached: Option<Touched>,
    /// What the reconciler defers to the next turn, because it is too much for one pass.
    deferred: Touched,
    /// Places that the reconciler visited in addition to those of its scope.
    places: usize,
    room: Budget,
}

impl Correction {
    /// Empty.
    fn with_room(room: Budget) -> Self {
        Self { events: Vec::new(), wakes: Vec::new(), unreached: None, deferred: Touched::default(), places: 0, room }
    }

    /// Whether the turn's limit is reached: the rest is the first work of the next turn.
    pub fn is_full(&self) -> bool {
        self.room.is_spent()
    }

    /// How many events one of several may add, so that the others need not wait for the next turn because of it: at least one
    /// event, so that it makes progress.
    fn share(&self) -> usize {
        (self.room.events / 2).max(1)
    }

    /// Adds an event.
    pub fn push(&mut self, event: Kind) {
        self.room.take(&event);
        self.events.push(event);
    }

    /// How many tasks one more event may list; listing that many uses up the budget.
    fn most_tasks(&self) -> usize {
        self.room.most_tasks()
    }

    /// Adds an event about the first of these tasks, as many as the turn has room for; no event if there are none.
    pub fn push_about(&mut self, tasks: Vec<TaskId>, event: impl FnOnce(Vec<TaskId>) -> Kind) {
        let tasks = self.room.first_of(tasks);
        if !tasks.is_empty() {
            self.push(event(tasks));
        }
    }

    /// Lowers the desired state of a few tasks that belong together; skips those that already have it.
    pub fn want<'a>(&mut self, tasks: impl IntoIterator<Item = &'a Task>, desired: TaskState, cause: DesiredCause) {
        let tasks: Vec<TaskId> = tasks.into_iter().filter(|task| task.desired < desired).map(|task| task.id).collect();
        if !tasks.is_empty() {
            self.push(Kind::TaskDesiredStateSet(TaskDesiredStateSet {
                tasks,
                desired: desired.into(),
                cause: cause.into(),
            }));
        }
    }

    /// Lowers the desired state of any number of tasks, as many as the turn has room for.
    pub fn want_first_of<'a>(
        &mut self,
        tasks: impl IntoIterator<Item = &'a Task>,
        desired: TaskState,
        cause: DesiredCause,
    ) {
        let tasks = tasks.into_iter().filter(|task| task.desired < desired).map(|task| task.id).collect();
        self.push_about(tasks, |tasks| {
            Kind::TaskDesiredStateSet(TaskDesiredStateSet { tasks, desired: desired.into(), cause: cause.into() })
        });
    }

    /// Requests to reconcile `subject` again at `time`.
    pub fn wake(&mut self, time: Timestamp, subject: TimerKey) {
        self.wakes.push((time, subject));
    }
}

/// One reconciler: adds corrections for everything within the scope.
pub type Reconcile = fn(&Cluster, &Scope, &mut Ctx<'_>, &mut Correction);

/// All reconcilers, in order: first lost nodes and the membership, then what is outdated, then what ended, then what is missing,
/// then what can be removed, then what would be better placed elsewhere, then the placement of tasks. Placement comes last
/// because it is what fills a turn: the others have then processed everything, and need not run again.
pub const ALL: [(Reconciler, Reconcile); 14] = [
    (Reconciler::Liveness, liveness::reconcile),
    (Reconciler::Members, members::reconcile),
    (Reconciler::RootRotation, root_rotation::reconcile),
    (Reconciler::Runs, runs::reconcile),
    (Reconciler::Constraints, constraints::reconcile),
    (Reconciler::Updates, updates::reconcile),
    (Reconciler::Restarts, restarts::reconcile),
    (Reconciler::Autoscale, autoscale::reconcile),
    (Reconciler::Replicated, replicated::reconcile),
    (Reconciler::Global, global::reconcile),
    (Reconciler::Jobs, jobs::reconcile),
    (Reconciler::Reaper, reaper::reconcile),
    (Reconciler::Rebalance, schedule::rebalance::reconcile),
    (Reconciler::Schedule, schedule::reconcile),
];
