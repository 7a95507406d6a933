//! Processor time: what else runs on the machine does not count.

use std::time::Duration;

use anyhow::{Context, Result};

/// Ticks in which the kernel counts the time of processes: its interface has the same for every machine.
const TICKS_PER_SECOND: u64 = 100;

/// How long the threads of a process have been on a processor, for themselves and in the kernel.
pub fn cpu_time_of(process: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name in parentheses, which may hold anything; the third begins after it.
    let (_, rest) = text.rsplit_once(") ").context("a process has a name")?;
    let mut fields = rest.split(' ').skip(11).map(str::parse::<u64>);
    let mut next = || fields.next().context("a process has its times")?.context("times are numbers");
    let ticks = next()? + next()?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// How long this thread has been on a processor. The kernel brings it up to date at each of its ticks, every few
/// milliseconds.
pub fn cpu_time() -> Result<Duration> {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").context("this kernel counts no processor time")?;
    let ns = text.split(' ').next().context("processor time is the first number")?;
    Ok(Duration::from_nanos(ns.parse()?))
}
