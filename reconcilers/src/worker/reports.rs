//! A node's reports to the managers: the latest status of each task, until it is acknowledged.
//!
//! Bounded without a limit of its own, since it holds one entry for each assigned task. One batch is in flight at a time; it is
//! repeated unchanged until it is acknowledged or the session ends, so that the managers can recognize a repetition by its
//! sequence number.

use std::collections::BTreeMap;

use events::{TaskId, TaskPhase, TaskStatus};

/// Maximum number of reports in one batch: about a fifth of one frame of the log, so that nodes share a turn.
const BATCH_REPORTS_MAX: usize = 200;

/// Approximate limit of the bytes of statuses in one batch, after the first: several commands have to fit into a frame.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// Reports that are sent together.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Increases with every batch of a session, from 1.
    pub sequence: u64,
    /// The tasks and their statuses.
    pub reports: Vec<(TaskId, TaskStatus)>,
}

/// The reports of one node.
#[derive(Debug, Default)]
pub struct Reports {
    tasks: BTreeMap<TaskId, Latest>,
    open: bool,
    sequence: u64,
    in_flight: Option<Batch>,
}

#[derive(Debug)]
struct Latest {
    status: TaskStatus,
    pending: bool,
}

impl Reports {
    /// Records the status of a task. An unsent status that it replaces is included as a phase.
    pub fn put(&mut self, task: TaskId, status: TaskStatus) {
        let status = match self.tasks.remove(&task) {
            Some(unsent) if unsent.pending => superseded(unsent.status, status),
            Some(_) | None => status,
        };
        self.tasks.insert(task, Latest { status, pending: true });
    }

    /// The task no longer belongs to this node: it is not reported.
    pub fn forget(&mut self, task: TaskId) {
        self.tasks.remove(&task);
    }

    /// A session is ready for reports. Its manager may have missed earlier ones: everything is reported again.
    pub fn open(&mut self) {
        self.close();
        self.open = true;
        for latest in self.tasks.values_mut() {
            latest.pending = true;
        }
    }

    /// The session has ended. The batch in flight may be lost, so it is reported again in the next one.
    pub fn close(&mut self) {
        self.open = false;
        self.sequence = 0;
        for (task, lost) in self.in_flight.take().into_iter().flat_map(|batch| batch.reports) {
            let Some(latest) = self.tasks.get_mut(&task) else { continue };
            let newer = std::mem::take(&mut latest.status);
            latest.status = if latest.pending { superseded(lost, newer) } else { lost };
            latest.pending = true;
        }
    }

    /// The batch to send: the one in flight, or what has been recorded since. `None` while no session is ready.
    pub fn batch(&mut self) -> Option<Batch> {
        if !self.open || self.in_flight.is_some() {
            return self.in_flight.clone();
        }
        let mut bytes = 0;
        let mut fits = |latest: &Latest| {
            let first = bytes == 0;
            bytes += weight(&latest.status);
            first || bytes <= BATCH_BYTES_MAX
        };
        let pending = self.tasks.iter_mut().filter(|(_, latest)| latest.pending).take(BATCH_REPORTS_MAX);
        let pending = pending.take_while(|(_, latest)| fits(latest));
        let reports: Vec<_> = pending.map(|(task, latest)| (*task, latest.take())).collect();
        if reports.is_empty() {
            return None;
        }
        self.sequence += 1;
        self.in_flight = Some(Batch { sequence: self.sequence, reports });
        self.in_flight.clone()
    }

    /// The managers have committed this batch.
    pub fn acknowledged(&mut self, sequence: u64) {
        self.in_flight.take_if(|batch| batch.sequence == sequence);
    }
}

impl Latest {
    /// The status to send; its phases, which are reported once, are removed from the stored one.
    fn take(&mut self) -> TaskStatus {
        self.pending = false;
        let kept = TaskStatus { phases: Vec::new(), ..self.status.clone() };
        std::mem::replace(&mut self.status, kept)
    }
}

/// The approximate size of an encoded status.
fn weight(status: &TaskStatus) -> usize {
    const REST: usize = 256;
    const PORT: usize = 64;
    let container = status.container.as_ref().map_or(0, |container| {
        let warnings: usize = container.warnings.iter().map(String::len).sum();
        container.ports.len() * PORT + warnings
    });
    REST + status.message.len() + status.error.len() + container
}

/// The newer status, including everything that the older, unsent one would have reported.
fn superseded(older: TaskStatus, newer: TaskStatus) -> TaskStatus {
    let mut phases = older.phases;
    if older.state != newer.state {
        phases.push(TaskPhase { state: older.state, at: older.at });
    }
    phases.extend(newer.phases);
    TaskStatus { phases, ..newer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use events::{Id, TaskState, Timestamp};

    fn task(number: u128) -> TaskId {
        TaskId::from_bits(number)
    }

    fn at(state: TaskState, ns: i64) -> TaskStatus {
        TaskStatus { state: state.into(), at: Some(Timestamp::from_unix_ns(ns)), ..TaskStatus::default() }
    }

    fn phases(status: &TaskStatus) -> Vec<TaskState> {
        status.phases.iter().map(TaskPhase::state).collect()
    }

    #[test]
    fn nothing_is_sent_before_a_session_is_ready() {
        let mut reports = Reports::default();
        reports.put(task(1), at(TaskState::Running, 1));
        assert_eq!(reports.batch(), None);
        reports.open();
        assert_eq!(reports.batch().expect("a batch").reports, [(task(1), at(TaskState::Running, 1))]);
    }

    #[test]
    fn a_batch_is_repeated_unchanged_until_it_is_acknowledged() {
        let mut reports = Reports::default();
        reports.open();
        reports.put(task(1), at(TaskState::Preparing, 1));
        let first = reports.batch().expect("a batch");
        reports.put(task(1), at(TaskState::Running, 2));
        assert_eq!(reports.batch(), Some(first.clone()));
        reports.acknowledged(first.sequence + 1);
        assert_eq!(reports.batch(), Some(first.clone()), "only its own acknowledgement counts");
        reports.acknowledged(first.sequence);
        let second = reports.batch().expect("what came meanwhile");
        assert_eq!(second.sequence, first.sequence + 1);
        assert_eq!(second.reports, [(task(1), at(TaskState::Running, 2))], "an acknowledged state is no phase");
        reports.acknowledged(second.sequence);
        assert_eq!(reports.batch(), None);
    }

    #[test]
    fn an_unsent_status_becomes_a_phase_of_the_next() {
        let mut reports = Reports::default();
        reports.put(task(1), at(TaskState::Preparing, 1));
        reports.put(task(1), TaskStatus { error: "engine away".into(), ..at(TaskState::Preparing, 1) });
        let running = TaskStatus {
            phases: vec![TaskPhase { state: TaskState::Starting.into(), at: None }],
            ..at(TaskState::Running, 3)
        };
        reports.put(task(1), running);
        reports.open();
        let batch = reports.batch().expect("a batch");
        assert_eq!(phases(&batch.reports[0].1), [TaskState::Preparing, TaskState::Starting]);
        assert_eq!(batch.reports[0].1.phases[0].at, Some(Timestamp::from_unix_ns(1)));
    }

    #[test]
    fn a_batch_lost_with_its_session_is_sent_in_the_next_one() {
        let mut reports = Reports::default();
        reports.open();
        reports.put(task(1), at(TaskState::Starting, 1));
        reports.put(task(2), at(TaskState::Running, 1));
        let lost = reports.batch().expect("a batch");
        assert_eq!(lost.reports.len(), 2);
        reports.put(task(1), at(TaskState::Running, 2));
        reports.close();
        assert_eq!(reports.batch(), None);
        reports.open();
        let batch = reports.batch().expect("a batch");
        assert_eq!(batch.sequence, 1, "sequences belong to a session");
        assert_eq!(phases(&batch.reports[0].1), [TaskState::Starting], "the lost report is a phase of the newer");
        assert_eq!(batch.reports[1], (task(2), at(TaskState::Running, 1)));
    }

    #[test]
    fn a_new_session_hears_everything_that_is_still_assigned() {
        let mut reports = Reports::default();
        reports.open();
        let passed = TaskPhase { state: TaskState::Starting.into(), at: None };
        reports.put(task(1), TaskStatus { phases: vec![passed], ..at(TaskState::Running, 1) });
        reports.put(task(2), at(TaskState::Complete, 1));
        let first = reports.batch().expect("a batch");
        reports.acknowledged(first.sequence);
        reports.forget(task(2));
        reports.open();
        let again = reports.batch().expect("a batch");
        assert_eq!(again.reports, [(task(1), at(TaskState::Running, 1))], "phases are reported once");
    }

    #[test]
    fn a_batch_is_bounded_and_the_rest_follows() {
        let mut reports = Reports::default();
        reports.open();
        for number in 0..=BATCH_REPORTS_MAX as u128 {
            reports.put(task(number), at(TaskState::Running, 1));
        }
        let first = reports.batch().expect("a batch");
        assert_eq!(first.reports.len(), BATCH_REPORTS_MAX);
        reports.acknowledged(first.sequence);
        assert_eq!(reports.batch().expect("the rest").reports.len(), 1);
    }

    #[test]
    fn a_batch_of_long_reports_is_bounded_by_their_bytes() {
        let mut reports = Reports::default();
        reports.open();
        for number in 0..3 {
            let error = "x".repeat(BATCH_BYTES_MAX - 2 * 256);
            reports.put(task(number), TaskStatus { error, ..at(TaskState::Failed, 1) });
        }
        for sequence in 1..=3 {
            assert_eq!(reports.batch().expect("a batch").reports.len(), 1);
            reports.acknowledged(sequence);
        }
        assert_eq!(reports.batch(), None);
    }
}
