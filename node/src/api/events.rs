//! The log as a stream: history from some point on, and then whatever is committed.

use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use wire::v1::{EventRecord, EventsRequest};

use crate::driver::{Published, stopping};

use super::narrator::Narrator;
use super::{Context, status};

/// Records that wait for a slow client; then reading stops until it has caught up.
const QUEUED_MAX: usize = 1_024;

/// The events that a request asks for, oldest first. One that is followed ends in order when the manager stops; one that is
/// not followed goes on to the end of history, for who reads it could not tell that there was more.
pub(super) async fn stream(
    context: &Context,
    request: EventsRequest,
) -> Result<impl Stream<Item = Result<EventRecord, Status>> + use<>, Status> {
    let (store, state, follow) = (Arc::clone(&context.store), context.state(), request.follow);
    let narrator = on_disk(move || Narrator::open(store, &state.cluster, request)).await?;
    let (records, receiver) = mpsc::channel(QUEUED_MAX);
    let teller = Teller { states: context.core.states(), follow, stopping: context.stopping.clone(), records };
    tokio::spawn(teller.run(narrator));
    Ok(ReceiverStream::new(receiver))
}

/// Reads history for one client.
struct Teller {
    states: watch::Receiver<Arc<Published>>,
    follow: bool,
    stopping: CancellationToken,
    records: mpsc::Sender<Result<EventRecord, Status>>,
}

/// The client is gone, or was told why there is no more.
struct Stopped;

impl Teller {
    async fn run(mut self, mut narrator: Narrator) {
        loop {
            let state = Arc::clone(&self.states.borrow_and_update());
            narrator = match self.tell(narrator, state).await {
                Ok(narrator) => narrator,
                Err(Stopped) => return,
            };
            if !self.follow {
                return;
            }
            tokio::select! {
                // In this order: the core ends after the shutdown began, which is what there is to say.
                biased;
                () = self.stopping.cancelled() => return,
                () = self.records.closed() => return,
                changed = self.states.changed() => if changed.is_err() {
                    // A client that is gone does not need to know.
                    let _ = self.records.send(Err(status(stopping()))).await;
                    return;
                },
            }
        }
    }

    /// Tells everything that a state knows and that was not told yet.
    async fn tell(&self, mut narrator: Narrator, state: Arc<Published>) -> Result<Narrator, Stopped> {
        loop {
            let known = Arc::clone(&state);
            let read = on_disk(move || {
                let page = narrator.page(&known.cluster)?;
                Ok((narrator, page))
            });
            let page = match read.await {
                Ok((reader, page)) => {
                    narrator = reader;
                    page
                }
                Err(failure) => {
                    // A client that is gone does not need to know.
                    let _ = self.records.send(Err(failure)).await;
                    return Err(Stopped);
                }
            };
            let Some(page) = page else { return Ok(narrator) };
            for record in page {
                self.records.send(Ok(record)).await.map_err(|_| Stopped)?;
            }
        }
    }
}

/// Reading may wait for the disk, which must not hold up other calls.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> Result<T, Status> + Send + 'static) -> Result<T, Status> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Status::internal("history cannot be read: the reading thread broke off")))
}
