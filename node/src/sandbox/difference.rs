//! The difference between two states of a copy: object by object, and task by task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use events::{
    ClusterSpec, ConfigSpec, Duration, Id, NodeId, NodeSpec, SecretSpec, ServiceId, ServiceSpec, TaskState, Timestamp,
};
use projections::views::overview::unplaced;
use projections::{Cluster, Instance, Table, Task};
use serde::Serialize;

/// The user-defined part of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// That of a service.
    Service(Arc<ServiceSpec>),
    /// That of a node.
    Node(Arc<NodeSpec>),
    /// That of the cluster.
    Cluster(Box<ClusterSpec>),
    /// That of a config, with the number of its newest revision.
    Config(Arc<ConfigSpec>, u64),
    /// That of a secret, with the number of its newest revision.
    Secret(Arc<SecretSpec>, u64),
    /// An operator's name.
    Operator(String),
}

/// The change of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectChange {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its spec before; `None` if it did not exist.
    pub before: Option<Spec>,
    /// Its spec after; `None` if it was removed.
    pub after: Option<Spec>,
}

/// The change of a place of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It had no task.
    Start,
    /// It no longer has a task.
    Stop,
    /// It has another task, on the same node.
    Replace,
    /// It has another task, on another node.
    Move,
}

/// The change of the task in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskChange {
    /// The service, and the place in it.
    pub place: (ServiceId, Instance),
    /// The name of the service.
    pub service: String,
    /// What happened.
    pub action: Action,
    /// The node of the task before.
    pub from: Option<NodeId>,
    /// The node of the task after.
    pub to: Option<NodeId>,
    /// The spec of the task, or of its predecessor if there is no task.
    pub spec: Arc<ServiceSpec>,
    /// When the change started.
    pub after: Duration,
    /// Why a task has no node.
    pub waits: Option<String>,
}

/// The difference of a state from an earlier one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// Objects, by noun and name.
    pub objects: Vec<ObjectChange>,
    /// Tasks, ordered by the start of their change.
    pub tasks: Vec<TaskChange>,
}

impl Difference {
    /// The difference from `before` to `after`. Times are relative to `began`.
    pub fn between(before: &Cluster, after: &Cluster, began: Timestamp) -> Self {
        Self { objects: objects(before, after), tasks: tasks(before, after, began) }
    }

    /// Removes the changes of tasks that also happen in `other`: those that were already in progress.
    pub fn without(mut self, other: &Self) -> Self {
        let known: BTreeMap<_, _> = other.tasks.iter().map(|change| (change.place, change)).collect();
        let same = |one: &TaskChange, other: &TaskChange| {
            (one.action, one.from, one.to, &one.waits) == (other.action, other.from, other.to, &other.waits)
                && one.spec.same_template(&other.spec)
        };
        self.tasks.retain(|change| !known.get(&change.place).is_some_and(|other| same(change, other)));
        self
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.tasks.is_empty()
    }
}

fn objects(before: &Cluster, after: &Cluster) -> Vec<ObjectChange> {
    let mut changes = Vec::new();
    if before.spec() != after.spec() {
        let spec = |cluster: &Cluster| Some(Spec::Cluster(Box::new(cluster.spec().clone())));
        let (id, name) = (after.id().to_string(), projections::CLUSTER_NAME.to_owned());
        changes.push(ObjectChange { id, name, before: spec(before), after: spec(after) });
    }
    changes.extend(rows(&before.nodes, &after.nodes, |node| {
        (node.hostname().to_owned(), Spec::Node(Arc::clone(&node.spec)))
    }));
    changes.extend(rows(&before.configs, &after.configs, |config| {
        (config.spec.name().to_owned(), Spec::Config(Arc::clone(&config.spec), config.newest()))
    }));
    changes.extend(rows(&before.secrets, &after.secrets, |secret| {
        (secret.spec.name().to_owned(), Spec::Secret(Arc::clone(&secret.spec), secret.newest()))
    }));
    changes.extend(rows(&before.services, &after.services, |service| {
        (service.spec.name().to_owned(), Spec::Service(Arc::clone(&service.spec)))
    }));
    changes.extend(rows(&before.operators, &after.operators, |operator| {
        (operator.name.clone(), Spec::Operator(operator.name.clone()))
    }));
    changes
}

/// The rows of a table with a changed user-defined part.
fn rows<K: Id + Serialize, V: Clone + PartialEq + Serialize>(
    before: &Table<K, V>,
    after: &Table<K, V>,
    named: impl Fn(&V) -> (String, Spec),
) -> Vec<ObjectChange> {
    let change = |id: K| {
        let (was, is) = (before.get(id).map(&named), after.get(id).map(&named));
        let name = is.as_ref().or(was.as_ref()).map(|(name, _)| name.clone())?;
        let (was, is) = (was.map(|(_, spec)| spec), is.map(|(_, spec)| spec));
        (was != is).then(|| ObjectChange { id: id.to_string(), name, before: was, after: is })
    };
    let mut changes: Vec<ObjectChange> = after.changed_since(before).filter_map(|(id, _)| change(id)).collect();
    changes.sort_by(|one, other| one.name.cmp(&other.name));
    changes
}

fn tasks(before: &Cluster, after: &Cluster, began: Timestamp) -> Vec<TaskChange> {
    let mut places: BTreeSet<(ServiceId, Instance)> = BTreeSet::new();
    for (id, task) in after.tasks.changed_since(&before.tasks) {
        places.extend(task.or_else(|| before.tasks.get(id)).map(|task| (task.service, task.instance())));
    }
    let mut changes: Vec<TaskChange> =
        places.into_iter().filter_map(|place| task_change(before, after, place, began)).collect();
    changes.sort_by(|one, other| (one.after, &one.service, one.place).cmp(&(other.after, &other.service, other.place)));
    changes
}

fn task_change(
    before: &Cluster,
    after: &Cluster,
    place: (ServiceId, Instance),
    began: Timestamp,
) -> Option<TaskChange> {
    let (old, new) = (live(before, place), live(after, place).or_else(|| ran(before, after, place)));
    let (action, began_at) = match (old, new) {
        (None, None) => return None,
        (None, Some(new)) => (Action::Start, new.created_at),
        (Some(old), None) => (Action::Stop, after.tasks.get(old.id).map_or(began, |old| old.updated_at)),
        (Some(old), Some(new)) if old.id == new.id => match (old.node, new.node) {
            (None, Some(_)) => (Action::Start, new.updated_at),
            (None, None) | (Some(_), _) => return None,
        },
        (Some(old), Some(new)) if old.node == new.node => (Action::Replace, new.created_at),
        (Some(_), Some(new)) => (Action::Move, new.created_at),
    };
    let spec = new.map(|task| after.spec_of(task)).or_else(|| old.map(|task| before.spec_of(task)))?;
    let placed = new.filter(|task| !task.awaits_placement());
    let waits = new.filter(|task| task.awaits_placement());
    let waits = waits.map(|task| {
        let reason = task.waiting.as_deref().or_else(|| unplaced(after, task.service));
        reason.unwrap_or("no node has been chosen yet").to_owned()
    });
    Some(TaskChange {
        place,
        service: spec.name().to_owned(),
        action,
        from: old.and_then(|task| task.node),
        to: placed.and_then(|task| task.node),
        spec: Arc::clone(spec),
        after: began_at.since(began),
        waits,
    })
}

/// The newest wanted task of a place that has not ended.
fn live(cluster: &Cluster, (service, instance): (ServiceId, Instance)) -> Option<&Task> {
    let live = cluster.tasks_of_instance(service, instance).filter(|task| task.is_live());
    live.max_by_key(|task| (task.created_index, task.id))
}

/// The newest task of a place that did not exist before and has completed since.
fn ran<'a>(before: &Cluster, after: &'a Cluster, (service, instance): (ServiceId, Instance)) -> Option<&'a Task> {
    let new = after.tasks_of_instance(service, instance).filter(|task| !before.tasks.contains(task.id));
    new.filter(|task| task.state == TaskState::Complete).max_by_key(|task| (task.created_index, task.id))
}
