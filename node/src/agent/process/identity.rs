//! Identifies a process: a pid is reused, so it is combined with the start time of the process and the boot it started in.

use std::fs;
use std::io;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// One process, never confused with a later one with the same pid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Its process id, also that of the group it leads.
    pub(super) pid: u32,
    /// Its start time, in clock ticks since boot.
    start_ticks: u64,
    /// The id of the boot it was started in.
    boot: String,
}

impl Identity {
    /// The process that currently has this pid; `None` if there is none.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Self { pid, start_ticks: living_since(&stat)?, boot: boot.trim().to_owned() })
    }

    /// Whether this process is still running. A zombie is not.
    pub(super) fn is_alive(&self) -> bool {
        Self::of(self.pid).as_ref() == Some(self)
    }

    /// Returns when the process has exited. It need not be a child. Dropping the future is safe.
    ///
    /// # Errors
    /// When the kernel cannot watch processes (Linux before 5.3).
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, for the sake of types that lie about their handle; OwnedFd does not"
    )]
    pub(super) async fn ended(&self) -> io::Result<()> {
        let Some(pid) = self.raw_pid() else { return Ok(()) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        // The handle refers to the current owner of the pid; if that is still our process, it stays valid for it.
        if self.is_alive() {
            AsyncFd::with_interest(handle, Interest::READABLE)?.readable().await?.retain_ready();
        }
        Ok(())
    }

    /// Signals the group that the process leads. A process that has exited gets no signal.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        let Some(pid) = self.raw_pid().filter(|_| self.is_alive()) else { return Ok(()) };
        match kill_process_group(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn raw_pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.pid).ok()?)
    }
}

/// The start time in a line of /proc/PID/stat; `None` for a process that has exited. The name, in parentheses, may contain any
/// character, so fields are counted from the last parenthesis.
fn living_since(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // Field 22 of proc(5); the state is field 3.
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let fields = "1 1 1 0 -1 4194560 1 0 0 0 1 2 3 4 20 0 1 0 4242 9 9";
        assert_eq!(living_since(&format!("7 (a b) c) S {fields}")), Some(4242));
        assert_eq!(living_since(&format!("7 (sh) Z {fields}")), None);
        assert_eq!(living_since("7 (sh) S"), None);
    }

    #[tokio::test]
    async fn a_process_is_told_from_a_later_one_with_its_pid() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep runs");
        let identity = Identity::of(child.id()).expect("it lives");
        assert!(identity.is_alive());
        let other = Identity { start_ticks: identity.start_ticks + 1, ..identity.clone() };
        assert!(!other.is_alive());
        other.ended().await.expect("another process counts as ended");
        child.kill().expect("killed");
        // Not waited for yet: a zombie counts as exited.
        identity.ended().await.expect("watched");
        assert!(!identity.is_alive());
        child.wait().expect("waited");
    }
}
