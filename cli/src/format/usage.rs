//! Resource usage of tasks: the rates between two readings, as rows of a table or JSON objects.

use std::collections::BTreeMap;
use std::time::Duration;

use events::{TaskId, Timestamp};
use serde::Serialize;
use wire::v1::{LogSource, TaskUsage};

use super::table::Table;
use super::view::View;
use crate::values::size;

/// Shown for a value that is not known (yet).
const UNKNOWN: &str = "--";
/// A task without readings for this long, while others have some, no longer runs or is not reachable.
const STALE: Duration = Duration::from_secs(5);

/// The newest readings of tasks.
#[derive(Debug, Default)]
pub struct Readings {
    rows: BTreeMap<TaskId, Row>,
}

#[derive(Debug)]
struct Row {
    source: LogSource,
    last: Option<TaskUsage>,
    /// Thousandths of a processor between the last two readings.
    milli_cpus: Option<u64>,
}

/// One task as JSON.
#[derive(Debug, Serialize)]
pub struct JsonRow<'a> {
    name: &'a str,
    service: &'a str,
    node: &'a str,
    /// 100 is one processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<f64>,
    #[serde(flatten)]
    usage: &'a TaskUsage,
}

impl Readings {
    /// Records the name of a task.
    pub fn learn(&mut self, source: LogSource) {
        self.rows.entry(source.task).or_insert(Row { source, last: None, milli_cpus: None });
    }

    /// Takes a reading. One that is not newer than the last gives no rate.
    pub fn take(&mut self, reading: TaskUsage) {
        let Some(row) = self.rows.get_mut(&reading.task) else { return };
        if let Some(last) = &row.last {
            let passed_ns = u64::try_from(reading.at.since(last.at).as_nanos()).unwrap_or(u64::MAX);
            let used_ns = reading.cpu_ns.saturating_sub(last.cpu_ns);
            row.milli_cpus = used_ns.saturating_mul(1_000).checked_div(passed_ns);
        }
        row.last = Some(reading);
    }

    /// Forgets tasks without recent readings.
    pub fn forget_stale(&mut self) {
        let newest = self.rows.values().filter_map(Row::at).max();
        let is_fresh = |row: &Row| row.at().is_none_or(|at| newest.is_some_and(|newest| newest.since(at) < STALE));
        self.rows.retain(|_, row| is_fresh(row));
    }

    /// The tasks with readings, by service and slot.
    fn sorted(&self) -> Vec<(&Row, &TaskUsage)> {
        let mut rows: Vec<_> = self.rows.values().filter_map(|row| Some((row, row.last.as_ref()?))).collect();
        let place = |row: &Row| {
            let LogSource { service_name, slot, node_hostname, task, .. } = &row.source;
            (service_name.clone(), *slot, node_hostname.clone(), *task)
        };
        rows.sort_by_key(|(row, _)| place(row));
        rows
    }

    /// The table of `task stats`.
    pub fn table(&self, view: View) -> String {
        let mut table =
            Table::new(&["NAME", "NODE", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"]);
        for (row, usage) in self.sorted() {
            let limit = usage.memory_limit_bytes.filter(|limit| *limit > 0);
            table.row([
                row.name(view.ids),
                if view.ids { row.source.node.to_string() } else { row.source.node_hostname.clone() },
                row.milli_cpus.map_or_else(|| UNKNOWN.to_owned(), |milli| percent(u128::from(milli) * 10)),
                format!("{} / {}", size::show(usage.memory_bytes), bytes(limit)),
                limit.map_or_else(|| UNKNOWN.to_owned(), |limit| percent(share(usage.memory_bytes, limit))),
                pair(usage.network_received_bytes, usage.network_sent_bytes),
                pair(usage.block_read_bytes, usage.block_written_bytes),
                usage.pids.map_or_else(|| UNKNOWN.to_owned(), |pids| pids.to_string()),
            ]);
        }
        table.render(view.width)
    }

    /// The same as JSON.
    pub fn json(&self) -> Vec<JsonRow<'_>> {
        let row = |(row, usage)| {
            let Row { source, milli_cpus, .. }: &Row = row;
            let cpu_percent = milli_cpus.map(|milli| milli as f64 / 10.0);
            let (service, node) = (&source.service_name, &source.node_hostname);
            JsonRow { name: &source.name, service, node, cpu_percent, usage }
        };
        self.sorted().into_iter().map(row).collect()
    }
}

impl Row {
    fn at(&self) -> Option<Timestamp> {
        self.last.as_ref().map(|last| last.at)
    }

    fn name(&self, ids: bool) -> String {
        match (ids, self.source.slot) {
            (true, _) => self.source.task.to_string(),
            (false, Some(slot)) => format!("{}.{slot}", self.source.service_name),
            (false, None) => self.source.service_name.clone(),
        }
    }
}

/// A fraction in ten-thousandths.
fn share(part: u64, whole: u64) -> u128 {
    u128::from(part) * 10_000 / u128::from(whole.max(1))
}

/// Ten-thousandths as percent, with two decimals as in Docker.
fn percent(of_ten_thousand: u128) -> String {
    format!("{}.{:02}%", of_ten_thousand / 100, of_ten_thousand % 100)
}

fn bytes(number: Option<u64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), size::show)
}

fn pair(one: Option<u64>, other: Option<u64>) -> String {
    match (one, other) {
        (None, None) => UNKNOWN.to_owned(),
        (one, other) => format!("{} / {}", bytes(one), bytes(other)),
    }
}

#[cfg(test)]
mod tests {
    use events::Id;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn source(task: u128, slot: Option<u64>) -> LogSource {
        LogSource {
            task: TaskId::from_bits(task),
            service_name: "web".to_owned(),
            slot,
            node_hostname: "n1".to_owned(),
            ..LogSource::default()
        }
    }

    fn reading(task: u128, second: i64, cpu_ms: u64) -> TaskUsage {
        TaskUsage {
            task: TaskId::from_bits(task),
            at: Timestamp::from_unix_ns(second * SECOND),
            cpu_ns: cpu_ms * 1_000_000,
            memory_bytes: 64 << 20,
            memory_limit_bytes: Some(256 << 20),
            network_received_bytes: Some(1 << 10),
            network_sent_bytes: Some(5),
            pids: Some(3),
            ..TaskUsage::default()
        }
    }

    fn view() -> View {
        View { now: Timestamp::from_unix_ns(0), ids: false, width: None }
    }

    #[test]
    fn rates_are_those_between_the_last_two_readings() {
        let mut readings = Readings::default();
        readings.learn(source(2, Some(2)));
        readings.learn(source(1, Some(1)));
        readings.take(reading(7, 0, 0));
        readings.take(reading(1, 10, 1_000));
        readings.take(reading(1, 12, 2_865));
        readings.take(reading(2, 12, 9));
        let expected = "\
NAME      NODE      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O     BLOCK I/O   PIDS
web.1     n1        93.20%    64MiB / 256MiB      25.00%    1KiB / 5B   --          3
web.2     n1        --        64MiB / 256MiB      25.00%    1KiB / 5B   --          3
";
        assert_eq!(readings.table(view()), expected);
        // A restarted container counts from zero, and without elapsed time there is no rate.
        readings.take(reading(1, 13, 0));
        readings.take(reading(2, 12, 10));
        let cpu: Vec<_> = readings.json().iter().map(|row| row.cpu_percent).collect();
        assert_eq!(cpu, [Some(0.0), None]);
    }

    #[test]
    fn a_task_of_which_nothing_comes_is_forgotten_and_one_not_yet_read_is_not() {
        let mut readings = Readings::default();
        for (task, slot) in [(1, 1), (2, 2), (3, 3)] {
            readings.learn(source(task, Some(slot)));
        }
        readings.take(reading(1, 10, 0));
        readings.take(reading(2, 15, 0));
        readings.forget_stale();
        let known: Vec<TaskId> = readings.rows.keys().copied().collect();
        assert_eq!(known, [TaskId::from_bits(2), TaskId::from_bits(3)]);
        assert_eq!(readings.table(view()).lines().count(), 2);
    }
}
