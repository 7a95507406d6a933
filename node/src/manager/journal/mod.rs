//! The log for operators: one thread follows the committed history of a manager and logs what they need to know.
//!
//! [`notice`], a pure function, decides what is logged of an event; [`quota`] limits how many lines of one kind may follow each
//! other. The thread reads history independently of the turns, so that a slow stderr delays none of them.
//!
//! A line reports a current event. Events that were committed while this manager was down, or before it joined, are summarized in
//! one line.

mod notice;
mod quota;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use events::Frame;
use events::codec::{self, CodecError};
use tokio::sync::watch;

use crate::clock;
use crate::log::{HistoryReader, LogStore, PageSize};
use crate::manager::driver::{Handle, Published};

use notice::{CrashLoops, Level, Notice, Witness};
use quota::{Admitted, Quota};

/// How much of history is read at a time.
const PAGE: PageSize = PageSize { frames: 256, bytes: 1024 * 1024 };
/// How often the thread checks for windows whose omitted lines have to be summarized.
const PERIOD: Duration = Duration::from_secs(1);
/// Pause between two checks for new commits, so that not every commit wakes this thread.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts to log what a core commits after the frame with this index, until the core ends. The caller that ends the core waits
/// for the thread, so that the thread never outlives the log.
///
/// # Errors
/// When the thread cannot be spawned.
pub fn spawn(core: Handle, store: Arc<dyn LogStore>, after: u64) -> std::io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Handle::current();
    let states = core.states();
    let before = Arc::clone(&states.borrow());
    let reader = HistoryReader::starting_at(after + 1);
    let (quota, crash_loops) = (Quota::default(), CrashLoops::default());
    let (shown, numbers) = (Arc::clone(&before), notice::numbers().collect());
    let journal = Journal { core, states, store, reader, keeps_up: false, before, shown, quota, crash_loops, numbers };
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || runtime.block_on(journal.run()))
}

struct Journal {
    core: Handle,
    states: watch::Receiver<Arc<Published>>,
    store: Arc<dyn LogStore>,
    reader: HistoryReader,
    /// Whether this manager has been up to date since the reader's next frame: frames committed from there on are new.
    keeps_up: bool,
    /// The state whose history was logged: it has the names of objects deleted since.
    before: Arc<Published>,
    /// The last state that was processed.
    shown: Arc<Published>,
    quota: Quota,
    crash_loops: CrashLoops,
    /// The kinds of events that are logged.
    numbers: Vec<u32>,
}

impl Journal {
    async fn run(mut self) {
        loop {
            self.watch_contact().await;
            let after = Arc::clone(&self.states.borrow_and_update());
            self.log_until(&after);
            tokio::time::sleep(PAUSE).await;
            match tokio::time::timeout(PERIOD, self.states.changed()).await {
                // The core has ended.
                Ok(Err(_)) => return self.quota.end().iter().for_each(write),
                Ok(Ok(())) | Err(_) => self.quota.close_expired(clock::now()).iter().for_each(write),
            }
        }
    }

    /// Records whether this manager is up to date. The leader always is; any other manager that was not is again once it has
    /// everything that was committed by then.
    async fn watch_contact(&mut self) {
        self.keeps_up &= self.core.serves_sessions().is_ok();
        if self.keeps_up {
            return;
        }
        let hears_leader = self.core.serves_sessions().is_ok();
        self.keeps_up = self.core.state().leads || (hears_leader && self.core.read_barrier().await.is_ok());
        let present = self.core.state();
        // One that was elected meanwhile committed the last of it itself.
        if self.keeps_up && !present.leads {
            self.pass_over(&present);
        }
    }

    /// Logs one line for the history up to this state, which was committed without this manager.
    fn pass_over(&mut self, present: &Arc<Published>) {
        let (first, last) = (self.reader.next(), present.cluster.position.index);
        if first > last {
            return;
        }
        let until = notice::seconds(present.cluster.position.time);
        tracing::info!(
            first,
            last,
            "this manager has caught up: what was committed until {until} is not logged here; `swarmctl events` shows it"
        );
        self.reader.skip_to(last + 1);
        self.before = Arc::clone(present);
    }

    /// Logs what led to this state.
    fn log_until(&mut self, after: &Arc<Published>) {
        for notice in notice::of_states(&self.shown, after) {
            self.log_notice(notice);
        }
        self.shown = Arc::clone(after);
        if !self.keeps_up {
            return;
        }
        loop {
            match self.page(after.cluster.position.index) {
                Ok(frames) if frames.is_empty() => break,
                Ok(frames) => frames.into_iter().for_each(|frame| self.log_frame(&frame, after)),
                Err(error) => {
                    let index = after.cluster.position.index + 1;
                    tracing::error!(error, index, "events before this index cannot be read, and are not logged");
                    self.reader.skip_to(index);
                    break;
                }
            }
        }
        self.before = Arc::clone(after);
    }

    fn page(&mut self, to: u64) -> Result<Vec<Frame>, String> {
        loop {
            let page = self.reader.page(&*self.store, to, PAGE).map_err(|error| error.to_string())?;
            let is_last = page.is_empty();
            let decoded = page.into_iter().map(|(_, stored)| self.decode(&stored)).filter_map(Result::transpose);
            let frames = decoded.collect::<Result<Vec<Frame>, _>>().map_err(|error| error.to_string())?;
            if is_last || !frames.is_empty() {
                return Ok(frames);
            }
        }
    }

    /// The frame, if any of its events is logged.
    fn decode(&self, stored: &[u8]) -> Result<Option<Frame>, CodecError> {
        codec::has_kind(stored, &self.numbers)?.then(|| codec::decode_frame(stored)).transpose()
    }

    fn log_frame(&mut self, frame: &Frame, after: &Arc<Published>) {
        let before = Arc::clone(&self.before);
        let witness = Witness { index: frame.header.index, before: &before.cluster, after: &after.cluster };
        for kind in codec::kinds(frame) {
            if let Some(notice) = witness.notice(kind, &mut self.crash_loops) {
                self.log_notice(notice);
            }
        }
    }

    fn log_notice(&mut self, notice: Notice) {
        let Admitted { line, summaries } = self.quota.admit(notice, clock::now());
        summaries.iter().chain(&line).for_each(write);
    }
}

fn write(notice: &Notice) {
    let Notice { topic, level, index, object, sentence } = notice;
    let (event, object) = (topic.name(), object.as_deref());
    match level {
        Level::Info => tracing::info!(event, index, object, "{sentence}"),
        Level::Warn => tracing::warn!(event, index, object, "{sentence}"),
        Level::Error => tracing::error!(event, index, object, "{sentence}"),
    }
}
