//! The thread that moves old history into archives, in the background and at the lowest CPU priority. The age of history is
//! measured by the log's own time, so that every manager archives the same frames, whatever its clock says. A file that cannot be
//! written is reported and retried: until it succeeds, history stays where it is.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use events::{Timestamp, codec};
use projections::Cluster;
use tokio::sync::watch;

use crate::clock;
use crate::log::chain::damaged;
use crate::log::{Archived, LogError, LogStore};
use crate::manager::driver::Published;
use crate::manager::scrub::run_when_idle;
use crate::metrics::Measures;

/// How often the thread checks for history to archive: history that is days old is not urgent.
const PERIOD: Duration = Duration::from_secs(60);
/// Pause between two archives: other readers and writers of the disk come first.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause after a failure: an operator has to free space, or mount the directory.
const FAILURE_PAUSE: Duration = Duration::from_secs(600);

/// The thread, until it is stopped.
pub struct Archiver {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Archiver {
    /// Stops the thread, which releases the log.
    pub fn end(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that archives history panicked");
        }
    }
}

/// Starts to archive the history of a log according to the cluster's settings. The owner of the log must be notified of a failed
/// write.
///
/// # Errors
/// When the thread cannot be spawned.
pub fn spawn(
    states: watch::Receiver<Arc<Published>>,
    store: Arc<dyn LogStore>,
    measures: Arc<Measures>,
    failed: impl FnOnce(LogError) + Send + 'static,
) -> std::io::Result<Archiver> {
    let (stop, stopped) = sync_channel(0);
    let thread = std::thread::Builder::new().name("archive".to_owned()).spawn(move || {
        run_when_idle();
        if let Err(error) = run(&states, &*store, &measures, &stopped) {
            failed(error);
        }
    })?;
    Ok(Archiver { stop, thread })
}

/// Runs until it is stopped, or a write of the log fails.
fn run(
    states: &watch::Receiver<Arc<Published>>,
    store: &dyn LogStore,
    measures: &Measures,
    stopped: &Receiver<()>,
) -> Result<(), LogError> {
    loop {
        let state = Arc::clone(&states.borrow());
        let pause = match archive_next(store, &state.cluster) {
            Ok(Some(archived)) => {
                log_archived(&archived);
                PAUSE
            }
            Ok(None) => PERIOD,
            Err(error) if is_passing(&error) => {
                tracing::warn!(%error, hint = error.hint(), "history cannot be archived; it stays in the log's database");
                measures.note_archive_failure(clock::now());
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

/// Whether the log is unchanged, so that the operation can be retried: the file could not be written, history cannot be read, or
/// another thread archived the range meanwhile.
pub fn is_passing(error: &LogError) -> bool {
    error.is_of_an_archive() || error.is_damage() || matches!(error, LogError::OutOfOrder { .. })
}

/// Logs that frames were archived.
pub fn log_archived(archived: &Archived) {
    tracing::info!(
        first = archived.start,
        last = archived.last.index,
        frames = archived.frames,
        bytes = archived.bytes,
        file = archived.file_name(),
        file_bytes = archived.file_bytes,
        "old history was moved into an archive"
    );
}

/// Archives the next range of history if it is older than the retention in the settings, and this manager has an archive
/// directory.
///
/// # Errors
/// When the archive cannot be written, or the log cannot be read or written.
pub fn archive_next(store: &dyn LogStore, cluster: &Cluster) -> Result<Option<Archived>, LogError> {
    let Some(keep) = cluster.spec().history_keep_ns.filter(|_| store.archive_dir().is_some()) else { return Ok(None) };
    let Some(range) = store.archivable()? else { return Ok(None) };
    let Some((index, last)) = store.frame_before(range.end)? else { return Ok(None) };
    let last = codec::decode_frame(&last).map_err(|error| damaged(index, error.to_string()))?;
    if is_older(last.header.log_time, cluster, keep) { store.archive(range).map(Some) } else { Ok(None) }
}

fn is_older(time: Timestamp, cluster: &Cluster, keep_ns: u64) -> bool {
    cluster.position.time.since(time) >= Duration::from_nanos(keep_ns)
}
