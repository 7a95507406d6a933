//! What was asked of a cluster, and what became of its nodes, once more: in a copy of the state before, perhaps under another policy.
//!
//! Everything else follows again: tasks are made, placed and restarted by the reconcilers, and agents answer by the model. What cannot
//! happen in a copy is left out: tasks that users removed, which are others there, and what followed from use or from failures.

use std::collections::BTreeSet;

use events::{Cause, Duration, Event, Kind, NodeId, PlacementStrategy, ServiceId, Timestamp};
use projections::{Cluster, Service, Stamp, UpdateState};

use super::Sandbox;

/// What is other than it was.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// The strategy of services that name none.
    pub strategy: Option<PlacementStrategy>,
    /// Nodes that are not there.
    pub without: BTreeSet<NodeId>,
}

/// What a time was like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Figures {
    /// Tasks that were made.
    pub created: u64,
    /// Tasks that were placed on a node.
    pub placed: u64,
    /// How long tasks waited for a node, all together.
    pub waited: Duration,
    /// The most tasks that waited for a node at once.
    pub most_waiting: u64,
    /// Tasks that wait for a node in the end.
    pub waiting: u64,
    /// Nodes with tasks in the end.
    pub nodes_used: u64,
    /// The most tasks that a node has in the end.
    pub fullest: u64,
}

/// A copy in which the past happens once more.
#[derive(Debug, Clone)]
pub struct Replay {
    sandbox: Sandbox,
    policy: Policy,
    figures: Figures,
}

impl Replay {
    /// Begins in a copy under a policy.
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
        sandbox.suppose(first);
        Self { sandbox, policy, figures: Figures::default() }
    }

    /// Lets time pass until a frame, and what it brought from outside happen. Whether the copy keeps up with its bounds.
    pub fn frame(&mut self, time: Timestamp, events: &[Event]) -> bool {
        let keeps_up = self.advance_to(time);
        let given = self.given(events);
        if !given.is_empty() {
            self.sandbox.suppose(given);
        }
        keeps_up
    }

    /// Lets time pass; whether the copy keeps up with its bounds.
    pub fn advance_to(&mut self, time: Timestamp) -> bool {
        let figures = &mut self.figures;
        self.sandbox.advance_to(time, &mut |cluster, length| {
            let waiting = waiting(cluster);
            figures.most_waiting = figures.most_waiting.max(waiting);
            figures.waited += length.saturating_mul(u32::try_from(waiting).unwrap_or(u32::MAX));
        })
    }

    /// What the time was like.
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

    /// What of a frame came from outside and can happen in the copy, each after those before it.
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

    /// Whether an event came from outside and can happen now: what users asked, and what became of nodes.
    fn is_given(&self, cluster: &Cluster, event: &Event) -> bool {
        let by_command = matches!(event.cause, Some(Cause::Command(_)));
        let node = |id: NodeId| cluster.nodes.contains(id) && !self.policy.without.contains(&id);
        let update = |id: ServiceId| cluster.services.get(id).and_then(Service::update_state);
        // Not reports and what reconcilers said of services: these follow again.
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
            // A rollout may be further in the copy than it was, or paused by failures alone.
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
    /// What happens as it happens under the policy.
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
