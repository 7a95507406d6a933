//! Resource usage of the tasks of autoscaled services, averaged over the service's window. Managers request tasks in each
//! heartbeat response, and the agent reports their usage with each heartbeat.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use events::{TaskId, Timestamp};
use wire::v1::{TaskUse, UseOrder};

/// Maximum number of measured tasks: 1,000, because the engine is asked for each of them separately.
pub const TASKS_MAX: usize = 1_000;
/// Samples per window: no task is read more often, and each costs about half a KiB.
const SAMPLES: u32 = 16;

/// Readings of the requested tasks.
#[derive(Debug, Default)]
pub struct Meter {
    tasks: BTreeMap<TaskId, Measured>,
}

#[derive(Debug, Default)]
struct Measured {
    order: Order,
    samples: VecDeque<Sample>,
}

/// The window over which a task is measured, and the whole that its usage is a share of.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Order {
    window: Duration,
    nano_cpus: u64,
    memory_bytes: u64,
}

/// A reading.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Timestamp,
    cpu_ns: u64,
    memory_bytes: u64,
}

impl Meter {
    /// Measures these tasks and no others from now on.
    pub fn order(&mut self, orders: &[UseOrder]) {
        let mut before = std::mem::take(&mut self.tasks);
        let wanted = orders.iter().flat_map(|order| {
            let UseOrder { tasks, window_ns, nano_cpus, memory_bytes } = order;
            let window = Duration::from_nanos(*window_ns);
            let order = Order { window, nano_cpus: *nano_cpus, memory_bytes: *memory_bytes };
            tasks.iter().map(move |task| (*task, order))
        });
        for (task, order) in wanted.take(TASKS_MAX) {
            // Samples stay valid when the window or the whole changes.
            let samples = before.remove(&task).map(|known| known.samples).unwrap_or_default();
            self.tasks.insert(task, Measured { order, samples });
        }
    }

    /// The tasks that are due for another reading.
    pub fn due(&self, now: Timestamp) -> Vec<TaskId> {
        self.tasks.iter().filter(|(_, measured)| measured.is_due(now)).map(|(task, _)| *task).collect()
    }

    /// Adds a reading: CPU time since the task started, and its memory.
    pub fn note(&mut self, task: TaskId, at: Timestamp, cpu_ns: u64, memory_bytes: u64) {
        if let Some(measured) = self.tasks.get_mut(&task) {
            measured.note(Sample { at, cpu_ns, memory_bytes });
        }
    }

    /// The average usage of each task that was measured for a full window.
    pub fn uses(&self, now: Timestamp) -> Vec<TaskUse> {
        let known = self.tasks.iter().filter_map(|(task, measured)| Some((*task, measured.average(now)?)));
        known.map(|(task, (cpu_permille, memory_permille))| TaskUse { task, cpu_permille, memory_permille }).collect()
    }
}

impl Measured {
    fn is_due(&self, now: Timestamp) -> bool {
        self.samples.back().is_none_or(|last| now.since(last.at) >= self.order.window / SAMPLES)
    }

    fn note(&mut self, sample: Sample) {
        let is_backward = |last: &Sample| last.at >= sample.at || last.cpu_ns > sample.cpu_ns;
        if self.samples.back().is_some_and(is_backward) {
            self.samples.clear();
        }
        self.samples.push_back(sample);
        // The latest sample at least as old as the window is kept as the start of the interval.
        while self.samples.get(1).is_some_and(|second| sample.at.since(second.at) >= self.order.window) {
            self.samples.pop_front();
        }
    }

    /// CPU and memory use in thousandths of the whole, once the window is full; `None` if the last reading is too old.
    fn average(&self, now: Timestamp) -> Option<(Option<u32>, Option<u32>)> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        let covered = last.at.since(first.at);
        if covered < self.order.window || now.since(last.at) > self.order.window {
            return None;
        }
        let passed_ns = u128::from(u64::try_from(covered.as_nanos()).ok()?).max(1);
        let cpus = u128::from(last.cpu_ns.saturating_sub(first.cpu_ns)) * 1_000_000_000 / passed_ns;
        let bytes: u128 = self.samples.iter().map(|sample| u128::from(sample.memory_bytes)).sum();
        let bytes = bytes / self.samples.len().max(1) as u128;
        Some((permille(cpus, self.order.nano_cpus), permille(bytes, self.order.memory_bytes)))
    }
}

/// Thousandths of the whole; `None` if the whole is 0.
fn permille(part: u128, whole: u64) -> Option<u32> {
    let permille = (part * 1_000).checked_div(u128::from(whole))?;
    Some(u32::try_from(permille).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    fn task() -> TaskId {
        TaskId::from_bits(1)
    }

    fn order(tasks: Vec<TaskId>) -> UseOrder {
        UseOrder { tasks, window_ns: 60_000_000_000, nano_cpus: 500_000_000, memory_bytes: 1_000 }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default() + Duration::from_secs(seconds)
    }

    /// Half a processor and `memory` bytes, read every five seconds within this range.
    fn read(meter: &mut Meter, seconds: std::ops::RangeInclusive<u64>, memory: u64) {
        seconds.step_by(5).for_each(|second| meter.note(task(), at(second), second * 500_000_000, memory));
    }

    #[test]
    fn a_task_is_known_once_it_was_measured_for_a_whole_window() {
        let mut meter = Meter::default();
        meter.order(&[order(vec![task()])]);
        read(&mut meter, 0..=55, 800);
        assert_eq!(meter.uses(at(55)), []);
        read(&mut meter, 60..=60, 800);
        let known = TaskUse { task: task(), cpu_permille: Some(1_000), memory_permille: Some(800) };
        assert_eq!(meter.uses(at(60)), [known]);
        // A task that is no longer read has no average either.
        assert_eq!(meter.uses(at(121)), []);
        read(&mut meter, 65..=600, 800);
        assert_eq!(meter.uses(at(600)), [known]);
        assert!(meter.tasks[&task()].samples.len() <= 2 + SAMPLES as usize, "{}", meter.tasks[&task()].samples.len());
        assert_eq!((meter.due(at(603)), meter.due(at(604))), (vec![], vec![task()]));
        meter.order(&[]);
        assert_eq!((meter.uses(at(600)), meter.due(at(900))), (vec![], vec![]));
    }

    #[test]
    fn what_is_averaged_is_what_was_used_within_the_window() {
        let mut meter = Meter::default();
        meter.order(&[order(vec![task()])]);
        read(&mut meter, 0..=300, 200);
        // From here on the task is idle.
        (305..=330).step_by(5).for_each(|second| meter.note(task(), at(second), 150_000_000_000, 200));
        assert_eq!(meter.uses(at(330))[0].cpu_permille, Some(500));
        (335..=360).step_by(5).for_each(|second| meter.note(task(), at(second), 150_000_000_000, 600));
        let uses = meter.uses(at(360))[0];
        assert_eq!(uses.cpu_permille, Some(0));
        assert!((350..450).contains(&uses.memory_permille.unwrap_or_default()), "{uses:?}");
    }

    #[test]
    fn nothing_is_made_of_readings_that_cannot_be() {
        let mut meter = Meter::default();
        meter.order(&[UseOrder { nano_cpus: 0, memory_bytes: 0, ..order(vec![task()]) }]);
        read(&mut meter, 0..=60, u64::MAX);
        assert_eq!(meter.uses(at(60)), [TaskUse { task: task(), cpu_permille: None, memory_permille: None }]);
        // A counter that restarts, and a clock that goes back.
        meter.note(task(), at(65), 0, 0);
        assert_eq!(meter.uses(at(65)), []);
        meter.note(task(), at(3), 0, 0);
        assert_eq!(meter.uses(at(65)), []);
        let many: Vec<TaskId> = (0..TASKS_MAX as u128 + 5).map(TaskId::from_bits).collect();
        meter.order(&[order(many)]);
        assert_eq!(meter.due(at(65)).len(), TASKS_MAX);
    }
}
