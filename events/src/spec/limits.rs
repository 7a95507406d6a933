//! Limits of numbers in specs: managers reject other values, and so do clients before they send a request.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Maximum replicas of one service: each is a task, which takes up to 1 KiB of every manager's memory.
pub const REPLICAS_MAX: u64 = 1_000_000;
/// Number of changes of a service's spec that can be found without a search, the last ones: each takes 8 bytes of every manager's
/// memory. History has all of them.
pub const SPEC_CHANGES_MAX: usize = 1_000;
/// Maximum number of restarts that a policy can count: the time of each is stored for its place.
pub const RESTART_ATTEMPTS_MAX: u64 = 1_000;
/// Number of tasks of a service that may be moved in one step of rebalancing: choosing each visits all nodes with tasks of the
/// service.
pub const REBALANCE_TASKS: RangeInclusive<u64> = 1..=100;
/// Time between two steps of rebalancing: from a second to a day.
pub const REBALANCE_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// Target use of a task of an autoscaled service, in percent of its reservation.
pub const AUTOSCALE_PERCENT: RangeInclusive<u32> = 1..=1_000;
/// Time over which use may be averaged: from a few heartbeats to an hour.
pub const AUTOSCALE_WINDOW: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(3_600);
/// Maximum time after a change before the number of replicas can be lowered: a day.
pub const AUTOSCALE_COOL_DOWN_MAX: Duration = Duration::from_secs(86_400);
/// Maximum number of processes in a container; 0 and -1 mean no limit. The kernel cannot have more than the upper bound.
pub const PIDS_LIMITS: RangeInclusive<i64> = -1..=4_194_304;
/// Range of the OOM score adjustment.
pub const OOM_SCORES: RangeInclusive<i64> = -1_000..=1_000;
/// Maximum size of a container's /dev/shm in bytes: one PiB, more memory than a node has.
pub const SHM_BYTES_MAX: u64 = 1 << 50;
/// Range of the node limit of a cluster; each node takes a few KiB of every manager's memory.
pub const NODES_MAX: RangeInclusive<u32> = 1..=1_000_000;
/// Range of missed heartbeats that are tolerated.
pub const HEARTBEAT_GRACES: RangeInclusive<u32> = 1..=1_000;
