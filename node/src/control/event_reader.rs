//! Reads events from history: selects those that a client requests, and adds the names of their objects. The part that the
//! index covers is searched with it; later frames are all read.

mod finder;
mod history;
mod known;
mod object;
mod selection;
mod shared;

use std::collections::VecDeque;
use std::sync::Arc;

use commands::{Rejection, RejectionKind};
use events::catalogue::{COMMANDS, NAMES};
use events::{Cause, CommandRecord, Event, Frame, FrameHeader, Kind, Timestamp};
use projections::Cluster;
use prost::Message;
use wire::v1::{EventPosition, EventRecord, EventsRequest};

use super::views::{head, hex};
use crate::log::{Direction, HistoryReader, LogStore};

use finder::{Finder, FrameWalk};
use history::{History, PAGE, StoredFrame, knows_all_since};
use known::{KnownObjects, Sources};
use selection::Selection;

pub use object::living_object;
pub use shared::{SharedFrame, SharedReader};

/// Maximum events requested from the end: they are buffered until history was read.
const TAIL_MAX: u64 = 10_000;
/// Maximum bytes of the buffer; larger events reduce their number.
const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Number of frames read one by one per step, where the index finds them.
const FOUND_PAGE: usize = 16;

/// The position of one client in history. All methods may block on disk I/O.
pub struct EventReader {
    history: History,
    finder: Finder,
    /// The frames that the index finds, until they are read.
    found: Option<FrameWalk>,
    /// Reads the frames after those.
    reader: HistoryReader,
    selection: Selection,
    known: KnownObjects,
    wanted: Wanted,
    /// The last events so far, while only those are requested and history was not read to its end.
    tail: Option<Tail>,
    /// Whether each event includes the hash of its frame.
    with_hash: bool,
    /// How many more events may be sent.
    left: u64,
    is_over: bool,
}

/// The range of frames whose events are requested.
struct Wanted {
    from: u64,
    to: u64,
    since: Timestamp,
    until: Timestamp,
    /// The last event that the client has, by its frame and its position there.
    after: Option<(u64, u32)>,
}

impl Wanted {
    fn of(request: &EventsRequest) -> Self {
        let after = request.after.as_ref().map(|after| (after.frame.index, after.ordinal));
        let from = request.from.unwrap_or(0).max(after.map_or(0, |(index, _)| index));
        let to = request.to.unwrap_or(u64::MAX);
        let since = request.since.unwrap_or(Timestamp::from_unix_ns(i64::MIN));
        let until = request.until.unwrap_or(Timestamp::from_unix_ns(i64::MAX));
        Self { from, to, since, until, after }
    }

    fn has(&self, header: &FrameHeader) -> bool {
        header.index >= self.from && header.log_time >= self.since
    }

    fn has_event(&self, index: u64, ordinal: usize) -> bool {
        self.after.is_none_or(|(frame, last)| index > frame || ordinal > last as usize)
    }

    /// Whether this frame and all later ones are outside the range.
    fn ends_before(&self, header: &FrameHeader) -> bool {
        header.index > self.to || header.log_time > self.until
    }
}

impl EventReader {
    /// Opens a reader for a request. The cost is proportional to the matching frames, and to those that the index does not
    /// cover yet; only the id prefix of a removed object costs one pass over history.
    ///
    /// # Errors
    /// When there is and was no such object or kind of event, when the client has read a different history, or history cannot
    /// be read.
    pub fn open(store: Arc<dyn LogStore>, cluster: &Cluster, request: EventsRequest) -> Result<Self, Rejection> {
        require_known(&request)?;
        let tail = request.tail.map(Tail::of).transpose()?;
        let mut finder = Finder::open(Arc::clone(&store))?;
        let history = History(store);
        if let Some(after) = &request.after {
            require_same(&history, after, cluster)?;
        }
        let mut selection = Selection::of(&history, &mut finder, cluster, &request)?;
        let wanted = Wanted::of(&request);
        let head = cluster.position.index;
        let mut begin = wanted.from;
        if request.since.is_some() {
            // If all frames are earlier, the range starts with the next one.
            begin = begin.max(history.first_at(wanted.since, head)?.unwrap_or(head + 1));
        }
        // A client that waits for the effect of its command needs no lookups.
        let is_recent = knows_all_since(&history, cluster, begin)? && selection.begin_at(cluster);
        if let Some(most) = request.tail {
            let end = last_wanted(&history, cluster, &wanted, &request)?;
            let mut counted = Counted { history: &history, finder: &mut finder, selection: selection.clone(), cluster };
            begin = counted.tail_begin(begin, end, most)?;
        }
        let by_index = !selection.query().is_everything() && !is_recent && begin < finder.reach();
        let found = by_index.then(|| finder.frames(selection.query().clone(), begin, head + 1, Direction::Forward));
        // The tasks of an object must be tracked from the end of the index on.
        let is_followed = !selection.is_of_everything() && !is_recent;
        let next = if by_index || is_followed { finder.reach() } else { begin };
        let unseen = finder.reach().min(next)..next;
        Ok(Self {
            reader: HistoryReader::starting_at(next),
            found,
            history,
            finder,
            selection,
            known: KnownObjects::new(request.with_before(), unseen),
            wanted,
            tail,
            with_hash: request.with_hash(),
            left: request.limit.unwrap_or(u64::MAX),
            is_over: request.limit == Some(0),
        })
    }

    /// Whether no more events will be sent, whatever happens.
    pub fn is_over(&self) -> bool {
        self.is_over && self.tail.is_none()
    }

    /// The next page of events, which may be empty; `None` at the end of history. Events newer than `cluster` are left for
    /// later, so that a client that receives an event finds its effect in the state.
    ///
    /// # Errors
    /// When history cannot be read.
    pub fn page(&mut self, cluster: &Cluster) -> Result<Option<Vec<EventRecord>>, Rejection> {
        let frames = if self.is_over { Vec::new() } else { self.next_frames(cluster.position.index)? };
        if frames.is_empty() {
            return Ok(self.tail.take().map(|tail| self.limited(tail.records.into())));
        }
        let mut records = Vec::new();
        for stored in frames {
            if self.is_over || self.wanted.ends_before(&stored.frame.header) {
                self.is_over = true;
                break;
            }
            self.select_records(stored, cluster, &mut records)?;
        }
        let Some(tail) = &mut self.tail else { return Ok(Some(self.limited(records))) };
        records.into_iter().for_each(|record| tail.push(record));
        Ok(Some(Vec::new()))
    }

    /// The next frames up to this index; empty at the end.
    fn next_frames(&mut self, to: u64) -> Result<Vec<StoredFrame>, Rejection> {
        if let Some(walk) = &mut self.found {
            let mut frames = Vec::new();
            while frames.len() < FOUND_PAGE
                && let Some(index) = walk.next(&self.finder)?
            {
                frames.extend(self.history.stored_at(index)?);
            }
            if !frames.is_empty() {
                return Ok(frames);
            }
            self.found = None;
            self.known.forget_specs();
        }
        Ok(self.history.read(&mut self.reader, to)?)
    }

    /// Truncates the records to those that may still be sent.
    fn limited(&mut self, mut records: Vec<EventRecord>) -> Vec<EventRecord> {
        records.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= records.len() as u64;
        self.is_over |= self.left == 0;
        records
    }

    fn select_records(
        &mut self,
        stored: StoredFrame,
        cluster: &Cluster,
        records: &mut Vec<EventRecord>,
    ) -> Result<(), Rejection> {
        let frame_hash = self.with_hash.then(|| hex(&stored.link().hash));
        let frame = stored.frame;
        let wanted = self.wanted.has(&frame.header);
        // The selection must also see events that are not selected.
        let chosen = self.selection.select(&mut self.finder, cluster, &frame)?;
        if self.found.is_some() {
            // The frames before this one were skipped.
            self.known.forget_specs();
        }
        let mut sources = Sources { history: &self.history, finder: &mut self.finder, cluster, before: None };
        let Frame { header, commands, events } = frame;
        for (ordinal, (event, chosen)) in events.into_iter().zip(chosen).enumerate() {
            event.kind.iter().for_each(|kind| self.known.before(kind));
            if chosen && wanted && self.wanted.has_event(header.index, ordinal) {
                let mut record = record(&header, ordinal, event, &commands);
                record.frame_hash = frame_hash.clone();
                self.known.complete(&mut record, &mut sources)?;
                self.known.after(record.event.kind.as_ref(), header.index, &mut sources)?;
                records.push(record);
            } else {
                self.known.after(event.kind.as_ref(), header.index, &mut sources)?;
            }
        }
        Ok(())
    }
}

/// Counts selected events backwards from the end of history.
struct Counted<'a> {
    history: &'a History,
    finder: &'a mut Finder,
    selection: Selection,
    cluster: &'a Cluster,
}

impl Counted<'_> {
    /// The index at which to start reading for the last `most` events between `first` and `end`.
    fn tail_begin(&mut self, first: u64, end: u64, most: u64) -> Result<u64, Rejection> {
        let selection = &self.selection;
        if selection.query().is_everything() {
            return self.window_begin(first, end, most);
        }
        let reach = self.finder.reach();
        let begin = if selection.is_of_everything() { reach.max(first) } else { reach };
        let mut forward = selection.clone();
        let (mut reader, mut found) = (HistoryReader::starting_at(begin), 0);
        loop {
            let frames = self.history.read(&mut reader, end)?;
            if frames.is_empty() {
                break;
            }
            for stored in frames {
                found += count(&mut forward, &stored.frame, first, self.finder, self.cluster)?;
            }
        }
        if found >= most || reach <= first {
            return Ok(first.max(reach));
        }
        let query = self.selection.query().clone();
        let mut walk = self.finder.frames(query, first, end.saturating_add(1), Direction::Backward);
        while let Some(index) = walk.next(self.finder)? {
            if let Some(frame) = self.history.at(index)? {
                // What a later frame taught was not known yet in this one.
                found += count(&mut self.selection.clone(), &frame, first, self.finder, self.cluster)?;
            }
            if found >= most {
                return Ok(index);
            }
        }
        Ok(first)
    }

    /// The same if all events are selected: a window from the end that grows until it is large enough.
    fn window_begin(&mut self, first: u64, end: u64, most: u64) -> Result<u64, Rejection> {
        let mut window = PAGE.frames as u64;
        loop {
            let begin = end.saturating_sub(window).max(first);
            let mut found = 0;
            self.history.each(begin..end.saturating_add(1), |_| found += 1)?;
            if found >= most || begin <= first {
                return Ok(begin);
            }
            window = window.saturating_mul(4);
        }
    }
}

/// The number of selected events in a frame, unless it is before `first`.
fn count(
    selection: &mut Selection,
    frame: &Frame,
    first: u64,
    finder: &mut Finder,
    cluster: &Cluster,
) -> Result<u64, Rejection> {
    let chosen = selection.select(finder, cluster, frame)?;
    let counts = frame.header.index >= first;
    Ok(chosen.into_iter().filter(|chosen| *chosen && counts).count() as u64)
}

/// The last selected events so far.
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

/// Index of the first frame after a time; `None` if all are earlier.
///
/// # Errors
/// When history cannot be read.
pub(super) fn frame_after(store: &Arc<dyn LogStore>, time: Timestamp, head: u64) -> Result<Option<u64>, Rejection> {
    let next = Timestamp::from_unix_ns(time.unix_ns().saturating_add(1));
    Ok(History(Arc::clone(store)).first_at(next, head)?)
}

/// The last frame that may contain requested events.
fn last_wanted(
    history: &History,
    cluster: &Cluster,
    wanted: &Wanted,
    request: &EventsRequest,
) -> Result<u64, Rejection> {
    let head = cluster.position.index;
    let end = head.min(wanted.to);
    if request.until.is_none() {
        return Ok(end);
    }
    Ok(end.min(history.first_at(wanted.until, head)?.unwrap_or(head)))
}

fn record(header: &FrameHeader, ordinal: usize, event: Event, commands: &[CommandRecord]) -> EventRecord {
    let command = command_of(&event, commands).cloned().map(Box::new);
    let subjects = event.kind.as_ref().map(Kind::subjects).unwrap_or_default();
    let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
    let (index, log_time) = (header.index, header.log_time);
    EventRecord { index, ordinal, log_time, event, command, subjects, ..Default::default() }
}

/// Refuses to continue after an event of a different history.
fn require_same(history: &History, after: &EventPosition, cluster: &Cluster) -> Result<(), Rejection> {
    let (index, end) = (after.frame.index, cluster.position.index);
    let found = if index > end { None } else { history.stored_at(index)? };
    let sentence = match found.map(|stored| head(stored.link())) {
        Some(found) if found == after.frame => return Ok(()),
        Some(_) => {
            format!("frame {index} is not the one that was read: history was reset since then, as by a restored backup")
        }
        None => format!(
            "there is no frame {index}, which was read already: history was restored from an older state, or lags behind, and ends at {end}"
        ),
    };
    let hint = "start again with a new position; `--from` skips what is known to be the same";
    Err(Rejection::new(RejectionKind::Conflict, "history", sentence, hint))
}

/// The command that caused an event, if any.
fn command_of<'a>(event: &Event, commands: &'a [CommandRecord]) -> Option<&'a CommandRecord> {
    match event.cause {
        Some(Cause::Command(position)) => commands.get(position as usize),
        Some(Cause::Reconciler(_)) | None => None,
    }
}

fn require_known(request: &EventsRequest) -> Result<(), Rejection> {
    let unknown = |given: &[String], known: &[&str]| given.iter().find(|name| !known.contains(&name.as_str())).cloned();
    if let Some(kind) = unknown(&request.kinds, NAMES) {
        let hint = format!("kinds are {}", NAMES.join(", "));
        return Err(Rejection::invalid("event kind", format!("there is no kind of event \"{kind}\""), hint));
    }
    if let Some(command) = unknown(&request.commands, &COMMANDS) {
        let hint = format!("commands are {}", COMMANDS.join(", "));
        return Err(Rejection::invalid("command", format!("there is no command \"{command}\""), hint));
    }
    Ok(())
}
