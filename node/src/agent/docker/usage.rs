//! Resource usage of a container, from the engine's counters.

use ::events::{TaskId, Timestamp};
use bollard::models::{ContainerMemoryStats, ContainerStatsResponse};
use wire::v1::TaskUsage;

/// The reading of a running container; `None` if the engine has none.
pub(super) fn reading(task: TaskId, at: Timestamp, stats: &ContainerStatsResponse) -> Option<TaskUsage> {
    let memory = stats.memory_stats.as_ref()?;
    let cpu_ns = stats.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage?;
    let networks = stats.networks.as_ref();
    let network = |bytes: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
        networks.map(|networks| networks.values().filter_map(bytes).sum())
    };
    let entries = stats.blkio_stats.as_ref().and_then(|blocks| blocks.io_service_bytes_recursive.as_ref());
    let blocks = |wanted: &str| {
        let of = |entry: &&bollard::models::ContainerBlkioStatEntry| {
            entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(wanted))
        };
        entries.map(|entries| entries.iter().filter(of).filter_map(|entry| entry.value).sum())
    };
    Some(TaskUsage {
        task,
        at,
        cpu_ns,
        memory_bytes: memory_bytes(memory)?,
        memory_limit_bytes: memory.limit.filter(|limit| *limit > 0),
        network_received_bytes: network(|network| network.rx_bytes),
        network_sent_bytes: network(|network| network.tx_bytes),
        block_read_bytes: blocks("read"),
        block_written_bytes: blocks("write"),
        pids: stats.pids_stats.as_ref().and_then(|pids| pids.current),
    })
}

/// Without the page cache that the kernel would reclaim first, as Docker shows it: `total_inactive_file` in cgroup version 1,
/// `inactive_file` in version 2.
fn memory_bytes(memory: &ContainerMemoryStats) -> Option<u64> {
    let usage = memory.usage?;
    let stats = memory.stats.as_ref();
    let inactive = stats.and_then(|stats| stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")));
    Some(usage.saturating_sub(inactive.copied().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use ::events::Id;
    use bollard::models::{ContainerBlkioStatEntry, ContainerBlkioStats, ContainerCpuStats, ContainerCpuUsage};
    use bollard::models::{ContainerNetworkStats, ContainerPidsStats};

    use super::*;

    fn entry(op: &str, value: u64) -> ContainerBlkioStatEntry {
        ContainerBlkioStatEntry { op: Some(op.to_owned()), value: Some(value), ..Default::default() }
    }

    #[test]
    fn a_reading_is_what_docker_shows() {
        let (task, at) = (TaskId::from_bits(1), Timestamp::from_unix_ns(7));
        let memory = |key: &str| ContainerMemoryStats {
            usage: Some(1_000),
            limit: Some(5_000),
            stats: Some([(key.to_owned(), 300)].into()),
            ..Default::default()
        };
        let network = |bytes| ContainerNetworkStats { rx_bytes: Some(bytes), tx_bytes: Some(1), ..Default::default() };
        let usage = ContainerCpuUsage { total_usage: Some(42), ..Default::default() };
        let blocks = vec![entry("Read", 5), entry("write", 6), entry("read", 7), entry("Total", 99)];
        let stats = ContainerStatsResponse {
            cpu_stats: Some(ContainerCpuStats { cpu_usage: Some(usage), ..Default::default() }),
            memory_stats: Some(memory("inactive_file")),
            networks: Some([("a".to_owned(), network(10)), ("b".to_owned(), network(20))].into()),
            blkio_stats: Some(ContainerBlkioStats { io_service_bytes_recursive: Some(blocks), ..Default::default() }),
            pids_stats: Some(ContainerPidsStats { current: Some(3), limit: None }),
            ..Default::default()
        };
        let expected = TaskUsage {
            task,
            at,
            cpu_ns: 42,
            memory_bytes: 700,
            memory_limit_bytes: Some(5_000),
            network_received_bytes: Some(30),
            network_sent_bytes: Some(2),
            block_read_bytes: Some(12),
            block_written_bytes: Some(6),
            pids: Some(3),
        };
        assert_eq!(reading(task, at, &stats), Some(expected));
        let version_1 = ContainerStatsResponse { memory_stats: Some(memory("total_inactive_file")), ..stats.clone() };
        assert_eq!(reading(task, at, &version_1).map(|reading| reading.memory_bytes), Some(700));
        // The engine's statistics of a container that has exited.
        let ended = ContainerStatsResponse { memory_stats: Some(ContainerMemoryStats::default()), ..stats };
        assert_eq!(reading(task, at, &ended), None);
    }
}
