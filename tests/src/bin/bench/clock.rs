//! Processor time: other load on the machine does not count.

use std::time::Duration;

use anyhow::{Context, Result};

/// Clock ticks per second of the kernel's accounting; the interface has the same value on every machine.
const TICKS_PER_SECOND: u64 = 100;

/// The processor time of a process's threads, in user and kernel mode.
pub fn cpu_time_of(process: u32) -> Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is the program's name in parentheses, which may contain anything; the third starts after it.
    let (_, rest) = text.rsplit_once(") ").context("a process has a name")?;
    let mut fields = rest.split(' ').skip(11).map(str::parse::<u64>);
    let mut next = || fields.next().context("a process has its times")?.context("times are numbers");
    let ticks = next()? + next()?;
    Ok(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// The processor time of this thread. The kernel updates it at each of its ticks, every few milliseconds.
pub fn cpu_time() -> Result<Duration> {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").context("this kernel counts no processor time")?;
    let ns = text.split(' ').next().context("processor time is the first number")?;
    Ok(Duration::from_nanos(ns.parse()?))
}
