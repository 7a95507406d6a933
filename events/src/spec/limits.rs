//! Bounds of numbers in specs: managers refuse what is outside, and so do clients before they ask.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Most replicas of one service: each is a task, which takes up to 1 KiB of every manager's memory.
pub const REPLICAS_MAX: u64 = 1_000_000;
/// Changes of a service's spec that can be found without a search, the last ones: each takes 8 bytes of every manager's memory. History
/// has all of them.
pub const SPEC_CHANGES_MAX: usize = 1_000;
/// Most restarts that a policy can count: the time of each is kept for its place.
pub const RESTART_ATTEMPTS_MAX: u64 = 1_000;
/// Tasks of a service that may be moved in one step of rebalancing: each is chosen by a look at all nodes with tasks of the service.
pub const REBALANCE_TASKS: RangeInclusive<u64> = 1..=100;
/// From one step of rebalancing to the next: from a second to a day.
pub const REBALANCE_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// What a task of an autoscaled service may be wanted to use, in percent of what it reserves.
pub const AUTOSCALE_PERCENT: RangeInclusive<u32> = 1..=1_000;
/// Time over which that may be averaged: from a few heartbeats to an hour.
pub const AUTOSCALE_WINDOW: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3_600);
/// Longest time after a change before there are fewer: a day.
pub const AUTOSCALE_COOL_DOWN_MAX: Duration = Duration::from_secs(86_400);
/// Processes that a container may be limited to; 0 and -1 are no limit. More than the last the kernel cannot have.
pub const PIDS_LIMITS: RangeInclusive<i64> = -1..=4_194_304;
/// The least and the most that the kernel's choice of a victim can be weighted.
pub const OOM_SCORES: RangeInclusive<i64> = -1_000..=1_000;
/// Largest size of a container's /dev/shm in bytes: one PiB, more memory than a node has.
pub const SHM_BYTES_MAX: u64 = 1 << 50;
/// Nodes that a cluster may be limited to; each takes a few KiB of every manager's memory.
pub const NODES_MAX: RangeInclusive<u32> = 1..=1_000_000;
/// Missed heartbeats that can be forgiven.
pub const HEARTBEAT_GRACES: RangeInclusive<u32> = 1..=1_000;
