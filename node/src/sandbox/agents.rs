//! A model of agents: every task reaches its desired state, in the time that earlier tasks of its service took.

use std::collections::{BTreeMap, BTreeSet};

use commands::{Actor, Command, ReportTasks};
use events::{Duration, NodeId, SessionId, TaskId, TaskState, TaskStatus, Timestamp, frame};
use projections::{Cluster, Liveness, Task};

use super::starts::Starts;

/// How long a task takes to stop: most programs exit soon after the signal.
const STOP: Duration = Duration::from_secs(1);

/// Reports in flight.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    due: BTreeMap<TaskId, (Timestamp, TaskState)>,
    queue: BTreeSet<(Timestamp, TaskId)>,
    starts: Starts,
}

impl Agents {
    /// When the next report arrives.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(time, _)| *time)
    }

    /// Processes a task that may have changed; returns whether its node has something to do for it.
    pub(super) fn look(&mut self, cluster: &Cluster, id: TaskId, now: Timestamp) -> bool {
        let step = cluster.tasks.get(id).and_then(|task| self.step(cluster, task));
        let last = self.due.get(&id).copied();
        // A step in progress is not started again.
        let same = |(_, state): &(Timestamp, TaskState)| step.is_some_and(|(_, next)| next == *state);
        if last.as_ref().is_some_and(same) {
            return true;
        }
        if let Some((time, _)) = self.due.remove(&id) {
            self.queue.remove(&(time, id));
        }
        if let Some((length, state)) = step {
            self.due.insert(id, (now + length, state));
            self.queue.insert((now + length, id));
        }
        step.is_some()
    }

    /// The due reports, one command per node, as many as one turn takes.
    pub(super) fn reports(&mut self, cluster: &Cluster, now: Timestamp) -> Vec<(Actor, Command)> {
        let mut by_node: BTreeMap<NodeId, Vec<(TaskId, TaskStatus)>> = BTreeMap::new();
        for _ in 0..frame::EVENTS_MAX / 2 {
            let Some((time, id)) = self.queue.first().copied().filter(|(time, _)| *time <= now) else { break };
            self.queue.remove(&(time, id));
            let state = self.due.remove(&id).map(|(_, state)| state);
            let node = cluster.tasks.get(id).and_then(|task| task.node);
            if let (Some(node), Some(state)) = (node, state) {
                let status = TaskStatus { state: state.into(), at: Some(now), ..TaskStatus::default() };
                by_node.entry(node).or_default().push((id, status));
            }
        }
        let of_node = |(node, reports)| {
            let member = cluster.nodes.get(node)?;
            let (session, role): (SessionId, _) = (member.session?, member.role);
            let report = ReportTasks { node, session, reports };
            Some((Actor::Node { id: node, role }, Command::ReportTasks(report)))
        };
        by_node.into_iter().filter_map(of_node).collect()
    }

    /// The next step of a node for a task, and how long that takes.
    fn step(&mut self, cluster: &Cluster, task: &Task) -> Option<(Duration, TaskState)> {
        let node = cluster.nodes.get(task.node?)?;
        let answers = node.liveness == Liveness::Ready && node.session.is_some();
        let is_there = task.state == task.desired;
        if !answers || is_there || task.state < TaskState::Assigned || task.state.is_terminal() {
            return None;
        }
        let times = self.starts.of(cluster, task.service);
        match task.desired {
            TaskState::Ready => (task.state < TaskState::Ready).then_some((times.prepare, TaskState::Ready)),
            TaskState::Running | TaskState::Complete if task.state < TaskState::Running => {
                let prepared = task.state >= TaskState::Ready;
                Some((if prepared { times.start } else { times.prepare + times.start }, TaskState::Running))
            }
            TaskState::Complete => Some((times.run, TaskState::Complete)),
            TaskState::Shutdown | TaskState::Remove if task.state < TaskState::Starting => {
                Some((Duration::ZERO, TaskState::Shutdown))
            }
            TaskState::Shutdown | TaskState::Remove => Some((STOP, TaskState::Shutdown)),
            TaskState::New
            | TaskState::Pending
            | TaskState::Assigned
            | TaskState::Accepted
            | TaskState::Preparing
            | TaskState::Starting
            | TaskState::Running
            | TaskState::Failed
            | TaskState::Rejected
            | TaskState::Orphaned => None,
        }
    }
}
