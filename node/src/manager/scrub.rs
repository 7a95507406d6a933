//! The thread that verifies history while a manager runs: once a week all of it, evenly spread, at the lowest priority of the
//! processor. The disk knows no such priority that a safe library could set, so the thread keeps off it by itself: it lets
//! the log's own writes go first, and sleeps for longer than each of its reads took.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock;
use crate::log::{LogError, LogStore, Scrub, Scrubbed};

/// From one pass to the next. Backups are usually kept for longer.
const PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest pause: then the clock is read again.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Shortest pause, whatever there is to read: even an endless history leaves the disk to others.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Pause after a read, as a multiple of the time that it took: of a disk that has much to do, a twentieth at most.
const PAUSE_PER_READ: u32 = 19;
/// How often a read is put off by [`PAUSE_MIN`] while writes of the log wait. Under a load that never ends, it goes on all the same
/// after a second.
const PUT_OFFS_MAX: u32 = 20;
/// How often progress is written down: so much is read again after a restart.
const SAVE_PERIOD: Duration = Duration::from_secs(60);
/// The nice value of a thread that runs when nobody else wants to.
const NICE_MAX: i32 = 19;

/// The thread, until it is ended.
pub struct Scrubber {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Scrubber {
    /// Ends the thread, which lets go of the log.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that verifies history panicked");
        }
    }
}

/// Starts to verify a log's history, or goes on with it. Who runs on the log has to hear of a write that failed: what the disk
/// was given before may be lost as well.
///
/// # Errors
/// When there is no thread to be had.
pub fn spawn(store: Arc<dyn LogStore>, failed: impl FnOnce(LogError) + Send + 'static) -> std::io::Result<Scrubber> {
    let (stop, stopped) = sync_channel(0);
    let thread = std::thread::Builder::new().name("scrub".to_owned()).spawn(move || {
        if let Err(error) = rustix::process::setpriority_process(None, NICE_MAX) {
            tracing::debug!(%error, "history is verified at the usual priority");
        }
        match run(&*store, &stopped) {
            Ok(()) => {}
            Err(Ended::Read(error)) => {
                tracing::error!(%error, hint = error.hint(), "history is no longer verified in the background");
            }
            Err(Ended::Write(error)) => failed(error),
        }
    })?;
    Ok(Scrubber { stop, thread })
}

/// Why the thread cannot go on.
enum Ended {
    /// Something cannot be read. That concerns nobody else.
    Read(LogError),
    /// A write failed.
    Write(LogError),
}

fn run(store: &dyn LogStore, stopped: &Receiver<()>) -> Result<(), Ended> {
    let progress = store.scrub_progress().map_err(Ended::Read)?;
    let mut scrub = progress.map_or_else(|| Scrub::begin(clock::now(), None), Scrub::resume);
    let mut saved = Instant::now();
    loop {
        let since_begun = clock::now().since(scrub.begun());
        // A pass that began in the future began before the clock was set.
        if scrub.is_over() && (since_begun >= PERIOD || scrub.begun() > clock::now()) {
            scrub = Scrub::begin(clock::now(), Some(scrub.progress()));
        }
        let pause = if scrub.is_over() {
            PERIOD.saturating_sub(since_begun).clamp(PAUSE_MIN, PAUSE_MAX)
        } else {
            let is_stopped = || !matches!(stopped.recv_timeout(PAUSE_MIN), Err(RecvTimeoutError::Timeout));
            if !put_off(|| store.writes_wait(), is_stopped) {
                return Ok(());
            }
            let begun = Instant::now();
            let frames = tell(scrub.step(store));
            let pause = pause(frames, store.applied().map_err(Ended::Read)?.index, begun.elapsed());
            if scrub.is_over() || saved.elapsed() >= SAVE_PERIOD {
                store.save_scrub_progress(scrub.progress()).map_err(Ended::Write)?;
                saved = Instant::now();
            }
            pause
        };
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Says what was found; how many frames were read.
fn tell(scrubbed: Scrubbed) -> u64 {
    match scrubbed {
        Scrubbed::Intact(frames) => frames,
        Scrubbed::Found(error) => {
            tracing::error!(%error, hint = error.hint(), "history is damaged");
            1
        }
        Scrubbed::Over { findings: 0 } => {
            tracing::info!("all of history was verified");
            1
        }
        Scrubbed::Over { findings } => {
            tracing::error!(findings, "history was read to its end, and is damaged");
            1
        }
    }
}

/// Lets writes that wait go first, within bounds; whether the thread is to go on.
fn put_off(writes_wait: impl Fn() -> bool, nap_until_stopped: impl Fn() -> bool) -> bool {
    let stopped = (0..PUT_OFFS_MAX).take_while(|_| writes_wait()).any(|_| nap_until_stopped());
    !stopped
}

/// The pause after a read of so many frames of all, so that a pass takes a period, or longer if the disk has much to do.
fn pause(frames: u64, of: u64, took: Duration) -> Duration {
    let even = PERIOD.mul_f64(frames as f64 / of.max(1) as f64);
    even.max(took.saturating_mul(PAUSE_PER_READ)).clamp(PAUSE_MIN, PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::log::fixtures::HangingDisk;
    use crate::log::{Membership, MemoryDisk, MemoryStore};

    #[test]
    fn a_pass_is_spread_over_its_period_within_bounds() {
        let ms = Duration::from_millis;
        for (frames, of, took, expected) in [
            (1_024, 1_024 * 1_024, ms(10), ms(590_625)),
            (1_024, 100, ms(10), PAUSE_MAX),
            (0, 0, ms(0), PAUSE_MIN),
            (1_024, u64::MAX, ms(1), PAUSE_MIN),
            // A slow disk is left to others for longer than the pace asks.
            (1_024, u64::MAX, ms(1_000), ms(19_000)),
            (1_024, u64::MAX, Duration::MAX, PAUSE_MAX),
        ] {
            assert_eq!(pause(frames, of, took), expected, "{frames} of {of} in {took:?}");
        }
    }

    #[test]
    fn writes_that_wait_go_first_for_a_while() {
        /// For how many looks writes wait, the nap in which the thread is stopped, how often it naps, and whether it goes on.
        const ROWS: [(u32, Option<u32>, u32, bool); 4] =
            [(0, None, 0, true), (3, None, 3, true), (u32::MAX, None, PUT_OFFS_MAX, true), (5, Some(2), 2, false)];
        for (waiting, stopped_in, expected, goes_on) in ROWS {
            let (looks, naps) = (Cell::new(0), Cell::new(0));
            let went_on = put_off(
                || looks.replace(looks.get() + 1) < waiting,
                || {
                    naps.set(naps.get() + 1);
                    stopped_in == Some(naps.get())
                },
            );
            assert_eq!((naps.get(), went_on), (expected, goes_on), "{waiting} looks");
        }
    }

    #[test]
    fn a_scrubber_that_is_ended_lets_go_of_the_log() {
        let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&MemoryDisk::default()).unwrap());
        store.initialize(&Membership::single(1)).unwrap();
        store.load().unwrap();
        spawn(Arc::clone(&store), |error| panic!("{error}")).unwrap().end();
        assert_eq!(Arc::strong_count(&store), 1);
        let progress = store.scrub_progress().unwrap().expect("an empty history is verified at once");
        assert!(Scrub::resume(progress).is_over());
    }

    /// The nice values of this process's threads that verify history.
    fn nice_values() -> Vec<String> {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
        // A thread may end meanwhile.
        let read =
            |thread: &std::path::Path, file: &str| std::fs::read_to_string(thread.join(file)).unwrap_or_default();
        let scrubbers = threads.filter(|thread| read(thread, "comm").trim() == "scrub");
        let nice = |stat: String| {
            stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(16).map(str::to_owned))
        };
        scrubbers.filter_map(|thread| nice(read(&thread, "stat"))).collect()
    }

    #[test]
    fn history_is_verified_when_nobody_else_wants_the_processor() {
        let disk = HangingDisk::default();
        let store = disk.store();
        store.initialize(&Membership::single(1)).unwrap();
        store.load().unwrap();
        disk.close(true);
        let scrubber = spawn(store, |error| panic!("{error}")).unwrap();
        let begun = Instant::now();
        while !nice_values().contains(&NICE_MAX.to_string()) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", nice_values());
            std::thread::yield_now();
        }
        disk.close(false);
        scrubber.end();
    }

    #[test]
    fn a_write_that_fails_is_told() {
        let disk = MemoryDisk::default();
        let store = MemoryStore::open(&disk).unwrap();
        store.initialize(&Membership::single(1)).unwrap();
        store.load().unwrap();
        disk.fail_after(0);
        let (failed, told) = sync_channel(1);
        let scrubber = spawn(Arc::new(store), move |error| failed.send(error).unwrap()).unwrap();
        assert!(matches!(told.recv().expect("it is told"), LogError::Storage { .. }));
        scrubber.end();
    }
}
