//! A bounded queue with many senders and one thread that takes all queued items at once. The thread is woken after the lock is
//! released, and only if it waits: the standard library's channel wakes it while holding the lock, so that the woken thread
//! blocks on it at once, which costs as much as a write to a fast disk.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Creates a queue with this capacity.
pub(crate) fn mailbox<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue { items: VecDeque::new(), senders: 1, closed: false, reader_waits: false, senders_wait: 0 };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), room, news: Condvar::new(), space: Condvar::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// Why an item was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendError {
    /// The queue is full.
    Full,
    /// The receiver is gone.
    Closed,
}

/// The other side of the queue is gone; for a receiver, no items are left either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed;

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    room: usize,
    /// Signals that an item was added, or the last sender left.
    news: Condvar,
    /// Signals that items were taken, or the receiver left.
    space: Condvar,
}

struct Queue<T> {
    items: VecDeque<T>,
    senders: usize,
    /// The receiver is gone.
    closed: bool,
    reader_waits: bool,
    senders_wait: usize,
}

/// The sending side.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The receiving side.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        // Nothing that could panic is called while it is locked.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_reader(&self, mut queue: MutexGuard<'_, Queue<T>>) {
        let waits = std::mem::take(&mut queue.reader_waits);
        drop(queue);
        if waits {
            self.news.notify_one();
        }
    }
}

impl<T> Sender<T> {
    /// Adds an item, if there is room.
    ///
    /// # Errors
    /// When the queue is full, or the receiver is gone.
    pub fn try_send(&self, item: T) -> Result<(), SendError> {
        let mut queue = self.0.lock();
        if queue.closed {
            return Err(SendError::Closed);
        }
        if queue.items.len() >= self.0.room {
            return Err(SendError::Full);
        }
        queue.items.push_back(item);
        self.0.wake_reader(queue);
        Ok(())
    }

    /// Adds an item, waiting until there is room.
    ///
    /// # Errors
    /// When the receiver is gone.
    pub fn send(&self, item: T) -> Result<(), Closed> {
        let mut queue = self.0.lock();
        while !queue.closed && queue.items.len() >= self.0.room {
            queue.senders_wait += 1;
            queue = self.0.space.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.senders_wait -= 1;
        }
        if queue.closed {
            return Err(Closed);
        }
        queue.items.push_back(item);
        self.0.wake_reader(queue);
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.senders -= 1;
        if queue.senders == 0 {
            self.0.wake_reader(queue);
        }
    }
}

impl<T> Receiver<T> {
    /// Takes all queued items, at most `most`. If there are none, waits up to `timeout`; without a limit if that is `None`.
    ///
    /// # Errors
    /// When the queue is empty and all senders are gone.
    pub fn take(&self, timeout: Option<Duration>, most: usize) -> Result<Vec<T>, Closed> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut queue = self.0.lock();
        while queue.items.is_empty() {
            if queue.senders == 0 {
                return Err(Closed);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Vec::new());
            }
            queue.reader_waits = true;
            queue = match left {
                Some(left) => self.0.news.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.0.news.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
            queue.reader_waits = false;
        }
        let number = queue.items.len().min(most);
        let taken = queue.items.drain(..number).collect();
        let senders_wait = queue.senders_wait > 0;
        drop(queue);
        if senders_wait {
            self.0.space.notify_all();
        }
        Ok(taken)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        // Dropping an item may answer a caller: not while the lock is held.
        let left = std::mem::take(&mut queue.items);
        drop(queue);
        drop(left);
        self.0.space.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

    #[test]
    fn items_come_in_order_and_in_bounded_batches() {
        let (sender, receiver) = mailbox(3);
        assert_eq!(receiver.take(AT_ONCE, 9), Ok(vec![]));
        for number in 1..=3 {
            sender.try_send(number).unwrap();
        }
        assert_eq!(sender.try_send(4), Err(SendError::Full));
        assert_eq!(receiver.take(None, 2), Ok(vec![1, 2]));
        sender.clone().try_send(5).unwrap();
        drop(sender);
        assert_eq!(receiver.take(None, 9), Ok(vec![3, 5]), "what was sent is not lost with the sender");
        assert_eq!(receiver.take(None, 9), Err(Closed));
    }

    #[test]
    fn without_a_reader_nothing_is_taken_or_kept() {
        let (sender, receiver) = mailbox(1);
        let item = Arc::new(());
        sender.try_send(Arc::clone(&item)).unwrap();
        drop(receiver);
        assert_eq!(Arc::strong_count(&item), 1);
        assert_eq!(sender.try_send(Arc::clone(&item)), Err(SendError::Closed));
        assert_eq!(sender.send(item), Err(Closed));
    }

    #[test]
    fn threads_that_wait_are_woken() {
        const ITEMS: u64 = 10_000;
        let (sender, receiver) = mailbox(2);
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || (0..ITEMS).for_each(|item| sender.send(item).unwrap()))
            })
            .collect();
        drop(sender);
        let (mut sum, mut batches) = (0, 0);
        while let Ok(items) = receiver.take(None, 2) {
            assert!((1..=2).contains(&items.len()));
            sum += items.iter().sum::<u64>();
            batches += 1;
        }
        assert_eq!(sum, 3 * ITEMS * (ITEMS - 1) / 2);
        assert!(batches >= 3 * ITEMS / 2);
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }

    #[test]
    fn a_sender_that_waits_for_room_hears_that_the_reader_is_gone() {
        let (sender, receiver) = mailbox(1);
        sender.try_send(1).unwrap();
        let waits = std::thread::spawn(move || sender.send(2));
        while receiver.0.lock().senders_wait == 0 {
            std::thread::yield_now();
        }
        drop(receiver);
        assert_eq!(waits.join().unwrap(), Err(Closed));
    }
}
