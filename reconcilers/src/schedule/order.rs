//! The order in which a strategy would choose among nodes without tasks of the service, the smallest score first.

use events::{Id, PlacementStrategy, Resources};

use super::pool::Candidate;

/// The criterion for better nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Fewer tasks.
    Spread,
    /// Less free capacity of what the tasks reserve.
    Pack(Scarce),
    /// None: the score is a fixed point on a circle, and each task has points of its own.
    Random,
}

/// The resource that defines the fullest node: what the tasks to place reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scarce {
    /// They reserve nothing, and only take a place.
    Tasks,
    Cpu,
    Memory,
    /// The one with less free capacity.
    Both,
}

/// Resolution of shares: parts of a whole.
const WHOLE: u128 = 1_000_000;

impl Order {
    /// The order of a strategy for tasks with this reservation.
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

    /// The score of a node: the smallest is the best.
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

    /// A lower bound for the score of every node with room for tasks of this reservation, if no node offers more than `most`:
    /// full nodes come first in the packing order, and are skipped with this.
    pub(super) fn first(self, reserved: &Resources, most: (u64, u64)) -> u64 {
        match self {
            Order::Spread | Order::Random | Order::Pack(Scarce::Tasks) => 0,
            Order::Pack(Scarce::Cpu) => reserved.nano_cpus,
            Order::Pack(Scarce::Memory) => reserved.memory_bytes,
            Order::Pack(Scarce::Both) => share(reserved.nano_cpus, most.0).min(share(reserved.memory_bytes, most.1)),
        }
    }
}

/// A part of a whole in millionths; 0 of 0.
fn share(part: u64, whole: u64) -> u64 {
    let share = (u128::from(part) * WHOLE).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// The point of an id on the circle of all numbers. Nearby ids are far from each other.
pub(super) fn scattered(id: impl Id) -> u64 {
    let bits = id.bits();
    mixed((bits >> 64) as u64 ^ mixed(bits as u64))
}

/// The finalizer of SplitMix64: every input bit affects every output bit.
pub(super) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
