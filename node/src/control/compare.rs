//! The differences between two states of the cluster, in API responses.

use std::sync::Arc;

use commands::Rejection;
use commands::undo::Key;
use events::{NodeId, ServiceId};
use projections::views::difference::{self, Object, occupant};
use projections::{Cluster, Instance, Node, Task};
use wire::v1::{Difference, DifferencePage, ObjectNoun, ObjectSide, TaskEnd, TaskSide};

use super::lists::Pages;
use super::{Control, views};

impl Control {
    /// The differences of this state from an earlier one, in pages. The cost is proportional to the number of changes if this state was
    /// computed from the other one, and otherwise also to the number of objects (see [`difference::changed`]). Memory: two states, a few
    /// bytes for each changed object, and a page.
    ///
    /// # Errors
    /// When the other state is the later one.
    pub fn differences_since(&self, earlier: &Self) -> Result<Pages<Difference, DifferencePage>, Rejection> {
        let (before, after) = (Arc::clone(&earlier.state), Arc::clone(&self.state));
        let (from, to) = (before.cluster.position.index, after.cluster.position.index);
        if from > to {
            let sentence = format!("index {from} is after index {to}");
            return Err(Rejection::invalid("comparison", sentence, "give the earlier point first"));
        }
        let objects = difference::changed(&before.cluster, &after.cluster);
        let row = move |after: &crate::manager::driver::Published, object| {
            difference_of(object, &before.cluster, &after.cluster)
        };
        Ok(Pages::new(after, objects, row, |differences, _| DifferencePage { differences }))
    }
}

fn difference_of(object: Object, before: &Cluster, after: &Cluster) -> Option<Difference> {
    let (earlier, later) = (side(object, before), side(object, after));
    if earlier == later {
        return None;
    }
    let (noun, id) = noun(object);
    let name = difference::name(object, before, after);
    Some(Difference {
        noun: noun.into(),
        name: match object {
            Object::Place(_, Instance::Slot(slot)) => format!("{name}.{slot}"),
            Object::Place(_, Instance::Node(node)) => format!("{name}.{}", node_name(node, before, after)),
            Object::Cluster
            | Object::Node(_)
            | Object::Operator(_)
            | Object::Config(_)
            | Object::Secret(_)
            | Object::Service(_) => name.to_owned(),
        },
        id,
        before: earlier,
        after: later,
        end: end(object, before, after),
    })
}

fn noun(object: Object) -> (ObjectNoun, Option<String>) {
    match object {
        Object::Cluster => (ObjectNoun::Cluster, None),
        Object::Node(id) => (ObjectNoun::Node, Some(id.to_string())),
        Object::Operator(id) => (ObjectNoun::Operator, Some(id.to_string())),
        Object::Config(id) => (ObjectNoun::Config, Some(id.to_string())),
        Object::Secret(id) => (ObjectNoun::Secret, Some(id.to_string())),
        Object::Service(id) => (ObjectNoun::Service, Some(id.to_string())),
        Object::Place(..) => (ObjectNoun::Task, None),
    }
}

fn node_name(id: NodeId, before: &Cluster, after: &Cluster) -> String {
    let node = after.nodes.get(id).or_else(|| before.nodes.get(id));
    node.map_or_else(|| id.to_string(), |node| node.name().to_owned())
}

/// An object in one of the states, if it exists there.
fn side(object: Object, cluster: &Cluster) -> Option<ObjectSide> {
    Some(match object {
        Object::Cluster => ObjectSide { cluster: Some((*cluster.settings.spec).clone()), ..ObjectSide::default() },
        Object::Node(id) => node(cluster.nodes.get(id)?),
        Object::Operator(id) => {
            let operator = cluster.operators.get(id)?;
            ObjectSide { operator_role: Some(operator.role.into()), ..ObjectSide::default() }
        }
        Object::Config(id) => {
            let config = cluster.configs.get(id)?;
            let (spec, revision) = (Some((*config.spec).clone()), Some(config.newest()));
            ObjectSide { config: spec, revision, ..ObjectSide::default() }
        }
        Object::Secret(id) => {
            let secret = cluster.secrets.get(id)?;
            let (spec, revision) = (Some((*secret.spec).clone()), Some(secret.newest()));
            ObjectSide { secret: spec, revision, ..ObjectSide::default() }
        }
        Object::Service(id) => {
            let service = cluster.services.get(id)?;
            ObjectSide { service: Some((*service.spec).clone()), ..ObjectSide::default() }
        }
        Object::Place(service, instance) => place(cluster, service, instance)?,
    })
}

/// The current state of an object of an undo.
pub(super) fn side_of(key: &Key, cluster: &Cluster) -> Option<ObjectSide> {
    let object = match key {
        Key::Cluster => Object::Cluster,
        Key::Node(id) => Object::Node(*id),
        Key::Config(name) => Object::Config(cluster.config_named(name)?.id),
        Key::Secret(name) => Object::Secret(cluster.secret_named(name)?.id),
        Key::Operator(name) => Object::Operator(cluster.operator_named(name)?.id),
        Key::Service(name) => Object::Service(cluster.service_named(name)?.id),
        // It has no properties that change.
        Key::Tag(name) => return cluster.settings.tags.contains_key(name).then(ObjectSide::default),
    };
    side(object, cluster)
}

fn node(node: &Node) -> ObjectSide {
    ObjectSide {
        node: Some((*node.spec).clone()),
        state: Some(views::node_state(node).into()),
        addr: Some(node.addr.clone()),
        certified_role: Some(node.role.into()),
        ..ObjectSide::default()
    }
}

fn place(cluster: &Cluster, service: ServiceId, instance: Instance) -> Option<ObjectSide> {
    let task = occupant(cluster, service, instance)?;
    let node = task.node.and_then(|node| cluster.nodes.get(node));
    let side = TaskSide {
        task: task.id,
        node: node.map(|node| node.name().to_owned()),
        state: task.state.into(),
        image: cluster.spec_of(task).template().container().image.clone(),
    };
    Some(ObjectSide { task: Some(side), ..ObjectSide::default() })
}

/// How a task ended, or will end, that was in a place and no longer is.
fn end(object: Object, before: &Cluster, after: &Cluster) -> Option<TaskEnd> {
    let Object::Place(service, instance) = object else { return None };
    let former: &Task = after.tasks.get(occupant(before, service, instance)?.id).filter(|task| !task.is_live())?;
    let said = former.status.as_deref();
    let message = said.map_or("", |said| if said.error.is_empty() { &said.message } else { &said.error });
    Some(TaskEnd {
        state: former.state.into(),
        message: message.to_owned(),
        cause: former.desired_cause.map(Into::into),
    })
}
