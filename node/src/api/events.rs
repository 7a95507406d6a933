//! The log as a stream: history from some point on, and then whatever is committed.

use std::sync::Arc;

use commands::{Rejection, RejectionKind};
use futures_util::{Stream, StreamExt};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::v1::{EventRecord, EventsRequest};

use crate::driver::{Published, stopping};

use super::narrator::Narrator;
use super::{Context, status};

/// Records that wait for a slow client; then reading stops until it has caught up.
const QUEUED_MAX: usize = 1_024;
/// Bytes of records that wait for a slow client, or one record, however large. A page of history comes on top.
const QUEUED_BYTES_MAX: u32 = 1024 * 1024;
/// Streams at a time, so that all of them together are bounded too.
pub(super) const STREAMS_MAX: usize = 128;

/// The events that a request asks for, oldest first. One that is followed ends in order when the manager stops; one that is
/// not followed goes on to the end of history, for who reads it could not tell that there was more.
pub(super) async fn stream(
    context: &Context,
    streams: &Arc<Semaphore>,
    request: EventsRequest,
) -> Result<impl Stream<Item = Result<EventRecord, Status>> + use<>, Status> {
    let admitted = Arc::clone(streams).try_acquire_owned().map_err(|_| status(too_many()))?;
    let (store, state, follow) = (Arc::clone(&context.store), context.state(), request.follow);
    let (queue, records) = queue();
    let teller = Teller { states: context.core.states(), follow, stopping: context.stopping.clone(), queue };
    let (told, opened) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    // A thread of its own, since reading may wait for the disk; one that cannot be had is an answer, not the end.
    let thread = std::thread::Builder::new().name("history".to_owned()).spawn(move || {
        match Narrator::open(store, &state.cluster, request) {
            // A client that is gone by now needs no story.
            Ok(narrator) => drop(told.send(Ok(())).map(|()| runtime.block_on(teller.run(narrator)))),
            Err(refused) => drop(told.send(Err(refused))),
        }
        drop(admitted);
    });
    thread.map_err(|error| status(no_thread(&error)))?;
    opened.await.unwrap_or_else(|_| Err(Status::internal("history cannot be read: the reading thread broke off")))?;
    Ok(records)
}

fn no_thread(error: &std::io::Error) -> Rejection {
    let sentence = format!("no thread can be had to read history: {error}");
    let hint = "let swarmd have more threads (TasksMax of its unit, ulimit -u), or try again later";
    Rejection::new(RejectionKind::Exhausted, "events", sentence, hint)
}

fn too_many() -> Rejection {
    let sentence = format!("{STREAMS_MAX} streams of events are open already");
    Rejection::new(RejectionKind::Exhausted, "events", sentence, "end one of them, or try again later")
}

/// What waits for a client, bounded by its bytes.
struct Queue {
    records: mpsc::Sender<(Result<EventRecord, Status>, OwnedSemaphorePermit)>,
    bytes: Arc<Semaphore>,
}

fn queue() -> (Queue, impl Stream<Item = Result<EventRecord, Status>>) {
    let (records, receiver) = mpsc::channel(QUEUED_MAX);
    let queue = Queue { records, bytes: Arc::new(Semaphore::new(QUEUED_BYTES_MAX as usize)) };
    // A record gives its bytes back once the client's connection takes it.
    (queue, ReceiverStream::new(receiver).map(|(record, _)| record))
}

impl Queue {
    /// Waits until there is room for a record.
    async fn put(&self, record: Result<EventRecord, Status>) -> Result<(), Stopped> {
        let bytes = record.as_ref().map_or(1, Message::encoded_len);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(QUEUED_BYTES_MAX);
        let room = tokio::select! {
            room = Arc::clone(&self.bytes).acquire_many_owned(bytes) => room.map_err(|_| Stopped)?,
            () = self.records.closed() => return Err(Stopped),
        };
        self.records.send((record, room)).await.map_err(|_| Stopped)
    }
}

/// Reads history for one client.
struct Teller {
    states: watch::Receiver<Arc<Published>>,
    follow: bool,
    stopping: CancellationToken,
    queue: Queue,
}

/// The client is gone, or was told why there is no more.
struct Stopped;

impl Teller {
    async fn run(mut self, mut narrator: Narrator) {
        loop {
            let state = Arc::clone(&self.states.borrow_and_update());
            if self.tell(&mut narrator, &state).await.is_err() || !self.follow {
                return;
            }
            tokio::select! {
                // In this order: the core ends after the shutdown began, which is what there is to say.
                biased;
                () = self.stopping.cancelled() => return,
                () = self.queue.records.closed() => return,
                changed = self.states.changed() => if changed.is_err() {
                    // A client that is gone does not need to know.
                    let _ = self.queue.put(Err(status(stopping()))).await;
                    return;
                },
            }
        }
    }

    /// Tells everything that a state knows and that was not told yet.
    async fn tell(&self, narrator: &mut Narrator, state: &Published) -> Result<(), Stopped> {
        loop {
            let page = match narrator.page(&state.cluster) {
                Ok(page) => page,
                Err(failure) => {
                    // A client that is gone does not need to know.
                    let _ = self.queue.put(Err(failure)).await;
                    return Err(Stopped);
                }
            };
            let Some(page) = page else { return Ok(()) };
            for record in page {
                self.queue.put(Ok(record)).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn record(bytes: usize) -> Result<EventRecord, Status> {
        Ok(EventRecord { subjects: vec!["x".repeat(bytes)], ..EventRecord::default() })
    }

    #[tokio::test]
    async fn what_waits_for_a_client_is_bounded_by_its_bytes_and_one_that_is_gone_holds_nothing_up() {
        let (queue, records) = queue();
        let mut records = Box::pin(records);
        let mut waiting = 0;
        while queue.put(record(400 * 1024)).now_or_never().is_some() {
            waiting += 1;
        }
        assert_eq!(waiting, 2, "a third one would be more than a mebibyte");
        assert!(records.next().await.is_some_and(|record| record.is_ok()));
        assert!(queue.put(record(400 * 1024)).now_or_never().is_some(), "there is room again");
        records.next().await;
        records.next().await;
        assert!(queue.put(record(10 * QUEUED_BYTES_MAX as usize)).now_or_never().is_some(), "one always fits");
        let blocked = queue.put(record(1));
        drop(records);
        assert!(blocked.await.is_err());
    }
}
