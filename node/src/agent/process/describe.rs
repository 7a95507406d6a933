//! Describes this machine from what its kernel reports.

use std::fs;

use events::{EngineDescription, NodeDescription, Platform, Resources};

use crate::agent::executor::ExecutorError;

/// The node as its kernel describes it.
///
/// # Errors
/// Fatal when /proc cannot be read.
pub(super) fn node() -> Result<NodeDescription, ExecutorError> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| ExecutorError::Fatal(format!("{path}: {error}")));
    let cpus = std::thread::available_parallelism().map_err(|error| ExecutorError::Fatal(format!("CPUs: {error}")))?;
    Ok(NodeDescription {
        hostname: read("/proc/sys/kernel/hostname")?.trim().to_owned(),
        platform: Some(Platform { architecture: std::env::consts::ARCH.into(), os: std::env::consts::OS.into() }),
        resources: Some(Resources {
            nano_cpus: cpus.get() as u64 * 1_000_000_000,
            memory_bytes: memory_bytes(&read("/proc/meminfo")?),
            generic: Vec::new(),
        }),
        engine: Some(EngineDescription::default()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        executor: NodeDescription::PROCESS_EXECUTOR.to_owned(),
    })
}

/// The memory of the machine from the text of /proc/meminfo; 0 if it is missing there.
fn memory_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::memory_bytes;

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(memory_bytes("MemTotal:       2048 kB\nMemFree: 1 kB\n"), 2 << 20);
        assert_eq!(memory_bytes(""), 0);
    }
}
