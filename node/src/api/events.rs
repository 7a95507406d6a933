//! The log as a stream: history from some point on, and then whatever is committed.

use std::sync::Arc;

use commands::{Rejection, RejectionKind};
use futures_util::Stream;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::v1::{EventRecord, EventsRequest};

use crate::control::event_reader::EventReader;
use crate::manager::driver::{Published, stopping};

use super::waiting::{Queue, Stopped, queue};
use super::{Context, status};

/// Streams at a time. What waits for each of them is bounded, and a page of history, so all of them together are bounded too:
/// about 100 MiB.
pub(super) const STREAMS_MAX: usize = 128;

/// The events that a request asks for, oldest first. One that is followed ends in order when the manager stops; one that is
/// not followed goes on to the end of history, for who reads it could not tell that there was more.
pub(super) async fn stream(
    context: &Context,
    streams: &Arc<Semaphore>,
    request: EventsRequest,
) -> Result<impl Stream<Item = Result<EventRecord, Status>> + use<>, Status> {
    let admitted = Arc::clone(streams).try_acquire_owned().map_err(|_| status(too_many()))?;
    let (control, follow) = (context.control(), request.follow);
    let (queue, records) = queue();
    let teller = Teller { states: context.core.states(), follow, stopping: context.stopping.clone(), queue };
    let (told, opened) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    // A thread of its own, since reading may wait for the disk; one that cannot be had is an answer, not the end.
    let thread = std::thread::Builder::new().name("history".to_owned()).spawn(move || {
        match control.history(request) {
            // A client that is gone by now needs no story.
            Ok(event_reader) => drop(told.send(Ok(())).map(|()| runtime.block_on(teller.run(event_reader)))),
            Err(rejection) => drop(told.send(Err(status(rejection)))),
        }
        drop(admitted);
    });
    thread.map_err(|error| status(no_thread(&error)))?;
    opened.await.unwrap_or_else(|_| Err(Status::internal("history cannot be read: the reading thread broke off")))?;
    Ok(records)
}

pub(super) fn no_thread(error: &std::io::Error) -> Rejection {
    let sentence = format!("no thread can be had to read history: {error}");
    let hint = "let swarmd have more threads (TasksMax of its unit, ulimit -u), or try again later";
    Rejection::new(RejectionKind::Exhausted, "events", sentence, hint)
}

fn too_many() -> Rejection {
    let sentence = format!("{STREAMS_MAX} streams of events are open already");
    Rejection::new(RejectionKind::Exhausted, "events", sentence, "end one of them, or try again later")
}

/// Reads history for one client.
struct Teller {
    states: watch::Receiver<Arc<Published>>,
    follow: bool,
    stopping: CancellationToken,
    queue: Queue,
}

impl Teller {
    async fn run(mut self, mut event_reader: EventReader) {
        loop {
            let state = Arc::clone(&self.states.borrow_and_update());
            if self.tell(&mut event_reader, &state).await.is_err() || !self.follow || event_reader.is_over() {
                return;
            }
            tokio::select! {
                // In this order: the core ends after the shutdown began, which is what there is to say.
                biased;
                () = self.stopping.cancelled() => return,
                () = self.queue.gone() => return,
                changed = self.states.changed() => if changed.is_err() {
                    return self.queue.end(status(stopping()));
                },
            }
        }
    }

    /// Sends everything that a state knows and that was not sent yet.
    async fn tell(&self, event_reader: &mut EventReader, state: &Published) -> Result<(), Stopped> {
        loop {
            let page = match event_reader.page(&state.cluster) {
                Ok(page) => page,
                Err(rejection) => {
                    self.queue.end(status(rejection));
                    return Err(Stopped);
                }
            };
            let Some(page) = page else { return Ok(()) };
            for record in page {
                self.queue.put(record).await?;
            }
        }
    }
}
