//! The thread that writes the log. It takes all writes that the turns have staged, syncs once for all of them, and reports its
//! progress; the turns never wait for the disk. After a failed write it writes nothing more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use crate::log::{LogError, LogStore, Write, Written, write_all};
use crate::manager::mailbox::{Receiver, Sender, mailbox};
use crate::metrics::Measures;

/// Writes that may wait. Turns stop earlier, at the limits for proposals; this one only keeps a bug from filling the memory.
const WAITING_MAX: usize = 1_024;
/// Writes that share a sync. More would make the first of them wait long for the last.
const GROUP_MAX: usize = 128;

/// The handle to the thread.
pub(crate) struct Writer {
    writes: Sender<Write>,
    report: Arc<Mutex<Report>>,
    thread: JoinHandle<()>,
}

/// What the thread reports.
#[derive(Default)]
struct Report {
    written: Written,
    failed: Option<LogError>,
    /// Whether a write failed, even after the error was reported.
    over: bool,
}

impl Writer {
    /// Starts the thread. It calls back when an awaited write is durable, or when one failed.
    pub fn spawn(
        store: Arc<dyn LogStore>,
        measures: Arc<Measures>,
        ring: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (writes, waiting) = mailbox(WAITING_MAX);
        let report = Arc::new(Mutex::new(Report::default()));
        let shared = Arc::clone(&report);
        let thread = std::thread::Builder::new().name("log".to_owned());
        let thread = thread.spawn(move || run(&*store, &waiting, &shared, &measures, ring))?;
        Ok(Self { writes, report, thread })
    }

    /// Hands writes over.
    pub fn give(&self, writes: Vec<Write>) {
        for write in writes {
            // A thread that has ended left an error.
            if self.writes.send(write).is_err() {
                return;
            }
        }
    }

    /// The progress of the disk since the last call.
    ///
    /// # Errors
    /// When a write failed: nothing more will be durable.
    pub fn written(&self) -> Result<Written, LogError> {
        // Read first, because the thread reports before it ends.
        let gone = self.thread.is_finished();
        let mut report = lock(&self.report);
        match report.failed.take() {
            Some(error) => Err(error),
            None if gone || report.over => Err(broke_off()),
            None => Ok(std::mem::take(&mut report.written)),
        }
    }

    /// Waits until everything that was handed over is written.
    ///
    /// # Errors
    /// When a write failed.
    pub fn end(self) -> Result<(), LogError> {
        drop(self.writes);
        if self.thread.join().is_err() {
            return Err(broke_off());
        }
        let mut report = lock(&self.report);
        match report.failed.take() {
            Some(error) => Err(error),
            None if report.over => Err(broke_off()),
            None => Ok(()),
        }
    }
}

fn run(store: &dyn LogStore, waiting: &Receiver<Write>, report: &Mutex<Report>, measures: &Measures, ring: impl Fn()) {
    while let Ok(group) = waiting.take(None, GROUP_MAX) {
        let began = Instant::now();
        let written = write_all(store, group);
        measures.writes.observe(began.elapsed());
        match written {
            Ok(written) => {
                lock(report).written.merge(written);
                if written.awaited {
                    ring();
                }
            }
            Err(error) => {
                let mut report = lock(report);
                (report.failed, report.over) = (Some(error), true);
                drop(report);
                ring();
                return;
            }
        }
    }
}

fn lock(report: &Mutex<Report>) -> MutexGuard<'_, Report> {
    report.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broke_off() -> LogError {
    LogError::Storage { action: "write to the log", reason: "its thread ended unexpectedly".to_owned() }
}

#[cfg(test)]
mod tests;
