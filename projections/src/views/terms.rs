//! The terms by which a frame of history can be found: the objects that its events concern, their kinds, actors and commands. For
//! each term, the index of history stores the frames that have it; a search reads only those.
//!
//! A term is a hash. A collision of two terms only costs reading a frame unnecessarily: the results are selected by the events.

use events::{CommandId, Frame, Id, Kind, NodeId, ServiceId, TaskId};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::Instance;
use crate::views::history::naming;

/// Raised when the terms of a frame or their storage change: an index with another version is rebuilt.
pub const TERMS_VERSION: u32 = 4;

/// A property by which frames are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Term<'a> {
    /// An event concerns this object, or a task of this service.
    Object(u128),
    /// An event concerns a task on this node.
    OnNode(NodeId),
    /// An event concerns a task in this place of a service.
    Place(ServiceId, Instance),
    /// An event is of this kind.
    Kind(&'a str),
    /// A command of this name was accepted.
    Command(&'a str),
    /// A command of this actor was accepted.
    Actor(&'a str),
    /// A command with a reason was accepted.
    Reasoned,
    /// A command of a person or a tool was accepted.
    Asked,
    /// A command of this operation was accepted.
    Operation(CommandId),
    /// An event sets the name of this object.
    NameOf(u128),
    /// An event gives an object this name, ignoring case.
    Named(&'a str),
    /// An event sets or changes the spec of this object; of the cluster if it is 0.
    Spec(u128),
}

impl Term<'_> {
    /// Its key in the index; never 0.
    pub fn key(&self) -> u64 {
        let text = |tag: u8, text: &str| hash(tag, text.as_bytes());
        let key = match self {
            Self::Object(id) => hash(1, &id.to_le_bytes()),
            Self::OnNode(node) => hash(2, &node.bits().to_le_bytes()),
            Self::Place(service, instance) => {
                let (tag, place) = match instance {
                    Instance::Slot(slot) => (3, u128::from(*slot)),
                    Instance::Node(node) => (4, node.bits()),
                };
                hash(tag, &[service.bits().to_le_bytes(), place.to_le_bytes()].concat())
            }
            Self::Kind(name) => text(5, name),
            Self::Command(name) => text(6, name),
            Self::Actor(subject) => text(7, subject),
            Self::Reasoned => text(8, ""),
            Self::Asked => text(13, ""),
            Self::Operation(id) => hash(14, &id.bits().to_le_bytes()),
            Self::NameOf(id) => hash(9, &id.to_le_bytes()),
            Self::Named(name) => text(10, &name.to_lowercase()),
            Self::Spec(id) => hash(11, &id.to_le_bytes()),
        };
        key.max(1)
    }
}

/// The key under which the home of a task is stored; differs from that of any term, except by chance.
pub fn home_key(task: TaskId) -> u64 {
    hash(12, &task.bits().to_le_bytes()).max(1)
}

fn hash(tag: u8, bytes: &[u8]) -> u64 {
    xxh3_64(&[&[tag], bytes].concat())
}

/// The service, place and node of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// Its service.
    pub service: ServiceId,
    /// Its place there.
    pub instance: Instance,
    /// Its node, once it has one.
    pub node: Option<NodeId>,
    /// Index of the frame that assigned it to the node.
    pub placed_at: u64,
}

impl Home {
    /// The home after the frame at this index.
    #[must_use]
    pub fn as_of(self, index: u64) -> Self {
        Self { node: self.node.filter(|_| self.placed_at <= index), ..self }
    }
}

/// The homes of tasks, as far as history was read.
pub trait Homes {
    /// The error of a failed lookup.
    type Error;

    /// The home of a task; `None` if this is no task.
    ///
    /// # Errors
    /// When the lookup fails.
    fn get(&mut self, task: TaskId) -> Result<Option<Home>, Self::Error>;

    /// Records the home of a task.
    fn set(&mut self, task: TaskId, home: Home);
}

/// Records the homes of tasks according to a frame, and adds all its terms.
///
/// # Errors
/// When the lookup of a home fails.
pub fn of_frame<H: Homes>(frame: &Frame, homes: &mut H, add: &mut impl FnMut(Term<'_>)) -> Result<(), H::Error> {
    for command in &frame.commands {
        add(Term::Command(&command.kind));
        add(Term::Actor(&command.actor.subject));
        if command.reason.is_some() {
            add(Term::Reasoned);
        }
        if command.actor.kind().is_user() {
            add(Term::Asked);
            if let Some(id) = command.operation() {
                add(Term::Operation(id));
            }
        }
    }
    for kind in events::codec::kinds(frame) {
        settle(kind, frame.header.index, homes)?;
        add(Term::Kind(kind.name()));
        add_subjects(kind, homes, add)?;
        if let Some((_, id, name)) = naming(kind) {
            add(Term::NameOf(id));
            add(Term::Named(name));
        }
        if let Some(id) = changes_spec_of(kind) {
            add(Term::Spec(id));
        }
    }
    Ok(())
}

/// Records the home that an event gives a task.
fn settle<H: Homes>(kind: &Kind, index: u64, homes: &mut H) -> Result<(), H::Error> {
    if let Kind::TaskCreated(event) = kind {
        let (service, instance, node) = (event.service, Instance::of(event), event.node);
        let home = Home { service, instance, node, placed_at: index };
        homes.set(event.task, home);
    } else if let Kind::TaskAssigned(event) = kind
        && let Some(home) = homes.get(event.task)?
    {
        homes.set(event.task, Home { node: Some(event.node), placed_at: index, ..home });
    }
    Ok(())
}

fn add_subjects<H: Homes>(kind: &Kind, homes: &mut H, add: &mut impl FnMut(Term<'_>)) -> Result<(), H::Error> {
    for subject in kind.subjects() {
        // Ids of all nouns have the same form, and no two objects share an id.
        let Ok(id) = subject.parse::<TaskId>() else { continue };
        let Some(home) = homes.get(id)? else {
            add(Term::Object(id.bits()));
            continue;
        };
        add(Term::Object(home.service.bits()));
        add(Term::Place(home.service, home.instance));
        if let Some(node) = home.node {
            add(Term::OnNode(node));
        }
    }
    Ok(())
}

/// The object whose spec an event sets or changes; 0 for the cluster.
pub fn changes_spec_of(kind: &Kind) -> Option<u128> {
    if let Kind::ServiceCreated(event) = kind {
        Some(event.service.bits())
    } else if let Kind::ServiceSpecUpdated(event) = kind {
        Some(event.service.bits())
    } else if let Kind::ServiceScaled(event) = kind {
        Some(event.service.bits())
    } else if let Kind::NodeJoined(event) = kind {
        Some(event.node.bits())
    } else if let Kind::NodeSpecUpdated(event) = kind {
        Some(event.node.bits())
    } else if let Kind::ClusterInitialised(_) | Kind::ClusterSpecUpdated(_) = kind {
        Some(0)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use events::{
        ActorKind, ActorRecord, CommandRecord, Event, FrameHeader, ServiceCreated, TaskAssigned, TaskCreated,
        TaskReported,
    };

    use super::*;

    #[derive(Default)]
    struct Known(BTreeMap<TaskId, Home>);

    impl Homes for Known {
        type Error = Infallible;

        fn get(&mut self, task: TaskId) -> Result<Option<Home>, Infallible> {
            Ok(self.0.get(&task).copied())
        }

        fn set(&mut self, task: TaskId, home: Home) {
            self.0.insert(task, home);
        }
    }

    fn terms(homes: &mut Known, commands: Vec<CommandRecord>, kinds: Vec<Kind>) -> Vec<u64> {
        let events = kinds.into_iter().map(|kind| Event::by_command(0, kind)).collect();
        let frame = Frame { header: FrameHeader::default(), commands, events };
        let mut found = Vec::new();
        let Ok(()) = of_frame(&frame, homes, &mut |term| found.push(term.key()));
        found
    }

    #[test]
    fn a_task_is_found_by_its_service_its_place_and_its_node() {
        let (task, service, node) = (TaskId::from_bits(3), ServiceId::from_bits(1), NodeId::from_bits(2));
        let mut homes = Known::default();
        let created = Kind::TaskCreated(TaskCreated { task, service, slot: 7, ..Default::default() });
        let assigned = Kind::TaskAssigned(TaskAssigned { task, node, claims: Vec::new() });
        let reported = Kind::TaskReported(TaskReported { task, ..Default::default() });
        let place = Term::Place(service, Instance::Slot(7)).key();
        let found = terms(&mut homes, Vec::new(), vec![created]);
        assert!(found.contains(&place) && found.contains(&Term::Object(service.bits()).key()));
        assert!(!found.contains(&Term::OnNode(node).key()));
        for kind in [assigned, reported] {
            let name = kind.name();
            let found = terms(&mut homes, Vec::new(), vec![kind]);
            for term in [Term::Object(service.bits()), Term::OnNode(node), Term::Kind(name)] {
                assert!(found.contains(&term.key()), "{term:?} of {name}");
            }
            assert!(found.contains(&place), "the place of {name}");
        }
    }

    #[test]
    fn a_name_is_found_whatever_its_case_and_a_spec_by_its_object() {
        let annotations = Some(events::Annotations { name: "Web".to_owned(), ..Default::default() });
        let spec = events::ServiceSpec { annotations, ..Default::default() };
        let created = Kind::ServiceCreated(Box::new(ServiceCreated { service: ServiceId::from_bits(1), spec }));
        let actor = ActorRecord { kind: ActorKind::Operator.into(), subject: "root".to_owned(), via: None };
        let command = CommandRecord { kind: "service.create".to_owned(), actor, ..Default::default() };
        let found = terms(&mut Known::default(), vec![command], vec![created]);
        let has = [
            Term::Named("wEB"),
            Term::NameOf(1),
            Term::Spec(1),
            Term::Object(1),
            Term::Command("service.create"),
            Term::Actor("root"),
        ];
        for term in has {
            assert!(found.contains(&term.key()), "{term:?}");
        }
        assert!(!found.contains(&Term::Reasoned.key()), "no reason was given");
    }
}
