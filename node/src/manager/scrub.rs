//! The thread that verifies history while a manager runs: all of it once a week, evenly spread, at the lowest CPU priority. What
//! it finds damaged it fetches from another manager. No safe library can set the I/O priority, so the thread throttles itself: it
//! lets the log's own writes go first, and after each read it sleeps for longer than the read took.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::clock;
use crate::log::{HealError, LogError, LogStore, OtherHistory, Scrub, Scrubbed};

/// Period of a pass. Backups are usually kept for longer.
const PERIOD: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest pause: after it the clock is read again.
const PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Shortest pause, however much there is to read: a very long history still leaves the disk to others.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Pause after a read, as a multiple of its duration: it uses a twentieth of a busy disk at most.
const PAUSE_PER_READ: u32 = 19;
/// How often a read is postponed by [`PAUSE_MIN`] while writes of the log wait. Under constant load, it continues after a second
/// anyway.
const POSTPONEMENTS_MAX: u32 = 20;
/// How often progress is recorded: at most this much is read again after a restart.
const SAVE_PERIOD: Duration = Duration::from_secs(60);
/// How often other managers are asked for damaged frames, and the pause between: they may be down for a while.
const ATTEMPTS_MAX: u32 = 10;
const ATTEMPT_PAUSE: Duration = Duration::from_secs(60);
/// The nice value of a thread that runs only when no other does.
const NICE_MAX: i32 = 19;

/// The other managers' histories that are known at a moment.
pub trait OtherHistories: Send + 'static {
    /// One for each other manager.
    fn list(&self) -> Vec<Box<dyn OtherHistory>>;
}

/// The thread, until it is stopped.
pub struct Scrubber {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Scrubber {
    /// Stops the thread, which releases the log.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that verifies history panicked");
        }
    }
}

/// Starts or resumes the verification of a log's history. The owner of the log must be notified of a failed write: earlier writes
/// may be lost as well.
///
/// # Errors
/// When the thread cannot be spawned.
pub fn spawn(
    store: Arc<dyn LogStore>,
    others: impl OtherHistories,
    failed: impl FnOnce(LogError) + Send + 'static,
) -> std::io::Result<Scrubber> {
    let (stop, stopped) = sync_channel(0);
    let thread = std::thread::Builder::new().name("scrub".to_owned()).spawn(move || {
        run_when_idle();
        match run(&*store, &others, &stopped) {
            Ok(()) => {}
            Err(ScrubError::Read(error)) => {
                tracing::error!(%error, hint = error.hint(), "history is no longer verified in the background");
            }
            Err(ScrubError::Write(error)) => failed(error),
        }
    })?;
    Ok(Scrubber { stop, thread })
}

/// Gives this thread the lowest CPU priority.
pub(crate) fn run_when_idle() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE_MAX) {
        tracing::debug!(%error, "a background thread runs at the usual priority");
    }
}

/// Why the thread cannot continue.
enum ScrubError {
    /// History cannot be read. That affects nothing else.
    Read(LogError),
    /// A write failed.
    Write(LogError),
}

fn run(store: &dyn LogStore, others: &dyn OtherHistories, stopped: &Receiver<()>) -> Result<(), ScrubError> {
    let progress = store.scrub_progress().map_err(ScrubError::Read)?;
    let mut scrub = progress.map_or_else(|| Scrub::begin(clock::now(), None), Scrub::resume);
    let mut saved = Instant::now();
    loop {
        let since_start = clock::now().since(scrub.started_at());
        // A pass that started in the future started before the clock was changed.
        if scrub.is_finished() && (since_start >= PERIOD || scrub.started_at() > clock::now()) {
            scrub = Scrub::begin(clock::now(), Some(scrub.progress()));
        }
        let pause = if scrub.is_finished() {
            PERIOD.saturating_sub(since_start).clamp(PAUSE_MIN, PAUSE_MAX)
        } else {
            let is_stopped = || !matches!(stopped.recv_timeout(PAUSE_MIN), Err(RecvTimeoutError::Timeout));
            if !postpone(|| store.writes_wait(), is_stopped) {
                return Ok(());
            }
            let started = Instant::now();
            let frames = match scrub.step(store) {
                Scrubbed::Intact(frames) => frames,
                Scrubbed::Found(damage) if heal(store, &mut scrub, &damage, others, stopped)? => 1,
                Scrubbed::Found(_) => return Ok(()),
                Scrubbed::Absent(absent) => {
                    tracing::warn!(error = %absent, hint = absent.hint(), "an archive of history is not verified");
                    1
                }
                Scrubbed::Finished { findings, healed } => {
                    log_result(findings, healed);
                    1
                }
            };
            let pause = pause(frames, store.applied().map_err(ScrubError::Read)?.index, started.elapsed());
            if scrub.is_finished() || saved.elapsed() >= SAVE_PERIOD {
                store.save_scrub_progress(scrub.progress()).map_err(ScrubError::Write)?;
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

/// Logs the result of a pass over all of history.
fn log_result(findings: u32, healed: u32) {
    match (findings, healed) {
        (0, 0) => tracing::info!("all of history was verified"),
        (0, _) => tracing::info!(healed, "all of history was verified, and the damage was healed"),
        _ => tracing::error!(findings, healed, "history was read to its end, and is damaged"),
    }
}

/// Has damage healed by another manager, or continues after it if none can; returns whether to continue.
fn heal(
    store: &dyn LogStore,
    scrub: &mut Scrub,
    damage: &LogError,
    others: &dyn OtherHistories,
    stopped: &Receiver<()>,
) -> Result<bool, ScrubError> {
    tracing::error!(error = %damage, hint = damage.hint(), "history is damaged");
    for _ in 0..ATTEMPTS_MAX {
        let others = others.list();
        if others.is_empty() {
            break;
        }
        if heal_from_any(store, scrub, damage, &others)? {
            return Ok(true);
        }
        if !matches!(stopped.recv_timeout(ATTEMPT_PAUSE), Err(RecvTimeoutError::Timeout)) {
            return Ok(false);
        }
    }
    tracing::error!("the damage remains: no other manager has the missing frames; the next verification tries again");
    scrub.skip_damage(store, damage);
    Ok(true)
}

/// Asks one manager after the other; returns whether one of them could help.
fn heal_from_any(
    store: &dyn LogStore,
    scrub: &mut Scrub,
    damage: &LogError,
    others: &[Box<dyn OtherHistory>],
) -> Result<bool, ScrubError> {
    for other in others {
        let from = other.name();
        match scrub.heal(store, damage, &**other) {
            Ok(healed) => {
                let (first, last, frames) = (healed.first, healed.last, healed.frames);
                tracing::warn!(
                    from,
                    first,
                    last,
                    frames,
                    "the damage is healed: history was fetched from another manager"
                );
                return Ok(true);
            }
            Err(HealError::Write(error)) => return Err(ScrubError::Write(error)),
            Err(error) => tracing::warn!(from, %error, "the damage cannot be healed from this manager"),
        }
    }
    Ok(false)
}

/// Lets waiting writes go first, within limits; returns whether to continue.
fn postpone(writes_wait: impl Fn() -> bool, sleep_until_stopped: impl Fn() -> bool) -> bool {
    let stopped = (0..POSTPONEMENTS_MAX).take_while(|_| writes_wait()).any(|_| sleep_until_stopped());
    !stopped
}

/// The pause after reading this many of all frames, so that a pass takes one period, or longer if the disk is busy.
fn pause(frames: u64, of: u64, took: Duration) -> Duration {
    let even = PERIOD.mul_f64(frames as f64 / of.max(1) as f64);
    even.max(took.saturating_mul(PAUSE_PER_READ)).clamp(PAUSE_MIN, PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::log::fixtures::{HangingDisk, Machine, MemoryMachine, Other, fill};
    use crate::log::{Membership, MemoryDisk, MemoryStore, Table, verify_all};

    /// Other managers with these logs.
    #[derive(Default)]
    struct Others(Vec<Arc<dyn LogStore>>);

    impl OtherHistories for Others {
        fn list(&self) -> Vec<Box<dyn OtherHistory>> {
            self.0.iter().map(|store| Box::new(Other(Arc::clone(store))) as Box<dyn OtherHistory>).collect()
        }
    }

    /// What remains damaged, and what was healed, after a pass over a history of 2,000 frames with damage at 700.
    fn pass_beside(others: Others) -> (u32, u32, bool) {
        let machine = MemoryMachine(MemoryDisk::default());
        let store = machine.start();
        fill(&*store, 2_000);
        machine.flip_bit(Table::History, 700);
        let (stop, stopped) = sync_channel(0);
        let mut scrub = Scrub::begin(clock::now(), None);
        let end = loop {
            match scrub.step(&*store) {
                Scrubbed::Intact(_) => {}
                Scrubbed::Absent(absent) => panic!("{absent}"),
                Scrubbed::Found(damage) => {
                    assert!(matches!(heal(&*store, &mut scrub, &damage, &others, &stopped), Ok(true)));
                }
                Scrubbed::Finished { findings, healed } => break (findings, healed),
            }
        };
        drop(stop);
        (end.0, end.1, verify_all::<LogError>(&*store, |_, _| Ok(())).is_ok())
    }

    #[test]
    fn one_manager_alone_tells_of_damage_and_one_among_others_heals_it() {
        assert_eq!(pass_beside(Others::default()), (1, 0, false));
        let whole = MemoryMachine(MemoryDisk::default()).start();
        fill(&*whole, 2_000);
        // One that has not come so far cannot help, and the next one is asked.
        let behind = MemoryMachine(MemoryDisk::default()).start();
        fill(&*behind, 100);
        assert_eq!(pass_beside(Others(vec![behind, whole])), (0, 1, true));
    }

    #[test]
    fn a_pass_is_spread_over_its_period_within_bounds() {
        let ms = Duration::from_millis;
        for (frames, of, took, expected) in [
            (1_024, 1_024 * 1_024, ms(10), ms(590_625)),
            (1_024, 100, ms(10), PAUSE_MAX),
            (0, 0, ms(0), PAUSE_MIN),
            (1_024, u64::MAX, ms(1), PAUSE_MIN),
            // A slow disk is left to others for longer than the pace requires.
            (1_024, u64::MAX, ms(1_000), ms(19_000)),
            (1_024, u64::MAX, Duration::MAX, PAUSE_MAX),
        ] {
            assert_eq!(pause(frames, of, took), expected, "{frames} of {of} in {took:?}");
        }
    }

    #[test]
    fn writes_that_wait_go_first_for_a_while() {
        /// How many checks find waiting writes, the sleep in which the thread is stopped, how often it sleeps, and whether it
        /// continues.
        const ROWS: [(u32, Option<u32>, u32, bool); 4] =
            [(0, None, 0, true), (3, None, 3, true), (u32::MAX, None, POSTPONEMENTS_MAX, true), (5, Some(2), 2, false)];
        for (waiting, stopped_in, expected, goes_on) in ROWS {
            let (looks, naps) = (Cell::new(0), Cell::new(0));
            let went_on = postpone(
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
        spawn(Arc::clone(&store), Others::default(), |error| panic!("{error}")).unwrap().end();
        assert_eq!(Arc::strong_count(&store), 1);
        let progress = store.scrub_progress().unwrap().expect("an empty history is verified at once");
        assert!(Scrub::resume(progress).is_finished());
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
    fn history_is_verified_at_idle_priority() {
        let disk = HangingDisk::default();
        let store = disk.store();
        store.initialize(&Membership::single(1)).unwrap();
        store.load().unwrap();
        disk.close(true);
        let scrubber = spawn(store, Others::default(), |error| panic!("{error}")).unwrap();
        let started = Instant::now();
        while !nice_values().contains(&NICE_MAX.to_string()) {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", nice_values());
            std::thread::yield_now();
        }
        disk.close(false);
        scrubber.end();
    }

    #[test]
    fn a_failed_write_is_reported() {
        let disk = MemoryDisk::default();
        let store = MemoryStore::open(&disk).unwrap();
        store.initialize(&Membership::single(1)).unwrap();
        store.load().unwrap();
        disk.fail_after(0);
        let (failed, reported) = sync_channel(1);
        let scrubber = spawn(Arc::new(store), Others::default(), move |error| failed.send(error).unwrap()).unwrap();
        assert!(matches!(reported.recv().expect("it is reported"), LogError::Storage { .. }));
        scrubber.end();
    }
}
