//! The queue of messages for one other manager: bounded by count and by bytes, so that the cost of a slow or absent one is
//! limited. When it is full, messages are dropped: raft sends them again.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::manager::replica::PeerMessage;
use crate::metrics::PeerCounts;

use super::locked;

/// Maximum number of queued messages: raft has at most 256 with entries in flight, in addition to heartbeats.
const MESSAGES_MAX: usize = 4_096;
/// Maximum number of queued bytes. A larger message is queued alone.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Maximum size of one batch: that of a page of history. A larger message is sent alone.
const BATCH_BYTES: usize = 1024 * 1024;
/// Maximum number of messages in one batch.
const BATCH_MESSAGES: usize = 256;

/// The queue of one manager.
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    news: Notify,
    /// Notified when the other manager called.
    called: Notify,
    counts: Arc<PeerCounts>,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<PeerMessage>,
    bytes: usize,
    /// Whether messages were dropped since there was last room.
    overflowed: bool,
}

/// What happened to a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It was queued.
    Kept,
    /// It was dropped, and the one before it was not.
    FirstDropped,
    /// It was dropped like the one before it.
    Dropped,
}

impl Outbox {
    pub(super) fn new(counts: Arc<PeerCounts>) -> Self {
        Self { waiting: Mutex::default(), news: Notify::new(), called: Notify::new(), counts }
    }

    /// Records that the other manager called: a pause before the next attempt can end.
    pub(super) fn record_call(&self) {
        self.called.notify_one();
    }

    /// Waits for this time, or until the other manager calls; returns whether it did.
    pub(super) async fn wait_for_call(&self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.called.notified()).await.is_ok()
    }

    /// Queues a message, if there is room.
    pub(super) fn push(&self, message: PeerMessage) -> Pushed {
        let bytes = message.size();
        let mut waiting = locked(&self.waiting);
        let is_full = waiting.messages.len() >= MESSAGES_MAX || waiting.bytes + bytes > BYTES_MAX;
        if is_full && !waiting.messages.is_empty() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
            return match std::mem::replace(&mut waiting.overflowed, true) {
                false => Pushed::FirstDropped,
                true => Pushed::Dropped,
            };
        }
        waiting.bytes += bytes;
        waiting.messages.push_back(message);
        drop(waiting);
        self.news.notify_one();
        Pushed::Kept
    }

    /// Waits for messages, and takes one batch.
    pub(super) async fn take(&self) -> Vec<PeerMessage> {
        loop {
            let batch = locked(&self.waiting).batch();
            if !batch.is_empty() {
                let bytes: usize = batch.iter().map(PeerMessage::size).sum();
                self.counts.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
                self.counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                return batch;
            }
            self.news.notified().await;
        }
    }

    /// Drops all queued messages: the other manager cannot be reached, and will need newer ones.
    pub(super) fn discard(&self) {
        let discarded = std::mem::take(&mut *locked(&self.waiting));
        self.counts.dropped.fetch_add(discarded.messages.len() as u64, Ordering::Relaxed);
    }
}

impl Waiting {
    fn batch(&mut self) -> Vec<PeerMessage> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(message) = self.messages.front() {
            let size = message.size();
            if batch.len() >= BATCH_MESSAGES || (bytes + size > BATCH_BYTES && !batch.is_empty()) {
                break;
            }
            bytes += size;
            batch.extend(self.messages.pop_front());
        }
        self.bytes -= bytes;
        self.overflowed &= batch.is_empty();
        batch
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn message(bytes: usize) -> PeerMessage {
        PeerMessage::Raft(vec![0; bytes])
    }

    fn outbox() -> Outbox {
        Outbox::new(Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_the_other_manager_calls_and_each_call_ends_one() {
        let (outbox, pause) = (outbox(), Duration::from_secs(3_600));
        assert!(!outbox.wait_for_call(pause).await);
        outbox.record_call();
        assert!(outbox.wait_for_call(pause).await);
        assert!(!outbox.wait_for_call(pause).await);
    }

    #[test]
    fn messages_without_room_are_dropped_and_counted_and_the_first_is_reported() {
        // The size of each message, and how many of them fit.
        let table = [(0, MESSAGES_MAX), (BYTES_MAX / 4, 3), (2 * BYTES_MAX, 1)];
        for (size, kept) in table {
            let outbox = outbox();
            for _ in 0..kept {
                assert_eq!(outbox.push(message(size)), Pushed::Kept, "{size}");
            }
            assert_eq!(outbox.push(message(size)), Pushed::FirstDropped);
            assert_eq!(outbox.push(message(size)), Pushed::Dropped);
            assert_eq!(outbox.counts.dropped.load(Ordering::Relaxed), 2);
            let batch = outbox.take().now_or_never().expect("a batch");
            assert_eq!(outbox.counts.sent.load(Ordering::Relaxed), batch.len() as u64);
            assert_eq!(outbox.push(message(size)), Pushed::Kept, "there is room again");
        }
    }

    #[test]
    fn a_batch_has_a_bound_and_a_larger_message_goes_alone() {
        let outbox = outbox();
        let sizes = [10, 20, 2 * BATCH_BYTES, 30];
        for size in sizes {
            assert_eq!(outbox.push(message(size)), Pushed::Kept);
        }
        let batches =
            || std::iter::from_fn(|| outbox.take().now_or_never().map(|batch| batch.len())).collect::<Vec<_>>();
        assert_eq!(batches(), [2, 1, 1]);
        for _ in 0..=BATCH_MESSAGES {
            assert_eq!(outbox.push(message(0)), Pushed::Kept);
        }
        assert_eq!(batches(), [BATCH_MESSAGES, 1]);
        outbox.push(message(1));
        outbox.discard();
        assert!(outbox.take().now_or_never().is_none(), "nothing waits any more");
    }
}
