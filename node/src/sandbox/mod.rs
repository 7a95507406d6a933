//! Simulations: a copy of a state on which commands are judged and the cluster settles, with the same code as in a turn of the
//! leader.
//!
//! Time is virtual, and agents are replaced by a [model](agents). Nothing here can affect the log: this folder depends neither on
//! the replica nor its queue, nor on any store, which `tests/tests/purity.rs` verifies. Not simulated: heartbeats (no node is
//! lost by itself, and those that a new leader has not heard from yet return at once), nodes that join by themselves, and
//! failures of tasks.

mod agents;
mod difference;
mod replay;
mod starts;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use commands::{Actor, Command, Rejection};
use events::{
    Duration, Event, Frame, FrameHeader, IdGenerator, Kind, NodeId, NodeRegistered, ServiceId, TaskState, Timestamp,
    frame,
};
use projections::{Cluster, Liveness, Node, Service, Stamp, Touched};
use reconcilers::{Budget, Candidates, Follower, LastSeen, Peers, Presence, TimerKey, Uses, settle_without};

use crate::timers::Timers;
use agents::Agents;

pub use difference::{Action, Difference, ObjectChange, Spec, TaskChange};
pub use replay::{Figures, Policy, Replay};

/// Maximum time until a copy settles, in its own time: longer than most rollouts take.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of turns of a copy: a rollout of 10,000 tasks, one after the other, takes three for each.
pub const TURNS_MAX: usize = 50_000;
/// Maximum number of events in a copy, so that its memory is bounded: 100,000 tasks are created, placed, started and reported.
pub const EVENTS_MAX: usize = 500_000;
/// How long a node may be silent: longer than any copy exists.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No change is in progress any longer.
    Settled,
    /// It was still busy after [`TIME_MAX`].
    TimeLimit,
    /// It was still busy after [`TURNS_MAX`] or [`EVENTS_MAX`].
    WorkLimit,
    /// The caller has stopped it.
    Stopped,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The object that it created or changed.
    pub subject: Option<String>,
    /// Whether it changes anything.
    pub changes: bool,
}

/// A copy of a state that advances in virtual time.
#[derive(Debug, Clone)]
pub struct Sandbox {
    cluster: Cluster,
    began: Timestamp,
    now: Timestamp,
    /// Quarantined services, which the reconcilers skip.
    quarantined: BTreeSet<ServiceId>,
    timers: Timers,
    agents: Agents,
    left: Touched,
    caches: Caches,
    turns: usize,
    events: usize,
    counts: Counts,
}

/// Counters of task events.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    created: u64,
    placed: u64,
}

impl Counts {
    fn note(&mut self, event: &Event) {
        self.created += u64::from(matches!(event.kind, Some(Kind::TaskCreated(_))));
        self.placed += u64::from(matches!(event.kind, Some(Kind::TaskAssigned(_))));
    }
}

/// The reconcilers' caches between turns. A copy of a copy builds its own: they do not affect decisions.
#[derive(Debug, Default)]
struct Caches(Candidates);

impl Clone for Caches {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Sandbox {
    /// A copy of this state, at this time. Changes in progress continue, and nodes that the leader has not heard from yet return.
    pub fn of(cluster: Cluster, now: Timestamp, quarantined: BTreeSet<ServiceId>) -> Self {
        let now = now.max(cluster.position.time);
        let mut sandbox = Self {
            began: now,
            now,
            quarantined,
            timers: Timers::default(),
            agents: Agents::default(),
            left: Touched::default(),
            caches: Caches::default(),
            turns: 0,
            events: 0,
            counts: Counts::default(),
            cluster,
        };
        let returned = sandbox.returned();
        if !returned.is_empty() {
            sandbox.turn(returned, sandbox.ids());
        }
        let in_progress = sandbox.in_progress();
        sandbox.left.merge(in_progress);
        sandbox
    }

    /// The current state.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The virtual time that has passed.
    pub fn elapsed(&self) -> Duration {
        self.now.since(self.began)
    }

    /// When it started.
    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// Judges a command and applies its immediate effects.
    ///
    /// # Errors
    /// The rejection that a manager would return.
    pub fn judge(&mut self, actor: &Actor, command: &Command) -> Result<Judged, Rejection> {
        let mut ctx = commands::Ctx { now: self.now, ids: self.ids(), reached: Arc::new(self.peers().reached()) };
        let decision = commands::decide(&self.cluster, actor, command, &mut ctx)?;
        let changes = !decision.events.is_empty() || !decision.volatile.is_empty();
        if changes {
            self.turn(decision.events, ctx.ids);
            self.finish_work();
        }
        Ok(Judged { subject: decision.subject, changes })
    }

    /// Applies these events now.
    pub fn apply(&mut self, kinds: Vec<Kind>) {
        self.turn(kinds, self.ids());
        self.finish_work();
    }

    /// A new id in this copy.
    pub fn next_id<I: events::Id>(&self, salt: u64) -> I {
        self.ids().salted(salt, None, self.now).next()
    }

    /// Advances time until no change is in progress.
    pub fn run_until_settled(&mut self, is_stopped: &dyn Fn() -> bool) -> Ending {
        loop {
            if is_stopped() {
                return Ending::Stopped;
            }
            if self.turns >= TURNS_MAX || self.events >= EVENTS_MAX {
                return Ending::WorkLimit;
            }
            if !self.left.is_empty() {
                self.turn(Vec::new(), self.ids());
                continue;
            }
            let Some(next) = self.next() else { return Ending::Settled };
            if next.since(self.began) > TIME_MAX {
                return Ending::TimeLimit;
            }
            self.now = self.now.max(next);
            self.process_reports();
        }
    }

    /// Advances time to an instant, and reports how long each state lasted. Returns whether the copy stays within its limits.
    fn advance_to(&mut self, time: Timestamp, seen: &mut dyn FnMut(&Cluster, Duration)) -> bool {
        loop {
            if self.turns >= TURNS_MAX || self.events >= EVENTS_MAX {
                return false;
            }
            if !self.left.is_empty() {
                self.turn(Vec::new(), self.ids());
                continue;
            }
            let timer = self.timers.next_of(|key| !matches!(key, TimerKey::Node(_) | TimerKey::Scaling(_)));
            let next = timer.into_iter().chain(self.agents.next()).min().filter(|next| *next <= time);
            let until = next.unwrap_or(time).max(self.now);
            seen(&self.cluster, until.since(self.now));
            self.now = until;
            if next.is_none() {
                return true;
            }
            self.process_reports();
        }
    }

    /// When the next event of a change in progress is due. This excludes future runs of jobs, and heartbeat timeouts.
    fn next(&self) -> Option<Timestamp> {
        let of_work = |key: &TimerKey| match key {
            TimerKey::Rollout(_) | TimerKey::Balance(_) | TimerKey::Place(..) => true,
            TimerKey::Node(_) | TimerKey::Service(_) | TimerKey::Scaling(_) => false,
        };
        self.timers.next_of(of_work).into_iter().chain(self.agents.next()).min()
    }

    /// Completes the work left by earlier turns, at this instant.
    fn finish_work(&mut self) {
        while !self.left.is_empty() && self.turns < TURNS_MAX && self.events < EVENTS_MAX {
            self.turn(Vec::new(), self.ids());
        }
    }

    /// Judges the due reports, and processes due timers.
    fn process_reports(&mut self) {
        let mut kinds = Vec::new();
        let ids = self.ids();
        for (actor, report) in self.agents.reports(&self.cluster, self.now) {
            let mut ctx = commands::Ctx { now: self.now, ids: ids.clone(), reached: Arc::default() };
            // A report of a session that ended meanwhile is rejected, which has no effect.
            if let Ok(decision) = commands::decide(&self.cluster, &actor, &report, &mut ctx) {
                kinds.extend(decision.events);
            }
        }
        self.turn(kinds, ids);
    }

    /// One turn: these events, and their consequences.
    fn turn(&mut self, kinds: Vec<Kind>, mut ids: IdGenerator) {
        let at = Stamp { index: self.cluster.position.index + 1, time: self.now };
        let mut touched = std::mem::take(&mut self.left);
        touched.merge(self.timers.due(self.now));
        let before = self.cluster.clone();
        self.events += kinds.len();
        for kind in kinds {
            self.cluster.apply_into(&Event::by_command(0, kind), &at, &mut touched);
        }
        let (presence, peers) = (self.presence(&touched), self.peers());
        let candidates = &mut self.caches.0;
        // The resource use of tasks cannot be predicted: their number stays.
        let uses = Uses::new();
        let (ids, presence, peers) = (&mut ids, &presence, &peers);
        let mut ctx = reconcilers::Ctx { now: self.now, ids, presence, peers, uses: &uses, candidates };
        let settled = settle_without(&self.quarantined, &mut self.cluster, touched, &mut ctx, &at, Budget::FRAME);
        self.quarantined.extend(settled.disputed);
        self.timers.set(&settled.wakes);
        self.left = settled.left;
        self.turns += 1;
        self.events += settled.events.len();
        settled.events.iter().for_each(|event| self.counts.note(event));
        self.conclude(&at);
        for (task, _) in self.cluster.tasks.changed_since(&before.tasks) {
            self.agents.look(&self.cluster, task, self.now);
        }
    }

    fn conclude(&mut self, at: &Stamp) {
        let header = FrameHeader {
            format: frame::FORMAT,
            index: at.index,
            log_time: at.time,
            feature_level: self.cluster.feature_level(),
            ..FrameHeader::default()
        };
        self.cluster.conclude(&Frame { header, commands: Vec::new(), events: Vec::new() }, at);
    }

    /// What is unfinished according to the state: tasks in progress, and rollouts.
    fn in_progress(&mut self) -> Touched {
        let (mut touched, cluster) = (Touched::default(), self.cluster.clone());
        for task in cluster.tasks.values() {
            let waits = self.agents.look(&cluster, task.id, self.now);
            if waits || task.awaits_placement() || task.desired == TaskState::Ready {
                touched.places.insert((task.service, task.instance()));
            }
        }
        let open = |service: &&Service| service.update.as_ref().is_some_and(|update| update.state.is_open());
        touched.rollouts = cluster.services.values().filter(open).map(|service| service.id).collect();
        touched
    }

    /// Nodes that a new leader has not heard from yet: nearly all of them return within seconds, unchanged.
    fn returned(&self) -> Vec<Kind> {
        let unheard = |node: &&Node| node.liveness == Liveness::Unknown && node.description.is_some();
        let registered = |(salt, node): (u64, &Node)| {
            let session = node.session.unwrap_or_else(|| self.next_id(salt));
            Kind::NodeRegistered(NodeRegistered { node: node.id, session, addr: node.addr.clone() })
        };
        (0..).zip(self.cluster.nodes.values().filter(unheard)).map(registered).collect()
    }

    fn ids(&self) -> IdGenerator {
        IdGenerator::new(self.cluster.id(), self.cluster.position.index + 1)
    }

    /// Nodes that are not down send heartbeats all the time, and so do flapping ones: those that a turn processes.
    fn presence(&self, touched: &Touched) -> Presence {
        let sign = LastSeen { at: self.now, timeout: HEARTBEAT_TIMEOUT };
        let heard = |id: NodeId| {
            self.cluster.nodes.get(id).filter(|node| !node.is_down() || node.held_until.is_some()).map(|_| (id, sign))
        };
        if touched.everything {
            return self.cluster.nodes.iter().filter_map(|(id, _)| heard(id)).collect();
        }
        touched.nodes.iter().chain(&touched.contacts).chain(&touched.overdue).copied().filter_map(heard).collect()
    }

    /// Managers follow as long as their nodes are ready.
    fn peers(&self) -> Peers {
        let committed = self.cluster.position.index + 1;
        let reachable = |node| self.cluster.nodes.get(node).is_some_and(|node| node.liveness == Liveness::Ready);
        let leader = self.cluster.members.values().find(|member| member.votes && reachable(member.node));
        let leader = leader.map_or(0, |member| member.raft_id);
        let others = self.cluster.members.values().filter(|member| member.raft_id != leader);
        let followers: BTreeMap<u64, Follower> = others
            .map(|member| (member.raft_id, Follower { matched: committed, reachable: reachable(member.node) }))
            .collect();
        Peers { leader, committed, followers }
    }
}
