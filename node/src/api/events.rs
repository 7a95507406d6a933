//! The log as a stream: history from some point on, and then whatever is committed.

use std::sync::Arc;

use commands::Rejection;
use events::{Cause, Frame, Timestamp, codec};
use futures_util::Stream;
use projections::Cluster;
use projections::views::history::Story;
use projections::views::overview::{ReferenceError, resolve_node, resolve_service, resolve_task};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use wire::v1::{EventRecord, EventsRequest};

use crate::driver::Published;
use crate::log::{LogError, LogStore};

use super::Context;

/// Frames read at a time.
const FRAMES_MAX: usize = 256;
/// Bytes of frames read at a time.
const BYTES_MAX: usize = 1024 * 1024;
/// Records that wait for a slow client; then reading stops until it has caught up.
const QUEUED_MAX: usize = 1_024;

/// The events that a request asks for, oldest first.
pub(super) fn stream(
    context: &Context,
    request: EventsRequest,
) -> Result<impl Stream<Item = Result<EventRecord, Status>> + use<>, Rejection> {
    for kind in &request.kinds {
        if !events::catalogue::NAMES.contains(&kind.as_str()) {
            let sentence = format!("there is no kind of event \"{kind}\"");
            return Err(Rejection::invalid(
                "event kind",
                sentence,
                format!("kinds are {}", events::catalogue::NAMES.join(", ")),
            ));
        }
    }
    let object = request.object.as_deref().map(|reference| resolve(&context.state().cluster, reference)).transpose()?;
    let (records, receiver) = mpsc::channel(QUEUED_MAX);
    let teller = Teller {
        store: Arc::clone(&context.store),
        states: context.core.states(),
        story: Story::of(object, request.kinds),
        from: request.from.unwrap_or(0),
        since: request.since.unwrap_or_else(|| Timestamp::from_unix_ns(i64::MIN)),
        follow: request.follow,
        records,
    };
    tokio::spawn(teller.run());
    Ok(ReceiverStream::new(receiver))
}

/// The id of an object that exists, or the id itself of one that may have existed.
///
/// # Errors
/// When it is neither.
pub fn resolve(cluster: &Cluster, reference: &str) -> Result<String, Rejection> {
    let candidates = [
        resolve_service(cluster, reference).map(|id| id.to_string()),
        resolve_node(cluster, reference).map(|id| id.to_string()),
        resolve_task(cluster, reference).map(|id| id.to_string()),
    ];
    for candidate in candidates {
        match candidate {
            Ok(id) => return Ok(id),
            Err(error @ ReferenceError::Ambiguous { .. }) => return Err(error.into()),
            Err(ReferenceError::NotFound { .. }) => {}
        }
    }
    if reference.parse::<events::TaskId>().is_ok() {
        return Ok(reference.to_owned());
    }
    let hint = "give the name or id of a service, node or task; of one that was removed, the whole id: \
                `swarmctl events --kind service_created --format json` shows those of services";
    Err(Rejection { hint: hint.to_owned(), ..Rejection::not_found("object", reference) })
}

/// Reads history for one client.
struct Teller {
    store: Arc<dyn LogStore>,
    states: watch::Receiver<Arc<Published>>,
    story: Story,
    from: u64,
    since: Timestamp,
    follow: bool,
    records: mpsc::Sender<Result<EventRecord, Status>>,
}

impl Teller {
    async fn run(mut self) {
        // A story about one object has to be followed from the beginning, to know which tasks belong to it.
        let mut next = if self.story.needs_no_past() { self.from } else { 0 };
        loop {
            let committed = self.states.borrow_and_update().cluster.position.index;
            while next <= committed {
                match self.tell(next).await {
                    Ok(Some(after)) => next = after,
                    Ok(None) => break,
                    Err(Stopped) => return,
                }
            }
            next = next.max(committed + 1);
            let gone = self.records.closed();
            tokio::select! {
                changed = self.states.changed(), if self.follow => if changed.is_err() { return },
                () = gone => return,
                () = std::future::ready(()), if !self.follow => return,
            }
        }
    }

    /// Tells one piece of history; returns where the next begins, or nothing at its end.
    async fn tell(&mut self, from: u64) -> Result<Option<u64>, Stopped> {
        let frames = match read(&self.store, from).await {
            Ok(frames) => frames,
            Err(error) => {
                // A client that is gone does not need to know.
                let _ = self.records.send(Err(Status::internal(format!("history cannot be read: {error}")))).await;
                return Err(Stopped);
            }
        };
        let mut after = None;
        for frame in frames {
            after = Some(frame.header.index + 1);
            for record in self.records_of(frame) {
                self.records.send(Ok(record)).await.map_err(|_| Stopped)?;
            }
        }
        Ok(after)
    }

    fn records_of(&mut self, frame: Frame) -> Vec<EventRecord> {
        let wanted = frame.header.index >= self.from && frame.header.log_time >= self.since;
        // Shown to the story in any case, which has to know the past.
        let records = records(&mut self.story, frame);
        if wanted { records } else { Vec::new() }
    }
}

/// The events of a frame that belong to a story, which has to see all frames in their order.
pub fn records(story: &mut Story, frame: Frame) -> Vec<EventRecord> {
    let Frame { header, commands, events } = frame;
    let mut records = Vec::new();
    for (ordinal, event) in events.into_iter().enumerate() {
        if !story.includes(&event) {
            continue;
        }
        let command = match event.cause {
            Some(Cause::Command(position)) => commands.get(position as usize).cloned(),
            Some(Cause::Reconciler(_)) | None => None,
        };
        let subjects = event.kind.as_ref().map(events::Kind::subjects).unwrap_or_default();
        let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
        records.push(EventRecord { index: header.index, ordinal, log_time: header.log_time, event, command, subjects });
    }
    records
}

/// The client is gone, or was told why there is no more.
struct Stopped;

/// Why a piece of history cannot be told.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
    #[error("the reading thread broke off")]
    Thread,
}

/// Reading may wait for the disk, which must not hold up other calls.
async fn read(store: &Arc<dyn LogStore>, from: u64) -> Result<Vec<Frame>, ReadError> {
    let store = Arc::clone(store);
    let read = move || -> Result<Vec<Frame>, ReadError> {
        let stored = store.history(from, FRAMES_MAX, BYTES_MAX)?;
        Ok(stored.iter().map(|(_, bytes)| codec::decode_frame(bytes)).collect::<Result<_, _>>()?)
    };
    tokio::task::spawn_blocking(read).await.map_err(|_| ReadError::Thread)?
}
