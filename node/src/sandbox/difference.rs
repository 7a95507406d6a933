//! How two states of a copy differ: object by object, and task by task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use events::{
    ClusterSpec, ConfigSpec, Duration, Id, NodeId, NodeSpec, SecretSpec, ServiceId, ServiceSpec, TaskState, Timestamp,
};
use projections::views::overview::unplaced;
use projections::{Cluster, Instance, Table, Task};
use serde::Serialize;

/// What a user asked of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Spec {
    /// Of a service.
    Service(Arc<ServiceSpec>),
    /// Of a node.
    Node(Arc<NodeSpec>),
    /// Of the cluster.
    Cluster(Box<ClusterSpec>),
    /// Of a config, with the number of its newest revision.
    Config(Arc<ConfigSpec>, u64),
    /// Of a secret, with the number of its newest revision.
    Secret(Arc<SecretSpec>, u64),
    /// An operator's name.
    Operator(String),
}

/// What became of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectChange {
    /// Its id.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it was; nothing if it was not there.
    pub before: Option<Spec>,
    /// What it is; nothing if it is gone.
    pub after: Option<Spec>,
}

/// What became of a place of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It had no task.
    Start,
    /// It has none any more.
    Stop,
    /// It has another task, on the same node.
    Replace,
    /// It has another task, on another node.
    Move,
}

/// What became of the task in one place.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskChange {
    /// The service, and the place in it.
    pub place: (ServiceId, Instance),
    /// What the service is called.
    pub service: String,
    /// What happened.
    pub action: Action,
    /// Where the task was.
    pub from: Option<NodeId>,
    /// Where the task is.
    pub to: Option<NodeId>,
    /// What the task runs, or ran if there is none any more.
    pub spec: Arc<ServiceSpec>,
    /// When that began.
    pub after: Duration,
    /// Why a task has no node.
    pub waits: Option<String>,
}

/// How a state differs from an earlier one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// Objects, by noun and name.
    pub objects: Vec<ObjectChange>,
    /// Tasks, in the order in which that begins.
    pub tasks: Vec<TaskChange>,
}

impl Difference {
    /// What became of `before` by way of `after`. Time counts from `began`.
    pub fn between(before: &Cluster, after: &Cluster, began: Timestamp) -> Self {
        Self { objects: objects(before, after), tasks: tasks(before, after, began) }
    }

    /// Leaves out what became of tasks without all that as well: what was under way before.
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

/// The rows of a table of which something that users asked for differs.
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

/// The newest task of a place that is wanted and not over.
fn live(cluster: &Cluster, (service, instance): (ServiceId, Instance)) -> Option<&Task> {
    let live = cluster.tasks_of_instance(service, instance).filter(|task| task.is_live());
    live.max_by_key(|task| (task.created_index, task.id))
}

/// The newest task of a place that was not there before and completed since.
fn ran<'a>(before: &Cluster, after: &'a Cluster, (service, instance): (ServiceId, Instance)) -> Option<&'a Task> {
    let new = after.tasks_of_instance(service, instance).filter(|task| !before.tasks.contains(task.id));
    new.filter(|task| task.state == TaskState::Complete).max_by_key(|task| (task.created_index, task.id))
}
