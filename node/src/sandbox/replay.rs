//! Replays the commands to a cluster and the changes of its nodes in a copy of an earlier state, perhaps with another policy.
//!
//! Everything else is computed again: the reconcilers create, place and restart tasks, and the model of agents reports them. What
//! cannot happen in a copy is omitted: removals of single tasks by users, which have other ids there, and the consequences of
//! resource use and failures.

use std::collections::BTreeSet;

use events::{Cause, Duration, Event, Kind, NodeId, PlacementStrategy, ServiceId, Timestamp};
use projections::{Cluster, Service, Stamp, UpdateState};

use super::Sandbox;

/// The differences from the original.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The strategy of services without one.
    pub strategy: Option<PlacementStrategy>,
    /// Nodes that are absent.
    pub without: BTreeSet<NodeId>,
}

/// Figures about a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Tasks that were created.
    pub created: u64,
    /// Tasks that were placed on a node.
    pub placed: u64,
    /// Total time that tasks waited for a node.
    pub waited: Duration,
    /// The maximum of tasks that waited for a node at once.
    pub most_waiting: u64,
    /// Tasks that wait for a node at the end.
    pub waiting: u64,
    /// Nodes with tasks at the end.
    pub nodes_used: u64,
    /// The maximum of tasks on a node at the end.
    pub fullest: u64,
}

/// A copy in which a part of history is replayed.
#[derive(Debug, Clone)]
pub struct Replay {
    sandbox: Sandbox,
    policy: Policy,
    figures: Figures,
}

impl Replay {
    /// Starts in a copy with a policy.
    pub fn of(mut sandbox: Sandbox, policy: Policy) -> Self {
        let mut first = Vec::new();
        if policy.strategy.is_some() {
            let spec = sandbox.cluster().spec().clone();
            first.push(Kind::ClusterSpecUpdated(events::ClusterSpecUpdated { spec }));
        }
        let lost = policy.without.iter().filter(|node| sandbox.cluster().nodes.contains(**node));
        first.extend(lost.map(|node| {
            let last_heard = sandbox.began();
            Kind::NodeDeclaredDown(events::NodeDeclaredDown { node: *node, last_heard, unheard: None })
        }));
        let first = first.into_iter().map(|kind| policy.applied_to(kind)).collect();
        sandbox.apply(first);
        Self { sandbox, policy, figures: Figures::default() }
    }

    /// Advances time to a frame, and applies its external events. Returns whether the copy stays within its limits.
    pub fn frame(&mut self, time: Timestamp, events: &[Event]) -> bool {
        let keeps_up = self.advance_to(time);
        let given = self.given(events);
        if !given.is_empty() {
            self.sandbox.apply(given);
        }
        keeps_up
    }

    /// Advances time; returns whether the copy stays within its limits.
    pub fn advance_to(&mut self, time: Timestamp) -> bool {
        let figures = &mut self.figures;
        self.sandbox.advance_to(time, &mut |cluster, length| {
            let waiting = waiting(cluster);
            figures.most_waiting = figures.most_waiting.max(waiting);
            figures.waited += length.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        })
    }

    /// The figures about the period so far.
    pub fn figures(&self) -> Figures {
        let cluster = self.sandbox.cluster();
        let usage = || cluster.nodes.values().map(|node| cluster.usage.of(node.id).active);
        Figures {
            created: self.sandbox.counts.created,
            placed: self.sandbox.counts.placed,
            waiting: waiting(cluster),
            nodes_used: usage().filter(|tasks| *tasks > 0).count() as u64,
            fullest: usage().max().unwrap_or_default(),
            ..self.figures
        }
    }

    /// The external events of a frame that are possible in the copy, each after those before it.
    fn given(&self, events: &[Event]) -> Vec<Kind> {
        let (mut cluster, mut given) = (self.sandbox.cluster().clone(), Vec::new());
        let at = Stamp { index: cluster.position.index + 1, time: self.sandbox.now };
        for event in events {
            if self.is_given(&cluster, event)
                && let Some(kind) = event.kind.clone().map(|kind| self.policy.applied_to(kind))
            {
                cluster.apply(&Event::by_command(0, kind.clone()), &at);
                given.push(kind);
            }
        }
        given
    }

    /// Whether an event is external and possible now: users' changes, and changes of nodes.
    fn is_given(&self, cluster: &Cluster, event: &Event) -> bool {
        let by_command = matches!(event.cause, Some(Cause::Command(_)));
        let node = |id: NodeId| cluster.nodes.contains(id) && !self.policy.without.contains(&id);
        let update = |id: ServiceId| cluster.services.get(id).and_then(Service::update_state);
        // Not reports and the reconcilers' changes of services: these are computed again.
        match &event.kind {
            Some(Kind::NodeJoined(event)) => !self.policy.without.contains(&event.node),
            Some(Kind::NodeRegistered(event)) => node(event.node),
            Some(Kind::NodeDescribed(event)) => node(event.node),
            Some(Kind::NodeSpecUpdated(event)) => node(event.node),
            Some(Kind::NodeBecameReady(event)) => node(event.node),
            Some(Kind::NodeDeclaredDown(event)) => node(event.node),
            Some(Kind::NodeDisconnected(event)) => node(event.node),
            Some(Kind::NodeRemoved(event)) => cluster.nodes.contains(event.node),
            Some(Kind::ClusterSpecUpdated(_) | Kind::ServiceCreated(_)) => by_command,
            Some(Kind::ServiceSpecUpdated(event)) => by_command && cluster.services.contains(event.service),
            Some(Kind::ServiceScaled(event)) => by_command && cluster.services.contains(event.service),
            Some(Kind::ServiceRemoved(event)) => by_command && cluster.services.contains(event.service),
            // A rollout may be further along in the copy than in the original, or have been paused by failures alone.
            Some(Kind::UpdatePaused(event)) => by_command && update(event.service).is_some_and(UpdateState::is_open),
            Some(Kind::UpdateResumed(event)) => by_command && update(event.service).is_some_and(UpdateState::is_paused),
            Some(Kind::ConfigCreated(_) | Kind::SecretCreated(_)) => by_command,
            Some(Kind::ConfigSpecUpdated(event)) => by_command && cluster.configs.contains(event.config),
            Some(Kind::ConfigRevised(event)) => by_command && cluster.configs.contains(event.config),
            Some(Kind::ConfigRemoved(event)) => by_command && cluster.configs.contains(event.config),
            Some(Kind::SecretSpecUpdated(event)) => by_command && cluster.secrets.contains(event.secret),
            Some(Kind::SecretRevised(event)) => by_command && cluster.secrets.contains(event.secret),
            Some(Kind::SecretRemoved(event)) => by_command && cluster.secrets.contains(event.secret),
            _ => false,
        }
    }
}

impl Policy {
    /// The event under the policy.
    fn applied_to(&self, mut kind: Kind) -> Kind {
        if let (Some(strategy), Kind::ClusterSpecUpdated(event)) = (self.strategy, &mut kind) {
            event.spec.set_placement_strategy(strategy);
        }
        kind
    }
}

/// Tasks without a node.
fn waiting(cluster: &Cluster) -> u64 {
    let without = |state| state < events::TaskState::Assigned;
    cluster.tasks_by_state().filter(|(state, _)| without(*state)).map(|(_, count)| count).sum()
}
