//! The newest frames in memory, read once from history and shared by all followers: a thousand followers cause no more reads
//! per commit than one. A follower that is slower than the retained frames continues from disk.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::event_reader::{SharedFrame, SharedReader};
use crate::log::LogStore;
use crate::manager::driver::Published;

/// Maximum bytes of retained frames, or one frame, however large: seconds of a manager's maximum load.
const TAIL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Maximum bytes of frames that a follower takes at once, or one frame: a follower that stops reading holds no more.
const TAKEN_BYTES_MAX: usize = 64 * 1024;

/// The newest frames, retained while there are followers.
pub(super) struct LiveEvents {
    tail: Mutex<Tail>,
    /// The index up to which frames are retained.
    end: watch::Sender<u64>,
}

#[derive(Default)]
struct Tail {
    /// All later frames are retained, up to the newest.
    begin: u64,
    frames: VecDeque<Arc<SharedFrame>>,
    bytes: usize,
    followers: usize,
    is_fed: bool,
}

impl Tail {
    fn push(&mut self, frame: SharedFrame) {
        self.bytes += frame.bytes();
        self.frames.push_back(Arc::new(frame));
        while self.bytes > TAIL_BYTES_MAX && self.frames.len() > 1 {
            let Some(first) = self.frames.pop_front() else { return };
            self.bytes -= first.bytes();
            self.begin = first.index();
        }
    }

    /// The next frames after an index; `None` if they are no longer retained.
    fn after(&self, index: u64) -> Option<Vec<Arc<SharedFrame>>> {
        if !self.is_fed || index < self.begin {
            return None;
        }
        let first = self.frames.partition_point(|frame| frame.index() <= index);
        let mut left = TAKEN_BYTES_MAX;
        let fits = |frame: &&Arc<SharedFrame>| {
            let is_first = left == TAKEN_BYTES_MAX;
            left = left.saturating_sub(frame.bytes());
            is_first || left > 0
        };
        Some(self.frames.range(first..).take_while(fits).cloned().collect())
    }
}

/// A follower: frames are retained while there are any.
pub(super) struct Follower {
    events: Arc<LiveEvents>,
    changed: watch::Receiver<u64>,
}

impl Default for LiveEvents {
    fn default() -> Self {
        Self { tail: Mutex::default(), end: watch::Sender::new(0) }
    }
}

impl LiveEvents {
    /// Adds a follower. The first one starts the thread that reads for all.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub(super) fn follow(self: &Arc<Self>, feed: impl FnOnce() -> Feed) -> std::io::Result<Follower> {
        let mut tail = self.tail();
        if !tail.is_fed {
            let feed = feed();
            let (begin, followers) = (feed.state.cluster.position.index, tail.followers);
            *tail = Tail { begin, followers, is_fed: true, ..Tail::default() };
            let (events, runtime) = (Arc::clone(self), tokio::runtime::Handle::current());
            let thread = std::thread::Builder::new().name("event-tail".to_owned());
            let started = thread.spawn(move || runtime.block_on(feed.run(&events)));
            tail.is_fed = started.is_ok();
            started?;
        }
        tail.followers += 1;
        Ok(Follower { events: Arc::clone(self), changed: self.end.subscribe() })
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are followers; if not, the reading thread ends.
    fn is_followed(&self) -> bool {
        let mut tail = self.tail();
        if tail.followers == 0 {
            *tail = Tail::default();
        }
        tail.is_fed
    }

    /// Marks the reading thread as ended.
    fn end(&self) {
        let mut tail = self.tail();
        *tail = Tail { followers: tail.followers, ..Tail::default() };
        drop(tail);
        self.end.send_modify(|_| ());
    }
}

impl Follower {
    /// The next frames after an index, empty at the end of history; `None` if they are no longer retained.
    pub(super) fn after(&mut self, index: u64) -> Option<Vec<Arc<SharedFrame>>> {
        self.changed.mark_unchanged();
        self.events.tail().after(index)
    }

    /// Waits for more.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as the followers, so this does not fail.
        let _ = self.changed.changed().await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.events.tail().followers -= 1;
    }
}

/// Reads history for all followers.
pub(super) struct Feed {
    pub(super) store: Arc<dyn LogStore>,
    /// The state after which it reads.
    pub(super) state: Arc<Published>,
    pub(super) states: watch::Receiver<Arc<Published>>,
    pub(super) stopping: CancellationToken,
}

impl Feed {
    async fn run(mut self, events: &LiveEvents) {
        let mut reader = SharedReader::after(Arc::clone(&self.store), self.state.cluster.position.index);
        loop {
            let new = Arc::clone(&self.states.borrow_and_update());
            if new.cluster.position.index > self.state.cluster.position.index {
                if !events.is_followed() {
                    return;
                }
                // Locked separately for each frame, so that readers never wait for the disk.
                let take = |frame| events.tail().push(frame);
                let read = reader.read(&self.state.cluster, &new.cluster, take);
                if read.is_err() {
                    // The error is logged. Followers then read from disk themselves, and get the error.
                    return events.end();
                }
                events.end.send_replace(new.cluster.position.index);
                self.state = new;
            }
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return events.end(),
                changed = self.states.changed() => if changed.is_err() {
                    return events.end();
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
