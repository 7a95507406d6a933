//! The metrics of a manager. Nothing here visits all objects of a kind: their counts are kept in the state.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use events::{Named, Timestamp, codec};
use projections::{Cluster, Liveness, UpdateState};

use crate::log::{LogStore, Table};
use crate::manager::driver::Handle;

use super::connections::ConnectionClass;
use super::exposition::{Page, label};
use super::{Measures, PeerCounts};

/// The sources of a manager's metrics.
pub(super) struct ManagerPage<'a> {
    pub(super) core: &'a Handle,
    pub(super) store: &'a dyn LogStore,
    pub(super) measures: &'a Measures,
}

impl ManagerPage<'_> {
    /// Adds all of them to a page. May wait for the disk.
    pub(super) fn write(&self, page: &mut Page, state_dir: &Path) {
        let state = self.core.state();
        page.gauge("swarmlog_leader", "Whether this manager leads the cluster.", u8::from(state.leads));
        self.log(page, &state.cluster, state_dir);
        self.checkpoint(page);
        self.verification(page);
        self.archives(page);
        self.turns(page);
        self.connections(page);
        self.peers(page);
        objects(page, &state.cluster);
        page.gauge(
            "swarmlog_services_set_aside",
            "Quarantined services, on which the reconcilers do not converge.",
            state.quarantined.len(),
        );
    }

    fn log(&self, page: &mut Page, cluster: &Cluster, state_dir: &Path) {
        page.gauge("swarmlog_log_head_index", "Index of the last frame that was committed.", cluster.position.index);
        if let Ok(applied) = self.store.applied() {
            page.gauge("swarmlog_log_applied_index", "Index up to which the log was applied.", applied.index);
        }
        page.gauge("swarmlog_log_size_bytes", "Size of the log's files.", files_bytes(&state_dir.join("raft")));
        if let Ok(bytes) = self.store.table_bytes(Table::History) {
            page.gauge("swarmlog_history_size_bytes", "Size of history, which is kept permanently.", bytes);
        }
    }

    fn checkpoint(&self, page: &mut Page) {
        let index = self.measures.checkpoint.load(Ordering::Relaxed);
        page.gauge("swarmlog_checkpoint_index", "Index of the newest checkpoint; 0 before the first.", index);
        if let Some(time) = self.time_of(index) {
            page.gauge(
                "swarmlog_checkpoint_timestamp_seconds",
                "Log time of the newest checkpoint, as Unix time.",
                unix_seconds(time),
            );
        }
    }

    /// The log time of a frame. Read errors are not reported here, but by a start and by the verification.
    fn time_of(&self, index: u64) -> Option<Timestamp> {
        let (found, bytes) = self.store.frame_before(index.checked_add(1)?).ok()??;
        let frame = codec::decode_frame(&bytes).ok().filter(|_| found == index)?;
        Some(frame.header.log_time)
    }

    fn verification(&self, page: &mut Page) {
        let Ok(Some(pass)) = self.store.scrub_progress().map(|progress| progress?.last_pass()) else { return };
        page.gauge(
            "swarmlog_history_verified_timestamp_seconds",
            "When the last complete verification of history started, as Unix time.",
            unix_seconds(pass.started_at()),
        );
        page.gauge(
            "swarmlog_history_damaged_places",
            "Damaged places found and not healed by the last complete verification of history.",
            pass.findings,
        );
        page.gauge(
            "swarmlog_history_healed_places",
            "Damaged places healed from another manager by the last complete verification of history.",
            pass.healed,
        );
    }

    /// A missing file was removed by an operator, or its directory is not mounted.
    fn archives(&self, page: &mut Page) {
        let Ok(archives) = self.store.archives() else { return };
        let absent = archives.iter().filter(|archived| !self.store.is_there(archived)).count();
        let frames: u64 = archives.iter().map(|archived| archived.frames).sum();
        let bytes: u64 = archives.iter().map(|archived| archived.file_bytes).sum();
        page.gauge("swarmlog_archived_frames", "Frames of history that are in archives.", frames);
        page.gauge("swarmlog_archives_size_bytes", "Size of the files of archives.", bytes);
        page.gauge("swarmlog_archives_absent", "Archives whose file is missing.", absent);
        let failures = self.measures.archive_failures.load(Ordering::Relaxed);
        let help = "How often history could not be archived, since this manager started.";
        page.counters("swarmlog_archive_failures_total", help, [(String::new(), failures)]);
        let failed_at = self.measures.archive_failed_at.load(Ordering::Relaxed);
        if failed_at > 0 {
            let help = "When archiving history last failed, as Unix time; the reason is in the log.";
            page.gauge("swarmlog_archive_failed_timestamp_seconds", help, failed_at);
        }
    }

    fn turns(&self, page: &mut Page) {
        let measures = self.measures;
        page.histogram("swarmlog_turn_duration_seconds", "Duration of turns with work.", &measures.turns);
        page.histogram(
            "swarmlog_log_write_duration_seconds",
            "Duration of writes of the log, including the sync.",
            &measures.writes,
        );
        let waiting = measures.inbox.load(Ordering::Relaxed);
        page.gauge("swarmlog_inbox_commands", "Commands that wait for a turn.", waiting);
        let commands = measures.commands().into_iter().map(|((command, outcome), count)| {
            (format!("{{command=\"{command}\",result=\"{}\"}}", outcome.name()), count)
        });
        page.counters("swarmlog_commands_total", "Commands, by outcome.", commands);
        let sessions = measures.sessions.load(Ordering::Relaxed);
        page.gauge("swarmlog_sessions", "Sessions of nodes that are open at this manager.", sessions);
    }

    fn peers(&self, page: &mut Page) {
        let peers = self.measures.peers();
        let of_each = |what: fn(&PeerCounts) -> &AtomicU64| {
            let count = |(node, counts): (&String, &Arc<PeerCounts>)| {
                (label("peer", node), what(counts).load(Ordering::Relaxed))
            };
            peers.iter().map(count).collect::<Vec<_>>()
        };
        page.counters(
            "swarmlog_peer_messages_total",
            "Messages sent to other managers.",
            of_each(|counts| &counts.sent),
        );
        page.counters("swarmlog_peer_bytes_total", "Bytes sent to other managers.", of_each(|counts| &counts.bytes));
        page.counters(
            "swarmlog_peer_messages_dropped_total",
            "Messages for other managers that were dropped: too many waited, or there was no connection.",
            of_each(|counts| &counts.dropped),
        );
    }

    fn connections(&self, page: &mut Page) {
        let of_each = |what: fn([u64; 3]) -> u64| {
            let connections = &self.measures.connections;
            ConnectionClass::ALL.map(|class| (label("class", class.name()), what(connections.read(class))))
        };
        page.gauges("swarmlog_connections", "Open connections, by class of client.", of_each(|[open, ..]| open));
        page.counters(
            "swarmlog_connections_refused_total",
            "Connections refused at the limit.",
            of_each(|[_, refused, _]| refused),
        );
        page.counters(
            "swarmlog_connections_replaced_total",
            "Connections closed to make room for a newer one.",
            of_each(|[.., replaced]| replaced),
        );
    }
}

fn objects(page: &mut Page, cluster: &Cluster) {
    let nodes = [Liveness::Unknown, Liveness::Ready, Liveness::Disconnected, Liveness::Down]
        .map(|liveness| (label("state", &format!("{liveness:?}").to_ascii_lowercase()), cluster.node_count(liveness)));
    page.gauges("swarmlog_nodes", "Nodes, by their state.", nodes);
    let tasks = cluster.tasks_by_state().map(|(state, count)| (label("state", &state.name()), count));
    page.gauges("swarmlog_tasks", "Tasks, by their state.", tasks);
    page.gauge("swarmlog_services", "Services.", cluster.services.len());
    let updating = cluster.count_updates(UpdateState::is_open);
    page.gauge("swarmlog_services_updating", "Services with an update in progress.", updating);
    let paused = cluster.count_updates(UpdateState::is_paused);
    page.gauge("swarmlog_services_update_paused", "Services whose update paused after failures.", paused);
}

fn unix_seconds(time: Timestamp) -> f64 {
    time.unix_ns() as f64 / 1e9
}

/// The total size of the files in a directory.
fn files_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LogStore, MemoryDisk, MemoryStore, Scrub};
    use crate::manager::core::tests::lead;
    use crate::manager::driver;

    #[test]
    fn a_manager_tells_how_old_its_checkpoint_and_its_verification_are() {
        let store: Arc<dyn LogStore> = Arc::new(MemoryStore::open(&MemoryDisk::default()).expect("a log"));
        let leader = lead(&store, 55);
        let (checkpoint, services) = (leader.checkpoint(), leader.cluster().services.len());
        let head = store.applied().expect("a log").frame.expect("frames").index;
        assert!(checkpoint > 0 && checkpoint < head && services == 0, "{checkpoint} of {head}");
        let mut scrub = Scrub::begin(Timestamp::from_unix_ns(7_500_000_000), None);
        while !scrub.is_finished() {
            scrub.step(&*store);
        }
        store.save_scrub_progress(scrub.progress()).expect("saved");
        let (core, thread) = driver::spawn(leader, Arc::clone(&store)).expect("a thread");
        core.measures().note_archive_failure(Timestamp::from_unix_ns(8_000_000_000));
        core.measures().note_archive_failure(Timestamp::from_unix_ns(9_500_000_000));
        let mut page = Page::default();
        let manager = ManagerPage { core: &core, store: &*store, measures: &core.measures() };
        manager.write(&mut page, Path::new("/nowhere"));
        let page = page.finish();
        let time = manager.time_of(checkpoint).map(unix_seconds).expect("the checkpoint's last frame");
        for line in [
            format!("swarmlog_checkpoint_index {checkpoint}"),
            format!("swarmlog_checkpoint_timestamp_seconds {time}"),
            "swarmlog_history_verified_timestamp_seconds 7.5".to_owned(),
            "swarmlog_history_damaged_places 0".to_owned(),
            "swarmlog_history_healed_places 0".to_owned(),
            "swarmlog_archived_frames 0".to_owned(),
            "swarmlog_archives_size_bytes 0".to_owned(),
            "swarmlog_archives_absent 0".to_owned(),
            "swarmlog_archive_failures_total 2".to_owned(),
            "swarmlog_archive_failed_timestamp_seconds 9".to_owned(),
            "swarmlog_nodes{state=\"unknown\"} 1".to_owned(),
            "swarmlog_connections{class=\"member\"} 0".to_owned(),
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
        let bytes = page.lines().find_map(|line| line.strip_prefix("swarmlog_history_size_bytes "));
        assert!(bytes.and_then(|bytes| bytes.parse::<u64>().ok()).is_some_and(|bytes| bytes > 1_000), "{page}");
        core.stop();
        thread.join().expect("no panic").expect("a good end");
    }
}
