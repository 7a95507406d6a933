//! What is wrong, and when to look again.
//!
//! Each reconciler is one pure function from a state to a [`Correction`]. [`settle`] runs them in the order of [`ALL`], over
//! what a turn touched, until none has anything to say: the state is then as the specs want it, as far as it can be now.
//! They know neither commands nor each other, keep nothing between calls, and read time only from their context.

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

/// When each node was last heard of. Heartbeats never enter the log; this is the leader's memory of them.
pub type Presence = BTreeMap<NodeId, LastSeen>;

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastSeen {
    /// When it came.
    pub at: Timestamp,
    /// How long a node that gave it then may be silent. A later change of settings is known to it only from its next one.
    pub patience: Duration,
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
    /// What the leader knows of the other managers.
    pub peers: &'a Peers,
    /// What the tasks of autoscaled services use.
    pub uses: &'a Uses,
    /// What reconcilers keep between turns. What they decide does not depend on it, only how long that takes.
    pub candidates: &'a mut Candidates,
}

/// What to look at again at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimerKey {
    /// A node.
    Node(NodeId),
    /// A service as a whole.
    Service(ServiceId),
    /// The rollout of a service.
    Rollout(ServiceId),
    /// How evenly the tasks of a service are spread.
    Balance(ServiceId),
    /// What the tasks of a service use.
    Scaling(ServiceId),
    /// One place of a service.
    Place(ServiceId, Instance),
}

/// What a reconciler wants changed, and when it wants to look again.
#[derive(Debug)]
pub struct Correction {
    events: Vec<Kind>,
    /// When to look at what again although nothing was touched.
    wakes: Vec<(Timestamp, TimerKey)>,
    /// What the reconciler did not reach, because the turn or its share of it is full. `None` if it cannot tell: then a full
    /// turn looks at everything again.
    unreached: Option<Touched>,
    /// What the reconciler left to the next turn, because it is too much for one look.
    deferred: Touched,
    /// Places that the reconciler looked at beside those of its scope.
    places: usize,
    room: Budget,
}

impl Correction {
    /// Nothing yet.
    fn with_room(room: Budget) -> Self {
        Self { events: Vec::new(), wakes: Vec::new(), unreached: None, deferred: Touched::default(), places: 0, room }
    }

    /// Whether the turn's bound is reached: the rest is the next turn's first work.
    pub fn is_full(&self) -> bool {
        self.room.is_spent()
    }

    /// How many events one of several may add, so that the others need not wait for the next turn because this one wants
    /// much: one event at least, lest it never gets on.
    fn share(&self) -> usize {
        (self.room.events / 2).max(1)
    }

    /// Says what becomes true.
    pub fn push(&mut self, event: Kind) {
        self.room.take(&event);
        self.events.push(event);
    }

    /// Of how many tasks one event may still say something; if it does, that spends the room.
    fn most_tasks(&self) -> usize {
        self.room.most_tasks()
    }

    /// Says it of the first of these tasks, as many as the turn has room for; of none, nothing.
    pub fn push_about(&mut self, tasks: Vec<TaskId>, event: impl FnOnce(Vec<TaskId>) -> Kind) {
        let tasks = self.room.first_of(tasks);
        if !tasks.is_empty() {
            self.push(event(tasks));
        }
    }

    /// Wants less of a few tasks that belong together; of those that know already, nothing.
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

    /// Wants less of any number of tasks, as many as the turn has room for.
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

    /// Asks to look at `subject` again at `time`.
    pub fn wake(&mut self, time: Timestamp, subject: TimerKey) {
        self.wakes.push((time, subject));
    }
}

/// One reconciler: adds what is wrong within the scope to the correction.
pub type Reconcile = fn(&Cluster, &Scope, &mut Ctx<'_>, &mut Correction);

/// All reconcilers, in the order in which things are put right: first what is lost and who decides, then what is out of date, then what
/// ended, then what is missing, then what may be forgotten, then what would be better elsewhere, then where tasks go. Placing comes last
/// because it is what fills a turn: the others have then seen everything, and need not look again.
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
