//! The queue of one reader of history, bounded in bytes. A reader that stalls for too long is dropped: its queue is discarded
//! immediately, and it gets an error with the index at which to continue.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use futures_util::Stream;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::Status;
use wire::v1::EventRecord;

use super::status;

/// Maximum bytes of queued records, or one record, however large.
const WAITING_BYTES_MAX: u32 = 64 * 1024;
/// Memory of a record in addition to its encoded size.
const RECORD_BYTES: usize = 512;
/// How long a reader may stall while its queue is full: enough time to read a screenful.
const STALLED_MAX: Duration = Duration::from_secs(5 * 60);

/// A record with the queue space that it occupies until it is passed to the reader's connection.
type Waiting = (Result<EventRecord, Status>, Option<OwnedSemaphorePermit>);
type Receiver = mpsc::UnboundedReceiver<Waiting>;

/// The sending end of the queue.
pub(super) struct Queue {
    records: mpsc::UnboundedSender<Waiting>,
    /// The other end, as long as there is a reader.
    reader: Weak<Mutex<Receiver>>,
    room: Arc<Semaphore>,
}

/// The receiving end of the queue.
pub(super) struct Records(Arc<Mutex<Receiver>>);

/// The reader has disconnected, or got the reason why the stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// Creates the two ends of a queue.
pub(super) fn queue() -> (Queue, Records) {
    // The semaphore bounds it.
    let (records, receiver) = mpsc::unbounded_channel();
    let reader = Arc::new(Mutex::new(receiver));
    let room = Arc::new(Semaphore::new(WAITING_BYTES_MAX as usize));
    (Queue { records, reader: Arc::downgrade(&reader), room }, Records(reader))
}

impl Queue {
    /// Waits until there is space for a record, unless the reader stalls.
    pub(super) async fn put(&self, record: EventRecord) -> Result<(), Stopped> {
        let bytes = u32::try_from(record.encoded_len() + RECORD_BYTES).unwrap_or(u32::MAX).min(WAITING_BYTES_MAX);
        let room = tokio::select! {
            biased;
            room = Arc::clone(&self.room).acquire_many_owned(bytes) => room.map_err(|_| Stopped)?,
            () = self.gone() => return Err(Stopped),
            () = tokio::time::sleep(STALLED_MAX) => {
                self.let_go(record.index);
                return Err(Stopped);
            }
        };
        self.records.send((Ok(record), Some(room))).map_err(|_| Stopped)
    }

    /// Sends the last message to the reader. It takes no queue space.
    pub(super) fn end(&self, why: Status) {
        // Ignored if the reader has disconnected.
        let _ = self.records.send((Err(why), None));
    }

    /// Returns when the reader has disconnected.
    pub(super) async fn gone(&self) {
        self.records.closed().await;
    }

    /// Discards the queue, before the record with this index, and sends where to continue.
    fn let_go(&self, index: u64) {
        let Some(reader) = self.reader.upgrade() else { return };
        let mut first = index;
        let mut receiver = lock(&reader);
        while let Ok((waiting, _room)) = receiver.try_recv() {
            first = waiting.map_or(first, |record| first.min(record.index));
        }
        drop(receiver);
        tracing::debug!(from = first, "a reader of events does not read; it is disconnected");
        self.end(status(stalled(first)));
    }
}

fn stalled(from: u64) -> Rejection {
    let minutes = STALLED_MAX.as_secs() / 60;
    let sentence =
        format!("more events waited than the manager keeps for a reader, and none were taken for {minutes} minutes");
    let hint = format!("the same command with `--from {from}` continues where this one ended");
    Rejection::new(RejectionKind::Exhausted, "events", sentence, hint)
}

impl Stream for Records {
    type Item = Result<EventRecord, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Dropping the permit releases the space.
        lock(&self.0).poll_recv(cx).map(|waiting| waiting.map(|(record, _room)| record))
    }
}

fn lock(receiver: &Mutex<Receiver>) -> MutexGuard<'_, Receiver> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use wire::v1::Refusal;

    use super::*;

    fn record(index: u64, bytes: usize) -> EventRecord {
        EventRecord { index, subjects: vec!["x".repeat(bytes)], ..EventRecord::default() }
    }

    #[tokio::test]
    async fn what_waits_for_a_reader_is_bounded_by_its_bytes_and_one_that_is_gone_holds_nothing_up() {
        let (queue, mut records) = queue();
        let fits = |bytes| queue.put(record(1, bytes)).now_or_never().is_some();
        assert_eq!((0..).take_while(|_| fits(25 * 1024)).count(), 2, "a third one would be too much");
        assert!(records.next().await.is_some_and(|record| record.is_ok()));
        assert!(fits(25 * 1024), "there is room again");
        records.next().await;
        records.next().await;
        assert!(fits(10 * WAITING_BYTES_MAX as usize), "one always fits");
        records.next().await;
        let small = (0..).take_while(|_| fits(1)).count();
        assert!((100..1_024).contains(&small), "small ones take room too, {small} of them all");
        let blocked = queue.put(record(1, 1));
        drop(records);
        assert_eq!(blocked.await, Err(Stopped));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stalls_is_let_go_and_told_where_to_go_on() {
        let (queue, mut records) = queue();
        let mut index = 7;
        assert_eq!(queue.put(record(index, 1)).await, Ok(()));
        assert!(records.next().await.is_some_and(|record| record.is_ok_and(|record| record.index == 7)));
        loop {
            index += 1;
            if queue.put(record(index, 12 * 1024)).await.is_err() {
                break;
            }
        }
        assert_eq!(queue.room.available_permits(), WAITING_BYTES_MAX as usize, "nothing is kept for it");
        let told = records.next().await.and_then(Result::err).expect("the last thing it hears");
        let told = Refusal::from_status(&told).expect("a refusal");
        assert!(told.hint.as_ref().is_some_and(|hint| hint.contains("`--from 8`")), "{told:?}");
        drop(queue);
        assert!(records.next().await.is_none());
    }
}
