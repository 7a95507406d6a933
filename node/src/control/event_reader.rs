//! Reads history and tells it: which events a client asked for, and what the objects in them are or were called.

mod history;
mod object;

use std::collections::VecDeque;
use std::sync::Arc;

use commands::Rejection;
use events::{ActorKind, Cause, CommandRecord, Event, Frame, FrameHeader, Kind, Timestamp};
use projections::Cluster;
use projections::views::history::{EventFilter, Names};
use projections::views::specs::{Before, Specs};
use prost::Message;
use wire::v1::{EventRecord, EventsRequest, SpecBefore};

use crate::log::{HistoryReader, LogStore};

use super::revisions;
use history::{History, PAGE, ReadError, knows_all_since};
use object::object;

/// Most events that a client may ask for from the end: they wait in memory until history was read.
const TAIL_MAX: u64 = 10_000;
/// Bytes of them; where they are larger, there are fewer.
const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Frames that are read one by one in one step, where the list of them is known.
const LISTED_PAGE: usize = 16;

/// One client's way through history. Everything here may wait for the disk.
pub struct EventReader {
    history: History,
    reader: HistoryReader,
    /// The frames to read, where all that have what is wanted are known.
    listed: Option<VecDeque<u64>>,
    story: EventFilter,
    names: Names,
    specs: Option<Specs>,
    wanted: Wanted,
    /// The last events so far, while only those are wanted and history was not read to its end.
    tail: Option<Tail>,
    /// How many events may still be sent.
    left: u64,
    is_over: bool,
    /// `names` and `specs` were not shown the frames before this one.
    unseen_before: u64,
}

/// The frames whose events are wanted.
struct Wanted {
    from: u64,
    to: u64,
    since: Timestamp,
    until: Timestamp,
}

impl Wanted {
    fn of(request: &EventsRequest) -> Self {
        let (from, to) = (request.from.unwrap_or(0), request.to.unwrap_or(u64::MAX));
        let since = request.since.unwrap_or(Timestamp::from_unix_ns(i64::MIN));
        let until = request.until.unwrap_or(Timestamp::from_unix_ns(i64::MAX));
        Self { from, to, since, until }
    }

    fn has(&self, header: &FrameHeader) -> bool {
        header.index >= self.from && header.log_time >= self.since
    }

    /// Whether neither a frame nor one after it is wanted.
    fn ends_before(&self, header: &FrameHeader) -> bool {
        header.index > self.to || header.log_time > self.until
    }
}

impl EventReader {
    /// What a client asks for. An object that no longer exists costs one pass over history, at the pace of a replay; that of
    /// a name is also the price of its being mistyped.
    ///
    /// # Errors
    /// When there is no such object or kind of event, and was none, or history cannot be read.
    pub fn open(store: Arc<dyn LogStore>, cluster: &Cluster, request: EventsRequest) -> Result<Self, Rejection> {
        require_known(&request.kinds)?;
        let tail = request.tail.map(Tail::of).transpose()?;
        let history = History(store);
        let object = match request.object.as_deref() {
            Some(reference) => Some(object(&history, cluster, reference)?),
            None => None,
        };
        let wanted = Wanted::of(&request);
        let listed = revisions::listed(cluster, object.as_deref(), &request.kinds).filter(|_| !request.follow);
        let story = EventFilter::of(object, request.kinds.iter().cloned());
        let mut story = if request.with_tasks() { story.with_tasks_of_nodes() } else { story };
        // Otherwise it has to be followed from the beginning, to know which tasks belong to it.
        let begins =
            story.is_of_everything() || (knows_all_since(&history, cluster, wanted.from)? && story.begin_at(cluster));
        let begins = begins && listed.is_none();
        let next = if begins { first_wanted(&history, cluster, &wanted, &request)? } else { 0 };
        Ok(Self {
            reader: HistoryReader::starting_at(next),
            listed: listed.map(VecDeque::from),
            history,
            story,
            names: Names::default(),
            specs: request.with_before().then(Specs::default),
            wanted,
            tail,
            left: request.limit.unwrap_or(u64::MAX),
            is_over: request.limit == Some(0),
            unseen_before: next,
        })
    }

    /// Whether nothing more will be sent, whatever happens.
    pub fn is_over(&self) -> bool {
        self.is_over && self.tail.is_none()
    }

    /// The next piece of the story, which may be empty; nothing where history ends. What is younger than `cluster` is left
    /// for later, so that whoever hears of an event finds it in the state.
    ///
    /// # Errors
    /// When history cannot be read.
    pub fn page(&mut self, cluster: &Cluster) -> Result<Option<Vec<EventRecord>>, Rejection> {
        let frames = if self.is_over { Vec::new() } else { self.next_frames(cluster.position.index)? };
        if frames.is_empty() {
            return Ok(self.tail.take().map(|tail| self.limited(tail.records.into())));
        }
        let mut records = Vec::new();
        for frame in frames {
            if self.is_over || self.wanted.ends_before(&frame.header) {
                self.is_over = true;
                break;
            }
            self.tell(frame, cluster, &mut records)?;
        }
        let Some(tail) = &mut self.tail else { return Ok(Some(self.limited(records))) };
        records.into_iter().for_each(|record| tail.push(record));
        Ok(Some(Vec::new()))
    }

    /// The next frames up to this index; none where they end.
    fn next_frames(&mut self, to: u64) -> Result<Vec<Frame>, ReadError> {
        let Some(listed) = &mut self.listed else { return self.history.read(&mut self.reader, to) };
        let mut frames = Vec::new();
        while let Some(index) = listed.front().copied().filter(|index| *index <= to && frames.len() < LISTED_PAGE) {
            frames.extend(self.history.at(index)?);
            listed.pop_front();
        }
        Ok(frames)
    }

    /// As many of these as may still be sent.
    fn limited(&mut self, mut records: Vec<EventRecord>) -> Vec<EventRecord> {
        records.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= records.len() as u64;
        self.is_over |= self.left == 0;
        records
    }

    fn tell(&mut self, frame: Frame, cluster: &Cluster, records: &mut Vec<EventRecord>) -> Result<(), Rejection> {
        let Frame { header, commands, events } = frame;
        let wanted = self.wanted.has(&header);
        // The story has to see also what is not wanted.
        let chosen = self.story.select(&events);
        for (ordinal, (event, chosen)) in events.into_iter().zip(chosen).enumerate() {
            event.kind.iter().for_each(|kind| self.names.learn(kind));
            let mut record = record(&header, ordinal, event, &commands);
            if chosen && wanted {
                self.complete(&mut record, cluster)?;
            }
            if let Some(kind) = &record.event.kind {
                self.names.forget(kind);
                self.specs.iter_mut().for_each(|specs| specs.learn(kind));
            }
            if chosen && wanted {
                records.push(record);
            }
        }
        Ok(())
    }

    /// Says what the ids in a record are called, and what it replaces. Names of what lives are at hand. Only for something that
    /// is gone, or was replaced, and came before this reading began, the frames before it are read as well: once, at the pace of
    /// a replay.
    fn complete(&mut self, record: &mut EventRecord, cluster: &Cluster) -> Result<(), Rejection> {
        let Some(kind) = &record.event.kind else { return Ok(()) };
        let actor = record.command.as_ref().map(|command| &command.actor);
        let actor = actor.filter(|actor| matches!(actor.kind(), ActorKind::Node | ActorKind::Manager));
        let ids: Vec<&String> = record.subjects.iter().chain(actor.map(|actor| &actor.subject)).collect();
        let replaced = |specs: &Specs| Specs::replaces(kind) && specs.before(kind).is_none();
        let unknown =
            ids.iter().any(|id| self.names.of(cluster, id).is_none()) || self.specs.as_ref().is_some_and(replaced);
        if self.unseen_before > 0 && unknown {
            self.look_back()?;
        }
        let named = ids.into_iter().filter_map(|id| Some((id.clone(), self.names.of(cluster, id)?)));
        record.names = named.collect();
        record.before = self.specs.as_ref().and_then(|specs| specs.before(kind)).map(before);
        Ok(())
    }

    fn look_back(&mut self) -> Result<(), Rejection> {
        let (mut names, mut specs) = (Names::default(), Specs::default());
        let learns_specs = self.specs.is_some();
        self.history.each(0..std::mem::take(&mut self.unseen_before), |kind| {
            names.learn(kind);
            names.forget(kind);
            if learns_specs {
                specs.learn(kind);
            }
        })?;
        self.names = names.then(std::mem::take(&mut self.names));
        self.specs = self.specs.take().map(|later| specs.then(later));
        Ok(())
    }
}

/// The last events that were wanted so far.
struct Tail {
    records: VecDeque<EventRecord>,
    bytes: usize,
    most: usize,
}

impl Tail {
    fn of(most: u64) -> Result<Self, Rejection> {
        let refuse = || {
            let sentence = format!("{most} events from the end are too many: {TAIL_MAX} at most");
            Rejection::invalid("tail", sentence, "ask for fewer, or read from an index or a time on")
        };
        let most = usize::try_from(most).ok().filter(|most| *most as u64 <= TAIL_MAX).ok_or_else(refuse)?;
        Ok(Self { records: VecDeque::new(), bytes: 0, most })
    }

    fn push(&mut self, record: EventRecord) {
        self.bytes += record.encoded_len();
        self.records.push_back(record);
        while self.records.len() > self.most || self.bytes > TAIL_BYTES_MAX {
            let Some(first) = self.records.pop_front() else { return };
            self.bytes -= first.encoded_len();
        }
    }
}

/// Where to begin to read for someone who asks for everything: at the first frame that is wanted, and for the last few events
/// only as far back as they go.
fn first_wanted(
    history: &History,
    cluster: &Cluster,
    wanted: &Wanted,
    request: &EventsRequest,
) -> Result<u64, Rejection> {
    let head = cluster.position.index;
    let mut first = wanted.from;
    if request.since.is_some() {
        // If all came before, what comes next is the first.
        first = first.max(history.first_at(wanted.since, head)?.unwrap_or(head + 1));
    }
    let Some(tail) = request.tail.filter(|_| request.object.is_none()) else { return Ok(first) };
    let mut end = head.min(wanted.to);
    if request.until.is_some() {
        end = end.min(history.first_at(wanted.until, head)?.unwrap_or(head));
    }
    let is_asked = |kind: &Kind| request.kinds.is_empty() || request.kinds.iter().any(|asked| asked == kind.name());
    let mut window = PAGE.frames as u64;
    loop {
        let begin = end.saturating_sub(window).max(first);
        let mut found = 0;
        history.each(begin..end.saturating_add(1), |kind| found += u64::from(is_asked(kind)))?;
        if found >= tail || begin <= first {
            return Ok(begin);
        }
        window = window.saturating_mul(4);
    }
}

fn before(replaced: Before) -> SpecBefore {
    match replaced {
        Before::Service(spec) => SpecBefore { service: Some(Arc::unwrap_or_clone(spec)), ..SpecBefore::default() },
        Before::Node(spec) => SpecBefore { node: Some(Arc::unwrap_or_clone(spec)), ..SpecBefore::default() },
        Before::Cluster(spec) => SpecBefore { cluster: Some(Arc::unwrap_or_clone(spec)), ..SpecBefore::default() },
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
    EventRecord { index, ordinal, log_time, event, command, subjects, names: Default::default(), before: None }
}

fn require_known(kinds: &[String]) -> Result<(), Rejection> {
    let unknown = kinds.iter().find(|kind| !events::catalogue::NAMES.contains(&kind.as_str()));
    unknown.map_or(Ok(()), |kind| {
        let hint = format!("kinds are {}", events::catalogue::NAMES.join(", "));
        Err(Rejection::invalid("event kind", format!("there is no kind of event \"{kind}\""), hint))
    })
}
