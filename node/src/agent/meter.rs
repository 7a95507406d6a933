//! What tasks of autoscaled services use, averaged over the time that their service says. Managers say of which tasks they want to know
//! it with each answer to a heartbeat, and each heartbeat says it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use events::{TaskId, Timestamp};
use wire::v1::{TaskUse, UseOrder};

/// Tasks that are measured at most: 1,000, of which an engine is asked one by one.
pub const TASKS_MAX: usize = 1_000;
/// Samples that a window is divided into: a task is not read more often, and costs about half a KiB.
const SAMPLES: u32 = 16;

/// Readings of the tasks that are wanted.
#[derive(Debug, Default)]
pub struct Meter {
    tasks: BTreeMap<TaskId, Measured>,
}

#[derive(Debug, Default)]
struct Measured {
    order: Order,
    samples: VecDeque<Sample>,
}

/// Over which time a task is measured, and what the whole is.
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
    /// From now on these tasks are measured and no others.
    pub fn order(&mut self, orders: &[UseOrder]) {
        let mut before = std::mem::take(&mut self.tasks);
        let wanted = orders.iter().flat_map(|order| {
            let UseOrder { tasks, window_ns, nano_cpus, memory_bytes } = order;
            let window = Duration::from_nanos(*window_ns);
            let order = Order { window, nano_cpus: *nano_cpus, memory_bytes: *memory_bytes };
            tasks.iter().map(move |task| (*task, order))
        });
        for (task, order) in wanted.take(TASKS_MAX) {
            // A reading is of use whatever is made of it.
            let samples = before.remove(&task).map(|known| known.samples).unwrap_or_default();
            self.tasks.insert(task, Measured { order, samples });
        }
    }

    /// The tasks whose last reading is old enough for another one.
    pub fn due(&self, now: Timestamp) -> Vec<TaskId> {
        self.tasks.iter().filter(|(_, measured)| measured.is_due(now)).map(|(task, _)| *task).collect()
    }

    /// Takes a reading: CPU time since the start of the task, and its memory.
    pub fn note(&mut self, task: TaskId, at: Timestamp, cpu_ns: u64, memory_bytes: u64) {
        if let Some(measured) = self.tasks.get_mut(&task) {
            measured.note(Sample { at, cpu_ns, memory_bytes });
        }
    }

    /// What is known of each task that was measured for as long as it has to be.
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
        // One that is as old as the window stays, to measure from.
        while self.samples.get(1).is_some_and(|second| sample.at.since(second.at) >= self.order.window) {
            self.samples.pop_front();
        }
    }

    /// CPU time and memory in thousandths of the whole, once the window is full; nothing if the last reading is too old.
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

/// Thousandths of the whole; nothing where there is no whole.
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

    /// Half a processor and `memory` bytes, read every five seconds from one to another.
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
        // What nobody reads any more is not known either.
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
        // From here on it does nothing.
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
        // A counter that begins again, and a clock that goes back.
        meter.note(task(), at(65), 0, 0);
        assert_eq!(meter.uses(at(65)), []);
        meter.note(task(), at(3), 0, 0);
        assert_eq!(meter.uses(at(65)), []);
        let many: Vec<TaskId> = (0..TASKS_MAX as u128 + 5).map(TaskId::from_bits).collect();
        meter.order(&[order(many)]);
        assert_eq!(meter.due(at(65)).len(), TASKS_MAX);
    }
}
