//! The history of one object: which events concern it. The history of a service includes its tasks'. And names of objects:
//! history has the names of removed ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use events::id::prefix_range;
use events::{Cause, ConfigId, Event, Id, Kind, NodeId, OperatorId, SecretId, ServiceId, SinkId, TaskId};

use crate::views::terms;
use crate::{Cluster, Instance, Task};

/// A filter that processes a history, frame by frame, and selects events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// The object's id as text; `None`: all events are selected.
    object: Option<String>,
    /// The place whose tasks' events are selected, if requested.
    place: Option<(ServiceId, Instance)>,
    /// Names of the selected kinds; empty: all.
    kinds: BTreeSet<String>,
    /// The tasks whose events are selected, as far as the history was processed: the object itself, or the tasks of a service.
    tasks: BTreeMap<TaskId, Home>,
    /// Whether the history of a node includes the tasks on it.
    tasks_of_nodes: bool,
    /// The services of tasks that have no node yet, if that matters.
    unplaced: BTreeMap<TaskId, ServiceId>,
}

/// The service and node of a task: events about these may be the cause of events about the task.
#[derive(Debug, Clone, Copy)]
struct Home {
    /// `None` if only its node was seen.
    service: Option<ServiceId>,
    node: Option<NodeId>,
}

impl EventFilter {
    /// The history of the object with this id, or of everything; only events of these kinds, or of all.
    pub fn of(object: Option<String>, kinds: impl IntoIterator<Item = String>) -> Self {
        Self { object, kinds: kinds.into_iter().collect(), ..Self::default() }
    }

    /// The history of all tasks that were ever in a place.
    pub fn of_place(service: ServiceId, instance: Instance) -> Self {
        Self { place: Some((service, instance)), ..Self::default() }
    }

    /// The same, and for a node also the events about its tasks.
    #[must_use]
    pub fn with_tasks_of_nodes(self) -> Self {
        Self { tasks_of_nodes: true, ..self }
    }

    /// Whether it selects all objects, though maybe not all kinds.
    pub fn is_of_everything(&self) -> bool {
        self.object.is_none() && self.place.is_none()
    }

    /// Whether the service and node of this task are known, or it is known to be irrelevant.
    pub fn knows(&self, task: TaskId) -> bool {
        self.is_of_everything() || self.tasks.contains_key(&task)
    }

    /// Adds the service and node of a task that are not in the processed history.
    pub fn know(&mut self, task: TaskId, home: &terms::Home) {
        let is = |id: String| self.object.as_ref() == Some(&id);
        let there = self.tasks_of_nodes && home.node.is_some_and(|node| is(node.to_string()));
        if there
            || is(home.service.to_string())
            || is(task.to_string())
            || self.place == Some((home.service, home.instance))
        {
            self.tasks.insert(task, Home { service: Some(home.service), node: home.node });
        } else if self.tasks_of_nodes && home.node.is_none() {
            self.unplaced.insert(task, home.service);
        }
    }

    /// Prepares for a history that starts in the middle, shortly before this state, with no task reaped in between; returns
    /// whether that is possible.
    pub fn begin_at(&mut self, cluster: &Cluster) -> bool {
        let Some(object) = &self.object else { return self.place.is_none() };
        // Ids of all nouns have the same form, and no two objects share an id.
        let Ok(bits) = object.parse::<TaskId>().map(TaskId::bits) else { return false };
        let service = ServiceId::from_bits(bits);
        if cluster.services.contains(service) {
            self.tasks = cluster.tasks_of_service(service).map(known).collect();
            return true;
        }
        if let Some(task) = cluster.tasks.get(TaskId::from_bits(bits)) {
            self.tasks = [known(task)].into();
            return true;
        }
        let node = NodeId::from_bits(bits);
        if self.tasks_of_nodes {
            self.tasks = cluster.tasks_of_node(node).map(known).collect();
        }
        cluster.nodes.contains(node)
            || cluster.configs.contains(ConfigId::from_bits(bits))
            || cluster.secrets.contains(SecretId::from_bits(bits))
            || cluster.sinks.contains(SinkId::from_bits(bits))
            || cluster.operators.contains(OperatorId::from_bits(bits))
    }

    /// Selects events of a frame: those about the object and its tasks, and those about another object that made the managers
    /// change these tasks in the same turn, such as a drain. Must process every frame, including those before the first one of
    /// interest.
    pub fn select<'a>(&mut self, events: impl IntoIterator<Item = &'a Event>) -> Vec<bool> {
        let events: Vec<&Event> = events.into_iter().collect();
        let about: Vec<bool> = events.iter().map(|event| self.is_about(event)).collect();
        let concerned = self.concerned(events.iter().zip(&about).filter(|(_, about)| **about).map(|(event, _)| *event));
        let chosen = |(event, about): (&&Event, bool)| {
            let Some(kind) = &event.kind else { return false };
            let belongs = about || (is_cause(kind) && kind.subjects().iter().any(|id| concerned.contains(id)));
            belongs && (self.kinds.is_empty() || self.kinds.contains(kind.name()))
        };
        events.iter().zip(about).map(chosen).collect()
    }

    /// The services and nodes of the tasks that a manager changed by itself.
    fn concerned<'a>(&self, about: impl Iterator<Item = &'a Event>) -> BTreeSet<String> {
        if self.is_of_everything() {
            return BTreeSet::new();
        }
        let changed = about.filter(|event| matches!(event.cause, Some(Cause::Reconciler(_))));
        let ids = changed.flat_map(|event| event.kind.iter().flat_map(Kind::subjects));
        let homes = ids.filter_map(|id| self.home(&id));
        homes
            .flat_map(|home| {
                home.node
                    .map(|node| node.to_string())
                    .into_iter()
                    .chain(home.service.map(|service| service.to_string()))
            })
            .collect()
    }

    fn is_about(&mut self, event: &Event) -> bool {
        let Some(kind) = event.kind.as_ref().filter(|_| !self.is_of_everything()) else { return event.kind.is_some() };
        if let Kind::TaskCreated(event) = kind {
            let (service, instance, node) = (event.service, Instance::of(event), event.node);
            self.know(event.task, &terms::Home { service, instance, node, placed_at: 0 });
        } else if let Kind::TaskAssigned(event) = kind {
            let service = self.unplaced.remove(&event.task);
            let there = self.tasks_of_nodes && self.object.as_ref() == Some(&event.node.to_string());
            if there {
                self.tasks.entry(event.task).or_insert(Home { service, node: None });
            }
            self.tasks.entry(event.task).and_modify(|home| home.node = Some(event.node));
        }
        for task in kind.reaped() {
            self.unplaced.remove(task);
        }
        kind.subjects().iter().any(|subject| self.object.as_ref() == Some(subject) || self.home(subject).is_some())
    }

    fn home(&self, id: &str) -> Option<&Home> {
        self.tasks.get(&id.parse().ok()?)
    }
}

fn known(task: &Task) -> (TaskId, Home) {
    (task.id, Home { service: Some(task.service), node: task.node })
}

/// Whether an event about a service or a node may be the cause of changes of tasks.
fn is_cause(kind: &Kind) -> bool {
    match kind {
        Kind::NodeRegistered(_)
        | Kind::NodeBecameReady(_)
        | Kind::NodeSpecUpdated(_)
        | Kind::NodeDeclaredDown(_)
        | Kind::NodeRemoved(_)
        | Kind::ServiceCreated(_)
        | Kind::ServiceSpecUpdated(_)
        | Kind::ServiceScaled(_)
        | Kind::ServiceRebalanced(_)
        | Kind::ServiceRemoved(_) => true,
        Kind::LeadershipAssumed(_)
        | Kind::StateHashRecorded(_)
        | Kind::ClusterInitialised(_)
        | Kind::ClusterSpecUpdated(_)
        | Kind::JoinTokenRotated(_)
        | Kind::FeatureLevelRaised(_)
        | Kind::RootCaGenerated(_)
        | Kind::RootRotationStarted(_)
        | Kind::RootRotationCompleted(_)
        | Kind::NodeMovedToRoot(_)
        | Kind::CertificateIssued(_)
        | Kind::OperatorCreated(_)
        | Kind::OperatorRevoked(_)
        | Kind::OperatorRenewed(_)
        | Kind::SecretsRead(_)
        | Kind::AccessRefused(_)
        | Kind::UnlockKeyChanged(_)
        | Kind::HistoryTagged(_)
        | Kind::HistoryUntagged(_)
        | Kind::HistoryRedacted(_)
        | Kind::MemberAdded(_)
        | Kind::MemberPromoted(_)
        | Kind::MemberDemoted(_)
        | Kind::MemberRemoved(_)
        | Kind::ManagerAnnounced(_)
        | Kind::QuorumForced(_)
        | Kind::NodeJoined(_)
        | Kind::NodeDescribed(_)
        | Kind::NodeDisconnected(_)
        | Kind::UpdateStarted(_)
        | Kind::UpdateTasksOverdue(_)
        | Kind::UpdatePaused(_)
        | Kind::UpdateCompleted(_)
        | Kind::RollbackStarted(_)
        | Kind::UpdateResumed(_)
        | Kind::TaskCreated(_)
        | Kind::TaskAssigned(_)
        | Kind::TaskPlacementFailed(_)
        | Kind::TaskDesiredStateSet(_)
        | Kind::TaskReported(_)
        | Kind::TaskRejected(_)
        | Kind::TaskOrphaned(_)
        | Kind::TaskReaped(_)
        | Kind::TaskAccessed(_)
        | Kind::ConfigCreated(_)
        | Kind::ConfigSpecUpdated(_)
        | Kind::ConfigRevised(_)
        | Kind::ConfigRemoved(_)
        | Kind::SecretCreated(_)
        | Kind::SecretSpecUpdated(_)
        | Kind::SecretRevised(_)
        | Kind::SecretRemoved(_)
        | Kind::RunScheduled(_)
        | Kind::RunStarted(_)
        | Kind::RunSkipped(_)
        | Kind::SinkCreated(_)
        | Kind::SinkRemoved(_)
        | Kind::SinkPaused(_)
        | Kind::SinkResumed(_)
        | Kind::SinkProgressed(_)
        | Kind::SinkFailed(_)
        | Kind::SinkParked(_) => false,
    }
}

/// The service of a task, and its place.
type Place = (ServiceId, Instance);

/// Names of ids: collected from a history, and for existing objects taken from the state.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Names of nodes and services. Removed ones are kept, because later events may refer to them: a few dozen bytes for each
    /// that ever existed.
    own: BTreeMap<u128, String>,
    /// Names of tasks that were created and not reaped yet.
    tasks: BTreeMap<TaskId, Place>,
}

impl Names {
    /// Records names from an event, before it is shown.
    pub fn learn(&mut self, kind: &Kind) {
        if let Kind::TaskCreated(event) = kind {
            self.tasks.insert(event.task, (event.service, Instance::of(event)));
        } else if let Some((_, id, name)) = naming(kind).filter(|(.., name)| !name.is_empty()) {
            self.own.insert(id, name.to_owned());
        }
    }

    /// Records the place of a task.
    pub fn place(&mut self, task: TaskId, service: ServiceId, instance: Instance) {
        self.tasks.insert(task, (service, instance));
    }

    /// Drops what an event removes, after it was shown, so that memory is bounded by existing objects.
    pub fn forget(&mut self, kind: &Kind) {
        for task in kind.reaped() {
            self.tasks.remove(task);
        }
    }

    /// Adds the names from a later history, which take precedence.
    pub fn then(mut self, later: Self) -> Self {
        self.own.extend(later.own);
        self.tasks.extend(later.tasks);
        self
    }

    /// The current or former name of an id: a service's name, a node's host name, `web.1` for a task.
    pub fn of(&self, cluster: &Cluster, id: &str) -> Option<String> {
        // Every noun's ids have the same form, and no two objects the same id. Most are tasks'.
        let id: TaskId = id.parse().ok()?;
        let living = Some(cluster);
        let own = || self.own(living, id.bits()).map(str::to_owned);
        self.task(living, id).or_else(own).filter(|name| !name.is_empty())
    }

    fn own<'a>(&'a self, living: Option<&'a Cluster>, bits: u128) -> Option<&'a str> {
        let at_hand = || {
            let cluster = living?;
            let service = || Some(cluster.services.get(ServiceId::from_bits(bits))?.spec.name());
            let node = || Some(cluster.nodes.get(NodeId::from_bits(bits))?.hostname());
            let operator = || Some(cluster.operators.get(OperatorId::from_bits(bits))?.name.as_str());
            let config = || Some(cluster.configs.get(ConfigId::from_bits(bits))?.spec.name());
            let secret = || Some(cluster.secrets.get(SecretId::from_bits(bits))?.spec.name());
            let sink = || Some(cluster.sinks.get(SinkId::from_bits(bits))?.spec.name.as_str());
            service().or_else(node).or_else(operator).or_else(config).or_else(secret).or_else(sink)
        };
        self.own.get(&bits).map(String::as_str).or_else(at_hand)
    }

    fn task(&self, living: Option<&Cluster>, id: TaskId) -> Option<String> {
        let task = || living?.tasks.get(id);
        let at_hand = || task().map(|task| (task.service, task.instance()));
        let (service, instance) = self.tasks.get(&id).copied().or_else(at_hand)?;
        // The tasks of a service outlive it, and know its spec.
        let spec = || Some(living?.spec_of(task()?).name());
        let service = self.own(living, service.bits()).or_else(spec)?;
        Some(match instance {
            Instance::Slot(slot) => format!("{service}.{slot}"),
            Instance::Node(node) => match self.own(living, node.bits()) {
                Some(name) => format!("{service}.{name}"),
                None => format!("{service}.{node}"),
            },
        })
    }
}

/// The name that an event sets: the noun, the id, and the name. A service's name never changes; a node's changes with that of its
/// machine.
pub fn naming(kind: &Kind) -> Option<(&'static str, u128, &str)> {
    if let Kind::ServiceCreated(event) = kind {
        Some(("service", event.service.bits(), event.spec.name()))
    } else if let Kind::ConfigCreated(event) = kind {
        Some(("config", event.config.bits(), event.spec.name()))
    } else if let Kind::SecretCreated(event) = kind {
        Some(("secret", event.secret.bits(), event.spec.name()))
    } else if let Kind::SinkCreated(event) = kind {
        Some(("sink", event.sink.bits(), &event.spec.name))
    } else if let Kind::OperatorCreated(event) = kind {
        Some(("operator", event.operator.bits(), &event.name))
    } else if let Kind::NodeJoined(event) = kind {
        Some(("node", event.node.bits(), &event.hostname))
    } else if let Kind::NodeDescribed(event) = kind {
        Some(("node", event.node.bits(), &event.description.hostname))
    } else {
        None
    }
}

/// Searches a history for an object that had a name: a service, a node, or the task in a place such as `web.1`; if there were
/// several, for the last one. Or for an object whose id starts with it.
#[derive(Debug, Clone)]
pub struct NameLookup {
    name: String,
    /// The only noun to search, such as `service`.
    noun: Option<&'static str>,
    names: Names,
    found: Option<TaskId>,
    /// The ids that start with the name, if any can.
    range: Option<RangeInclusive<TaskId>>,
    /// The first few of them.
    by_prefix: BTreeSet<TaskId>,
}

/// The result of resolving a reference in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The object with this id.
    One(String),
    /// Several objects have ids that start with it: the first few.
    Several(Vec<String>),
    /// No object ever had this name.
    Nothing,
}

impl NameLookup {
    /// How many ids are listed if several start with the reference.
    const LISTED_MAX: usize = 5;

    /// Searches for this name.
    pub fn of(name: impl Into<String>) -> Self {
        let name = name.into();
        let range = prefix_range::<TaskId>(&name).map(|(low, high)| low..=high);
        Self { name, noun: None, names: Names::default(), found: None, range, by_prefix: BTreeSet::new() }
    }

    /// The same, restricted to the objects of one noun, if one is given.
    pub fn among(self, noun: Option<&'static str>) -> Self {
        Self { noun, ..self }
    }

    /// Adds the name of an object that is not in the processed history.
    pub fn know(&mut self, id: u128, name: &str) {
        self.names.own.insert(id, name.to_owned());
    }

    /// Must process every event in order.
    pub fn see(&mut self, kind: &Kind) {
        if let Kind::TaskCreated(event) = kind {
            // Only places have a dot after the name of a service; most names need not be formatted.
            self.names.learn(kind);
            let bears =
                self.name.contains('.') && self.names.task(None, event.task).is_some_and(|name| self.is_called(&name));
            self.find("task", event.task, bears);
        } else if let Some((noun, id, name)) = naming(kind) {
            self.names.learn(kind);
            self.find(noun, TaskId::from_bits(id), self.is_called(name));
        }
        self.names.forget(kind);
    }

    /// Records an object that may have the name, or an id that starts with it.
    fn find(&mut self, noun: &str, id: TaskId, is_called: bool) {
        if self.noun.is_some_and(|meant| meant != noun) {
            return;
        }
        self.found = Some(id).filter(|_| is_called).or(self.found);
        if self.by_prefix.len() < Self::LISTED_MAX && self.range.as_ref().is_some_and(|range| range.contains(&id)) {
            self.by_prefix.insert(id);
        }
    }

    /// Names of services and hosts are compared ignoring case.
    fn is_called(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(&self.name)
    }

    /// The last object that had this name, regardless of ids that start with it.
    pub fn named(&self) -> Option<String> {
        self.found.map(|id| id.to_string())
    }

    /// Whether the reference can be an id prefix.
    pub fn can_be_id(&self) -> bool {
        self.range.is_some()
    }

    /// The result; a name takes precedence over an id prefix.
    pub fn found(&self) -> Found {
        let mut by_prefix = self.by_prefix.iter();
        match (self.found.as_ref().or_else(|| by_prefix.next()), by_prefix.next()) {
            (Some(id), second) if self.found.is_some() || second.is_none() => Found::One(id.to_string()),
            (None, _) => Found::Nothing,
            (Some(_), _) => Found::Several(self.by_prefix.iter().map(ToString::to_string).collect()),
        }
    }
}

#[cfg(test)]
mod tests;
