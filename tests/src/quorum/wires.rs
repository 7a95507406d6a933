//! The network between managers: messages are lost, doubled, late and overtake each other; links are cut one way or both.

use std::collections::{BTreeMap, BTreeSet};

use events::Timestamp;
use node::manager::replica::PeerMessage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::net::NetworkConditions;

/// A message on its way, between raft ids.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Who sent it.
    pub from: u64,
    /// Whom it is for.
    pub to: u64,
    /// What it says.
    pub message: PeerMessage,
}

/// The network between managers.
pub struct Wires {
    /// How bad it is now.
    pub conditions: NetworkConditions,
    random: StdRng,
    sequence: u64,
    queue: BTreeMap<(Timestamp, u64), Parcel>,
    /// Links on which nothing arrives, from and to.
    cut: BTreeSet<(u64, u64)>,
}

impl Wires {
    /// A network that works.
    pub fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed ^ 0x5157);
        Self { conditions: NetworkConditions::FINE, random, sequence: 0, queue: BTreeMap::new(), cut: BTreeSet::new() }
    }

    /// Sends something.
    pub fn send(&mut self, parcel: Parcel, now: Timestamp) {
        if self.cut.contains(&(parcel.from, parcel.to)) || self.draws(self.conditions.lost_per_mille) {
            return;
        }
        if self.draws(self.conditions.doubled_per_mille) {
            self.enqueue(parcel.clone(), now);
        }
        self.enqueue(parcel, now);
    }

    /// When something arrives next.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// What has arrived by now, one by one.
    pub fn receive(&mut self, now: Timestamp) -> Option<Parcel> {
        while self.next().is_some_and(|at| at <= now) {
            let (_, parcel) = self.queue.pop_first()?;
            if !self.cut.contains(&(parcel.from, parcel.to)) {
                return Some(parcel);
            }
        }
        None
    }

    /// Whether nothing arrives on a link.
    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts a link in one direction.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Mends all links.
    pub fn mend(&mut self) {
        self.cut.clear();
    }

    fn draws(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.random.random_range(0..1000) < per_mille
    }

    fn enqueue(&mut self, parcel: Parcel, now: Timestamp) {
        let (least, most) = self.conditions.latency;
        let latency = if least < most { self.random.random_range(least..=most) } else { least };
        self.sequence += 1;
        self.queue.insert((now + latency, self.sequence), parcel);
    }
}
