//! What an event reader has learned about the objects in events: their names, and the specs that were replaced. For events that
//! it did not read, it looks these up with the index.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use commands::Rejection;
use events::{ActorKind, Id, Kind, NodeId, ServiceId, TaskId};
use projections::Cluster;
use projections::views::history::{Names, naming};
use projections::views::specs::{Before, Specs};
use projections::views::terms::{Term, changes_spec_of};
use wire::v1::{EventRecord, SpecBefore};

use crate::log::Direction;

use super::finder::{FindError, Finder, Query};
use super::history::History;

/// Where to look up more.
pub(super) struct Sources<'a> {
    pub(super) history: &'a History,
    pub(super) finder: &'a mut Finder,
    pub(super) cluster: &'a Cluster,
    /// The state before the events, if available: it has the names and specs of objects that are removed in them.
    pub(super) before: Option<&'a Cluster>,
}

/// What was learned so far.
pub(super) struct KnownObjects {
    names: Names,
    specs: Option<Specs>,
    /// Frames that were neither indexed nor read.
    unseen: Range<u64>,
}

impl KnownObjects {
    /// Nothing learned yet; specs are only tracked if they are wanted. `unseen` frames are not read.
    pub(super) fn new(with_specs: bool, unseen: Range<u64>) -> Self {
        Self { names: Names::default(), specs: with_specs.then(Specs::default), unseen }
    }

    /// Starts over, after frames that were sent otherwise; `unseen` frames are not read.
    pub(super) fn restart(&mut self, unseen: Range<u64>) {
        *self = Self::new(self.has_specs(), unseen);
    }

    /// Whether specs are tracked.
    pub(super) fn has_specs(&self) -> bool {
        self.specs.is_some()
    }

    /// Forgets specs, because frames were skipped since they were learned.
    pub(super) fn forget_specs(&mut self) {
        if let Some(specs) = &mut self.specs {
            *specs = Specs::default();
        }
    }

    /// Learns from an event, before it is sent.
    pub(super) fn before(&mut self, kind: &Kind) {
        self.names.learn(kind);
    }

    /// Learns from an event, after it was sent.
    pub(super) fn after(
        &mut self,
        kind: Option<&Kind>,
        index: u64,
        sources: &mut Sources<'_>,
    ) -> Result<(), Rejection> {
        let Some(kind) = kind else { return Ok(()) };
        self.names.forget(kind);
        // The spec after a partial change is only known if the spec before it is.
        if self.specs.is_some() && matches!(kind, Kind::ServiceScaled(_)) {
            self.require_spec(kind, index, sources)?;
        }
        self.specs.iter_mut().for_each(|specs| specs.learn(kind));
        Ok(())
    }

    /// Adds the names of the ids in a record, and the spec that it replaces.
    ///
    /// # Errors
    /// When history cannot be read.
    pub(super) fn complete(&mut self, record: &mut EventRecord, sources: &mut Sources<'_>) -> Result<(), Rejection> {
        let Some(kind) = &record.event.kind else { return Ok(()) };
        let actor = record.command.as_ref().map(|command| &command.actor);
        let actor = actor.filter(|actor| matches!(actor.kind(), ActorKind::Node | ActorKind::Manager));
        let mut names = BTreeMap::new();
        for id in record.subjects.iter().chain(actor.map(|actor| &actor.subject)) {
            if let Some(name) = self.require_name(id, record.index, sources)? {
                names.insert(id.clone(), name);
            }
        }
        if self.specs.is_some() && Specs::replaces(kind) {
            self.require_spec(kind, record.index, sources)?;
        }
        record.names = names;
        record.before = self.specs.as_ref().and_then(|specs| specs.before(kind)).map(before).map(Box::new);
        Ok(())
    }

    fn name(&self, id: &str, sources: &Sources<'_>) -> Option<String> {
        self.names.of(sources.cluster, id).or_else(|| self.names.of(sources.before?, id))
    }

    /// What an id is or was called, if anything says it.
    fn require_name(&mut self, id: &str, index: u64, sources: &mut Sources<'_>) -> Result<Option<String>, Rejection> {
        if let Some(name) = self.name(id, sources) {
            return Ok(Some(name));
        }
        let Ok(task) = id.parse::<TaskId>() else { return Ok(None) };
        self.read_unseen(sources)?;
        if let Some(name) = self.name(id, sources) {
            return Ok(Some(name));
        }
        let Some(home) = sources.finder.home(sources.cluster, task)? else {
            self.learn_name(task.bits(), index, sources)?;
            return Ok(self.name(id, sources));
        };
        self.names.place(task, home.service, home.instance);
        let others = [Some(home.service.bits()), home.instance.node().map(NodeId::bits)];
        for bits in others.into_iter().flatten() {
            if self.name(&ServiceId::from_bits(bits).to_string(), sources).is_none() {
                self.learn_name(bits, index, sources)?;
            }
        }
        Ok(self.name(id, sources))
    }

    /// Learns the last name of an object up to this frame.
    fn learn_name(&mut self, id: u128, index: u64, sources: &Sources<'_>) -> Result<(), FindError> {
        let Some(named) = sources.finder.last(Term::NameOf(id), index.saturating_add(1))? else { return Ok(()) };
        let frame = sources.history.at(named)?;
        let names = |kind: &&Kind| naming(kind).is_some_and(|(_, of, _)| of == id);
        frame.iter().flat_map(events::codec::kinds).filter(names).for_each(|kind| self.names.learn(kind));
        Ok(())
    }

    /// Looks up the spec that an event in this frame changes.
    fn require_spec(&mut self, kind: &Kind, index: u64, sources: &mut Sources<'_>) -> Result<(), Rejection> {
        if let (Some(specs), Some(cluster)) = (&mut self.specs, sources.before) {
            specs.begin_at(cluster, kind);
        }
        let knows = |known: &Self| known.specs.as_ref().is_none_or(|specs| specs.knows(kind));
        if knows(self) {
            return Ok(());
        }
        self.read_unseen(sources)?;
        let Some(id) = changes_spec_of(kind).filter(|_| !knows(self)) else { return Ok(()) };
        Ok(self.learn_spec(id, index, sources)?)
    }

    /// Learns the last spec of an object before this frame: the last complete one, and later changes of it.
    fn learn_spec(&mut self, id: u128, before: u64, sources: &Sources<'_>) -> Result<(), FindError> {
        let mut query = Query::default();
        query.any_of([Term::Spec(id)]);
        let mut walk = sources.finder.frames(query, 0, before, Direction::Backward);
        let mut kinds = Vec::new();
        let mut is_whole = false;
        while let Some(index) = walk.next(sources.finder)?.filter(|_| !is_whole) {
            let frame = sources.history.at(index)?;
            let changes = frame.into_iter().flat_map(|frame| frame.events).filter_map(|event| event.kind);
            let changes: Vec<Kind> = changes.filter(|kind| changes_spec_of(kind) == Some(id)).collect();
            is_whole = changes.iter().any(|kind| !matches!(kind, Kind::ServiceScaled(_)));
            kinds.push(changes);
        }
        for kind in kinds.iter().rev().flatten() {
            self.specs.iter_mut().for_each(|specs| specs.learn(kind));
        }
        Ok(())
    }

    /// Reads the frames that were not read before, once.
    fn read_unseen(&mut self, sources: &mut Sources<'_>) -> Result<(), Rejection> {
        let unseen = std::mem::replace(&mut self.unseen, 0..0);
        if unseen.is_empty() {
            return Ok(());
        }
        let mut past = Self::new(self.specs.is_some(), 0..0);
        let mut reader = crate::log::HistoryReader::starting_at(unseen.start);
        loop {
            let frames = sources.history.read(&mut reader, unseen.end - 1)?;
            if frames.is_empty() {
                break;
            }
            for frame in frames.iter().map(|stored| &stored.frame) {
                for kind in events::codec::kinds(frame) {
                    past.before(kind);
                    past.after(Some(kind), frame.header.index, sources)?;
                }
            }
        }
        self.names = past.names.then(std::mem::take(&mut self.names));
        self.specs = match (past.specs, self.specs.take()) {
            (Some(past), Some(later)) => Some(past.then(later)),
            (past, later) => later.or(past),
        };
        Ok(())
    }
}

fn before(replaced: Before) -> SpecBefore {
    match replaced {
        Before::Service(spec) => SpecBefore { service: Some(Arc::unwrap_or_clone(spec)), ..SpecBefore::default() },
        Before::Node(spec) => SpecBefore { node: Some(Arc::unwrap_or_clone(spec)), ..SpecBefore::default() },
        Before::Cluster(spec) => SpecBefore { cluster: Some(Arc::unwrap_or_clone(spec)), ..SpecBefore::default() },
    }
}
