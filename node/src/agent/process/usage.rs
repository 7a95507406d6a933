//! Resource usage of a task: the sums over all processes of its session, from the kernel's counters.
//!
//! Network usage is unknown: the processes share the network of the host.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use events::{TaskId, Timestamp};
use tokio::time::Instant;
use wire::v1::TaskUsage;

/// How long a scan of all processes is reused, so that many tasks can be read one after another.
const LOOK_AGE_MAX: Duration = Duration::from_millis(250);

/// The processes of this machine at the last scan.
#[derive(Default)]
pub(super) struct Processes {
    last: Mutex<Option<(Instant, Arc<Vec<Process>>)>>,
}

/// The counters of a process from proc(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    session: u32,
    /// Its own time and that of its reaped children, in clock ticks.
    ticks: u64,
    threads: u64,
    resident_pages: u64,
}

impl Processes {
    /// The usage of this leader's session, without the leader itself.
    pub(super) fn usage(&self, task: TaskId, leader: u32, limit_bytes: u64, at: Timestamp) -> TaskUsage {
        let all = self.look();
        let members = || all.iter().filter(|process| process.session == leader && process.pid != leader);
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let page = rustix::param::page_size() as u64;
        let ticks: u64 = members().map(|process| process.ticks).sum();
        let blocks: Vec<(u64, u64)> = members().filter_map(|process| blocks(process.pid)).collect();
        TaskUsage {
            task,
            at,
            cpu_ns: ticks.saturating_mul(1_000_000_000) / ticks_per_second,
            memory_bytes: members().map(|process| process.resident_pages * page).sum(),
            memory_limit_bytes: if limit_bytes > 0 { Some(limit_bytes) } else { machine_bytes() },
            network_received_bytes: None,
            network_sent_bytes: None,
            block_read_bytes: (!blocks.is_empty()).then(|| blocks.iter().map(|(read, _)| read).sum()),
            block_written_bytes: (!blocks.is_empty()).then(|| blocks.iter().map(|(_, written)| written).sum()),
            pids: Some(members().map(|process| process.threads).sum()),
        }
    }

    fn look(&self) -> Arc<Vec<Process>> {
        // No code panics while it holds the lock, so a poisoned one still guards valid data. Held during the scan, because
        // others need its result.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, processes)) = last.as_ref().filter(|(at, _)| at.elapsed() < LOOK_AGE_MAX) {
            return Arc::clone(processes);
        }
        let processes = Arc::new(processes());
        *last = Some((Instant::now(), Arc::clone(&processes)));
        processes
    }
}

/// All visible processes. One that exits during the scan is skipped.
fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// Parses /proc/PID/stat. The name of the command may contain any character, so fields are counted from the last parenthesis;
/// the first one after it is the third of proc(5).
fn parse(pid: u32, stat: &str) -> Option<Process> {
    const STATE: usize = 3;
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - STATE)?.parse::<u64>().ok();
    // Children's times may be negative on old kernels.
    let ticks = (14..=17).filter_map(field).sum();
    let session = u32::try_from(field(6)?).ok()?;
    Some(Process { pid, session, ticks, threads: field(20)?, resident_pages: field(24)? })
}

/// Bytes that a process read from and wrote to disk; `None` without permission to read them.
fn blocks(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let count = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((count("read_bytes:")?, count("write_bytes:")?))
}

/// The memory of this machine.
fn machine_bytes() -> Option<u64> {
    let info = rustix::system::sysinfo();
    info.totalram.checked_mul(u64::from(info.mem_unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_behind_any_name() {
        let fields = "7 70 60 0 -1 4194560 1 0 0 0 11 12 13 14 20 0 5 0 4242 9 33";
        let process = Process { pid: 9, session: 60, ticks: 50, threads: 5, resident_pages: 33 };
        assert_eq!(parse(9, &format!("9 (a b) c) S {fields}")), Some(process));
        assert_eq!(parse(9, "9 (sh) S 1 2"), None);
    }

    #[test]
    fn this_process_is_among_those_of_its_session() {
        let own = parse(0, &fs::read_to_string("/proc/self/stat").expect("proc(5)")).expect("its line");
        let all = Processes::default();
        let usage = all.usage(TaskId::default(), own.session, 5, Timestamp::from_unix_ns(1));
        let is_leader = own.session == std::process::id();
        assert!(is_leader || (usage.memory_bytes > 0 && usage.pids >= Some(1)), "{usage:?}");
        assert_eq!(usage.memory_limit_bytes, Some(5));
        let usage = all.usage(TaskId::default(), u32::MAX, 0, Timestamp::from_unix_ns(1));
        assert_eq!((usage.memory_bytes, usage.cpu_ns, usage.pids), (0, 0, Some(0)));
        assert!(usage.memory_limit_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
