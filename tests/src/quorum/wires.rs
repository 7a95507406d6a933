//! The network between managers: messages are lost, duplicated, delayed and reordered; links are cut in one direction or both.

use std::collections::{BTreeMap, BTreeSet};

use events::Timestamp;
use node::manager::replica::PeerMessage;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::net::NetworkConditions;

/// A message in flight, between raft ids.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// The sender.
    pub from: u64,
    /// The receiver.
    pub to: u64,
    /// The message.
    pub message: PeerMessage,
}

/// The network between managers.
pub struct Wires {
    /// Its present quality.
    pub conditions: NetworkConditions,
    random: StdRng,
    sequence: u64,
    queue: BTreeMap<(Timestamp, u64), Parcel>,
    /// Links that are cut, from sender to receiver.
    cut: BTreeSet<(u64, u64)>,
}

impl Wires {
    /// A network without faults.
    pub fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed ^ 0x5157);
        Self { conditions: NetworkConditions::FINE, random, sequence: 0, queue: BTreeMap::new(), cut: BTreeSet::new() }
    }

    /// Sends a message.
    pub fn send(&mut self, parcel: Parcel, now: Timestamp) {
        if self.cut.contains(&(parcel.from, parcel.to)) || self.draws(self.conditions.lost_per_mille) {
            return;
        }
        if self.draws(self.conditions.doubled_per_mille) {
            self.enqueue(parcel.clone(), now);
        }
        self.enqueue(parcel, now);
    }

    /// The time of the next arrival.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next message that has arrived by now.
    pub fn receive(&mut self, now: Timestamp) -> Option<Parcel> {
        while self.next().is_some_and(|at| at <= now) {
            let (_, parcel) = self.queue.pop_first()?;
            if !self.cut.contains(&(parcel.from, parcel.to)) {
                return Some(parcel);
            }
        }
        None
    }

    /// Whether a link is cut.
    pub fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts a link in one direction.
    pub fn cut(&mut self, from: u64, to: u64) {
        self.cut.insert((from, to));
    }

    /// Repairs all links.
    pub fn repair(&mut self) {
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
