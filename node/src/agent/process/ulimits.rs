//! Limits of setrlimit(2), set on another process before it executes its command.

use events::Ulimit;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// The supported limits.
const NAMES: [(&str, Resource); 16] = [
    ("as", Resource::As),
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// Sets a limit on a process.
///
/// # Errors
/// A message when the limit is unknown or the host does not allow it.
pub(super) fn set(pid: u32, limit: &Ulimit) -> Result<(), String> {
    let fail = |why: String| format!("ulimit {} not applied: {why}", limit.name);
    let known = NAMES.iter().find(|(name, _)| *name == limit.name);
    let (_, resource) = known.ok_or_else(|| fail("unknown limit".into()))?;
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // The only negative value is -1, no limit, which is `None` for the kernel.
    let bound = |value: i64| u64::try_from(value).ok();
    let wanted = Rlimit { current: bound(limit.soft), maximum: bound(limit.hard) };
    prlimit(pid, *resource, wanted).map(drop).map_err(|error| fail(std::io::Error::from(error).to_string()))
}
