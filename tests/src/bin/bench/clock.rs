//! Processor time, for work that one thread does without waiting: what else runs on the machine does not count.

use std::time::Duration;

use anyhow::{Context, Result};

/// How long this thread has been on a processor. The kernel brings it up to date at each of its ticks, every few
/// milliseconds.
pub fn cpu_time() -> Result<Duration> {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").context("this kernel counts no processor time")?;
    let ns = text.split(' ').next().context("processor time is the first number")?;
    Ok(Duration::from_nanos(ns.parse()?))
}
