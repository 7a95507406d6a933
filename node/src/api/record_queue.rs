//! The queue of one reader of history, bounded in bytes. A reader that stalls for too long is dropped: its queue is discarded
//! immediately, and it gets an error with the index at which to continue.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use commands::{Rejection, RejectionKind};
use futures_util::Stream;
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::Status;
use wire::v1::EventRecord;

use super::status;

/// Maximum bytes of queued records, or one record, however large.
const QUEUE_BYTES_MAX: u32 = 64 * 1024;
/// Maximum bytes of records that are queued together, or one record: the sender is woken once a batch, not once a record.
const BATCH_BYTES_MAX: u32 = QUEUE_BYTES_MAX / 2;
/// Memory of a record in addition to its encoded size.
const RECORD_BYTES: usize = 512;
/// How long a reader may stall while its queue is full: enough time to read a screenful.
const STALLED_MAX: Duration = Duration::from_secs(5 * 60);

/// Records with the queue space that they occupy until the last of them is passed to the reader's connection.
struct Batch {
    records: VecDeque<EventRecord>,
    _room: OwnedSemaphorePermit,
}

type QueuedRecord = Result<Batch, Status>;

/// The sending end of the queue.
pub(super) struct Queue {
    batches: mpsc::UnboundedSender<QueuedRecord>,
    /// The other end, as long as there is a reader.
    reader: Weak<Mutex<Reader>>,
    room: Arc<Semaphore>,
}

/// The queue of a reader.
struct Reader {
    batches: mpsc::UnboundedReceiver<QueuedRecord>,
    /// The rest of the current batch.
    partial: Option<Batch>,
}

/// The receiving end of the queue.
pub(super) struct Records(Arc<Mutex<Reader>>);

/// The reader has disconnected, or got the reason why the stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stopped;

/// Creates the two ends of a queue.
pub(super) fn queue() -> (Queue, Records) {
    // The semaphore bounds it.
    let (sender, batches) = mpsc::unbounded_channel();
    let reader = Arc::new(Mutex::new(Reader { batches, partial: None }));
    let room = Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize));
    (Queue { batches: sender, reader: Arc::downgrade(&reader), room }, Records(reader))
}

impl Queue {
    /// Waits until there is space for all records, batch by batch, unless the reader stalls.
    pub(super) async fn put(&self, records: Vec<EventRecord>) -> Result<(), Stopped> {
        let mut records = VecDeque::from(records);
        while let Some((batch, bytes)) = next_batch(&mut records) {
            self.put_batch(batch, bytes).await?;
        }
        Ok(())
    }

    async fn put_batch(&self, records: VecDeque<EventRecord>, bytes: u32) -> Result<(), Stopped> {
        let room = tokio::select! {
            biased;
            room = Arc::clone(&self.room).acquire_many_owned(bytes) => room.map_err(|_| Stopped)?,
            () = self.disconnected() => return Err(Stopped),
            () = tokio::time::sleep(STALLED_MAX) => {
                self.drop_reader(records.front().map_or(0, |record| record.index));
                return Err(Stopped);
            }
        };
        self.batches.send(Ok(Batch { records, _room: room })).map_err(|_| Stopped)
    }

    /// Sends the last message to the reader. It takes no queue space.
    pub(super) fn end(&self, why: Status) {
        // Ignored if the reader has disconnected.
        let _ = self.batches.send(Err(why));
    }

    /// Returns when the reader has disconnected.
    pub(super) async fn disconnected(&self) {
        self.batches.closed().await;
    }

    /// Discards the queue, before the record with this index, and sends where to continue.
    fn drop_reader(&self, index: u64) {
        let Some(reader) = self.reader.upgrade() else { return };
        let mut first = index;
        let mut reader = lock(&reader);
        let partial = reader.partial.take();
        let waiting = std::iter::from_fn(|| reader.batches.try_recv().ok()?.ok());
        for batch in partial.into_iter().chain(waiting) {
            first = batch.records.front().map_or(first, |record| first.min(record.index));
        }
        drop(reader);
        tracing::debug!(from = first, "a reader of events does not read; it is disconnected");
        self.end(status(stalled(first)));
    }
}

/// Takes the next batch from the records, with the queue space that it needs; `None` if there are no more records.
fn next_batch(records: &mut VecDeque<EventRecord>) -> Option<(VecDeque<EventRecord>, u32)> {
    let mut batch = VecDeque::new();
    let mut bytes: u32 = 0;
    while let Some(record) = records.front() {
        let with_it = u32::try_from(record.encoded_len() + RECORD_BYTES).unwrap_or(u32::MAX).saturating_add(bytes);
        if with_it > BATCH_BYTES_MAX && !batch.is_empty() {
            break;
        }
        bytes = with_it.min(QUEUE_BYTES_MAX);
        batch.extend(records.pop_front());
    }
    (!batch.is_empty()).then_some((batch, bytes))
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
        let mut reader = lock(&self.0);
        loop {
            if let Some(mut batch) = reader.partial.take()
                && let Some(record) = batch.records.pop_front()
            {
                // The space is released with the last record.
                reader.partial = Some(batch).filter(|batch| !batch.records.is_empty());
                return Poll::Ready(Some(Ok(record)));
            }
            match ready!(reader.batches.poll_recv(cx)) {
                Some(Ok(batch)) => reader.partial = Some(batch),
                Some(Err(why)) => return Poll::Ready(Some(Err(why))),
                None => return Poll::Ready(None),
            }
        }
    }
}

fn lock(reader: &Mutex<Reader>) -> MutexGuard<'_, Reader> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
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
        let fits = |bytes| queue.put(vec![record(1, bytes)]).now_or_never().is_some();
        assert_eq!((0..).take_while(|_| fits(25 * 1024)).count(), 2, "a third one would be too much");
        assert!(records.next().await.is_some_and(|record| record.is_ok()));
        assert!(fits(25 * 1024), "there is room again");
        records.next().await;
        records.next().await;
        assert!(fits(10 * QUEUE_BYTES_MAX as usize), "one always fits");
        records.next().await;
        let small = (0..).take_while(|_| fits(1)).count();
        assert!((100..1_024).contains(&small), "small ones take room too, {small} of them all");
        let blocked = queue.put(vec![record(1, 1)]);
        drop(records);
        assert_eq!(blocked.await, Err(Stopped));
    }

    #[tokio::test]
    async fn a_page_goes_through_in_its_order_whatever_its_records_take() {
        let (queue, records) = queue();
        let sizes = [1, 10 * QUEUE_BYTES_MAX as usize, 1, BATCH_BYTES_MAX as usize, 7, 0];
        let page: Vec<EventRecord> = (0..600).map(|index| record(index, sizes[index as usize % sizes.len()])).collect();
        let room = Arc::clone(&queue.room);
        let put = async {
            assert_eq!(queue.put(Vec::new()).await, Ok(()));
            assert_eq!(queue.put(page.clone()).await, Ok(()));
            drop(queue);
        };
        let (read, ()) = tokio::join!(records.map(|record| record.expect("a record").index).collect::<Vec<_>>(), put);
        assert_eq!(read, (0..600).collect::<Vec<_>>());
        assert_eq!(room.available_permits(), QUEUE_BYTES_MAX as usize);
    }

    #[tokio::test]
    async fn a_reader_that_stops_in_the_middle_of_a_batch_goes_on_there() {
        let (queue, mut records) = queue();
        assert_eq!(queue.put((1..=9).map(|index| record(index, 1)).collect()).await, Ok(()));
        for expected in 1..=4 {
            assert!(records.next().await.is_some_and(|record| record.is_ok_and(|record| record.index == expected)));
        }
        queue.drop_reader(10);
        let refusal = records.next().await.and_then(Result::err).expect("the last record");
        let refusal = Refusal::from_status(&refusal).expect("a refusal");
        assert!(refusal.hint.as_ref().is_some_and(|hint| hint.contains("`--from 5`")), "{refusal:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stalls_is_let_go_and_told_where_to_go_on() {
        let (queue, mut records) = queue();
        let mut index = 7;
        assert_eq!(queue.put(vec![record(index, 1)]).await, Ok(()));
        assert!(records.next().await.is_some_and(|record| record.is_ok_and(|record| record.index == 7)));
        loop {
            index += 1;
            if queue.put(vec![record(index, 12 * 1024)]).await.is_err() {
                break;
            }
        }
        assert_eq!(queue.room.available_permits(), QUEUE_BYTES_MAX as usize, "nothing is kept for it");
        let refusal = records.next().await.and_then(Result::err).expect("the last record");
        let refusal = Refusal::from_status(&refusal).expect("a refusal");
        assert!(refusal.hint.as_ref().is_some_and(|hint| hint.contains("`--from 8`")), "{refusal:?}");
        drop(queue);
        assert!(records.next().await.is_none());
    }
}
