//! The difference between two states of one history: objects that are in only one of them, or differ.

use std::collections::BTreeSet;

use events::{ConfigId, NodeId, OperatorId, SecretId, ServiceId};

use crate::{Cluster, Instance, Task};

/// An object that may differ between two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// The cluster's own settings.
    Cluster,
    /// A node.
    Node(NodeId),
    /// An operator with a certificate.
    Operator(OperatorId),
    /// A config.
    Config(ConfigId),
    /// A secret.
    Secret(SecretId),
    /// A service.
    Service(ServiceId),
    /// A place of a service, and its current task.
    Place(ServiceId, Instance),
}

/// The objects whose rows changed from one state to a later one, in the order of nouns and names. Costs what changed where one state was
/// made from the other; else a look at every row, which says by its hash whether it is another one. Each object that changed costs a look
/// at its name. Memory: a few bytes for each of them.
pub fn changed(before: &Cluster, after: &Cluster) -> Vec<Object> {
    let mut objects = vec![Object::Cluster];
    objects.extend(after.nodes.differing_from(&before.nodes).map(|(id, _)| Object::Node(id)));
    objects.extend(after.operators.differing_from(&before.operators).map(|(id, _)| Object::Operator(id)));
    objects.extend(after.configs.differing_from(&before.configs).map(|(id, _)| Object::Config(id)));
    objects.extend(after.secrets.differing_from(&before.secrets).map(|(id, _)| Object::Secret(id)));
    objects.extend(after.services.differing_from(&before.services).map(|(id, _)| Object::Service(id)));
    objects.extend(places(before, after).into_iter().map(|(service, instance)| Object::Place(service, instance)));
    objects.sort_by_cached_key(|object| (rank(*object), name(*object, before, after), *object));
    objects
}

/// The places in which a task changed.
fn places(before: &Cluster, after: &Cluster) -> BTreeSet<(ServiceId, Instance)> {
    let changed = after.tasks.differing_from(&before.tasks);
    let tasks = changed.filter_map(|(id, task)| task.or_else(|| before.tasks.get(id)));
    tasks.map(|task| (task.service, task.instance())).collect()
}

/// The current task of a place: the newest of those that are wanted and have not ended.
pub fn occupant(cluster: &Cluster, service: ServiceId, instance: Instance) -> Option<&Task> {
    let live = cluster.tasks_of_instance(service, instance).filter(|task| task.is_live());
    live.max_by_key(|task| (task.created_index, task.id))
}

fn rank(object: Object) -> u8 {
    match object {
        Object::Cluster => 0,
        Object::Node(_) => 1,
        Object::Operator(_) => 2,
        Object::Config(_) => 3,
        Object::Secret(_) => 4,
        Object::Service(_) => 5,
        Object::Place(..) => 6,
    }
}

/// The name of an object, in the later state if it exists there; for a place, that of its service.
pub fn name<'a>(object: Object, before: &'a Cluster, after: &'a Cluster) -> &'a str {
    let name = |cluster: &'a Cluster| match object {
        Object::Cluster => Some(cluster.settings.name.as_str()),
        Object::Node(id) => cluster.nodes.get(id).map(|node| node.name()),
        Object::Operator(id) => cluster.operators.get(id).map(|operator| operator.name.as_str()),
        Object::Config(id) => cluster.configs.get(id).map(|config| config.spec.name()),
        Object::Secret(id) => cluster.secrets.get(id).map(|secret| secret.spec.name()),
        Object::Service(id) | Object::Place(id, _) => service_name(cluster, id),
    };
    name(after).or_else(|| name(before)).unwrap_or_default()
}

/// The name of a service, including a removed one with tasks that are still stopping.
fn service_name(cluster: &Cluster, id: ServiceId) -> Option<&str> {
    let present = cluster.services.get(id).map(|service| service.spec.name());
    present.or_else(|| cluster.tasks_of_service(id).next().map(|task| cluster.spec_of(task).name()))
}
