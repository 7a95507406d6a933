//! What would happen: a copy of a state on which commands are judged and the cluster comes to rest, by the same code as in a turn of the
//! leader.
//!
//! Time is virtual, and agents answer by a [model](agents). Nothing here can reach the log: neither the replica nor its queue, nor any
//! store, is known in this folder, which `tests/tests/purity.rs` sees to. What is absent as well: heartbeats (no node is lost by itself, and
//! those that a new leader has not heard yet come back at once), nodes that join by themselves, and failures of tasks.

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

/// How long a copy is given to come to rest, in its own time: longer than most rollouts take.
pub const TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Turns that a copy may take: a rollout of 10,000 tasks, one after the other, takes three for each.
pub const TURNS_MAX: usize = 50_000;
/// Events that may happen in a copy, so that its memory is bounded: 100,000 tasks are created, placed, started and reported.
pub const EVENTS_MAX: usize = 500_000;
/// How long a node may be silent: for as long as any copy lives.
const PATIENCE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How a copy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing is under way any more.
    Reached,
    /// It was still busy after [`TIME_MAX`].
    Time,
    /// It was still busy after [`TURNS_MAX`] or [`EVENTS_MAX`].
    Work,
    /// Nobody waits for it any more.
    Stopped,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// The object that it made or changed.
    pub subject: Option<String>,
    /// Whether anything follows from it.
    pub changes: bool,
}

/// A copy of a state, and what goes on in it.
#[derive(Debug, Clone)]
pub struct Sandbox {
    cluster: Cluster,
    began: Timestamp,
    now: Timestamp,
    /// Services that the reconcilers leave alone.
    aside: BTreeSet<ServiceId>,
    timers: Timers,
    agents: Agents,
    left: Touched,
    caches: Caches,
    turns: usize,
    events: usize,
    counts: Counts,
}

/// What happened to tasks.
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

/// What reconcilers keep between turns. A copy of a copy makes its own: no decision depends on them.
#[derive(Debug, Default)]
struct Caches(Candidates);

impl Clone for Caches {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Sandbox {
    /// A copy of this state, at this time. What is under way in it goes on, and nodes that the leader has not heard yet come back.
    pub fn of(cluster: Cluster, now: Timestamp, aside: BTreeSet<ServiceId>) -> Self {
        let now = now.max(cluster.position.time);
        let mut sandbox = Self {
            began: now,
            now,
            aside,
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
        let under_way = sandbox.under_way();
        sandbox.left.merge(under_way);
        sandbox
    }

    /// The state as it is now.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How much time has passed in it.
    pub fn elapsed(&self) -> Duration {
        self.now.since(self.began)
    }

    /// When it began.
    pub fn began(&self) -> Timestamp {
        self.began
    }

    /// Judges a command and does what follows from it at once.
    ///
    /// # Errors
    /// The refusal that a manager would answer.
    pub fn judge(&mut self, actor: &Actor, command: &Command) -> Result<Judged, Rejection> {
        let mut ctx = commands::Ctx { now: self.now, ids: self.ids(), reached: Arc::new(self.peers().reached()) };
        let decision = commands::decide(&self.cluster, actor, command, &mut ctx)?;
        let changes = !decision.events.is_empty() || !decision.volatile.is_empty();
        if changes {
            self.turn(decision.events, ctx.ids);
            self.work_off();
        }
        Ok(Judged { subject: decision.subject, changes })
    }

    /// Takes it that this happens now.
    pub fn suppose(&mut self, kinds: Vec<Kind>) {
        self.turn(kinds, self.ids());
        self.work_off();
    }

    /// A new id in this copy.
    pub fn next_id<I: events::Id>(&self, salt: u64) -> I {
        self.ids().salted(salt, None, self.now).next()
    }

    /// Lets time pass until nothing is under way.
    pub fn come_to_rest(&mut self, is_stopped: &dyn Fn() -> bool) -> Rest {
        loop {
            if is_stopped() {
                return Rest::Stopped;
            }
            if self.turns >= TURNS_MAX || self.events >= EVENTS_MAX {
                return Rest::Work;
            }
            if !self.left.is_empty() {
                self.turn(Vec::new(), self.ids());
                continue;
            }
            let Some(next) = self.next() else { return Rest::Reached };
            if next.since(self.began) > TIME_MAX {
                return Rest::Time;
            }
            self.now = self.now.max(next);
            self.hear_agents();
        }
    }

    /// Lets time pass until then, and says of each state how long it lasted. Whether the copy keeps up with its bounds.
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
            self.hear_agents();
        }
    }

    /// When something happens that belongs to what is under way. Runs of jobs that are due some day do not, nor does the patience with a
    /// node.
    fn next(&self) -> Option<Timestamp> {
        let of_work = |key: &TimerKey| match key {
            TimerKey::Rollout(_) | TimerKey::Balance(_) | TimerKey::Place(..) => true,
            TimerKey::Node(_) | TimerKey::Service(_) | TimerKey::Scaling(_) => false,
        };
        self.timers.next_of(of_work).into_iter().chain(self.agents.next()).min()
    }

    /// Does what is left of earlier turns, at this instant.
    fn work_off(&mut self) {
        while !self.left.is_empty() && self.turns < TURNS_MAX && self.events < EVENTS_MAX {
            self.turn(Vec::new(), self.ids());
        }
    }

    /// Judges the reports that are due, and looks at what timers name.
    fn hear_agents(&mut self) {
        let mut kinds = Vec::new();
        let ids = self.ids();
        for (actor, report) in self.agents.reports(&self.cluster, self.now) {
            let mut ctx = commands::Ctx { now: self.now, ids: ids.clone(), reached: Arc::default() };
            // A report of a session that ended in the meantime is refused, and nothing is lost with it.
            if let Ok(decision) = commands::decide(&self.cluster, &actor, &report, &mut ctx) {
                kinds.extend(decision.events);
            }
        }
        self.turn(kinds, ids);
    }

    /// One turn: these events, and what follows from them.
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
        // What tasks would use nobody can know: their number stays.
        let uses = Uses::new();
        let (ids, presence, peers) = (&mut ids, &presence, &peers);
        let mut ctx = reconcilers::Ctx { now: self.now, ids, presence, peers, uses: &uses, candidates };
        let settled = settle_without(&self.aside, &mut self.cluster, touched, &mut ctx, &at, Budget::FRAME);
        self.aside.extend(settled.disputed);
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

    /// What the state says is not finished: tasks on their way, and rollouts.
    fn under_way(&mut self) -> Touched {
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

    /// Nodes of which a new leader has heard nothing yet: nearly all of them come back within seconds, as they were.
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

    /// Nodes that are not down are heard all the time, and those that flap: those that a turn looks at.
    fn presence(&self, touched: &Touched) -> Presence {
        let sign = LastSeen { at: self.now, patience: PATIENCE };
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
