//! Reads history and tells it: which events a client asked for, and what the objects in them are or were called.

use std::ops::Range;
use std::sync::Arc;

use commands::Rejection;
use events::{
    ActorKind, Cause, CommandRecord, Event, Frame, FrameHeader, Id, Kind, NodeId, ServiceId, TaskId, Timestamp, codec,
};
use projections::Cluster;
use projections::views::history::{Bearer, Names, Story};
use projections::views::overview::{ReferenceError, resolve_node, resolve_service, resolve_task};
use tonic::Status;
use wire::v1::{EventRecord, EventsRequest};

use crate::log::{HistoryReader, LogError, LogStore, PageSize};

use super::status;

/// How much of history is read at a time: short enough for a client that reads along, and for many who stopped reading.
const PAGE: PageSize = PageSize { frames: 256, bytes: 256 * 1024 };

/// One client's way through history. Everything here may wait for the disk.
pub struct Narrator {
    history: History,
    reader: HistoryReader,
    story: Story,
    names: Names,
    from: u64,
    since: Timestamp,
    /// `names` was not shown the frames before this one.
    unseen_before: u64,
}

impl Narrator {
    /// What a client asks for. An object that no longer exists costs one pass over history, at the pace of a replay; that of
    /// a name is also the price of its being mistyped.
    ///
    /// # Errors
    /// When there is no such object or kind of event, and was none, or history cannot be read.
    pub fn open(store: Arc<dyn LogStore>, cluster: &Cluster, request: EventsRequest) -> Result<Self, Status> {
        require_known(&request.kinds).map_err(status)?;
        let history = History(store);
        let object = match request.object.as_deref() {
            Some(reference) => Some(object(&history, cluster, reference)?),
            None => None,
        };
        let from = request.from.unwrap_or(0);
        let about_all = object.is_none();
        let story = Story::of(object, request.kinds);
        let mut story = if request.with_tasks == Some(true) { story.with_tasks_of_nodes() } else { story };
        let since = request.since.unwrap_or(Timestamp::from_unix_ns(i64::MIN));
        // Otherwise it has to be followed from the beginning, to know which tasks belong to it.
        let begins = about_all || (knows_all_since(&history, cluster, from)? && story.begin_at(cluster));
        let next = if begins { from } else { 0 };
        let reader = HistoryReader::starting_at(next);
        Ok(Self { history, reader, story, names: Names::default(), from, since, unseen_before: next })
    }

    /// The next piece of the story, which may be empty; nothing where history ends. What is younger than `cluster` is left
    /// for later, so that whoever hears of an event finds it in the state.
    ///
    /// # Errors
    /// When history cannot be read.
    pub fn page(&mut self, cluster: &Cluster) -> Result<Option<Vec<EventRecord>>, Status> {
        let frames = self.history.read(&mut self.reader, cluster.position.index)?;
        if frames.is_empty() {
            return Ok(None);
        }
        let mut records = Vec::new();
        for frame in frames {
            self.tell(frame, cluster, &mut records)?;
        }
        Ok(Some(records))
    }

    fn tell(&mut self, frame: Frame, cluster: &Cluster, records: &mut Vec<EventRecord>) -> Result<(), Status> {
        let Frame { header, commands, events } = frame;
        let wanted = header.index >= self.from && header.log_time >= self.since;
        for (ordinal, event) in events.into_iter().enumerate() {
            event.kind.iter().for_each(|kind| self.names.learn(kind));
            // The story has to see also what is not wanted.
            if !self.story.includes(&event) || !wanted {
                event.kind.iter().for_each(|kind| self.names.forget(kind));
                continue;
            }
            let mut record = record(&header, ordinal, event, &commands);
            self.name(&mut record, cluster)?;
            record.event.kind.iter().for_each(|kind| self.names.forget(kind));
            records.push(record);
        }
        Ok(())
    }

    /// Says what the ids in a record are called. Names of what lives are at hand. Only for something that is gone, and came
    /// before this reading began, the frames before it are read as well: once, at the pace of a replay.
    fn name(&mut self, record: &mut EventRecord, cluster: &Cluster) -> Result<(), Status> {
        let actor = record.command.as_ref().map(|command| &command.actor);
        let actor = actor.filter(|actor| matches!(actor.kind(), ActorKind::Node | ActorKind::Manager));
        let ids: Vec<&String> = record.subjects.iter().chain(actor.map(|actor| &actor.subject)).collect();
        let unknown = |names: &Names| ids.iter().any(|id| names.of(cluster, id).is_none());
        if self.unseen_before > 0 && unknown(&self.names) {
            let mut past = Names::default();
            self.history.each(0..std::mem::take(&mut self.unseen_before), |kind| {
                past.learn(kind);
                past.forget(kind);
            })?;
            self.names = past.then(std::mem::take(&mut self.names));
        }
        let named = ids.into_iter().filter_map(|id| Some((id.clone(), self.names.of(cluster, id)?)));
        record.names = named.collect();
        Ok(())
    }
}

fn record(header: &FrameHeader, ordinal: usize, event: Event, commands: &[CommandRecord]) -> EventRecord {
    let command = match event.cause {
        Some(Cause::Command(position)) => commands.get(position as usize).cloned(),
        Some(Cause::Reconciler(_)) | None => None,
    };
    let subjects = event.kind.as_ref().map(Kind::subjects).unwrap_or_default();
    let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
    let (index, log_time) = (header.index, header.log_time);
    EventRecord { index, ordinal, log_time, event, command, subjects, names: Default::default() }
}

fn require_known(kinds: &[String]) -> Result<(), Rejection> {
    let unknown = kinds.iter().find(|kind| !events::catalogue::NAMES.contains(&kind.as_str()));
    unknown.map_or(Ok(()), |kind| {
        let hint = format!("kinds are {}", events::catalogue::NAMES.join(", "));
        Err(Rejection::invalid("event kind", format!("there is no kind of event \"{kind}\""), hint))
    })
}

/// The id of what a reference means: of a living object, whose whole id wins over every name, or else the id as it is, or
/// else of what had that name last.
fn object(history: &History, cluster: &Cluster, reference: &str) -> Result<String, Status> {
    if is_whole_id(cluster, reference) {
        return Ok(reference.to_owned());
    }
    let candidates = [
        resolve_service(cluster, reference).map(|id| id.to_string()),
        resolve_node(cluster, reference).map(|id| id.to_string()),
        resolve_task(cluster, reference).map(|id| id.to_string()),
    ];
    for candidate in candidates {
        match candidate {
            Ok(id) => return Ok(id),
            Err(error @ ReferenceError::Ambiguous { .. }) => return Err(status(error.into())),
            Err(ReferenceError::NotFound { .. }) => {}
        }
    }
    if reference.parse::<TaskId>().is_ok() {
        return Ok(reference.to_owned());
    }
    let mut bearer = Bearer::of(reference);
    history.each(0..u64::MAX, |kind| bearer.see(kind))?;
    bearer.found().ok_or_else(|| {
        let hint = "give the name or id of a service, node or task; of one that is gone, its last name or its whole id, \
                    which `swarmctl events --kind service_created --format json` shows";
        status(Rejection { hint: hint.to_owned(), ..Rejection::not_found("object", reference) })
    })
}

/// Whether this is the whole id of a living service, node or task.
fn is_whole_id(cluster: &Cluster, reference: &str) -> bool {
    // Every noun's ids have the same form, and no two objects the same id.
    reference.parse().map(TaskId::bits).is_ok_and(|bits| {
        let (service, node) = (ServiceId::from_bits(bits), NodeId::from_bits(bits));
        cluster.services.contains(service)
            || cluster.nodes.contains(node)
            || cluster.tasks.contains(TaskId::from_bits(bits))
    })
}

/// Whether the state still has every task that the history from an index on speaks of. Looked at only where that is short, as
/// for whoever waits for what was just asked.
fn knows_all_since(history: &History, cluster: &Cluster, from: u64) -> Result<bool, ReadError> {
    let now = cluster.position.index;
    if from <= now.saturating_sub(PAGE.frames as u64) {
        return Ok(false);
    }
    let mut reaped = false;
    history.each(from..now.saturating_add(1), |kind| reaped |= !kind.reaped().is_empty())?;
    Ok(!reaped)
}

/// Applied frames, in pieces.
struct History(Arc<dyn LogStore>);

impl History {
    /// The next frames, none of them after index `to`; none where they end.
    fn read(&self, reader: &mut HistoryReader, to: u64) -> Result<Vec<Frame>, ReadError> {
        let stored = reader.page(&*self.0, to, PAGE)?;
        Ok(stored.iter().map(|(_, bytes)| codec::decode_frame(bytes)).collect::<Result<_, _>>()?)
    }

    /// Shows all events of these frames, oldest first.
    fn each(&self, range: Range<u64>, mut see: impl FnMut(&Kind)) -> Result<(), ReadError> {
        let Some(last) = range.end.checked_sub(1) else { return Ok(()) };
        let mut reader = HistoryReader::starting_at(range.start);
        loop {
            let frames = self.read(&mut reader, last)?;
            if frames.is_empty() {
                return Ok(());
            }
            frames.iter().flat_map(codec::kinds).for_each(&mut see);
        }
    }
}

/// Why a piece of history cannot be told.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Self {
        // The client is told as well, but damage is for whoever runs the manager.
        tracing::error!(%error, "history cannot be read");
        Status::internal(format!("history cannot be read: {error}"))
    }
}
