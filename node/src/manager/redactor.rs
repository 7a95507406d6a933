//! The thread that erases values from this manager's disk once the log announces it, in the background and at the lowest CPU
//! priority: it rewrites the frames that contain them, in history and in archives; the next checkpoint, which is due at once,
//! replaces those with the values, and the raft entries; then the database drops the deleted data. What to erase follows from the
//! state, so that a manager that was down catches up when it is back.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use events::redaction;
use projections::{Cluster, Redaction};
use tokio::sync::watch;

use crate::daemon::state_dir::logs_set_aside;
use crate::log::chain::damaged;
use crate::log::{LogError, LogStore, RedactedTo};
use crate::manager::driver::Published;
use crate::manager::scrub::run_when_idle;

/// How often the thread checks for values to erase, and for the checkpoint that it waits for.
const PERIOD: Duration = Duration::from_secs(1);
/// Pause after a failure: by then history may be healed, or the archive directory mounted.
const FAILURE_PAUSE: Duration = Duration::from_secs(60);

/// The thread, until it is stopped.
pub struct Redactor {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Redactor {
    /// Stops the thread, which releases the log.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that erases values from history panicked");
        }
    }
}

/// A manager's progress in erasing values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erased {
    /// There is nothing to do.
    Nothing,
    /// History is redacted; checkpoints and raft entries are not yet.
    InHistory,
    /// All values are gone.
    All {
        /// Total number of redacted frames.
        frames: u64,
    },
}

/// Starts to erase values when the log in a state directory announces it. The owner of the log must be notified of a failed
/// write.
///
/// # Errors
/// When the thread cannot be spawned.
pub fn spawn(
    states: watch::Receiver<Arc<Published>>,
    store: Arc<dyn LogStore>,
    state_dir: PathBuf,
    failed: impl FnOnce(LogError) + Send + 'static,
) -> std::io::Result<Redactor> {
    let (stop, stopped) = sync_channel(0);
    let thread = std::thread::Builder::new().name("redact".to_owned()).spawn(move || {
        run_when_idle();
        if let Err(error) = run(&states, &*store, &state_dir, &stopped) {
            failed(error);
        }
    })?;
    Ok(Redactor { stop, thread })
}

/// Runs until it is stopped, or a write of the log fails.
fn run(
    states: &watch::Receiver<Arc<Published>>,
    store: &dyn LogStore,
    state_dir: &Path,
    stopped: &Receiver<()>,
) -> Result<(), LogError> {
    loop {
        let state = Arc::clone(&states.borrow());
        let pause = match erase(store, &state.cluster) {
            Ok(Erased::All { frames }) => {
                tracing::info!(frames, "values were erased from history, as its redactions say");
                name_logs_set_aside(state_dir);
                PERIOD
            }
            Ok(Erased::Nothing | Erased::InHistory) => PERIOD,
            Err(error) if error.is_of_an_archive() || error.is_damage() => {
                tracing::warn!(%error, hint = error.hint(), "a value cannot be erased from history yet");
                FAILURE_PAUSE
            }
            Err(error) => return Err(error),
        };
        match stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

/// Reports the logs that may still contain erased values. They are no longer read, and may be the last copy of other data: the
/// operator who set them aside, or learns of it, removes them.
fn name_logs_set_aside(state_dir: &Path) {
    let hint = "remove it once nothing else in it is needed";
    match logs_set_aside(state_dir) {
        Ok(paths) => paths.iter().for_each(|path| {
            tracing::warn!(path = %path.display(), hint, "a log that was set aside may still have what was erased from history")
        }),
        Err(error) => {
            tracing::warn!(path = %state_dir.display(), %error, "logs that were set aside may have what was erased from history")
        }
    }
}

/// Erases the values that the state marks for erasure, as far as that is possible now.
///
/// # Errors
/// When history cannot be read, or the log cannot be written.
pub fn erase(store: &dyn LogStore, cluster: &Cluster) -> Result<Erased, LogError> {
    let (announced, done) = (cluster.redacted_at(), store.redacted_to()?);
    // Frames that are not on disk yet cannot be rewritten.
    if announced <= done.everywhere() || store.durable_history() < announced {
        return Ok(Erased::Nothing);
    }
    let permits = cluster.redacted_frames();
    store.permit(&permits)?;
    if done.database < announced {
        if !erase_in_database(store, cluster, done.database)? {
            return Ok(Erased::InHistory);
        }
        store.save_redacted_to(RedactedTo { database: announced, ..done })?;
    }
    store.redact_archives(&frames_since(cluster, done.archives), &mut |index, stored| {
        redact_frame(cluster, index, stored)
    })?;
    store.save_redacted_to(RedactedTo { database: announced, archives: announced })?;
    Ok(Erased::All { frames: permits.len() as u64 })
}

/// Erases the values announced after `done` from history, checkpoints and raft entries. Returns whether all of them are gone.
fn erase_in_database(store: &dyn LogStore, cluster: &Cluster, done: u64) -> Result<bool, LogError> {
    store.redact_history(&frames_since(cluster, done), &mut |index, stored| redact_frame(cluster, index, stored))?;
    let mut is_left = store.first_index() <= cluster.redacted_at();
    for range in stale_checkpoints(cluster, done) {
        is_left |= !store.drop_checkpoints(range)?;
    }
    if !is_left {
        store.purge()?;
    }
    Ok(!is_left)
}

fn redact_frame(cluster: &Cluster, index: u64, stored: &Bytes) -> Result<Bytes, LogError> {
    redacted(cluster.redactions_of(index), index, stored).map_err(|reason| damaged(index, reason))
}

/// The frames with a redaction announced after `done`, in order.
fn frames_since(cluster: &Cluster, done: u64) -> Vec<u64> {
    let frames = since(cluster, done).flat_map(|(_, redaction)| redaction.frames.iter()).map(|(index, _)| *index);
    frames.collect::<BTreeSet<u64>>().into_iter().collect()
}

/// The redactions after the one announced at an index.
fn since(cluster: &Cluster, done: u64) -> impl Iterator<Item = (u64, &Redaction)> {
    cluster.redactions.range(done.saturating_add(1)..)
}

/// The ranges in which checkpoints contain values to erase: from the first frame with such a value to the announcement.
fn stale_checkpoints(cluster: &Cluster, done: u64) -> impl Iterator<Item = Range<u64>> {
    since(cluster, done)
        .map(|(announced, redaction)| redaction.frames.first().map_or(announced, |(first, _)| *first)..announced)
}

/// The stored bytes of the frame at an index with these redactions applied, the oldest first.
///
/// # Errors
/// A sentence that explains how they differ from those that were announced.
pub fn redacted<'a>(
    redactions: impl Iterator<Item = &'a Redaction>,
    index: u64,
    stored: &Bytes,
) -> Result<Bytes, String> {
    let (mut bytes, mut announced) = (stored.clone(), None);
    for redaction in redactions {
        let field = redaction.field.parse()?;
        bytes = redaction::redact(&bytes, redaction.service, &field, &redaction.digest)?.into();
        announced = redaction.sha256_at(index);
    }
    match announced {
        Some(announced) if announced != redaction::sha256(&bytes) => {
            Err("without the erased values it is not the announced frame".to_owned())
        }
        Some(_) | None => Ok(bytes),
    }
}
