//! Selects the events that a history request means, and the index terms that find their frames.

use std::collections::BTreeSet;

use commands::Rejection;
use events::{CommandId, CommandRecord, Event, Frame, Id, Kind, NodeId, TaskId};
use projections::Cluster;
use projections::views::history::EventFilter;
use projections::views::overview::resolve_node;
use projections::views::terms::{Home, Term};
use wire::v1::EventsRequest;

use super::command_of;
use super::finder::{FindError, Finder, Query};
use super::history::History;
use super::object::{node, object, place};
use super::shared::SharedFrame;

/// The selection of a request, with its references resolved.
#[derive(Clone)]
pub(super) struct Selection {
    object: EventFilter,
    /// Selects events about a node and the tasks on it.
    node: Option<EventFilter>,
    commands: Vec<String>,
    /// Subjects of actors, any of which matches.
    actors: Vec<String>,
    /// A substring of the reason, in lower case.
    reason: Option<String>,
    /// Whether only commands of operators and tools are selected.
    asked: bool,
    /// Only commands of this operation are selected.
    operation: Option<CommandId>,
    query: Query,
}

impl Selection {
    /// The selection of a request.
    ///
    /// # Errors
    /// When a reference matches no present or past object, or history cannot be read.
    pub(super) fn of(
        history: &History,
        finder: &mut Finder,
        cluster: &Cluster,
        request: &EventsRequest,
    ) -> Result<Self, Rejection> {
        let mut query = Query::default();
        let mut object = EventFilter::of(None, request.kinds.iter().cloned());
        if let Some(reference) = request.place.as_deref() {
            let (service, instance) = place(history, finder, cluster, reference)?;
            query.any_of([Term::Place(service, instance)]);
            object = EventFilter::of_place(service, instance);
        } else if let Some(reference) = request.object.as_deref() {
            let id = self::object(history, finder, cluster, reference)?;
            object = EventFilter::of(Some(id.clone()), request.kinds.iter().cloned());
            if request.with_tasks() {
                object = object.with_tasks_of_nodes();
            }
            add_object(&mut query, finder, cluster, &id)?;
        }
        let node = match request.node.as_deref() {
            Some(reference) => {
                let id = self::node(history, finder, cluster, reference)?;
                let bits = id.parse::<NodeId>().map(NodeId::bits).unwrap_or_default();
                query.any_of([Term::Object(bits), Term::OnNode(NodeId::from_bits(bits))]);
                Some(EventFilter::of(Some(id), []).with_tasks_of_nodes())
            }
            None => None,
        };
        let actors: Vec<String> = request.actors.iter().flat_map(|actor| subjects_of(cluster, actor)).collect();
        let kinds = request.kinds.iter().map(|kind| Term::Kind(kind)).collect();
        let commands = request.commands.iter().map(|command| Term::Command(command)).collect();
        let by = actors.iter().map(|actor| Term::Actor(actor)).collect();
        for terms in [kinds, commands, by] {
            let terms: Vec<Term<'_>> = terms;
            if !terms.is_empty() {
                query.any_of(terms);
            }
        }
        let reason = request.reason.as_ref().map(|reason| reason.to_lowercase());
        if reason.is_some() {
            query.any_of([Term::Reasoned]);
        }
        if request.asked() {
            query.any_of([Term::Asked]);
        }
        if let Some(operation) = request.operation {
            query.any_of([Term::Operation(operation)]);
        }
        let (commands, asked, operation) = (request.commands.clone(), request.asked(), request.operation);
        Ok(Self { object, node, commands, actors, reason, asked, operation, query })
    }

    /// The query for frames that may contain selected events.
    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    /// Whether each event can be judged by itself.
    pub(super) fn is_of_everything(&self) -> bool {
        self.object.is_of_everything() && self.node.is_none()
    }

    /// Prepares to start in the middle of history, shortly before this state, with no task reaped in between. Returns whether
    /// that is possible.
    pub(super) fn begin_at(&mut self, cluster: &Cluster) -> bool {
        self.object.begin_at(cluster) && self.node.as_mut().is_none_or(|node| node.begin_at(cluster))
    }

    /// Whether each event of a frame is selected. Tasks that no frame mentioned so far are looked up.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub(super) fn select(
        &mut self,
        finder: &mut Finder,
        cluster: &Cluster,
        frame: &Frame,
    ) -> Result<Vec<bool>, FindError> {
        if !self.is_of_everything() {
            self.look_up(finder, cluster, frame)?;
        }
        let events = frame.events.iter().map(|event| (event, command_of(event, &frame.commands)));
        Ok(self.choose(events.collect()))
    }

    /// Whether each event of a shared frame is selected. The frame contains the homes of its tasks.
    pub(super) fn select_shared(&mut self, frame: &SharedFrame) -> Vec<bool> {
        if !self.is_of_everything() {
            for (task, home) in frame.homes().filter(|(task, _)| !self.knows(*task)).collect::<Vec<_>>() {
                self.know(task, home);
            }
        }
        let events = frame.records().iter().map(|record| (&record.event, record.command.as_deref()));
        self.choose(events.collect())
    }

    fn choose(&mut self, events: Vec<(&Event, Option<&CommandRecord>)>) -> Vec<bool> {
        let mut chosen = self.object.select(events.iter().map(|(event, _)| *event));
        if let Some(node) = &mut self.node {
            let there = node.select(events.iter().map(|(event, _)| *event));
            chosen.iter_mut().zip(there).for_each(|(chosen, there)| *chosen &= there);
        }
        for (chosen, (_, command)) in chosen.iter_mut().zip(events) {
            *chosen = *chosen && self.has_command(command);
        }
        chosen
    }

    /// Whether the home of this task is known, or known to be irrelevant.
    fn knows(&self, task: TaskId) -> bool {
        self.object.knows(task) && self.node.as_ref().is_none_or(|node| node.knows(task))
    }

    fn know(&mut self, task: TaskId, home: &Home) {
        self.object.know(task, home);
        self.node.iter_mut().for_each(|node| node.know(task, home));
    }

    fn look_up(&mut self, finder: &mut Finder, cluster: &Cluster, frame: &Frame) -> Result<(), FindError> {
        // A task created here has its home in its own event.
        let created = |kind: &Kind| if let Kind::TaskCreated(event) = kind { Some(event.task) } else { None };
        let created: BTreeSet<TaskId> = events::codec::kinds(frame).filter_map(created).collect();
        for subject in events::codec::kinds(frame).flat_map(Kind::subjects) {
            let Ok(task) = subject.parse::<TaskId>() else { continue };
            if created.contains(&task) || self.knows(task) {
                continue;
            }
            if let Some(home) = finder.home(cluster, task)?.map(|home| home.as_of(frame.header.index)) {
                self.know(task, &home);
            }
        }
        Ok(())
    }

    /// Whether the command that caused an event is selected.
    fn has_command(&self, command: Option<&CommandRecord>) -> bool {
        let is_any = self.commands.is_empty() && self.actors.is_empty() && self.reason.is_none();
        if is_any && !self.asked && self.operation.is_none() {
            return true;
        }
        command.is_some_and(|command| {
            let reason = command.reason.as_deref().unwrap_or_default().to_lowercase();
            let is_asked = command.actor.kind().is_user();
            let belongs = self.operation.is_none_or(|id| is_asked && command.operation() == Some(id));
            belongs
                && (!self.asked || is_asked)
                && (self.commands.is_empty() || self.commands.contains(&command.kind))
                && (self.actors.is_empty() || self.actors.contains(&command.actor.subject))
                && self.reason.as_ref().is_none_or(|wanted| reason.contains(wanted))
        })
    }
}

/// Adds the terms that find an object's frames. Those of a task are the terms of its place.
fn add_object(query: &mut Query, finder: &mut Finder, cluster: &Cluster, id: &str) -> Result<(), FindError> {
    let Ok(task) = id.parse::<TaskId>() else { return Ok(()) };
    match finder.home(cluster, task)? {
        Some(home) => query.any_of([Term::Place(home.service, home.instance)]),
        None => query.any_of([Term::Object(task.bits()), Term::OnNode(NodeId::from_bits(task.bits()))]),
    }
    Ok(())
}

/// The subjects of an actor in the log: as given, or the id of the node with this name.
fn subjects_of(cluster: &Cluster, actor: &str) -> Vec<String> {
    let node = resolve_node(cluster, actor).ok().map(|node| node.to_string());
    [actor.to_owned()].into_iter().chain(node).collect()
}
