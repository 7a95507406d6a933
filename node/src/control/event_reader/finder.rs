//! Finds frames with the index of history: those that match a query, in either direction, and the homes of tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use commands::{Rejection, RejectionKind};
use events::{Id, Kind, NodeId, ServiceId, TaskId};
use projections::views::terms::{Home, Term};
use projections::{Cluster, Instance};

use crate::log::index::segment_of;
use crate::log::{Direction, Frames, LogError, LogStore, SEGMENT};
use crate::manager::indexer::indexed_home;

use super::history::{History, ReadError};

/// Maximum cached homes: as many as the tasks of a large page of events.
const HOMES_MAX: usize = 16_384;

/// A conjunction of clauses: frames must match at least one term of each.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<Vec<u64>>);

impl Query {
    /// Adds a clause: any of these terms.
    pub(super) fn any_of<'a>(&mut self, terms: impl IntoIterator<Item = Term<'a>>) {
        self.0.push(terms.into_iter().map(|term| term.key()).collect());
    }

    /// Whether every frame matches.
    pub(super) fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

/// The index of history at the time of a request.
pub(super) struct Finder {
    store: Arc<dyn LogStore>,
    /// The first frame that it does not cover.
    reach: u64,
    homes: BTreeMap<TaskId, Option<Home>>,
}

impl Finder {
    pub(super) fn open(store: Arc<dyn LogStore>) -> Result<Self, FindError> {
        let reach = guarded(&*store, store.indexed_to())?;
        Ok(Self { store, reach, homes: BTreeMap::new() })
    }

    /// The first frame that can only be found by reading.
    pub(super) fn reach(&self) -> u64 {
        self.reach
    }

    /// The frames in `from..to` that a query may match.
    pub(super) fn frames(&self, query: Query, from: u64, to: u64, direction: Direction) -> FrameWalk {
        let to = to.min(self.reach).max(from);
        FrameWalk { query, from, to, direction, waiting: Vec::new() }
    }

    /// The last frame before `before` with this term.
    pub(super) fn last(&self, term: Term<'_>, before: u64) -> Result<Option<u64>, FindError> {
        let mut query = Query::default();
        query.any_of([term]);
        self.frames(query, 0, before, Direction::Backward).next(self)
    }

    /// The home of a task, which may be removed; `None` if the id is not a task's, or the task is newer than the index.
    pub(super) fn home(&mut self, cluster: &Cluster, task: TaskId) -> Result<Option<Home>, FindError> {
        let bits = task.bits();
        let is_other =
            cluster.services.contains(ServiceId::from_bits(bits)) || cluster.nodes.contains(NodeId::from_bits(bits));
        let is_younger = cluster.tasks.get(task).is_some_and(|task| task.created_index >= self.reach);
        if self.reach == 0 || is_other || is_younger {
            return Ok(None);
        }
        if let Some(home) = self.homes.get(&task) {
            return Ok(*home);
        }
        let home = guarded(&*self.store, indexed_home(&*self.store, task))?;
        if self.homes.len() >= HOMES_MAX {
            self.homes.clear();
        }
        self.homes.insert(task, home);
        Ok(home)
    }

    /// The last task in a place.
    pub(super) fn last_task(
        &self,
        history: &History,
        service: ServiceId,
        instance: Instance,
    ) -> Result<Option<TaskId>, FindError> {
        let created = Term::Kind("task_created");
        let mut query = Query::default();
        query.any_of([Term::Place(service, instance)]);
        query.any_of([created]);
        let mut walk = self.frames(query, 0, u64::MAX, Direction::Backward);
        while let Some(index) = walk.next(self)? {
            let frame = history.at(index)?;
            let kinds = frame.iter().flat_map(events::codec::kinds);
            let stands = |kind: &Kind| if let Kind::TaskCreated(event) = kind { Some(event.clone()) } else { None };
            let task = kinds.filter_map(stands).filter(|event| {
                event.service == service && event.node.map_or(Instance::Slot(event.slot), Instance::Node) == instance
            });
            if let Some(task) = task.last() {
                return Ok(Some(task.task));
            }
        }
        Ok(None)
    }

    fn block(&self, term: u64, from: u32, to: u32, direction: Direction) -> Result<Option<(u32, Frames)>, FindError> {
        guarded(&*self.store, self.store.index_block(term, from..to, direction))
    }

    /// The next segment of a clause, and its frames there.
    fn clause(
        &self,
        terms: &[u64],
        from: u32,
        to: u32,
        direction: Direction,
    ) -> Result<Option<(u32, Frames)>, FindError> {
        let mut found: Option<(u32, Frames)> = None;
        for term in terms {
            let Some((segment, frames)) = self.block(*term, from, to, direction)? else { continue };
            found = Some(match found {
                Some((best, others)) if best == segment => (best, others.or(frames)),
                Some((best, others)) if (best < segment) == (direction == Direction::Forward) => (best, others),
                Some(_) | None => (segment, frames),
            });
        }
        Ok(found)
    }
}

/// An iterator over the frames that a query may match.
pub(super) struct FrameWalk {
    query: Query,
    /// The remaining range, without `waiting`.
    from: u64,
    to: u64,
    direction: Direction,
    /// Frames of the last segment, the next one last.
    waiting: Vec<u64>,
}

impl FrameWalk {
    /// The next frame; `None` at the end.
    pub(super) fn next(&mut self, finder: &Finder) -> Result<Option<u64>, FindError> {
        while self.waiting.is_empty() && self.from < self.to {
            self.look(finder)?;
        }
        Ok(self.waiting.pop())
    }

    /// Looks up the next segment in which all clauses may have frames. Each clause starts where the previous one has a match,
    /// so a rare clause lets the others skip ahead.
    fn look(&mut self, finder: &Finder) -> Result<(), FindError> {
        let (mut first, mut end) = (segment_of(self.from), segment_of(self.to - 1) + 1);
        let mut found = Vec::with_capacity(self.query.0.len());
        for clause in &self.query.0 {
            let Some((segment, frames)) = finder.clause(clause, first, end, self.direction)? else { break };
            match self.direction {
                Direction::Forward => first = segment,
                Direction::Backward => end = segment + 1,
            }
            found.push((segment, frames));
        }
        let furthest = found.last().map(|(segment, _)| *segment).filter(|_| found.len() == self.query.0.len());
        let Some(furthest) = furthest else {
            self.from = self.to;
            return Ok(());
        };
        let met = found.iter().all(|(segment, _)| *segment == furthest);
        let common = found.into_iter().map(|(_, frames)| frames).reduce(Frames::and);
        self.pass(furthest, common.filter(|_| met));
        Ok(())
    }

    /// Moves to a segment, and past it if its frames are known.
    fn pass(&mut self, segment: u32, frames: Option<Frames>) {
        let (begin, end) = (u64::from(segment) * SEGMENT, (u64::from(segment) + 1) * SEGMENT);
        let left = self.from..self.to;
        let Some(frames) = frames else {
            match self.direction {
                Direction::Forward => self.from = begin.max(self.from),
                Direction::Backward => self.to = end.min(self.to),
            }
            return;
        };
        let wanted = frames.indexes(segment).filter(|index| left.contains(index));
        match self.direction {
            Direction::Forward => (self.waiting, self.from) = (wanted.rev().collect(), end.min(self.to)),
            Direction::Backward => (self.waiting, self.to) = (wanted.collect(), begin.max(self.from)),
        }
    }
}

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindError {
    #[error("the index of history is damaged and is made again: {0}")]
    Damaged(LogError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<FindError> for Rejection {
    fn from(error: FindError) -> Self {
        match error {
            FindError::Read(error) => error.into(),
            FindError::Damaged(_) => {
                tracing::error!(%error, "history cannot be searched");
                let hint = "ask again: meanwhile history itself is read, which takes longer";
                Self::new(RejectionKind::Unavailable, "history", error.to_string(), hint)
            }
        }
    }
}

/// A damaged index is useless: it is deleted, and rebuilt.
fn guarded<T>(store: &dyn LogStore, read: Result<T, LogError>) -> Result<T, FindError> {
    match read {
        Ok(value) => Ok(value),
        Err(error) if error.is_of_a_cache() => {
            store.discard_index().map_err(ReadError::Log)?;
            Err(FindError::Damaged(error))
        }
        Err(error) => Err(FindError::Read(error.into())),
    }
}
