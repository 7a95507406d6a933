//! Names for ids, learnt from lists and from history as it goes by.

use std::collections::HashMap;

use events::Kind;
use wire::v1::{NodeView, ServiceView};

/// What the ids of nodes, services and tasks are called.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<String, String>,
}

impl Names {
    /// The name of an id, or the id itself while its name is not known.
    pub fn of<'a>(&'a self, id: &'a str) -> &'a str {
        self.known.get(id).map_or(id, String::as_str)
    }

    /// Learns the names of nodes.
    pub fn learn_nodes(&mut self, nodes: &[NodeView]) {
        let named = nodes.iter().map(|node| (node.id.to_string(), super::node::name(node).to_owned()));
        self.known.extend(named.filter(|(_, name)| !name.is_empty()));
    }

    /// Learns the names of services.
    pub fn learn_services(&mut self, services: &[ServiceView]) {
        self.known.extend(services.iter().map(|service| (service.id.to_string(), service.spec.name().to_owned())));
    }

    /// Learns from an event, before it is told. Names of removed nodes and services stay: later events may mention them.
    pub fn learn(&mut self, kind: &Kind) {
        if let Kind::NodeJoined(event) = kind {
            self.insert(event.node, &event.hostname);
        } else if let Kind::NodeDescribed(event) = kind {
            self.insert(event.node, &event.description.hostname);
        } else if let Kind::ServiceCreated(event) = kind {
            self.insert(event.service, event.spec.name());
        } else if let Kind::TaskCreated(event) = kind {
            let service = self.of(&event.service.to_string()).to_owned();
            let place = event.node.filter(|_| event.slot == 0).map(|node| self.of(&node.to_string()).to_owned());
            self.insert(event.task, &format!("{service}.{}", place.unwrap_or_else(|| event.slot.to_string())));
        }
    }

    /// Forgets what an event says is over, after it was told, so that memory is bounded by what lives.
    pub fn forget(&mut self, kind: &Kind) {
        if let Kind::TaskReaped(event) = kind {
            for task in &event.tasks {
                self.known.remove(&task.to_string());
            }
        }
    }

    fn insert(&mut self, id: impl ToString, name: &str) {
        if !name.is_empty() {
            self.known.insert(id.to_string(), name.to_owned());
        }
    }
}
