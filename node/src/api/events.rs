//! The event log as a stream: history from a given point, then new events as they are committed.
//!
//! Older events are read from disk, by a bounded number of threads. A follower that has caught up waits for the same in-memory
//! frames as all others, and only costs a task.

use std::sync::Arc;
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::v1::{EventRecord, EventsRequest};

use crate::control::event_reader::EventReader;
use crate::log::LogStore;
use crate::manager::driver::{Published, stopping};

use super::live::{Feed, Follower, LiveEvents};
use super::record_queue::{Queue, Stopped, queue};
use super::{Context, status};

/// Maximum concurrent streams. Each queues at most 64 KiB of records, or one record: about 128 MiB if all of them stop reading.
const STREAMS_MAX: usize = 2_048;
/// Maximum streams that read from disk concurrently, each on a thread with a page of history.
const READERS_MAX: usize = 128;
/// How long a stream waits for one of these threads.
const READER_TIMEOUT: Duration = Duration::from_secs(10);

/// Shared by the event streams of a manager.
pub struct Streams {
    all: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    live: Arc<LiveEvents>,
}

impl Default for Streams {
    fn default() -> Self {
        let [all, readers] = [STREAMS_MAX, READERS_MAX].map(|most| Arc::new(Semaphore::new(most)));
        Self { all, readers, live: Arc::default() }
    }
}

/// The requested events, oldest first. A stream that follows ends with an error when the manager stops; one that does not
/// follow continues to the end of history, because its reader could not detect that there is more.
pub(super) async fn stream(
    context: &Context,
    request: EventsRequest,
) -> Result<impl Stream<Item = Result<EventRecord, Status>> + use<>, Status> {
    let streams = Arc::clone(&context.event_streams);
    let admitted = Arc::clone(&streams.all).try_acquire_owned();
    let admitted = admitted.map_err(|_| status(too_many(STREAMS_MAX, "are open")))?;
    let reading = tokio::time::timeout(READER_TIMEOUT, Arc::clone(&streams.readers).acquire_owned()).await;
    let Ok(Ok(reading)) = reading else { return Err(status(too_many(READERS_MAX, "read history"))) };
    let (control, follow) = (context.control(), request.follow);
    let (event_reader, reading) = on_reader_thread(reading, move |_| control.history(request)).await.map_err(status)?;
    let (queue, records) = queue();
    let (store, states, stopping) = (Arc::clone(&context.store), context.core.states(), context.stopping.clone());
    let sender =
        HistorySender { event_reader: event_reader.map_err(status)?, states: states.clone(), queue: Arc::new(queue) };
    let follow_context = FollowContext { streams, store, states, stopping };
    tokio::spawn(async move {
        // A reader that was stopped got the reason, or has disconnected.
        let _ = if follow {
            follow_context.follow(sender, reading).await
        } else {
            sender.send_from_disk(None, reading).await.map(drop)
        };
        drop(admitted);
    });
    Ok(records)
}

/// Runs work that may wait for the disk on a separate thread; failing to create a thread is an error response.
async fn on_reader_thread<T: Send + 'static>(
    reading: OwnedSemaphorePermit,
    work: impl FnOnce(&tokio::runtime::Handle) -> T + Send + 'static,
) -> Result<(T, OwnedSemaphorePermit), Rejection> {
    let (done, result) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    let thread = std::thread::Builder::new().name("history".to_owned());
    // Ignored: the stream may have been dropped.
    let started = thread.spawn(move || drop(done.send((work(&runtime), reading))));
    started.map_err(|error| no_thread(&error))?;
    result.await.map_err(|_| {
        let sentence = "history cannot be read: the reading thread panicked";
        Rejection::new(RejectionKind::Unavailable, "events", sentence, "see the manager's own log")
    })
}

pub(super) fn no_thread(error: &std::io::Error) -> Rejection {
    let sentence = format!("cannot create a thread to read history: {error}");
    let hint = "let swarmd have more threads (TasksMax of its unit, ulimit -u), or try again later";
    Rejection::new(RejectionKind::Exhausted, "events", sentence, hint)
}

fn too_many(most: usize, what: &str) -> Rejection {
    let sentence = format!("{most} streams of events {what} already");
    Rejection::new(RejectionKind::Exhausted, "events", sentence, "end one of them, or try again later")
}

/// Sends history to one client.
struct HistorySender {
    event_reader: EventReader,
    states: watch::Receiver<Arc<Published>>,
    queue: Arc<Queue>,
}

/// Ends the stream with a reason.
fn stop(queue: &Queue, why: Rejection) -> Stopped {
    queue.end(status(why));
    Stopped
}

impl HistorySender {
    /// Sends all events of the current state that were not sent yet, from disk. Returns the index of that state. Events up to
    /// `shown` were already sent from memory.
    async fn send_from_disk(
        mut self,
        shown: Option<u64>,
        reading: OwnedSemaphorePermit,
    ) -> Result<(Self, u64), Stopped> {
        let queue = Arc::clone(&self.queue);
        let sent = on_reader_thread(reading, move |runtime| {
            if let Some(Err(why)) = shown.map(|index| self.event_reader.resume_after(index)) {
                return Err(stop(&self.queue, why));
            }
            let sent = runtime.block_on(self.send_pages());
            sent.map(|index| (self, index))
        });
        match sent.await {
            Ok((sent, _reading)) => sent,
            Err(rejection) => Err(stop(&queue, rejection)),
        }
    }

    async fn send_pages(&mut self) -> Result<u64, Stopped> {
        let state = Arc::clone(&self.states.borrow_and_update());
        loop {
            let page = match self.event_reader.page(&state.cluster) {
                Ok(page) => page,
                Err(rejection) => return Err(stop(&self.queue, rejection)),
            };
            let Some(page) = page else { return Ok(state.cluster.position.index) };
            self.queue.put(page).await?;
        }
    }

    /// Sends the frames shared by all followers, as long as they are kept. Returns the index after which they are not.
    async fn share(
        &mut self,
        follower: &mut Follower,
        mut index: u64,
        stop: &CancellationToken,
    ) -> Result<u64, Stopped> {
        while let Some(frames) = follower.after(index) {
            if frames.is_empty() {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return Err(Stopped),
                    () = self.queue.disconnected() => return Err(Stopped),
                    () = follower.changed() => continue,
                }
            }
            for frame in frames {
                self.queue.put(self.event_reader.show(&frame)).await?;
                if self.event_reader.is_over() {
                    return Err(Stopped);
                }
                index = frame.index();
            }
        }
        Ok(index)
    }
}

/// What is needed to follow history.
struct FollowContext {
    streams: Arc<Streams>,
    store: Arc<dyn LogStore>,
    states: watch::Receiver<Arc<Published>>,
    stopping: CancellationToken,
}

impl FollowContext {
    /// Sends existing events, then new ones. Only ends with an error, since following has no regular end.
    async fn follow(self, mut sender: HistorySender, mut reading: OwnedSemaphorePermit) -> Result<(), Stopped> {
        let mut shown = None;
        loop {
            // Subscribed before reading from disk, so that events committed meanwhile are kept.
            let mut follower = match self.streams.live.follow(|| self.feed()) {
                Ok(follower) => follower,
                Err(error) => return Err(stop(&sender.queue, no_thread(&error))),
            };
            let index;
            (sender, index) = sender.send_from_disk(shown, reading).await?;
            if sender.event_reader.is_over() {
                return Err(Stopped);
            }
            let index = sender.share(&mut follower, index, &self.stopping).await?;
            // In this order: the core ends after the shutdown has started, which is the reason to report.
            if self.stopping.is_cancelled() {
                return Err(Stopped);
            }
            if self.states.has_changed().is_err() {
                return Err(stop(&sender.queue, stopping()));
            }
            shown = Some(index);
            reading = tokio::select! {
                () = sender.queue.disconnected() => return Err(Stopped),
                () = self.stopping.cancelled() => return Err(Stopped),
                reading = Arc::clone(&self.streams.readers).acquire_owned() => reading.map_err(|_| Stopped)?,
            };
        }
    }

    fn feed(&self) -> Feed {
        let state = Arc::clone(&self.states.borrow());
        Feed { store: Arc::clone(&self.store), state, states: self.states.clone(), stopping: self.stopping.clone() }
    }
}
