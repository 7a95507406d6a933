//! The order in which a strategy would choose among nodes that have no task of the service, the smallest score first.

use events::{Id, PlacementStrategy, Resources};

use super::pool::Candidate;

/// What makes one node better than another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Fewer tasks.
    Spread,
    /// Less left of what the tasks reserve.
    Pack(Scarce),
    /// Nothing: the score is a fixed point on a circle, and each task has others of its own.
    Random,
}

/// What is looked at to find the fullest node: what the tasks to place take of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scarce {
    /// They reserve nothing, and take a place only.
    Tasks,
    Cpu,
    Memory,
    /// The one of which less is left.
    Both,
}

/// Parts of a whole in which shares are counted.
const WHOLE: u128 = 1_000_000;

impl Order {
    /// How a strategy chooses for tasks that reserve this much.
    pub(super) fn of(strategy: PlacementStrategy, reserved: &Resources) -> Self {
        match strategy {
            PlacementStrategy::Spread => Order::Spread,
            PlacementStrategy::Random => Order::Random,
            PlacementStrategy::Binpack => Order::Pack(match (reserved.nano_cpus > 0, reserved.memory_bytes > 0) {
                (false, false) => Scarce::Tasks,
                (true, false) => Scarce::Cpu,
                (false, true) => Scarce::Memory,
                (true, true) => Scarce::Both,
            }),
        }
    }

    /// Where a node stands: the smallest score is the best.
    pub(super) fn score(self, of: &Candidate) -> u64 {
        let (nano_cpus, memory_bytes) = of.offers;
        match self {
            Order::Spread => of.active,
            Order::Pack(Scarce::Tasks) => u64::MAX - of.active,
            Order::Pack(Scarce::Cpu) => of.free_nano_cpus,
            Order::Pack(Scarce::Memory) => of.free_memory_bytes,
            Order::Pack(Scarce::Both) => {
                share(of.free_nano_cpus, nano_cpus).min(share(of.free_memory_bytes, memory_bytes))
            }
            Order::Random => scattered(of.id),
        }
    }

    /// A score that every node has or exceeds on which tasks fit that reserve this much, if no node offers more than `most`: full nodes
    /// come first in the order of packing, and are passed over by this.
    pub(super) fn first(self, reserved: &Resources, most: (u64, u64)) -> u64 {
        match self {
            Order::Spread | Order::Random | Order::Pack(Scarce::Tasks) => 0,
            Order::Pack(Scarce::Cpu) => reserved.nano_cpus,
            Order::Pack(Scarce::Memory) => reserved.memory_bytes,
            Order::Pack(Scarce::Both) => share(reserved.nano_cpus, most.0).min(share(reserved.memory_bytes, most.1)),
        }
    }
}

/// A part of a whole in millionths; of nothing, nothing.
fn share(part: u64, whole: u64) -> u64 {
    let share = (u128::from(part) * WHOLE).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// A point that an id is given on the circle of all numbers. Nearby ids are far from each other.
pub(super) fn scattered(id: impl Id) -> u64 {
    let bits = id.bits();
    mixed((bits >> 64) as u64 ^ mixed(bits as u64))
}

/// The finalizer of SplitMix64: every bit of a number has a say in every bit of the result.
pub(super) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
