//! Frames shared by all followers of history: each is completed once, with the names of its ids and the specs that it replaces,
//! however many followers there are. Names of removed objects come from the state before it.

use std::collections::BTreeMap;
use std::sync::Arc;

use commands::Rejection;
use events::frame::FrameHash;
use events::{Frame, FrameHeader, Kind, TaskId};
use projections::views::terms::Home;
use projections::{Cluster, Instance};
use prost::Message;
use wire::v1::{EventRecord, SpecBefore};

use super::finder::Finder;
use super::history::{History, StoredFrame};
use super::known::{KnownObjects, Sources};
use super::{EventReader, record};
use crate::control::views::hex;
use crate::log::{FrameLink, HistoryReader, LogStore};

/// Memory of a record in addition to its encoded size.
const RECORD_BYTES: usize = 512;

/// A frame with its complete records.
#[derive(Debug)]
pub struct SharedFrame {
    header: FrameHeader,
    hash: FrameHash,
    /// Without the specs that they replace, which few clients want.
    records: Vec<EventRecord>,
    /// The replaced specs, one per record.
    before: Vec<Option<Box<SpecBefore>>>,
    /// The homes, before this frame, of the tasks in its events.
    homes: BTreeMap<TaskId, Home>,
    bytes: usize,
}

impl SharedFrame {
    fn of(header: FrameHeader, hash: FrameHash, mut records: Vec<EventRecord>, homes: BTreeMap<TaskId, Home>) -> Self {
        let bytes = records.iter().map(|record| record.encoded_len() + RECORD_BYTES).sum::<usize>();
        let bytes = bytes + homes.len() * size_of::<(TaskId, Home)>();
        let before = records.iter_mut().map(|record| record.before.take()).collect();
        Self { header, hash, records, before, homes, bytes }
    }

    /// Its index in the log.
    pub fn index(&self) -> u64 {
        self.header.index
    }

    /// Its approximate memory size.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn records(&self) -> &[EventRecord] {
        &self.records
    }

    pub(super) fn homes(&self) -> impl Iterator<Item = (TaskId, &Home)> {
        self.homes.iter().map(|(task, home)| (*task, home))
    }
}

/// Reads the frames between successive states.
pub struct SharedReader {
    store: Arc<dyn LogStore>,
    reader: HistoryReader,
}

impl SharedReader {
    /// Reads the frames after this index.
    pub fn after(store: Arc<dyn LogStore>, index: u64) -> Self {
        Self { store, reader: HistoryReader::starting_at(index + 1) }
    }

    /// Passes all frames between two states to `take`, oldest first. May block on disk I/O.
    ///
    /// # Errors
    /// When history cannot be read.
    pub fn read(&mut self, old: &Cluster, new: &Cluster, mut take: impl FnMut(SharedFrame)) -> Result<(), Rejection> {
        let history = History(Arc::clone(&self.store));
        let finder = Finder::open(Arc::clone(&self.store))?;
        // Objects found neither in a state nor with the index stay unnamed: no pass over history delays the followers.
        let known = KnownObjects::new(true, 0..0);
        let mut between = Between { old, new, history, finder, known, homes: BTreeMap::new() };
        loop {
            let frames = between.history.read(&mut self.reader, new.position.index)?;
            if frames.is_empty() {
                return Ok(());
            }
            for frame in frames {
                take(between.complete(frame)?);
            }
        }
    }
}

/// What is known about the frames between two states, as far as they were read.
struct Between<'a> {
    old: &'a Cluster,
    new: &'a Cluster,
    history: History,
    finder: Finder,
    known: KnownObjects,
    /// The homes of tasks that were created or placed between them.
    homes: BTreeMap<TaskId, Home>,
}

impl Between<'_> {
    fn complete(&mut self, stored: StoredFrame) -> Result<SharedFrame, Rejection> {
        let FrameLink { hash, .. } = stored.link();
        let frame = stored.frame;
        let homes = self.homes_before(&frame);
        let Frame { header, commands, events } = frame;
        let mut records = Vec::with_capacity(events.len());
        for (ordinal, event) in events.into_iter().enumerate() {
            let (history, finder) = (&self.history, &mut self.finder);
            let mut sources = Sources { history, finder, cluster: self.new, before: Some(self.old) };
            event.kind.iter().for_each(|kind| self.known.before(kind));
            let mut record = record(&header, ordinal, event, &commands);
            self.known.complete(&mut record, &mut sources)?;
            self.known.after(record.event.kind.as_ref(), header.index, &mut sources)?;
            record.event.kind.iter().for_each(|kind| self.learn_home(kind, header.index));
            records.push(record);
        }
        Ok(SharedFrame::of(header, hash, records, homes))
    }

    fn homes_before(&self, frame: &Frame) -> BTreeMap<TaskId, Home> {
        let ids = events::codec::kinds(frame).flat_map(Kind::subjects);
        let tasks = ids.filter_map(|id| id.parse::<TaskId>().ok());
        tasks.filter_map(|task| Some((task, self.home(task)?))).collect()
    }

    fn home(&self, task: TaskId) -> Option<Home> {
        let before = || {
            let task = self.old.tasks.get(task)?;
            Some(Home { service: task.service, instance: task.instance(), node: task.node, placed_at: 0 })
        };
        self.homes.get(&task).copied().or_else(before)
    }

    fn learn_home(&mut self, kind: &Kind, index: u64) {
        if let Kind::TaskCreated(event) = kind {
            let instance = Instance::of(event);
            let home = Home { service: event.service, instance, node: event.node, placed_at: index };
            self.homes.insert(event.task, home);
        } else if let Kind::TaskAssigned(event) = kind
            && let Some(home) = self.home(event.task)
        {
            self.homes.insert(event.task, Home { node: Some(event.node), placed_at: index, ..home });
        }
    }
}

impl EventReader {
    /// The records of the next shared frame that this reader selects.
    pub fn show(&mut self, frame: &SharedFrame) -> Vec<EventRecord> {
        self.is_over |= self.wanted.ends_before(&frame.header);
        if self.is_over {
            return Vec::new();
        }
        let wanted = self.wanted.has(&frame.header);
        let chosen = self.selection.select_shared(frame);
        let with_before = self.known.has_specs();
        let complete = |(record, before): (&EventRecord, &Option<_>)| EventRecord {
            before: if with_before { before.clone() } else { None },
            ..record.clone()
        };
        let shown = frame.records.iter().zip(&frame.before).zip(chosen);
        let shown = shown.filter(|(_, chosen)| *chosen && wanted);
        let mut records: Vec<EventRecord> = shown.map(|(record, _)| complete(record)).collect();
        if self.with_hash {
            records.iter_mut().for_each(|record| record.frame_hash = Some(hex(&frame.hash)));
        }
        self.limited(records)
    }

    /// Continues from disk after the frames that were sent, up to this index. May block on disk I/O.
    ///
    /// # Errors
    /// When history cannot be read.
    pub fn resume_after(&mut self, index: u64) -> Result<(), Rejection> {
        self.finder = Finder::open(Arc::clone(&self.history.0))?;
        let next = index + 1;
        self.reader = HistoryReader::starting_at(next);
        self.known.restart(self.finder.reach().min(next)..next);
        Ok(())
    }
}

#[cfg(test)]
impl SharedFrame {
    /// A frame with one record.
    pub fn sample(header: FrameHeader, record: EventRecord) -> Self {
        Self::of(header, FrameHash::default(), vec![record], BTreeMap::new())
    }
}
