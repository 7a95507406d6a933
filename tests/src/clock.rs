//! Simulated time. Only the world advances it.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use events::Timestamp;

/// The start time of every simulation: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_unix_ns(1_767_225_600_000_000_000);

/// The clock; clones share the same time.
#[derive(Debug, Clone)]
pub struct Clock(Rc<Cell<Timestamp>>);

impl Default for Clock {
    fn default() -> Self {
        Self(Rc::new(Cell::new(START)))
    }
}

impl Clock {
    /// The current time.
    pub fn now(&self) -> Timestamp {
        self.0.get()
    }

    /// Advances to `time`; never goes back.
    pub fn advance_to(&self, time: Timestamp) {
        self.0.set(self.0.get().max(time));
    }
}

impl cli::Clock for Clock {
    fn now(&self) -> Timestamp {
        Clock::now(self)
    }

    /// Resolves when it is polled at or after the time. It wakes no task: the code that advances the clock polls again.
    fn sleep(&self, length: Duration) -> cli::Wait<'static> {
        let (clock, until) = (self.clone(), self.now() + length);
        Box::pin(poll_fn(move |_| if clock.now() >= until { Poll::Ready(()) } else { Poll::Pending }))
    }
}
