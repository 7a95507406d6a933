//! Heartbeats that sessions receive: a table that every session writes, and that a turn reads once. Heartbeats never wait in the
//! queue of commands, and each carries its time of arrival, so that a slow disk or a long turn makes no node look silent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use events::{NodeId, SessionId, Timestamp};
use wire::v1::TaskUse;

use crate::agent::meter::TASKS_MAX;

/// How often the serving threads report that they are responsive.
pub const LISTEN_PERIOD: Duration = Duration::from_millis(100);
/// Time without a report from the serving threads after which this manager counts as unresponsive: heartbeats may have been sent
/// and not been read. Ten times the period, so that a busy machine does not count as unresponsive.
pub const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(1);

/// The table; clones share it. Its size is bounded by the number of members, since only they are recorded.
#[derive(Debug, Clone, Default)]
pub struct HeartbeatTable(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    beats: BTreeMap<NodeId, (SessionId, Instant)>,
    /// Resource use of tasks, from the last heartbeat of their node.
    uses: BTreeMap<NodeId, (SessionId, Vec<TaskUse>)>,
    /// When the serving threads last reported; `None` before their first report.
    last_report: Option<Instant>,
    /// The last period in which they did not; one is enough, since each is read within a tick.
    unresponsive: Option<(Instant, Instant)>,
}

/// What was received since the table was last read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NewHeartbeats {
    /// The last heartbeat of each node: its session, and the time of arrival.
    pub beats: Vec<(NodeId, SessionId, Timestamp)>,
    /// Resource use of the tasks of nodes.
    pub uses: Vec<(NodeId, SessionId, Vec<TaskUse>)>,
    /// A period in which no heartbeat could be received.
    pub unresponsive: Option<(Timestamp, Timestamp)>,
}

impl HeartbeatTable {
    /// Records a heartbeat that arrived at this instant.
    pub fn note(&self, node: NodeId, session: SessionId, at: Instant) {
        self.table().beats.insert(node, (session, at));
    }

    /// Records the resource use of a node's tasks. Entries above the limit per node are dropped.
    pub fn note_uses(&self, node: NodeId, session: SessionId, mut uses: Vec<TaskUse>) {
        uses.truncate(TASKS_MAX);
        if !uses.is_empty() {
            self.table().uses.insert(node, (session, uses));
        }
    }

    /// The serving threads are responsive: they have read every heartbeat that arrived before this instant.
    pub fn listen(&self, at: Instant) {
        self.table().listen(at);
    }

    /// Takes what was received. `now` is the log's time at the instant `at`.
    pub(crate) fn take(&self, at: Instant, now: Timestamp) -> NewHeartbeats {
        let mut table = self.table();
        // Threads that are stalled now may have missed every heartbeat since their last report.
        if table.last_report.is_some() {
            table.close_gap(at);
        }
        let log_time = |then: Instant| now - at.saturating_duration_since(then);
        let beats = std::mem::take(&mut table.beats).into_iter();
        let uses = std::mem::take(&mut table.uses).into_iter();
        NewHeartbeats {
            uses: uses.map(|(node, (session, uses))| (node, session, uses)).collect(),
            beats: beats.map(|(node, (session, then))| (node, session, log_time(then))).collect(),
            unresponsive: table.unresponsive.take().map(|(from, to)| (log_time(from), log_time(to))),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn listen(&mut self, at: Instant) {
        self.close_gap(at);
        self.last_report = Some(at);
    }

    /// Records the time since the serving threads last reported, if it was too long.
    fn close_gap(&mut self, at: Instant) {
        let Some(last_report) =
            self.last_report.filter(|last_report| at.saturating_duration_since(*last_report) >= UNRESPONSIVE_AFTER)
        else {
            return;
        };
        let from = self.unresponsive.map_or(last_report, |(from, _)| from.min(last_report));
        self.unresponsive = Some((from, at));
        self.last_report = Some(at);
    }
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    fn ids() -> (NodeId, SessionId) {
        (NodeId::from_bits(1), SessionId::from_bits(2))
    }

    #[test]
    fn a_heartbeat_has_the_time_at_which_it_came_however_late_it_is_read() {
        let (heartbeats, (node, session), start) = (HeartbeatTable::default(), ids(), Instant::now());
        let seconds = Duration::from_secs;
        heartbeats.listen(start);
        for passed in 1..=60 {
            heartbeats.listen(start + UNRESPONSIVE_AFTER / 2 * passed);
        }
        heartbeats.note(node, session, start + seconds(10));
        heartbeats.note(node, session, start + seconds(28));
        let now = Timestamp::from_unix_ns(0) + seconds(1_000);
        let news = heartbeats.take(start + seconds(30), now);
        assert_eq!(news, NewHeartbeats { beats: vec![(node, session, now - seconds(2))], ..NewHeartbeats::default() });
        assert_eq!(heartbeats.take(start + seconds(30), now), NewHeartbeats::default(), "each is read once");
    }

    #[test]
    fn only_a_stall_of_the_serving_threads_counts_as_unresponsive() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let now = Timestamp::from_unix_ns(0) + seconds(1_000);
        let at = |second| now - seconds(30) + seconds(second);
        // When the threads reported, when the table was read, and the unresponsive period that was found.
        let table = [
            (vec![], 30, None),
            (vec![30], 30, None),
            (vec![0, 20, 30], 30, Some((0, 30))),
            (vec![10], 30, Some((10, 30))),
            (vec![10, 30], 30, Some((10, 30))),
        ];
        for (last_report, read, expected) in table {
            let heartbeats = HeartbeatTable::default();
            last_report.iter().for_each(|second| heartbeats.listen(start + seconds(*second)));
            let unresponsive = heartbeats.take(start + seconds(read), now).unresponsive;
            assert_eq!(unresponsive, expected.map(|(from, to)| (at(from), at(to))), "{last_report:?}");
            assert_eq!(heartbeats.take(start + seconds(read), now).unresponsive, None, "and it is reported once");
        }
    }
}
